"""What does ingestion cost beyond drawing the pages? ``vrag index`` against bare pypdfium2, in the same run.

What it does: reads all PDFs of a directory in two ways, in turns, with the same number of processes, and
prints pages per second of both as medians, their ratio, and the peak memory of ingestion as a Markdown table.

- bare: each process draws pages with ``page.render(...).to_pil()`` and saves them as JPEG, at the size, quality
  and with the encoder that ingestion uses, and drops them; no text, no table, no disk. A document is read by
  one process, long ones first, as in ingestion.
- bare, tuned: the same drawn straight into PIL's memory layout, as ingestion does it; no requirement, but it
  says how near ingestion is to the floor.
- ingest: :func:`vrag_env.corpus.ingest` into a new corpus: text and word boxes, the table, the full-text index.

Starting the processes counts for all of them. Memory is the resident set, of the main process and of it with
its reading processes, sampled ten times a second; pages shared by processes count for each.

What it leaves out: OCR, and pages that are images already.

    python benchmarks/ingestion_speed.py --docs my_pdfs
"""

from __future__ import annotations

import datetime
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from _machine import command_line, machine

from vrag_env.corpus import LONG_SIDE, Corpus, ingest
from vrag_env.errors import VRAGError, missing_extra

DEFAULT_DOCS = Path(__file__).parents[2] / "shared" / "realdocs" / "docs"
MUST_REACH = 0.8

BARE = """
import io, sys
import pypdfium2 as pdfium
long_side, tuned = map(int, sys.argv[1:])
for line in sys.stdin:
    document = pdfium.PdfDocument(line.rstrip())
    for index in range(len(document)):
        page = document[index]
        bitmap = page.render(scale=long_side / max(page.get_size()), rev_byteorder=bool(tuned), prefer_bgrx=bool(tuned))
        bitmap.to_pil().save(io.BytesIO(), format="JPEG", quality=92, subsampling=0)
        page.close()
    print(len(document), flush=True)
    document.close()
"""


