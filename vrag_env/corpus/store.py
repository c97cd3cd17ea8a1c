"""Corpus: the pages of many documents in one directory, a LanceDB database.

The directory holds ``vrag_corpus.json`` (a marker with the version of this layout), the table ``pages`` with
one row per page, and one table of embeddings per encoder (see :mod:`vrag_env.retrieval.late_interaction`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from PIL import Image

from vrag_env.corpus.lock import LOCK_FILE, CorpusBusyError, write_lock
from vrag_env.corpus.records import Page, Word, page_id_of
from vrag_env.corpus.schema import PAGE_SCHEMA, page_row, sql_in
from vrag_env.corpus.text import STOP_WORDS
from vrag_env.errors import CorpusError

if TYPE_CHECKING:
    import lancedb

SCHEMA_VERSION = 2
MARKER = "vrag_corpus.json"
PAGES = "pages"
TEXT_INDEXES = {"search_text": "text_idx", "search_words": "words_idx"}
"""Name of the full-text index of each searched column."""

_IMAGE_CACHE_BYTES = 256 * 2**20
_LIGHT = ["page_id", "doc_id", "number", "width", "height", "content_hash"]


class _Entry(NamedTuple):
    """What is known of a page without reading its row: enough for an environment's reset."""

    doc_id: str
    number: int
    size: tuple[int, int]
    content_hash: str
    row_id: int


@dataclass(frozen=True)
class _Index:
    pages: dict[str, _Entry]  # in order of document and page number
    documents: dict[str, str]  # document id -> content hash


