"""Import of pages from Parquet files: our own export, or any data set with a column of images.

The files may come from strangers. Every picture is decoded before anything is written, under the limits of
ingestion. Those of our own export are then stored as they are, so that the corpus comes out the same; others
are encoded anew, as ingestion does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from vrag_env.corpus.ingest import LONG_SIDE
from vrag_env.corpus.parquet_rows import COLUMN_NAMES, RowReader, open_rows
from vrag_env.corpus.records import page_id_of
from vrag_env.corpus.schema import PAGE_SCHEMA, page_batch
from vrag_env.corpus.store import Corpus
from vrag_env.errors import IngestError

_SPOOL = ".import"
_COMMIT_PAGES = 256
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.parquet")


@dataclass(frozen=True)
class ImportReport:
    """What :func:`import_parquet` did.

    Attributes:
        added: Documents that are new in the corpus.
        replaced: Documents whose contents had changed.
        unchanged: Documents that were there already.
        pages: Number of pages written.
        failures: ``(page or document, reason)`` of everything that was left out.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    pages: int
    failures: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = [
            f"{len(self.added)} documents added, {len(self.replaced)} replaced, {len(self.unchanged)} unchanged; "
            f"{self.pages} pages, {len(self.failures)} left out"
        ]
        return "\n".join(lines + [f"  left out: {name}: {reason}" for name, reason in self.failures])


def import_parquet(
    paths: Sequence[str | os.PathLike[str]],
    corpus: Corpus,
    *,
    columns: Mapping[str, str] | None = None,
    first_page: int = 1,
    long_side: int = LONG_SIDE,
    progress: bool = True,
) -> ImportReport:
    """Read pages from Parquet files into a corpus.

    A document replaces the one of the same id; one that is there with the same contents is skipped. All
    pictures are read before the first page is written. A page that can not be taken is left out and reported;
    of our own export, its document is left out as a whole, since its hash stands for all of its pages.

    Args:
        paths: Files, and directories whose trees are searched for ``*.parquet``.
        corpus: Where the pages go.
        columns: Name of the column for ``"image"``, ``"document"``, ``"page"`` and ``"text"``, where it is none
            of :data:`COLUMN_NAMES`. Text may be missing. Not used for our own export.
        first_page: Number that the data set gives to the first page of a document, 0 or 1.
        long_side: Longer side in pixels to which larger pictures are reduced. Not used for our own export.
        progress: Show a progress bar on standard error.

    Returns:
        The report.

    Raises:
        IngestError: If there is no file, a file is damaged or a part of a data set is missing, or a column is
            missing; nothing is written then.
        CorpusError: If another process is writing to the corpus, or it is read only.
        ValueError: If an argument is out of range.
    """
    unknown = set(columns or {}) - COLUMN_NAMES.keys()
    if unknown:
        raise ValueError(f"columns must be of {sorted(COLUMN_NAMES)}, got {sorted(unknown)}")
    if first_page not in (0, 1):
        raise ValueError(f"first_page must be 0 or 1, got {first_page}")
    if not 64 <= long_side <= 8192:
        raise ValueError(f"long_side must be between 64 and 8192 pixels, got {long_side}")
    files = find_parquet(paths)
    readers = [open_rows(path, columns or {}, first_page, long_side) for path in files]
    with corpus.writing():
        spool = corpus.path / _SPOOL
        shutil.rmtree(spool, ignore_errors=True)  # left by a run that was killed
        spool.mkdir()
        try:
            run = _Run(corpus, spool / "pages.arrow")
            with tqdm(total=sum(reader.rows for reader in readers), unit="page", disable=not progress) as bar:
                run.read(readers, bar)
            run.write()
        finally:
            shutil.rmtree(spool, ignore_errors=True)
        corpus.update_text_index()
    return ImportReport(
        added=tuple(sorted(run.done - run.before.keys())),
        replaced=tuple(sorted(run.done & run.before.keys())),
        unchanged=tuple(sorted(run.unchanged)),
        pages=run.pages,
        failures=tuple(run.failures),
    )


