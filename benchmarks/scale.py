"""Beyond memory: the engine's candidate index on disk over a million pages' pooled vectors.

What it does: makes the pooled vectors of generated pages (``synthetic_pages.SyntheticPages.pooled``: 16 of 128
dimensions per page), writes them to disk with ``vrag_env.retrieval.candidate_index``, builds LanceDB's
IVF index over them, and searches it from a fresh process. Says how long writing and building took, what is on
the disk, how much memory searching takes, the time of a query, and recall@10 against the engine's
scan of the same pooled vectors in memory, for several settings.

What it leaves out: the exact comparison of the full multi-vectors that comes after (``retrieval_speed.py``
measures it), and pooling itself.

    python benchmarks/scale.py --pages 100000     # about 5 minutes on two cores, 1 GB of disk
    python benchmarks/scale.py --pages 1000000    # about an hour on two cores, 8 GB of disk
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from _machine import command_line, machine, peak_rss_mib, rss_mib, threads_given, with_threads
from _timing import recall
from synthetic_pages import QueryKind, SyntheticPages

from vrag_env.retrieval.candidate_index import CandidateIndex, IndexKind
from vrag_env.retrieval.candidates import PooledIndex
from vrag_env.retrieval.maxsim import Queries
from vrag_env.retrieval.pooling import Int8, quantise

K = 10
POOLED = 16
KINDS: tuple[QueryKind, ...] = ("easy", "hard")
QUERIES = 32  # half of them easy, half hard
SETTINGS = (  # nprobes, depth, rescored
    (8, 200, 100),
    (24, 1000, 400),
    (48, 2000, 400),
    (96, 4000, 1000),
    (192, 8000, 2000),
)
_BATCH = 2000


def pooled_batch(pages: SyntheticPages, low: int, high: int) -> tuple[Int8, npt.NDArray[np.float32]]:
    """Pooled vectors of some pages as the engine keeps them: integers, and a scale per page."""
    codes, scales = zip(
        *(quantise(pages.pooled(number, POOLED).astype(np.float32)) for number in range(low, high)), strict=True
    )
    return np.stack(codes), np.array(scales, dtype=np.float32)


def make_queries(pages: SyntheticPages, count: int) -> list[Queries]:
    """Half easy, half hard queries about any of the pages."""
    drawn = [query for kind in KINDS for query in pages.queries(kind, QUERIES // 2, count)[0]]
    return [Queries([query]) for query in drawn]


def bytes_in(directory: Path) -> int:
    """Size of all files below a directory."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def search_in_new_process(directory: Path, count: int, seed: int, repeats: int) -> list[dict[str, Any]]:
    """Search in a process that has read nothing else, so that its memory is that of searching."""
    command = [sys.executable, __file__, "--searching", str(directory), "--pages", str(count)]
    command += ["--seed", str(seed), "--repeats", str(repeats)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    rows: list[dict[str, Any]] = json.loads(answer.stdout)
    return rows


def _search(directory: Path, count: int, seed: int, repeats: int) -> list[dict[str, Any]]:
    import lancedb

    queries = make_queries(SyntheticPages(seed), count)
    exact = json.loads((directory / "exact.json").read_text())
    rows = []
    for nprobes, depth, rescored in SETTINGS:
        before = rss_mib()
        started = time.perf_counter()
        settings: dict[str, Any] = {"nprobes": nprobes, "depth": depth, "rescored": rescored}
        index = CandidateIndex(lancedb.connect(directory / "index"), "pooled", **settings)
        opened = time.perf_counter() - started
        seconds, found = [], []
        for turn in range(repeats + 1):  # the first pass reads the index from disk
            for query in queries:
                started = time.perf_counter()
                pages = index.best(query, K)[0]
                if turn:
                    seconds.append(time.perf_counter() - started)
                else:
                    found.append(pages.tolist())
        half = QUERIES // 2
        rows.append(
            settings
            | {
                "open_ms": 1000 * opened,
                "ms_median": 1000 * median(seconds),
                "ms_p95": 1000 * float(np.quantile(seconds, 0.95)),
                "recall_easy": recall(found[:half], exact[:half]),
                "recall_hard": recall(found[half:], exact[half:]),
                "rss_growth_mib": rss_mib() - before,
                "peak_rss_mib": peak_rss_mib(),
            }
        )
    return rows


def run(work: Path, count: int, kind: IndexKind = "rq", seed: int = 0, repeats: int = 3) -> dict[str, Any]:
    """Write, build and search.

    Args:
        work: Directory for the index and the exact answers.
        count: Number of pages.
        kind: How the index stores vectors.
        seed: Seed of the generated pages.
        repeats: Timed passes over the queries.

    Returns:
        All numbers.
    """
    import lancedb

    pages = SyntheticPages(seed)
    codes = np.lib.format.open_memmap(work / "codes.npy", mode="w+", dtype=np.int8, shape=(count, POOLED, pages.dim))
    scales = np.empty(count, dtype=np.float32)
    started = time.perf_counter()
    spans = [slice(low, min(low + _BATCH, count)) for low in range(0, count, _BATCH)]
    for span in spans:
        codes[span], scales[span] = pooled_batch(pages, span.start, span.stop)
    generated = time.perf_counter() - started

    started = time.perf_counter()
    batches = ((np.asarray(codes[span]), scales[span]) for span in spans)
    index = CandidateIndex.write(lancedb.connect(work / "index"), "pooled", batches)
    written = time.perf_counter() - started
    table_bytes = bytes_in(work / "index")
    started = time.perf_counter()
    index.build(kind)
    built = time.perf_counter() - started

    scan = PooledIndex(codes, scales)
    queries = make_queries(pages, count)
    scan.best(queries[0], K)
    started = time.perf_counter()
    exact = [scan.best(query, K)[0].tolist() for query in queries]
    exact_seconds = time.perf_counter() - started
    (work / "exact.json").write_text(json.dumps(exact))
    return {
        "pages": count,
        "pooled_per_page": POOLED,
        "dim": pages.dim,
        "kind": kind,
        "seed": seed,
        "queries": QUERIES,
        "generate_seconds": generated,
        "write_seconds": written,
        "build_seconds": built,
        "scan_seconds_per_query": exact_seconds / QUERIES,
        "scan_bytes": codes.nbytes,
        "table_bytes": table_bytes,
        "index_bytes": bytes_in(work / "index") - table_bytes,
        "build_peak_rss_mib": peak_rss_mib(),
        "search": search_in_new_process(work, count, seed, repeats),
    }


def report(result: dict[str, Any]) -> str:
    """Lay out one run as Markdown."""
    vectors = result["pages"] * result["pooled_per_page"]
    lines = [
        f"{result['pages']:,} pages, {result['pooled_per_page']} pooled vectors of {result['dim']} dimensions each "
        f"({vectors:,} vectors), index IVF_{result['kind'].upper()}",
        "",
        f"- written in {result['write_seconds']:.0f} s, index built in {result['build_seconds']:.0f} s, "
        f"peak memory {result['build_peak_rss_mib']:,.0f} MiB",
        f"- on disk: vectors {result['table_bytes'] / 1e6:,.0f} MB, index {result['index_bytes'] / 1e6:,.0f} MB",
        f"- scan of all pooled vectors, {result['scan_bytes'] / 1e6:,.0f} MB in memory: "
        f"{1000 * result['scan_seconds_per_query']:,.0f} ms per query",
        "",
        "| nprobes | depth | rescored | ms median | ms p95 | recall@10 easy | hard | open ms | peak RSS MiB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["search"]:
        lines.append(
            f"| {row['nprobes']} | {row['depth']} | {row['rescored']} | {row['ms_median']:.0f} | {row['ms_p95']:.0f} "
            f"| {row['recall_easy']:.3f} | {row['recall_hard']:.3f} | {row['open_ms']:.0f} "
            f"| {row['peak_rss_mib']:,.0f} |"
        )
    return "\n".join(lines)


def main(
    pages: Annotated[int, typer.Option(help="Number of pages.")] = 100_000,
    kind: Annotated[str, typer.Option(help="What the index keeps of a vector: flat, sq or rq.")] = "rq",
    seed: Annotated[int, typer.Option(help="Seed of the generated pages.")] = 0,
    repeats: Annotated[int, typer.Option(help="Timed passes over the queries.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of all libraries.")] = os.cpu_count() or 1,
    work: Annotated[Path | None, typer.Option(help="Directory for temporary files; by default the system's.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to which the run is added.")] = None,
    searching: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Build and search the candidate index on disk; 100,000 pages take minutes, 1,000,000 about an hour."""
    if searching is not None:
        print(json.dumps(_search(searching, pages, seed, repeats)))
        return
    if kind not in ("flat", "sq", "rq"):
        raise typer.BadParameter(f"kind must be flat, sq or rq, got {kind!r}")
    directory = Path(tempfile.mkdtemp(prefix="vrag-scale-", dir=work))
    started = time.perf_counter()
    try:
        result = run(directory, pages, kind, seed, repeats)  # type: ignore[arg-type]  # checked above
    finally:
        shutil.rmtree(directory)
    result |= {
        "command": command_line(),
        "minutes": (time.perf_counter() - started) / 60,
        "machine": machine(threads),
    }
    print(report(result))
    if out is not None:
        runs = json.loads(out.read_text()) if out.exists() else []
        same = {(old["pages"], old["kind"]): old for old in runs} | {(pages, kind): result}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(list(same.values()), indent=1) + "\n")


if __name__ == "__main__":
    with_threads(threads_given())
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    application()