def bare(files: list[Path], workers: int, tuned: bool) -> float:
    """Draw and encode all pages in several processes, long documents first; returns pages per second."""
    todo: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for file in sorted(files, key=lambda file: -file.stat().st_size):
        todo.put(file)
    counts: list[int] = []

    def feed() -> None:
        command = [sys.executable, "-c", BARE, str(LONG_SIDE), str(int(tuned))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            while not todo.empty():
                try:
                    print(todo.get_nowait(), file=process.stdin, flush=True)
                except queue.Empty:
                    break  # another process took the last one
                counts.append(int(process.stdout.readline()))
            process.stdin.close()

    started = time.perf_counter()
    threads = [threading.Thread(target=feed) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


class MemoryWatch:
    """Samples the resident set of this process, and of it with its children, while the block runs.

    Attributes:
        main: Most of this process, in bytes.
        total: Most of all processes together, in bytes.
        samples: ``(seconds, bytes of all processes)``.
    """

    def __init__(self) -> None:
        try:
            import psutil  # type: ignore[import-untyped]  # it has no types
        except ImportError as error:
            raise missing_extra("psutil", "test") from error
        self._psutil: Any = psutil
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.main = self.total = 0
        self.samples: list[tuple[float, int]] = []

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        process = self._psutil.Process()
        started = time.monotonic()
        while not self._stopped.wait(0.1):
            own = process.memory_info().rss
            total = own
            for child in process.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except self._psutil.NoSuchProcess:
                    continue  # it ended between the two calls
            self.main, self.total = max(self.main, own), max(self.total, total)
            self.samples.append((time.monotonic() - started, total))


def ingested(docs: Path, workers: int, scratch: Path) -> tuple[float, MemoryWatch, int, int]:
    """Ingest all documents into a new corpus; returns pages per second, the memory, pages and bytes on disk."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        started = time.perf_counter()
        with MemoryWatch() as memory:
            report = ingest([docs], Corpus.create(Path(directory) / "corpus"), workers=workers, progress=False)
        seconds = time.perf_counter() - started
        size = sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())
    return report.pages / seconds, memory, report.pages, size


def processor_seconds() -> float:
    """Processor time of this process and of the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def generate(directory: Path) -> Path:
    """Write PDFs of text and shapes, where no real ones are given; returns their directory."""
    from reportlab.pdfgen.canvas import Canvas

    docs = directory / "docs"
    docs.mkdir()
    for number in range(8):
        canvas = Canvas(str(docs / f"{number}.pdf"), invariant=True)
        for page in range(24):
            for line in range(48):
                words = " ".join(f"word{(number * 7919 + page * 131 + line * 17 + i) % 997}" for i in range(9))
                canvas.drawString(60, 780 - 14 * line, words)
            canvas.circle(300, 60, 20 + page, fill=1)
            canvas.showPage()
        canvas.save()
    return docs


def run(docs_dir: Path | None = None, repeats: int = 5, workers: int | None = None) -> dict[str, Any]:
    """Measure both ways in turns.

    Args:
        docs_dir: Directory of PDFs; without it real ones beside the repository, or generated ones.
        repeats: How often each way is measured.
        workers: Processes of each way; by default one per core.

    Returns:
        Medians: ``bare_pages_per_second``, ``bare_tuned_pages_per_second``, ``ingest_pages_per_second``, their
        ``ratio`` and ``ratio_tuned`` (medians of the ratios of each turn); ``processor_time_ratio``, the processor
        time of bare over that of ingestion, which other work on the machine changes less; ``peak_main_bytes``
        and ``peak_total_bytes``, the most of all turns; the single values of all turns in ``turns``; ``pages``,
        ``corpus_bytes`` on disk, and what it ran on.
    """
    processes = workers or os.cpu_count() or 1
    plain: list[float] = []
    tuned: list[float] = []
    full: list[float] = []
    memories: list[MemoryWatch] = []
    work: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        docs = docs_dir if docs_dir is not None else DEFAULT_DOCS if DEFAULT_DOCS.is_dir() else generate(scratch)
        files = sorted(docs.rglob("*.pdf"))
        if not files:
            raise VRAGError(f"no PDF in {docs}: give another directory")
        pages, size = ingested(docs, processes, scratch)[2:]  # file cache and imports: not counted
        for _ in range(repeats):
            start = processor_seconds()
            plain.append(bare(files, processes, tuned=False))
            middle = processor_seconds()
            speed, memory, _, _ = ingested(docs, processes, scratch)
            work.append((middle - start) / (processor_seconds() - middle))
            full.append(speed)
            memories.append(memory)
            tuned.append(bare(files, processes, tuned=True))
    return {
        "command": command_line(),
        "machine": machine(processes),
        "date": datetime.date.today().isoformat(),
        "processes": processes,
        "pages": pages,
        "corpus_bytes": size,
        "bare_pages_per_second": median(plain),
        "bare_tuned_pages_per_second": median(tuned),
        "ingest_pages_per_second": median(full),
        "ratio": median(mine / theirs for mine, theirs in zip(full, plain, strict=True)),
        "ratio_tuned": median(mine / theirs for mine, theirs in zip(full, tuned, strict=True)),
        "processor_time_ratio": median(work),
        "peak_main_bytes": max(memory.main for memory in memories),
        "peak_total_bytes": max(memory.total for memory in memories),
        "turns": {"bare": plain, "ingest": full, "bare_tuned": tuned, "processor_time_ratio": work},
    }


def main(
    docs: Annotated[
        Path | None,
        typer.Option(help="Directory of PDFs. Default: real ones beside the repository if there, else generated."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each way, in turns; medians are reported.")] = 5,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of each way. Default: one per core.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the numbers to this JSON file.")] = None,
) -> None:
    """Compare ingestion with bare drawing and encoding of the same pages, on the same cores, in one run.

    Example: python benchmarks/ingestion_speed.py --docs my_pdfs --repeats 7
    """
    numbers = run(docs, repeats, workers)
    print(f"| {numbers['processes']} processes | pages/s | ingestion reaches |\n|---|---|---|")
    print(f"| bare pypdfium2 and JPEG | {numbers['bare_pages_per_second']:.1f} | {numbers['ratio']:.0%} of it |")
    print(f"| bare, tuned | {numbers['bare_tuned_pages_per_second']:.1f} | {numbers['ratio_tuned']:.0%} of it |")
    print(f"| ingestion | {numbers['ingest_pages_per_second']:.1f} | must: {MUST_REACH:.0%} of bare |")
    print(f"\nPeak memory: main process {numbers['peak_main_bytes'] / 2**20:.0f} MiB, ", end="")
    print(f"all processes {numbers['peak_total_bytes'] / 2**20:.0f} MiB")
    if out is not None:
        out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
