"""A pool of reading processes that survives any of them.

``multiprocessing`` is not used: it starts the caller's script again where that has no ``__main__`` guard, and
a crash of one process breaks its whole pool. Here a process that dies or stands still costs the document it
was at.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vrag_env.corpus.worker import Job, Listing

PAGE_SECONDS = 120.0
"""A process that reports nothing for so long is ended, and its document given up."""
OCR_SECONDS = 600.0
"""The same where OCR may be at work, which takes seconds for a page and more for a poster."""

WORKER_CODE = "from vrag_env.corpus.worker import main; main()"
"""What a reading process runs."""


@dataclass(frozen=True)
class Source:
    """A document to read or a zip file to list, with its size in bytes."""

    job: Job | Listing
    bytes: int


@dataclass(frozen=True)
class Progressed:
    """A document was opened (``new_pages`` 0) or one of its ``count`` pages was read (``new_pages`` 1)."""

    job: Job | Listing
    count: int
    new_pages: int


@dataclass(frozen=True)
class Finished:
    """A document is staged or a zip file is listed, as told by ``report``, or ``error`` says why it is not."""

    job: Job | Listing
    report: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


Event = Progressed | Finished


def read_all(sources: Sequence[Source], workers: int) -> Iterator[Event]:
    """Read documents, or list zip files, in several processes.

    Args:
        sources: The documents and zip files.
        workers: Most processes at once.

    Yields:
        What happens, in the order in which it happens; exactly one :class:`Finished` per document.
    """
    todo: queue.SimpleQueue[Job | Listing] = queue.SimpleQueue()
    for source in sources:
        todo.put(source.job)
    # Bounded: documents are staged no faster than the consumer writes them.
    events: queue.Queue[Event | BaseException] = queue.Queue(maxsize=64)
    readers = [_Reader(todo, events) for _ in range(min(workers, len(sources)))]
    for reader in readers:
        reader.start()
    try:
        unfinished = len(sources)
        while unfinished:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            unfinished -= isinstance(event, Finished)
            yield event
    finally:
        for reader in readers:
            reader.stop()


class _Reader(threading.Thread):
    """Feeds one process with jobs and passes its reports on."""

    def __init__(self, todo: queue.SimpleQueue[Job | Listing], events: queue.Queue[Event | BaseException]) -> None:
        super().__init__(daemon=True)
        self._todo = todo
        self._events = events
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._put(self._read(self._todo.get_nowait()))
        except queue.Empty:
            pass  # all documents are given out
        except BaseException as error:
            self._put(error)  # the consumer raises it
        self._end_process()

    def stop(self) -> None:
        """End the process and the thread, whatever they are at."""
        self._stopped.set()
        process = self._process
        if process is not None:
            process.kill()  # the thread finds its pipe at the end, and cleans up
        self.join()

    def _put(self, event: Event | BaseException) -> None:
        while not self._stopped.is_set():
            try:
                return self._events.put(event, timeout=0.2)
            except queue.Full:
                continue

    def _read(self, job: Job | Listing) -> Finished:
        if self._process is None or self._process.poll() is not None:
            self._end_process()
            self._process = _start_process()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        count = 0
        seconds = OCR_SECONDS if isinstance(job, Job) and job.ocr != "never" else PAGE_SECONDS
        try:
            process.stdin.write(job.to_line())
            process.stdin.flush()
            while line := _read_line(process, process.stdout, seconds):
                if self._stopped.is_set():
                    process.kill()
                report = json.loads(line)
                if "done" in report or "documents" in report:
                    return Finished(job, report)
                if "error" in report:
                    return Finished(job, error=report["error"])
                count = report.get("pages", count)
                self._put(Progressed(job, count, int("page" in report)))
        except TimeoutError:
            return Finished(job, error=f"gave up: no progress in {seconds:g} seconds")
        except BrokenPipeError:
            pass  # the process died before it took the job: the same end as dying over it
        code = process.wait()
        reason = f"corrupt or too large: reading it ended the reading process (exit code {code})"
        return Finished(job, error=reason)

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it holds nothing of value between two documents
            with process:  # closes the pipes and waits
                pass


def _start_process() -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])  # the package may be on this process's path only
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-c", WORKER_CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )


def _read_line(process: subprocess.Popen[str], stream: IO[str], seconds: float) -> str:
    """Read one report; end the process if it stands still.

    Raises:
        TimeoutError: If there was none in so many seconds.
    """
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        line = stream.readline()
    finally:
        timer.cancel()
    if not line and late.is_set():
        raise TimeoutError
    return line
