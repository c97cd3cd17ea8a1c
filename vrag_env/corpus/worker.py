"""One reading process of ingestion, started by :mod:`vrag_env.corpus.pool`.

Files from strangers are opened here and nowhere else, so that a document which crashes or hangs the PDF
library costs that document only. It reports ``{"ready": true}`` when everything is imported. Then it reads one
JSON object per line from standard input, a :class:`Job` or a :class:`Listing`, and reports one JSON object per
line on standard output.

For a job, it writes the pages of the document to a staged Arrow file: ``{"pages": n}`` when the document is
open, ``{"page": i}`` after each page, and at the end ``{"done": n, "blank": m, "empty": e}``: its pages, those
of them without text of their own, and those without any after OCR. For a listing: ``{"alive": true}`` on the way, then
``{"documents": [...], "failures": [...]}``. For either, ``{"error": reason}``.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from vrag_env.corpus.archives import extract, list_documents
from vrag_env.corpus.images import STORED_FORMAT, RawPage, encode_page, read_image
from vrag_env.corpus.ocr import PageReader
from vrag_env.corpus.pdf import read_pdf
from vrag_env.corpus.records import Page, page_id_of
from vrag_env.corpus.schema import PAGE_SCHEMA, page_batch
from vrag_env.errors import DependencyError, IngestError

MAX_MEMORY_BYTES = 4 * 2**30
"""Most memory of a reading process (on Linux): a file of some kilobytes can ask for any amount."""
MAX_DECK_PAGES = 5000
"""Most pages of a zipped deck, as of a PDF."""
_BATCH_PAGES = 8  # pages per staged batch: what a process holds in memory at once
_ALIVE_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One document to read.

    Attributes:
        path: The file.
        doc_id: Its id in the corpus.
        content_hash: Hash of its bytes and of the settings.
        long_side: Longer side of the stored pages in pixels.
        staged: Where the Arrow file is to be written.
        members: For a document in a zip file, its members there, in order.
        ocr: ``"auto"``, ``"always"`` or ``"never"``.
        threads: Threads of the OCR.
    """

    path: str
    doc_id: str
    content_hash: str
    long_side: int
    staged: str
    members: tuple[str, ...] = ()
    ocr: str = "never"
    threads: int = 1

    def to_line(self) -> str:
        """Write the job as one line of JSON."""
        return json.dumps({"job": asdict(self)}) + "\n"


@dataclass(frozen=True)
class Listing:
    """A zip file whose documents are to be listed.

    Attributes:
        path: The file.
        doc_id: Its own id, which the ids of its documents start with.
    """

    path: str
    doc_id: str

    def to_line(self) -> str:
        """Write the order as one line of JSON."""
        return json.dumps({"listing": asdict(self)}) + "\n"


def read_document(job: Job) -> Iterator[dict[str, Any]]:
    """Read one document into its staged file, reporting on the way.

    Args:
        job: What to read.

    Yields:
        The reports of the module's docstring, but for ``error``.

    Raises:
        IngestError: If the document can not be read.
    """
    if job.members:
        count, raw_pages = len(job.members), _read_members(job)
    else:
        count, raw_pages = _read_file(Path(job.path), job.long_side)
    yield {"pages": count}
    number = blank = empty = 0
    with pa.OSFile(job.staged, "wb") as sink, pa.ipc.new_stream(sink, PAGE_SCHEMA) as writer:
        pages: list[tuple[Page, bytes, str]] = []
        for number, raw in enumerate(raw_pages, start=1):
            own = bool(raw.text)
            blank += not own
            text, words = raw.text, raw.words
            by_ocr = job.ocr == "always" or (job.ocr == "auto" and not own)
            if by_ocr:
                words, text = _page_reader(job.threads).read(raw.image)
            empty += not text
            page = Page(
                page_id=page_id_of(job.doc_id, number),
                doc_id=job.doc_id,
                number=number,
                width=raw.image.width,
                height=raw.image.height,
                text=text,
                words=words,
                content_hash=job.content_hash,
                text_source="ocr" if by_ocr else "layer",
            )
            pages.append((page, encode_page(raw.image), STORED_FORMAT))
            if len(pages) == _BATCH_PAGES:
                writer.write_batch(page_batch(pages))
                pages = []
            yield {"page": number}
        if pages:
            writer.write_batch(page_batch(pages))
    yield {"done": number, "blank": blank, "empty": empty}


def _read_file(path: Path, long_side: int) -> tuple[int, Iterator[RawPage]]:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise IngestError(f"missing or not readable: {error.strerror}") from error
    if size == 0:
        raise IngestError("empty: the file has no bytes")
    reader = read_pdf if path.suffix.lower() == ".pdf" else read_image
    return reader(path, long_side)


def _read_members(job: Job) -> Iterator[RawPage]:
    """Read the members of a zip file that make one document, one unpacked at a time."""
    total = 0
    for member in job.members:
        unpacked = Path(f"{job.staged}.member{Path(member).suffix.lower()}")
        try:
            extract(Path(job.path), member, unpacked)
            count, raw_pages = _read_file(unpacked, job.long_side)
            total += count
            if total > MAX_DECK_PAGES:
                raise IngestError(f"too long: over {MAX_DECK_PAGES} pages; split the deck")
            yield from raw_pages
        except IngestError as error:
            if len(job.members) == 1 or str(error).startswith(member):
                raise
            raise IngestError(f"{member}: {error}") from error
        finally:
            unpacked.unlink(missing_ok=True)


def list_archive(listing: Listing, reports: IO[str]) -> None:
    """List the documents of a zip file, reporting on the way and at the end.

    Raises:
        IngestError: If the file can not be read.
    """
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last > _ALIVE_SECONDS:
            last = time.monotonic()
            _report({"alive": True}, reports)

    documents, failures = list_documents(Path(listing.path), listing.doc_id, alive)
    _report({"documents": [asdict(document) for document in documents], "failures": failures}, reports)


def serve(jobs: Iterable[str], reports: IO[str]) -> None:
    """Read documents until the stream of jobs ends."""
    for line in jobs:
        order = json.loads(line)
        try:
            if "listing" in order:
                list_archive(Listing(**order["listing"]), reports)
                continue
            for report in read_document(Job(**order["job"])):
                _report(report, reports)
        except BrokenPipeError:
            raise
        except (IngestError, DependencyError, OSError, MemoryError) as error:
            _report({"error": str(error) or type(error).__name__}, reports)


@cache
def _page_reader(threads: int) -> PageReader:
    return PageReader(threads)


def _report(report: dict[str, Any], reports: IO[str]) -> None:
    print(json.dumps(report), file=reports, flush=True)


def _lines() -> Iterator[str]:
    """Lines of standard input; at its end the process ends at once, whatever it is reading.

    The main process closes it when it has no more to read, and the system does when that process is killed:
    nobody waits for the document then, and nobody would end a process that hangs over it.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield lines.get()


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def main() -> None:
    """Serve on the standard streams until the main process closes them."""
    # The reports keep the real standard output; whatever a library prints goes to standard error instead.
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit_memory()
    warnings.simplefilter("ignore")  # what PIL has to say of a file's metadata concerns nobody
    try:
        _report({"ready": True}, reports)
        serve(_lines(), reports)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # the main process is gone or was interrupted: nobody is left to tell
