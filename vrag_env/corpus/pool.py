"""A pool of reading processes that survives any of them.

``multiprocessing`` is not used: it starts the caller's script again where that has no ``__main__`` guard, and
a crash of one process breaks its whole pool. Here a process that dies or stands still costs the document it
was at.
"""

from __future__ import annotations

import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vrag_env.corpus.worker import Job, Listing
from vrag_env.errors import IngestError

PAGE_SECONDS = 120.0
"""A process that reports nothing for so long is ended, and its document given up."""
OCR_SECONDS = 600.0
"""The same where OCR may be at work, which takes seconds for a page and more for a poster."""

START_SECONDS = 600.0
"""The same for a process that was just started and imports its libraries."""
_MOST_FINISHED = 64  # documents that wait for the consumer

WORKER_CODE = """
import sys, types
for name, directory in zip(("vrag_env", "vrag_env.corpus"), sys.argv[1:]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [directory]
from vrag_env.corpus.worker import main
main()
"""
"""What a reading process runs, given the directories of the two packages: it imports the modules that it needs and
leaves out what the packages import for everybody else, Gymnasium among it, which took longer to import than a
document of some pages to read."""


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

    Raises:
        IngestError: If the processes do not start.
    """
    todo: queue.SimpleQueue[Job | Listing] = queue.SimpleQueue()
    for source in sources:
        todo.put(source.job)
    events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
    # Documents are staged no faster than the consumer takes them; what is told on the way is small.
    room = threading.Semaphore(_MOST_FINISHED)
    readers = [_Reader(todo, events, room) for _ in range(min(workers, len(sources)))]
    watch = _Watch(readers)
    for thread in (*readers, watch):
        thread.start()
    try:
        unfinished = len(sources)
        while unfinished:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Finished):
                unfinished -= 1
                room.release()
    finally:
        for reader in readers:
            reader.stop()
        watch.stop()


class _Reader(threading.Thread):
    """Feeds one process with jobs and passes its reports on."""

    def __init__(
        self,
        todo: queue.SimpleQueue[Job | Listing],
        events: queue.SimpleQueue[Event | BaseException],
        room: threading.Semaphore,
    ) -> None:
        super().__init__(daemon=True)
        self._todo = todo
        self._events = events
        self._room = room
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # between this thread and the watch
        self._deadline = math.inf
        self._late = False

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                finished = self._read(self._todo.get_nowait())
                while not self._stopped.is_set() and not self._room.acquire(timeout=0.2):
                    pass
                self._events.put(finished)
        except queue.Empty:
            pass  # all documents are given out
        except BaseException as error:
            self._events.put(error)  # the consumer raises it
        self._end_process()

    def stop(self) -> None:
        """End the process and the thread, whatever they are at."""
        self._stopped.set()
        process = self._process
        if process is not None:
            process.kill()  # the thread finds its pipe at the end, and cleans up
        self.join()

    def end_if_late(self) -> None:
        """End the process if it stands still."""
        with self._lock:
            if time.monotonic() > self._deadline and self._process is not None:
                self._late = True
                self._process.kill()

    def _expect(self, seconds: float) -> None:
        """Give the process so many seconds for its next report."""
        with self._lock:
            self._deadline = time.monotonic() + seconds

    def _read(self, job: Job | Listing) -> Finished:
        started = self._process is None or self._process.poll() is not None
        if started:
            self._end_process()
            self._process = _start_process()
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        seconds = OCR_SECONDS if isinstance(job, Job) and job.ocr != "never" else PAGE_SECONDS
        finished = None
        try:
            process.stdin.write(job.to_line())
            process.stdin.flush()
            if started:
                self._expect(START_SECONDS)
                if not process.stdout.readline() and not self._stopped.is_set():
                    raise IngestError("the processes that read documents do not start; their output says why")
            finished = self._follow(job, process.stdout, seconds)
        except BrokenPipeError:
            pass  # the process died before it took the job: the same end as dying over it
        with self._lock:
            self._deadline = math.inf
            late, self._late = self._late, False
        if late:
            self._end_process()
        if finished is not None:
            return finished
        if late:
            return Finished(job, error=f"gave up: no progress in {seconds:g} seconds")
        reason = f"corrupt or too large: reading it ended the reading process (exit code {process.wait()})"
        return Finished(job, error=reason)

    def _follow(self, job: Job | Listing, reports: IO[str], seconds: float) -> Finished | None:
        """Pass on what the process tells of a job; nothing comes back if it ended over it."""
        count = 0
        self._expect(seconds)
        while line := reports.readline():
            self._expect(seconds)
            report = json.loads(line)
            if "done" in report or "documents" in report:
                return Finished(job, report)
            if "error" in report:
                return Finished(job, error=report["error"])
            count = report.get("pages", count)
            self._events.put(Progressed(job, count, int("page" in report)))
        return None

    def _end_process(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()  # it holds nothing of value between two documents
            with process:  # closes the pipes and waits
                pass


class _Watch(threading.Thread):
    """Ends processes that stand still: one thread for all, where a timer per report would start one for each page."""

    def __init__(self, readers: Sequence[_Reader]) -> None:
        super().__init__(daemon=True)
        self._readers = readers
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.2):
            for reader in self._readers:
                reader.end_if_late()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join()


def _start_process() -> subprocess.Popen[str]:
    package = Path(__file__).resolve().parents[1]
    path = os.pathsep.join(filter(None, [str(package.parent), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-c", WORKER_CODE, str(package), str(package / "corpus")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        # The package may be on this process's path only.
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
