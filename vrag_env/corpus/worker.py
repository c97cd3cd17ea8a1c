"""One reading process of ingestion, started by :mod:`vrag_env.corpus.pool`.

Files from strangers are opened here and nowhere else, so that a document which crashes or hangs the PDF
library costs that document only. It reads one JSON object per line from standard input (see :class:`Job`),
writes the pages of the document to a staged Arrow file, and reports one JSON object per line on standard
output: ``{"pages": n}`` when the document is open, ``{"page": i}`` after each page, ``{"done": n}`` at the
end, or ``{"error": reason}``.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from vrag_env.corpus.images import STORED_FORMAT, encode_page, read_image
from vrag_env.corpus.pdf import read_pdf
from vrag_env.corpus.records import Page, page_id_of
from vrag_env.corpus.schema import PAGE_SCHEMA, page_row
from vrag_env.errors import IngestError

MAX_MEMORY_BYTES = 4 * 2**30
"""Most memory of a reading process (on Linux): a file of some kilobytes can ask for any amount."""
_BATCH_PAGES = 8  # rows per staged batch: what a process holds in memory at once


@dataclass(frozen=True)
class Job:
    """One document to read.

    Attributes:
        path: The file.
        doc_id: Its id in the corpus.
        content_hash: Hash of its bytes and of the settings.
        long_side: Longer side of the stored pages in pixels.
        staged: Where the Arrow file is to be written.
    """

    path: str
    doc_id: str
    content_hash: str
    long_side: int
    staged: str

    def to_line(self) -> str:
        """Write the job as one line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def read_document(job: Job) -> Iterator[dict[str, Any]]:
    """Read one document into its staged file, reporting on the way.

    Args:
        job: What to read.

    Yields:
        The reports of the module's docstring, but for ``error``.

    Raises:
        IngestError: If the document can not be read.
    """
    path = Path(job.path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise IngestError(f"missing or not readable: {error.strerror}") from error
    if size == 0:
        raise IngestError("empty: the file has no bytes")
    reader = read_pdf if path.suffix.lower() == ".pdf" else read_image
    count, raw_pages = reader(path, job.long_side)
    yield {"pages": count}
    with pa.OSFile(job.staged, "wb") as sink, pa.ipc.new_stream(sink, PAGE_SCHEMA) as writer:
        rows: list[dict[str, Any]] = []
        for number, raw in enumerate(raw_pages, start=1):
            page = Page(
                page_id=page_id_of(job.doc_id, number),
                doc_id=job.doc_id,
                number=number,
                width=raw.image.width,
                height=raw.image.height,
                text=raw.text,
                words=raw.words,
                content_hash=job.content_hash,
            )
            rows.append(page_row(page, encode_page(raw.image), STORED_FORMAT))
            if len(rows) == _BATCH_PAGES or number == count:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=PAGE_SCHEMA))
                rows = []
            yield {"page": number}
    yield {"done": count}


def serve(jobs: IO[str], reports: IO[str]) -> None:
    """Read documents until the stream of jobs ends."""
    for line in jobs:
        try:
            for report in read_document(Job(**json.loads(line))):
                print(json.dumps(report), file=reports, flush=True)
        except BrokenPipeError:
            raise
        except (IngestError, OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            print(json.dumps({"error": reason}), file=reports, flush=True)


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
        serve(sys.stdin, reports)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # the main process is gone or was interrupted: nobody is left to tell
