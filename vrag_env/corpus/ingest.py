"""Ingestion: files in, pages in the corpus, a report of what was left out and why.

Reading is done by separate processes (:mod:`vrag_env.corpus.worker`), writing by this one, whole documents at
a time: whatever moment the program is killed at, the corpus holds complete documents only, and running it again
reads just what is missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from vrag_env.corpus.images import IMAGE_SUFFIXES
from vrag_env.corpus.pool import Finished, Progressed, Source, read_all
from vrag_env.corpus.store import Corpus
from vrag_env.corpus.worker import Job
from vrag_env.errors import IngestError

DOCUMENT_SUFFIXES = (".pdf", *IMAGE_SUFFIXES)
LONG_SIDE = 1792
"""Default longer side of a stored page in pixels: 64 visual tokens of 28 pixels, about 150 dpi."""

_READING_VERSION = 1  # part of every content hash: raise it when pages are read differently
_STAGING = ".staging"
_COMMIT_PAGES = 64  # pages gathered before a write, so that many small documents do not make many small files
_COMMIT_SECONDS = 5.0  # but no finished document waits longer than this


@dataclass(frozen=True)
class IngestReport:
    """What one call of :func:`ingest` did.

    Attributes:
        added: Documents that are new in the corpus.
        replaced: Documents whose contents had changed.
        unchanged: Documents that were there already.
        pages: Number of pages written.
        failures: ``(document or path, reason)`` of everything that was left out.
        seconds: Duration.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    pages: int
    failures: tuple[tuple[str, str], ...]
    seconds: float

    def __str__(self) -> str:
        rate = f", {self.pages / self.seconds:.1f} pages/s" if self.seconds > 0 else ""
        lines = [
            f"{len(self.added)} documents added, {len(self.replaced)} replaced, "
            f"{len(self.unchanged)} unchanged, {len(self.failures)} left out; "
            f"{self.pages} pages in {self.seconds:.1f} s{rate}"
        ]
        lines += [f"  left out: {name}: {reason}" for name, reason in self.failures]
        return "\n".join(lines)