class Corpus:
    """The pages of a set of documents.

    Open one with :meth:`open` or :meth:`create`, never with the constructor. A corpus is a snapshot: it keeps
    showing the pages that were there when it was opened, whatever other processes add; its own :meth:`add`
    and :meth:`remove` show at once. Any number of processes may read while one writes. It may be used from
    several threads, and it is pickled as its path.

    Example:
        >>> corpus = Corpus.open("runs/my_pdfs")  # doctest: +SKIP
        >>> corpus.page("report.pdf#3").text  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        import lancedb  # takes most of a second, and the reading processes import this module without it

        self._path = path
        self._database: lancedb.DBConnection = lancedb.connect(path)
        self._table = self._database.open_table(PAGES)
        self._index: _Index | None = None
        self._images: OrderedDict[str, Image.Image] = OrderedDict()
        self._image_bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Corpus:
        """Make a corpus in a directory, or open the one that is there.

        Args:
            path: A directory that does not exist, is empty, or is a corpus already.

        Raises:
            CorpusError: If the directory holds something else, or a corpus of another version.
        """
        import lancedb

        directory = Path(path)
        if directory.exists() and not directory.is_dir():
            raise CorpusError(f"{directory} is a file: a corpus needs a directory")
        if not (directory / MARKER).exists():
            strangers = [entry.name for entry in directory.iterdir()] if directory.exists() else []
            # A creation that was killed leaves the table without the marker, which is written last.
            if set(strangers) - {f"{PAGES}.lance", LOCK_FILE}:
                raise CorpusError(
                    f"{directory} is not empty and is not a corpus (it holds {sorted(strangers)[0]!r}): "
                    "choose another directory"
                )
            directory.mkdir(parents=True, exist_ok=True)
            with write_lock(directory):
                if not (directory / MARKER).exists():
                    lancedb.connect(directory).create_table(PAGES, schema=PAGE_SCHEMA, exist_ok=True)
                    unfinished = directory / f"{MARKER}.{os.getpid()}"
                    unfinished.write_text(json.dumps({"vrag_corpus": SCHEMA_VERSION}) + "\n")
                    unfinished.replace(directory / MARKER)
        return cls.open(directory)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Corpus:
        """Open an existing corpus.

        Args:
            path: Its directory.

        Raises:
            CorpusError: If the directory is missing, is not a corpus, or was written by another version.
        """
        directory = Path(path)
        remedy = f"make one with: vrag index PATH... --corpus {directory}"
        if not directory.is_dir():
            raise CorpusError(f"no corpus at {directory}: there is no such directory; {remedy}")
        marker = directory / MARKER
        if not marker.is_file():
            raise CorpusError(f"{directory} is not a corpus: it has no {MARKER}; {remedy}")
        try:
            content = json.loads(marker.read_text(encoding="utf-8"))
            version = content["vrag_corpus"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{marker} is damaged: expected a JSON object with 'vrag_corpus'; {remedy}") from error
        if version != SCHEMA_VERSION:
            raise CorpusError(
                f"{directory} was written by layout version {version!r}, this package reads "
                f"{SCHEMA_VERSION}: index the documents again into a new directory; {remedy}"
            )
        if not (directory / f"{PAGES}.lance").is_dir():
            raise CorpusError(f"{directory} is damaged: its table of pages is missing; {remedy}")
        return cls(directory)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Corpus.open, (str(self._path.absolute()),))

    def __repr__(self) -> str:
        return f"Corpus({str(self._path)!r}, {len(self.doc_ids())} documents, {len(self)} pages)"

    def __len__(self) -> int:
        """Number of pages."""
        return len(self._load().pages)

    @property
    def path(self) -> Path:
        """The directory."""
        return self._path

    @property
    def database(self) -> lancedb.DBConnection:
        """The LanceDB database, for retrievers that keep tables of their own beside the pages."""
        return self._database

    @property
    def table(self) -> lancedb.table.Table:
        """The LanceDB table of pages, for reading; :meth:`add` and :meth:`remove` write."""
        return self._table

    @property
    def fingerprint(self) -> str:
        """Hash of all documents and their contents, whatever the order of ingestion."""
        digest = hashlib.sha256()
        for page_id, entry in self._load().pages.items():
            digest.update(json.dumps([page_id, entry.content_hash]).encode())
        return digest.hexdigest()

    def page_ids(self) -> tuple[str, ...]:
        """Ids of all pages, sorted by document and page number."""
        return tuple(self._load().pages)

    def doc_ids(self) -> tuple[str, ...]:
        """Ids of all documents, sorted."""
        return tuple(self._load().documents)

    def documents(self) -> dict[str, str]:
        """Content hash of every document by its id."""
        return dict(self._load().documents)

    def content_hashes(self) -> dict[str, str]:
        """Content hash of every page by its id, in the order of :meth:`page_ids`."""
        return {page_id: entry.content_hash for page_id, entry in self._load().pages.items()}

    def page_documents(self) -> dict[str, str]:
        """Document of every page by the page's id, in the order of :meth:`page_ids`."""
        return {page_id: entry.doc_id for page_id, entry in self._load().pages.items()}

    def has_page(self, page_id: str) -> bool:
        """Whether a page is in the corpus."""
        return page_id in self._load().pages

    def page_size(self, page_id: str) -> tuple[int, int]:
        """Return ``(width, height)`` in pixels of a page's stored image, without reading it.

        Raises:
            CorpusError: If there is no such page.
        """
        return self._entry(page_id).size

    def page(self, page_id: str) -> Page:
        """Read one page with its words.

        Raises:
            CorpusError: If there is no such page.
        """
        return self.pages([page_id])[0]

    def pages(self, page_ids: Sequence[str]) -> list[Page]:
        """Read several pages with their words, in the order asked for.

        Raises:
            CorpusError: If one of them is not in the corpus.
        """
        rows = self._take(page_ids, ["page_id", "text", "words", "text_source"])
        found = []
        for page_id in page_ids:
            entry, row = self._entry(page_id), rows[page_id]
            words = tuple(Word(w["text"], (w["x0"], w["y0"], w["x1"], w["y1"])) for w in row["words"] or ())
            page = Page(
                page_id,
                entry.doc_id,
                entry.number,
                *entry.size,
                row["text"],
                words,
                entry.content_hash,
                row["text_source"],
            )
            found.append(page)
        return found

    def image(self, page_id: str) -> Image.Image:
        """Return the picture of a page in RGB.

        The object is shared by all callers through a cache of 256 MiB: crop or resize it, which makes a new
        image, and never draw on it.

        Raises:
            CorpusError: If there is no such page, or its picture is damaged.
        """
        with self._lock:
            if page_id in self._images:
                self._images.move_to_end(page_id)
                return self._images[page_id]
        encoded = self._take([page_id], ["page_id", "image"])[page_id]["image"]
        try:
            with Image.open(io.BytesIO(encoded)) as stored:
                image = stored.convert("RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise CorpusError(f"the picture of page {page_id!r} in {self._path} is damaged: {error}") from error
        with self._lock:
            if page_id not in self._images:
                self._images[page_id] = image
                self._image_bytes += _bytes_of(image)
            while self._image_bytes > _IMAGE_CACHE_BYTES and len(self._images) > 1:
                self._image_bytes -= _bytes_of(self._images.popitem(last=False)[1])
        return image

    def add(self, pages: Iterable[tuple[Page, bytes, str]]) -> None:
        """Add whole documents; those that are there already are replaced, all in one step.

        Args:
            pages: ``(page, encoded image, format)`` for every page of the documents, the format being the
                name that PIL gives it in lower case (``"jpeg"``, ``"png"``).

        Raises:
            CorpusError: If a page id does not fit its document and number, a page comes twice, or another
                process is writing.
        """
        rows, seen = [], set()
        for page, image, image_format in pages:
            if page.page_id != page_id_of(page.doc_id, page.number) or page.page_id in seen:
                raise CorpusError(f"page {page.page_id!r} comes twice or is not page {page.number} of its document")
            seen.add(page.page_id)
            rows.append(page_row(page, image, image_format))
        batch = pa.RecordBatch.from_pylist(rows, schema=PAGE_SCHEMA)
        with self.writing():
            self.commit([batch], {row["doc_id"] for row in rows})

    def commit(self, batches: Iterable[pa.RecordBatch], doc_ids: set[str]) -> None:
        """Write whole documents in one step, streamed; to be called inside :meth:`writing`.

        Args:
            batches: Rows of :data:`PAGE_SCHEMA`, read one batch at a time.
            doc_ids: The documents that the rows belong to; their former pages are dropped.
        """
        self._table.checkout_latest()
        self._forget()
        reader = pa.RecordBatchReader.from_batches(PAGE_SCHEMA, batches)
        condition = sql_in("doc_id", sorted(doc_ids))
        if self._table.count_rows(condition):
            merge = self._table.merge_insert("page_id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(condition).execute(reader)
        else:
            self._table.add(reader)
        self._forget()

    def remove(self, doc_id: str) -> None:
        """Remove a document.

        Raises:
            CorpusError: If there is no such document, or another process is writing.
        """
        with self.writing():
            self._table.checkout_latest()
            self._forget()
            if doc_id not in self._load().documents:
                raise CorpusError(f"no document {doc_id!r} in {self._path}")
            self._table.delete(sql_in("doc_id", [doc_id]))
            self._forget()
            if len(self) and self._has_text_index():
                self._build_text_index()  # the old one would go on counting the words of what is gone

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the corpus for writing.

        Raises:
            CorpusError: If another process (or another thread) holds it.
        """
        with write_lock(self._path):
            yield

    def ensure_text_index(self) -> None:
        """Make the full-text indexes cover every page; does nothing where they do already.

        While another process is writing, the index is left as it is: LanceDB reads the pages that it does not
        cover one by one. Where the index has to be made, the newest pages show from then on.

        Raises:
            CorpusBusyError: If there is no index yet and another process is writing.
        """
        if len(self) == 0 or self._text_index_current():
            return
        try:
            with self.writing():
                self._table.checkout_latest()
                self._forget()
                self.update_text_index()
        except CorpusBusyError:
            if not self._has_text_index():
                raise

    def update_text_index(self) -> None:
        """Make the full-text indexes cover every page; to be called inside :meth:`writing`.

        They cover the text of each page and the name of its file, in the two forms of
        :mod:`vrag_env.corpus.text`; case and accents do not count, and Chinese and Japanese are separated
        into words. The indexes are made anew rather than extended: scores then depend on the pages alone and
        not on the history of the corpus.
        """
        if len(self) and not self._text_index_current():
            self._build_text_index()

    def _build_text_index(self) -> None:
        from lancedb.index import FTS

        stop_words = list(STOP_WORDS)
        settings = {
            # the Unicode rules of ICU, which know Chinese words, then split at punctuation inside of words
            "search_text": FTS(base_tokenizer="icu/split", stem=True, custom_stop_words=stop_words),
            "search_words": FTS(base_tokenizer="whitespace", stem=False, custom_stop_words=stop_words),
        }
        for column, name in TEXT_INDEXES.items():
            self._table.create_index(column, config=settings[column], replace=True, name=name)
        self._forget()

    def _has_text_index(self) -> bool:
        return set(TEXT_INDEXES.values()) <= {index.name for index in self._table.list_indices()}

    def _text_index_current(self) -> bool:
        if not self._has_text_index():
            return False
        for name in TEXT_INDEXES.values():
            stats = self._table.index_stats(name)
            if stats is None or stats.num_unindexed_rows or stats.num_indexed_rows != len(self):
                return False
        return True

    def _load(self) -> _Index:
        index = self._index
        if index is None:
            columns = self._table.search().with_row_id(True).select(_LIGHT).limit(None).to_arrow().to_pydict()
            rows = sorted(zip(*(columns[name] for name in (*_LIGHT, "_rowid")), strict=True), key=lambda r: r[1:3])
            pages = {
                page_id: _Entry(doc_id, number, (width, height), content_hash, row_id)
                for page_id, doc_id, number, width, height, content_hash, row_id in rows
            }
            documents = {entry.doc_id: entry.content_hash for entry in pages.values()}
            self._index = index = _Index(pages, documents)
        return index

    def _forget(self) -> None:
        with self._lock:
            self._index = None
            self._images.clear()
            self._image_bytes = 0

    def _entry(self, page_id: str) -> _Entry:
        entry = self._load().pages.get(page_id)
        if entry is None:
            raise CorpusError(f"no page {page_id!r} in the corpus {self._path} ({len(self)} pages)")
        return entry

    def _take(self, page_ids: Sequence[str], columns: list[str]) -> dict[str, dict[str, Any]]:
        row_ids = sorted({self._entry(page_id).row_id for page_id in page_ids})
        if not row_ids:
            return {}
        rows = self._table.take_row_ids(row_ids).select(columns).to_arrow().to_pylist()
        return {row["page_id"]: row for row in rows}


def _bytes_of(image: Image.Image) -> int:
    return image.width * image.height * 3
