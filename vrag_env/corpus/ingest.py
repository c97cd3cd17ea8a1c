"""Ingestion: files in, pages in the corpus, a report of what was left out and why.

Reading is done by separate processes (:mod:`vrag_env.corpus.worker`), writing by this one, whole documents at
a time: whatever moment the program is killed at, the corpus holds complete documents only, and running it again
reads just what is missing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from vrag_env.corpus.archives import ARCHIVE_SUFFIX, ArchivedDocument
from vrag_env.corpus.images import IMAGE_SUFFIXES
from vrag_env.corpus.ocr import OCR_MODES, missing_package
from vrag_env.corpus.pool import Finished, Progressed, Source, read_all
from vrag_env.corpus.schema import PAGE_SCHEMA
from vrag_env.corpus.store import Corpus
from vrag_env.corpus.worker import Job, Listing
from vrag_env.errors import IngestError, missing_extra

DOCUMENT_SUFFIXES = (".pdf", ARCHIVE_SUFFIX, *IMAGE_SUFFIXES)
LONG_SIDE = 1792
"""Default longer side of a stored page in pixels: 64 visual tokens of 28 pixels, about 150 dpi."""

_READING_VERSION = 1  # part of every content hash: raise it when pages are read differently
_STAGING = ".staging"
_COMMIT_PAGES = 256  # pages gathered before a write, so that many small documents do not make many small files
_LAST_PAGES = 32  # the same at the end, when there is little left to gather
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
        pages_without_text: Number of pages written that have no text: a search can not find them by words.
        advice: What to do about them; empty if nothing can be done.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    pages: int
    failures: tuple[tuple[str, str], ...]
    seconds: float
    pages_without_text: int = 0
    advice: str = ""

    def __str__(self) -> str:
        rate = f", {self.pages / self.seconds:.1f} pages/s" if self.seconds > 0 else ""
        lines = [
            f"{len(self.added)} documents added, {len(self.replaced)} replaced, "
            f"{len(self.unchanged)} unchanged, {len(self.failures)} left out; "
            f"{self.pages} pages in {self.seconds:.1f} s{rate}"
        ]
        lines += [f"  left out: {name}: {reason}" for name, reason in self.failures]
        if self.pages_without_text:
            lines.append(f"{self.pages_without_text} pages have no text{self.advice and ': '}{self.advice}")
        return "\n".join(lines)


def ingest(
    paths: Sequence[str | os.PathLike[str]],
    corpus: Corpus,
    *,
    long_side: int = LONG_SIDE,
    ocr: str = "never",
    workers: int | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> IngestReport:
    """Read PDFs and images into a corpus.

    A file that is given directly becomes a document named by its file name. Of a directory, every PDF, PNG,
    JPEG, WebP, TIFF and zip file in its tree becomes a document named by its path relative to that directory,
    with ``/`` between the parts; hidden files and directories are passed over, links to files are followed and
    links to directories are not. An image is a document of one page (a TIFF file has one page per frame), so a
    folder of page images gives one document per image. In a zip file, each PDF is a document,
    ``deck.zip/inner/path.pdf``, and the images of each folder are one deck, ``deck.zip/inner``, its pages in
    natural order (:mod:`vrag_env.corpus.archives`).

    A document that is there with the same contents, read with the same settings, is skipped; one whose contents
    changed is replaced. What can not be read is named in the report, and the rest is ingested.

    Args:
        paths: Files and directories.
        corpus: Where the pages go.
        long_side: Longer side of a stored page in pixels. PDF pages are drawn at this size; images are
            reduced to it but never enlarged.
        ocr: ``"never"`` takes the text that is in the files; ``"auto"`` also reads it off the pages that have
            none, if RapidOCR is installed, and says in the report if it is not; ``"always"`` reads it off all
            pages. The default does not depend on what is installed. Only documents whose pages a change of this
            setting changes are read again.
        workers: Number of reading processes; by default one per core.
        progress: ``True`` for a progress bar on standard error, or a function that is called with the number
            of pages read so far and the number expected.

    Returns:
        The report.

    Raises:
        IngestError: If no document at all is found at ``paths``.
        CorpusError: If another process is writing to the corpus.
        DependencyError: If ``ocr`` is ``"always"`` and RapidOCR is not installed.
        ValueError: If ``long_side`` is not between 64 and 8192, ``workers`` is below 1, or ``ocr`` is none of
            the three.
    """
    if not 64 <= long_side <= 8192:
        raise ValueError(f"long_side must be between 64 and 8192 pixels, got {long_side}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if ocr not in OCR_MODES:
        raise ValueError(f"ocr must be one of {', '.join(OCR_MODES)}, got {ocr!r}")
    missing = missing_package() if ocr != "never" else None
    if missing is not None and ocr == "always":
        raise missing_extra(missing, "ocr")
    started = time.monotonic()
    found, failures = find_documents(paths)
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures) or "no path was given"
        raise IngestError(f"nothing to ingest: {reasons}")
    with corpus.writing():
        root = corpus.path / _STAGING
        shutil.rmtree(root, ignore_errors=True)  # left by a run that was killed
        # A directory of its own: a process which that run left behind can not write where this one reads.
        staging = root / secrets.token_hex(8)
        staging.mkdir(parents=True)
        try:
            settings = _Settings(long_side, "never" if missing else ocr)
            run = _Run(corpus, staging, settings, workers or os.cpu_count() or 1)
            run.sort_out(found, failures)
            run.sort_out_archives(failures)
            with _Bar(progress) as bar:
                run.read(failures, bar)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        corpus.update_text_index()
    return IngestReport(
        added=tuple(sorted(run.done - run.before.keys())),
        replaced=tuple(sorted(run.done & run.before.keys())),
        unchanged=tuple(sorted(run.unchanged)),
        pages=run.pages,
        failures=tuple(sorted(failures)),
        seconds=time.monotonic() - started,
        pages_without_text=run.empty,
        advice=_advice(ocr, missing),
    )


def _advice(ocr: str, missing: str | None) -> str:
    if missing is not None:
        return f'to read them with OCR, pip install "vrag-gym[ocr]" ({missing} is missing) and run again'
    return "to read them with OCR, run again with --ocr auto" if ocr == "never" else "OCR found none"


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
                failures.append((str(given), "no PDF, image or zip file in this directory"))
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


@dataclass(frozen=True)
class _Settings:
    """What, beside a file's contents, decides what its pages are.

    A document's hash says with which settings it was read, but for an OCR setting that changes nothing: pages
    that all have text of their own are the same under ``never`` and ``auto``.
    """

    long_side: int
    ocr: str

    def hash(self, digest: str, blank: bool) -> str:
        """Hash of a document, given that of its contents and whether a page has no text of its own."""
        ocr = self.ocr if blank or self.ocr == "always" else "not needed"
        settings = f"vrag reading {_READING_VERSION}, long side {self.long_side}, OCR {ocr}\n{digest}"
        return hashlib.sha256(settings.encode()).hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


class _Run:
    """One call of :func:`ingest`: what is to be read, what is staged, what is written."""

    def __init__(self, corpus: Corpus, staging: Path, settings: _Settings, workers: int) -> None:
        self.corpus = corpus
        self.staging = staging
        self.settings = settings
        self.workers = workers
        self.before = corpus.documents()
        self.unchanged: set[str] = set()
        self.done: set[str] = set()
        self.pages = 0
        self.empty = 0
        self._sources: list[Source] = []
        self._archives: list[Source] = []
        self._taken: set[str] = set()  # ids of all documents found
        self._staged: list[Finished] = []
        self._writing: Future[None] | None = None
        self._last_commit = time.monotonic()

    def sort_out(self, found: dict[str, Path], failures: list[tuple[str, str]]) -> None:
        """Hash the files and keep those whose contents are not in the corpus."""
        self._taken = set(found)
        for doc_id, path in found.items():
            try:
                size = path.stat().st_size
                if path.suffix.lower() == ARCHIVE_SUFFIX:
                    self._archives.append(Source(Listing(str(path.absolute()), doc_id), size))
                else:
                    self._consider(path, doc_id, _digest(path), size)
            except OSError as error:
                failures.append((doc_id, f"not readable: {error.strerror}"))

    def sort_out_archives(self, failures: list[tuple[str, str]]) -> None:
        """List the zip files, which reading processes do, and keep their documents that are not in the corpus."""
        paths = {source.job.doc_id: Path(source.job.path) for source in self._archives}
        listed = []
        for event in read_all(self._archives, self.workers):
            if isinstance(event, Progressed):
                continue
            if event.error is not None:
                failures.append((event.job.doc_id, event.error))
            else:
                listed.append((event.job.doc_id, event.report))
        for archive_id, report in sorted(listed, key=lambda item: item[0]):
            failures += [(name, reason) for name, reason in report["failures"]]
            for fields in report["documents"]:
                document = ArchivedDocument(**{**fields, "members": tuple(fields["members"])})
                if document.doc_id in self._taken - {archive_id}:
                    failures.append((document.doc_id, "another document has the same id: rename the zip file"))
                    continue
                self._taken.add(document.doc_id)
                path = paths[archive_id]
                self._consider(path, document.doc_id, document.digest, document.bytes, document.members)

    def _consider(self, path: Path, doc_id: str, digest: str, size: int, members: tuple[str, ...] = ()) -> None:
        if self.before.get(doc_id) in (self.settings.hash(digest, False), self.settings.hash(digest, True)):
            self.unchanged.add(doc_id)
            return
        job = Job(
            path=str(path.absolute()),
            doc_id=doc_id,
            content_hash=digest,
            long_side=self.settings.long_side,
            staged=str(self.staging / f"{len(self._sources)}.arrow"),
            members=members,
            ocr=self.settings.ocr,
            threads=max(1, (os.cpu_count() or 1) // self.workers),
        )
        self._sources.append(Source(job, size))

    def read(self, failures: list[tuple[str, str]], bar: _Bar) -> None:
        """Read all documents and write them as they come."""
        estimate = _Estimate(self._sources)
        # Long ones first: the last document to be read is then a short one, and no process waits long for it.
        ordered = sorted(self._sources, key=lambda source: -source.bytes)
        left = len(ordered)
        # Writing has a thread of its own: the reading processes do not wait for it.
        with ThreadPoolExecutor(1, "vrag-write") as writer:
            for event in read_all(ordered, self.workers):
                if isinstance(event, Progressed):
                    bar.show(*estimate.update(event))
                    continue
                left -= 1
                if event.error is not None:
                    failures.append((event.job.doc_id, event.error))
                    Path(_job(event).staged).unlink(missing_ok=True)
                else:
                    self._staged.append(event)
                self._write_if_due(writer, last=left <= self.workers)
            self._wait_for_writer()
            self._commit(self._staged)

    def _write_if_due(self, writer: ThreadPoolExecutor, last: bool) -> None:
        """Hand what is staged to the writer if it is enough, or old enough.

        Args:
            writer: The thread that writes.
            last: Whether every document left is being read already: what is staged is then better written now than
                at the end, when the processors have nothing else to do.
        """
        waiting = sum(finished.report["done"] for finished in self._staged)
        least = min(_LAST_PAGES, _COMMIT_PAGES) if last else _COMMIT_PAGES
        if waiting < least and time.monotonic() - self._last_commit <= _COMMIT_SECONDS:
            return
        if self._writing is not None and not self._writing.done() and waiting < 4 * _COMMIT_PAGES:
            return  # reading goes on meanwhile, but not without bounds
        self._wait_for_writer()
        if self._staged:
            staged, self._staged = self._staged, []
            self._writing = writer.submit(self._commit, staged)
        self._last_commit = time.monotonic()

    def _wait_for_writer(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _commit(self, staged: Sequence[Finished]) -> None:
        if staged:
            doc_ids = {finished.job.doc_id for finished in staged}
            self.corpus.commit(self._batches(staged), doc_ids)
            if not self.done:
                self.corpus.update_text_index()  # whoever opens the corpus from now on can search it
            self.done |= doc_ids
            for finished in staged:
                self.pages += finished.report["done"]
                self.empty += finished.report["empty"]
                Path(_job(finished).staged).unlink()

    def _batches(self, staged: Sequence[Finished]) -> Iterator[pa.RecordBatch]:
        """The staged pages, with the hash that is known now that all pages of their document are read."""
        column = PAGE_SCHEMA.get_field_index("content_hash")
        for finished in staged:
            job = _job(finished)
            final = self.settings.hash(job.content_hash, finished.report["blank"] > 0)
            with pa.OSFile(job.staged, "rb") as source, pa.ipc.open_stream(source) as reader:
                for batch in reader:
                    hashes = pa.array([final] * batch.num_rows, pa.string())
                    yield batch.set_column(column, PAGE_SCHEMA.field(column), hashes)


def _job(finished: Finished) -> Job:
    assert isinstance(finished.job, Job)  # zip files are listed before
    return finished.job


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