def find_parquet(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """List the Parquet files at some paths.

    Raises:
        IngestError: If there is none at one of them, or a part of a data set is missing.
    """
    files: list[Path] = []
    for given in map(Path, paths):
        if not given.exists():
            raise IngestError(f"{given}: there is no such file or directory")
        found = sorted(given.rglob("*.parquet")) if given.is_dir() else [given]
        if not found:
            raise IngestError(f"{given}: no *.parquet file in this directory")
        files += found
        if given.is_dir():
            _check_shards(found)
    return list(dict.fromkeys(files))


def _check_shards(files: Sequence[Path]) -> None:
    """Check that no part of a data set is missing: half a document would look like a whole one."""
    present: dict[tuple[Path, str, int], set[int]] = {}
    for path in files:
        if match := _SHARD.fullmatch(path.name):
            present.setdefault((path.parent, match[1], int(match[3])), set()).add(int(match[2]))
    for (folder, name, count), numbers in present.items():
        if len(numbers) < count:
            raise IngestError(f"{folder}: only {len(numbers)} of the {count} parts of {name!r} are there")


@dataclass
class _Document:
    """Where the pages of a document are in the spool, and their digests, by page number."""

    own: bool
    places: dict[int, int] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)

    def content_hash(self) -> str:
        if self.own:
            return self.digests[min(self.digests)]
        return hashlib.sha256(json.dumps(sorted(self.digests.items())).encode()).hexdigest()


class _Run:
    """One call of :func:`import_parquet`: first all rows are checked and spooled, then documents are written."""

    def __init__(self, corpus: Corpus, spool: Path) -> None:
        self.corpus = corpus
        self.before = corpus.documents()
        self.failures: list[tuple[str, str]] = []
        self.unchanged: set[str] = set()
        self.done: set[str] = set()
        self.pages = 0
        self._spool = spool
        self._documents: dict[str, _Document] = {}
        self._hashes: dict[str, Any] = {}  # of our own exports, as their first page has it
        self._refused: set[str] = set()

    def read(self, readers: Sequence[RowReader], bar: Any) -> None:
        """Check all rows; those that can be stored go to the spool, one batch per page for any later order."""
        with pa.OSFile(str(self._spool), "wb") as sink, pa.ipc.new_file(sink, PAGE_SCHEMA) as writer:
            place = 0
            for reader in readers:
                for position, row in enumerate(reader.read(), start=1):
                    if self._take(reader, position, row, place, writer):
                        place += 1
                    bar.update()
        for doc_id in self._refused:
            self._documents.pop(doc_id, None)
            self.unchanged.discard(doc_id)

    def _take(self, reader: RowReader, position: int, row: dict[str, Any], place: int, writer: Any) -> bool:
        name = f"{reader.path.name} row {position}"
        try:
            doc_id, number = reader.name(row)
            name = page_id_of(doc_id, number)
            if reader.own:
                content_hash = row["content_hash"]
                if self._hashes.setdefault(doc_id, content_hash) != content_hash:
                    raise IngestError("the pages of its document have different content hashes")
                if self.before.get(doc_id) == content_hash:
                    self.unchanged.add(doc_id)
                    return False
            document = self._documents.setdefault(doc_id, _Document(reader.own))
            if number in document.places or document.own != reader.own:
                raise IngestError("this page comes twice")
            taken = reader.take(row, doc_id, number)
        except IngestError as error:
            self.failures.append((name, str(error)))
            if reader.own and isinstance(row["doc_id"], str):
                self._refused.add(row["doc_id"])
                self.failures[-1] = (name, f"{error}; its whole document is left out")
            return False
        writer.write_batch(page_batch([taken.page]))
        document.places[number], document.digests[number] = place, taken.digest
        return True

    def write(self) -> None:
        """Write the documents, some at a time, each of them whole."""
        with pa.OSFile(str(self._spool), "rb") as source, pa.ipc.open_file(source) as spooled:
            group: dict[str, _Document] = {}
            for doc_id, document in sorted(self._documents.items()):
                if not document.places:
                    continue
                if self.before.get(doc_id) == document.content_hash():
                    self.unchanged.add(doc_id)
                    continue
                group[doc_id] = document
                if sum(len(each.places) for each in group.values()) >= _COMMIT_PAGES:
                    self._commit(spooled, group)
                    group = {}
            if group:
                self._commit(spooled, group)

    def _commit(self, spooled: Any, group: Mapping[str, _Document]) -> None:
        self.corpus.commit(_batches(spooled, group), set(group))
        self.done |= group.keys()
        self.pages += sum(len(document.places) for document in group.values())


def _batches(spooled: Any, group: Mapping[str, _Document]) -> Iterator[pa.RecordBatch]:
    at = PAGE_SCHEMA.get_field_index("content_hash")
    for document in group.values():
        content_hash = pa.array([document.content_hash()], pa.string())
        for _, place in sorted(document.places.items()):
            yield spooled.get_batch(place).set_column(at, PAGE_SCHEMA.field(at), content_hash)
