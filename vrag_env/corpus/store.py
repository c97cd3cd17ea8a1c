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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from vrag_env.corpus.image_cache import ImageCache
from vrag_env.corpus.lock import LOCK_FILE, CorpusBusyError, write_lock
from vrag_env.corpus.page_index import PageEntry, PageIndex, read_page_index
from vrag_env.corpus.records import Page, Word, page_id_of
from vrag_env.corpus.schema import PAGE_SCHEMA, page_batch, sql_in
from vrag_env.corpus.text_index import build_text_index, has_text_index, text_index_covers
from vrag_env.errors import CorpusError

if TYPE_CHECKING:
    import lancedb

SCHEMA_VERSION = 2
MARKER = "vrag_corpus.json"
PAGES = "pages"

_PAGES_KEPT = 256  # a page of text has some hundred words
_IMAGE_CACHE_BYTES = 512 * 2**20
_SHOWN_CACHE_BYTES = 128 * 2**20


class Corpus:
    """The pages of a set of documents.

    Open one with :meth:`open` or :meth:`create`, never with the constructor. A corpus is a snapshot: it keeps
    showing the pages of its :attr:`version`, whatever other processes add; its own :meth:`add` and
    :meth:`remove` show at once. One that is opened at a given version, or made by :meth:`pinned`, is read only
    and keeps its pages for good. Any number of processes may read while one writes. It may be used from
    several threads, and it is pickled as its path and version: whoever unpickles it sees the same pages.

    Example:
        >>> corpus = Corpus.open("runs/my_pdfs")  # doctest: +SKIP
        >>> corpus.page("report.pdf#3").text  # doctest: +SKIP
    """

    def __init__(self, path: Path, version: int | None = None, *, read_only: bool = False) -> None:
        import lancedb  # takes most of a second, and the reading processes import this module without it

        self._path = path
        self._database: lancedb.DBConnection = lancedb.connect(path)
        self._read_only = read_only
        self._fixed_version: int | None = None
        self._read: OrderedDict[str, Page] = OrderedDict()
        self._table = self._open_table(PAGES, version)
        self._index: PageIndex | None = None
        self._pinned: tuple[int, Corpus] | None = None  # with the version that it was made from
        self._images: ImageCache[Image.Image] = ImageCache(_IMAGE_CACHE_BYTES)
        self.shown: ImageCache[npt.NDArray[np.uint8]] = ImageCache(_SHOWN_CACHE_BYTES)
        """Pages as they are shown, for :mod:`vrag_env.pictures`; emptied when the pages change."""
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
    def open(cls, path: str | os.PathLike[str], version: int | None = None) -> Corpus:
        """Open an existing corpus.

        Args:
            path: Its directory.
            version: Open the pages as they were at this :attr:`version`, read only; by default the newest.

        Raises:
            CorpusError: If the directory is missing, is not a corpus, was written by another version of this
                package, or has no such version (any more).
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
            layout = content["vrag_corpus"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{marker} is damaged: expected a JSON object with 'vrag_corpus'; {remedy}") from error
        if layout != SCHEMA_VERSION:
            raise CorpusError(
                f"{directory} was written by layout version {layout!r}, this package reads "
                f"{SCHEMA_VERSION}: index the documents again into a new directory; {remedy}"
            )
        if not (directory / f"{PAGES}.lance").is_dir():
            raise CorpusError(f"{directory} is damaged: its table of pages is missing; {remedy}")
        return cls(directory, version, read_only=version is not None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (str(self._path.absolute()), self.version, self._read_only))

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
    def version(self) -> int:
        """Number of the table's version that is shown; every write to the corpus makes a higher one.

        ``Corpus.open(corpus.path, corpus.version)`` shows the same pages, until old versions are cleaned up.
        """
        if not self._read_only:
            return int(self._table.version)
        if self._fixed_version is None:  # asking the table costs a millisecond, and every search asks
            self._fixed_version = int(self._table.version)
        return self._fixed_version

    @property
    def read_only(self) -> bool:
        """Whether it stays at its pages for good: opened at a given version, or made by :meth:`pinned`."""
        return self._read_only

    def pinned(self) -> Corpus:
        """Return a read-only corpus that keeps the present pages, even when this one writes.

        Calls at the same version return the same object, so that all users share one cache of images.
        """
        if self._read_only:
            return self
        with self._lock:
            if self._pinned is None or self._pinned[0] != self.version:
                self._pinned = (self.version, Corpus(self._path, self.version, read_only=True))
            return self._pinned[1]

    @property
    def database(self) -> lancedb.DBConnection:
        """The LanceDB database, for retrievers that keep tables of their own beside the pages."""
        return self._database

    @property
    def table(self) -> lancedb.table.Table:
        """The LanceDB table of pages, for reading; :meth:`add` and :meth:`remove` write."""
        return self._table

    def side_tables(self) -> list[str]:
        """Names of the tables beside the pages, such as those of embeddings, sorted."""
        names: list[str] = self._database.list_tables(limit=10_000).tables
        return sorted(name for name in names if name != PAGES)

    def open_side_table(self, name: str, version: int | None = None) -> lancedb.table.Table:
        """Open a table beside the pages for reading, fixed at one version while others write to it.

        Args:
            name: The table.
            version: Its ``version`` from an earlier call, so that another process reads the same rows; by
                default the newest.

        Raises:
            CorpusError: If there is no such table, or not in this version.
        """
        if name not in self.side_tables():
            have = ", ".join(self.side_tables()) or "none"
            raise CorpusError(f"{self._path} has no table {name!r} beside its pages (it has: {have})")
        table = self._open_table(name, version)
        if version is None:
            table.checkout(table.version)
        return table

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
        """Read one page with its words; where pages can not change, those read last are kept in memory.

        Raises:
            CorpusError: If there is no such page.
        """
        if not self._read_only:
            return self.pages([page_id])[0]
        with self._lock:
            if page_id in self._read:
                self._read.move_to_end(page_id)
                return self._read[page_id]
        page = self.pages([page_id])[0]
        with self._lock:
            self._read[page_id] = page
            while len(self._read) > _PAGES_KEPT:
                self._read.popitem(last=False)
        return page

    def pages(self, page_ids: Sequence[str]) -> list[Page]:
        """Read several pages with their words, in the order asked for.

        Raises:
            CorpusError: If one of them is not in the corpus.
        """
        found = []
        for page_id, row in zip(page_ids, self.rows(page_ids, ["text", "words", "text_source"]), strict=True):
            entry = self._entry(page_id)
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

    def rows(self, page_ids: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read some columns of :data:`~vrag_env.corpus.schema.PAGE_SCHEMA`, in the order asked for.

        Raises:
            CorpusError: If one of the pages is not in the corpus.
        """
        row_ids = sorted({self._entry(page_id).row_id for page_id in page_ids})
        if not row_ids:
            return []
        table = self._table.take_row_ids(row_ids).select(["page_id", *columns]).to_arrow()
        by_id = {row["page_id"]: row for row in table.to_pylist()}
        return [by_id[page_id] for page_id in page_ids]

    def image(self, page_id: str) -> Image.Image:
        """Return the picture of a page in RGB.

        The object is shared by all callers through a cache of 512 MiB: crop or resize it, which makes a new
        image, and never draw on it.

        Raises:
            CorpusError: If there is no such page, or its picture is damaged.
        """
        return self.images([page_id])[0]

    def images(self, page_ids: Sequence[str]) -> list[Image.Image]:
        """Return the pictures of several pages, read at once; see :meth:`image`.

        Raises:
            CorpusError: If there is no such page, or a picture is damaged.
        """
        found = {page_id: image for page_id in page_ids if (image := self._images.get(page_id)) is not None}
        missing = [page_id for page_id in dict.fromkeys(page_ids) if page_id not in found]
        for row in self.rows(missing, ["image"]):
            found[row["page_id"]] = self._decode(row["page_id"], row["image"])
        return [found[page_id] for page_id in page_ids]

    def _decode(self, page_id: str, encoded: bytes) -> Image.Image:
        try:
            with Image.open(io.BytesIO(encoded)) as stored:
                image = stored if stored.mode == "RGB" else stored.convert("RGB")
                image.load()
        except (OSError, Image.DecompressionBombError) as error:
            raise CorpusError(f"the picture of page {page_id!r} in {self._path} is damaged: {error}") from error
        self._images.put(page_id, image, image.width * image.height * 4)  # PIL pads RGB to 4 bytes
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
        taken, seen = list(pages), set()
        for page, _, _ in taken:
            if page.page_id != page_id_of(page.doc_id, page.number) or page.page_id in seen:
                raise CorpusError(f"page {page.page_id!r} comes twice or is not page {page.number} of its document")
            seen.add(page.page_id)
        with self.writing():
            self.commit([page_batch(taken)], {page.doc_id for page, _, _ in taken})

    def commit(self, batches: Iterable[pa.RecordBatch], doc_ids: set[str]) -> None:
        """Write whole documents in one step, streamed; to be called inside :meth:`writing`.

        Args:
            batches: Rows of :data:`PAGE_SCHEMA`, read one batch at a time.
            doc_ids: The documents that the rows belong to; their former pages are dropped.
        """
        reader = pa.RecordBatchReader.from_batches(PAGE_SCHEMA, batches)
        condition = sql_in("doc_id", sorted(doc_ids))
        if self._table.count_rows(condition):
            merge = self._table.merge_insert("page_id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(condition).execute(reader)
        else:
            self._table.add(reader)
        self._forget()

    def remove(self, *doc_ids: str) -> None:
        """Remove documents, all in one step.

        Their embeddings stay in the side tables, unused, until the next build of embeddings.

        Raises:
            CorpusError: If one of the documents is not there (then none is removed), this corpus is read
                only, or another process is writing.
        """
        with self.writing():
            known = self._load().documents
            unknown = [doc_id for doc_id in doc_ids if doc_id not in known]
            if unknown:
                raise CorpusError(f"no document {', '.join(map(repr, unknown))} in {self._path}: nothing was removed")
            if not doc_ids:
                return
            self._table.delete(sql_in("doc_id", doc_ids))
            self._forget()
            if len(self) and has_text_index(self._table):
                build_text_index(self._table)  # the old one would go on counting the words of what is gone
                self._forget()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the corpus for writing; the newest pages show from then on.

        Raises:
            CorpusError: If another process (or another thread) holds it, or this corpus is read only.
        """
        if self._read_only:
            raise CorpusError(
                f"this corpus is read only, since it is fixed at version {self.version} of {self._path}: "
                "write to another one, from Corpus.open(path)"
            )
        with write_lock(self._path):
            self._table.checkout_latest()
            self._forget()
            yield

    def ensure_text_index(self) -> None:
        """Make the full-text indexes cover every page; does nothing where they do already.

        The pages shown stay the same; :attr:`version` becomes that with the new index. Where other pages have
        been written since, or are being written now, an index that covers a part is left as it is: LanceDB
        reads the other pages one by one. Where there is none at all, the newest pages show from then on.

        Raises:
            CorpusBusyError: If there is no index yet and another process is writing.
            CorpusError: If there is no index, other pages have been written, and this corpus is read only.
        """
        if len(self) == 0 or text_index_covers(self._table, len(self)):
            return
        usable = has_text_index(self._table)
        try:
            with write_lock(self._path):
                newest = Corpus(self._path)
                if newest.fingerprint != self.fingerprint:
                    if usable:
                        return
                    if self._read_only:
                        raise CorpusError(
                            f"version {self.version} of {self._path} has no full-text index, and its pages are "
                            f"not the newest, so that none can be made: open version {newest.version}"
                        )
                newest.update_text_index()
                self._table = self._open_table(PAGES, newest.version)
                self._forget()
        except CorpusBusyError:
            if not usable:
                raise

    def update_text_index(self) -> None:
        """Make the full-text indexes cover every page; to be called inside :meth:`writing`.

        They cover the text of each page and the name of its file, in the two forms of
        :mod:`vrag_env.corpus.text`; case and accents do not count, and Chinese and Japanese are separated
        into words. The indexes are made anew rather than extended: scores then depend on the pages alone and
        not on the history of the corpus.
        """
        if len(self) and not text_index_covers(self._table, len(self)):
            build_text_index(self._table)
            self._forget()

    def _open_table(self, name: str, version: int | None) -> lancedb.table.Table:
        if version is None:
            return self._database.open_table(name)
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise CorpusError(f"a version is a whole number from 1, got {version!r}")
        try:
            return self._database.open_table(name, version=version)
        except ValueError as error:  # LanceDB says the same of a version that never was
            raise CorpusError(
                f"the table {name!r} of {self._path} has no version {version}: it was never written, or was "
                "cleaned up; 'vrag corpus info' shows the newest"
            ) from error

    def _load(self) -> PageIndex:
        index = self._index
        if index is None:
            self._index = index = read_page_index(self._table)
        return index

    def _forget(self) -> None:
        with self._lock:
            self._index = None
        self._images.clear()
        self.shown.clear()

    def _entry(self, page_id: str) -> PageEntry:
        entry = self._load().pages.get(page_id)
        if entry is None:
            raise CorpusError(f"no page {page_id!r} in the corpus {self._path} ({len(self)} pages)")
        return entry


def _restore(path: str, version: int, read_only: bool) -> Corpus:
    corpus = Corpus.open(path, version)
    corpus._read_only = read_only
    return corpus