def ingest(
    paths: Sequence[str | os.PathLike[str]],
    corpus: Corpus,
    *,
    long_side: int = LONG_SIDE,
    workers: int | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> IngestReport:
    """Read PDFs and images into a corpus.

    A file that is given directly becomes a document named by its file name. Of a directory, every PDF, PNG,
    JPEG, WebP and TIFF file in its tree becomes a document named by its path relative to that directory, with
    ``/`` between the parts; hidden files and directories are passed over, links to files are followed and
    links to directories are not. An image is a document of one page
    (a TIFF file has one page per frame), so a folder of page images gives one document per image. A document
    that is there with the same contents, read with the same settings, is skipped; one whose contents changed
    is replaced. What can not be read is named in the report, and the rest is ingested.

    Args:
        paths: Files and directories.
        corpus: Where the pages go.
        long_side: Longer side of a stored page in pixels. PDF pages are drawn at this size; images are
            reduced to it but never enlarged.
        workers: Number of reading processes; by default one per core.
        progress: ``True`` for a progress bar on standard error, or a function that is called with the number
            of pages read so far and the number expected.

    Returns:
        The report.

    Raises:
        IngestError: If no document at all is found at ``paths``.
        CorpusError: If another process is writing to the corpus.
        ValueError: If ``long_side`` is not between 64 and 8192, or ``workers`` is below 1.
    """
    if not 64 <= long_side <= 8192:
        raise ValueError(f"long_side must be between 64 and 8192 pixels, got {long_side}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    started = time.monotonic()
    found, failures = find_documents(paths)
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures) or "no path was given"
        raise IngestError(f"nothing to ingest: {reasons}")
    with corpus.writing():
        staging = corpus.path / _STAGING
        shutil.rmtree(staging, ignore_errors=True)  # left by a run that was killed
        staging.mkdir()
        try:
            run = _Run(corpus, staging, long_side, workers or os.cpu_count() or 1)
            run.sort_out(found, failures)
            with _Bar(progress) as bar:
                run.read(failures, bar)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        corpus.update_text_index()
    return IngestReport(
        added=tuple(sorted(run.done - run.before.keys())),
        replaced=tuple(sorted(run.done & run.before.keys())),
        unchanged=tuple(sorted(run.unchanged)),
        pages=run.pages,
        failures=tuple(sorted(failures)),
        seconds=time.monotonic() - started,
    )


def find_documents(
    paths: Sequence[str | os.PathLike[str]],
) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """List the documents at some paths.

    Args:
        paths: Files and directories, as for :func:`ingest`.

    Returns:
        The file of each document by its id, and ``(name, reason)`` of what can not be one.
    """
    found: dict[str, Path] = {}
    failures: list[tuple[str, str]] = []
    for given in map(Path, paths):
        if given.is_dir():
            inside = list(_walk(given, failures))
            if not inside:
                failures.append((str(given), "no PDF or image in this directory"))
            candidates = [(file.relative_to(given).as_posix(), file) for file in inside]
        elif not given.exists():
            failures.append((str(given), "missing: there is no such file or directory"))
            continue
        elif given.suffix.lower() not in DOCUMENT_SUFFIXES:
            failures.append((str(given), f"not a document: expected one of {', '.join(DOCUMENT_SUFFIXES)}"))
            continue
        else:
            candidates = [(given.name, given)]
        for doc_id, file in candidates:
            if not _is_text(doc_id):
                failures.append((ascii(doc_id), "the file name is not valid text: rename the file"))
            elif not os.path.isfile(file):  # a pipe or a device could be read for ever
                failures.append((doc_id, "not a regular file, or a link to none"))
            elif doc_id in found and found[doc_id].resolve() != file.resolve():
                reason = f"{file} and {found[doc_id]} have the same id: ingest the directory above both"
                failures.append((doc_id, reason))
            else:
                found[doc_id] = file
    return found, failures


def _walk(directory: Path, failures: list[tuple[str, str]]) -> Iterator[Path]:
    # Not os.walk: it passes over what it may not read, and before Python 3.12 a deep tree ends its recursion.
    waiting = [directory]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as opened:
                entries = sorted((entry for entry in opened if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            failures.append((ascii(str(folder))[1:-1], f"not readable: {error.strerror}"))
            continue
        waiting += [folder / entry.name for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            if not entry.is_dir() and entry.name.lower().endswith(DOCUMENT_SUFFIXES):
                yield folder / entry.name


def _is_text(name: str) -> bool:
    # File names are bytes: those that are not UTF-8 arrive with lone surrogates, which no table can store.
    return not any(0xD800 <= ord(char) <= 0xDFFF or ord(char) < 32 for char in name)


def hash_document(path: Path, long_side: int) -> str:
    """Hash a file's bytes together with the settings that it is read with."""
    digest = hashlib.sha256(f"vrag reading {_READING_VERSION}, long side {long_side}\n".encode())
    with open(path, "rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


class _Run:
    """One call of :func:`ingest`: what is to be read, what is staged, what is written."""

    def __init__(self, corpus: Corpus, staging: Path, long_side: int, workers: int) -> None:
        self.corpus = corpus
        self.staging = staging
        self.long_side = long_side
        self.workers = workers
        self.before = corpus.documents()
        self.unchanged: set[str] = set()
        self.done: set[str] = set()
        self.pages = 0
        self._sources: list[Source] = []
        self._staged: list[Finished] = []
        self._last_commit = time.monotonic()

    def sort_out(self, found: dict[str, Path], failures: list[tuple[str, str]]) -> None:
        """Hash the files and keep those whose contents are not in the corpus."""
        for number, (doc_id, path) in enumerate(found.items()):
            try:
                content_hash = hash_document(path, self.long_side)
                size = path.stat().st_size
            except OSError as error:
                failures.append((doc_id, f"not readable: {error.strerror}"))
                continue
            if self.before.get(doc_id) == content_hash:
                self.unchanged.add(doc_id)
            else:
                staged = str(self.staging / f"{number}.arrow")
                job = Job(str(path.absolute()), doc_id, content_hash, self.long_side, staged)
                self._sources.append(Source(job, size))

    def read(self, failures: list[tuple[str, str]], bar: _Bar) -> None:
        """Read all documents and write them as they come."""
        estimate = _Estimate(self._sources)
        for event in read_all(self._sources, self.workers):
            if isinstance(event, Progressed):
                bar.show(*estimate.update(event))
            elif event.error is not None:
                failures.append((event.job.doc_id, event.error))
                Path(event.job.staged).unlink(missing_ok=True)
            else:
                self._staged.append(event)
                waiting = sum(finished.pages for finished in self._staged)
                if waiting >= _COMMIT_PAGES or time.monotonic() - self._last_commit > _COMMIT_SECONDS:
                    self._commit()
        self._commit()

    def _commit(self) -> None:
        if self._staged:
            doc_ids = {finished.job.doc_id for finished in self._staged}
            self.corpus.commit(_batches(self._staged), doc_ids)
            if not self.done:
                self.corpus.update_text_index()  # whoever opens the corpus from now on can search it
            self.done |= doc_ids
            self.pages += sum(finished.pages for finished in self._staged)
            for finished in self._staged:
                Path(finished.job.staged).unlink()
            self._staged = []
        self._last_commit = time.monotonic()


def _batches(staged: Sequence[Finished]) -> Iterator[pa.RecordBatch]:
    for finished in staged:
        with pa.OSFile(finished.job.staged, "rb") as source, pa.ipc.open_stream(source) as reader:
            yield from reader


class _Estimate:
    """Expected number of pages: what opened documents have, extended to the others by their bytes."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._bytes = {source.job.doc_id: source.bytes for source in sources}
        self._counts: dict[str, int] = {}
        self._done = 0

    def update(self, event: Progressed) -> tuple[int, int]:
        """Take a report and return ``(pages done, pages expected)``."""
        self._counts[event.job.doc_id] = event.count
        self._done += event.new_pages
        opened = sum(self._bytes[doc_id] for doc_id in self._counts)
        ratio = sum(self._bytes.values()) / opened if opened else 1.0
        return self._done, max(round(sum(self._counts.values()) * ratio), self._done)


class _Bar:
    """Progress on standard error, or to the caller's function, or none."""

    def __init__(self, progress: bool | Callable[[int, int], None]) -> None:
        self._call = progress if callable(progress) else None
        self._bar = tqdm(unit="page", desc="Reading", disable=progress is not True)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, done: int, expected: int) -> None:
        """Show how far it is."""
        if self._call is not None:
            self._call(done, expected)
        self._bar.total = expected
        self._bar.update(done - self._bar.n)
