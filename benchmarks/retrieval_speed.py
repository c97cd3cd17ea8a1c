"""Is the retrieval engine faster, smaller and as right as its peers? All in one run, on generated pages.

What it measures, each as the median of at least five interleaved calls (one, and then said so, where a call takes
over half a minute), all engines with the same number of threads:

- late interaction, one query and 64 at once, over 1,000, 5,000 and 20,000 pages of about 700 vectors of 128
  dimensions: our engine in its automatic mode against colpali-engine's ``score_multi_vector`` (float32, and
  bfloat16 where memory allows), one flat matmul, maxsim-cpu, LanceDB's own multi-vector search without and with
  index, and fast-plaid where it is installed; recall@10 against the exact scores for easy and hard queries;
- memory while searching, in separate processes; bytes per page and time to open against the JSON node files of
  the released engine; a batch of lexical searches; ingestion (``ingestion_speed.py``).

What it leaves out: encoding pages and queries by a model, and the quality of a model's embeddings.

    python benchmarks/retrieval_speed.py                      # 25 minutes on two cores, 10 GiB of memory
    python benchmarks/retrieval_speed.py --again search-1000  # one row again, alone; the others stay as they were
    python benchmarks/retrieval_speed.py --quick              # a minute: small sizes, the same tables

The generated pages and the tables of the engines are kept in a cache of 12 GB, which the first run fills in some ten
minutes more. It needs the extras ``colvision`` and ``test``: pip install "vrag-gym[colvision,test]".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import ingestion_speed
import typer
from _cache import Cache
from _lexical import lexical_times
from _machine import command_line, machine, threads_given, with_threads
from _nodes import open_nodes, write_node
from _ours import Ours
from _peers import (
    Absent,
    FastPlaid,
    FlatMatmul,
    LanceMultivector,
    MaxSimCPU,
    Peer,
    ScoreMultiVector,
    optional_peer,
)
from _plots import plot_growth
from _speed_report import BASELINE, cells, speed_tables
from _timing import measure, recall
from synthetic_pages import Float32, SyntheticPages

from vrag_env.errors import VRAGError

INDEXED_PAGES = 1000  # LanceDB takes over ten minutes to index the tokens of 5,000 pages
BFLOAT16_PAGES = 5000  # a second copy of more pages would not fit into 10 GiB beside the float32 one
NODE_PAGES = 60  # node files of 2 MB each that are really written and opened


def mixed_queries(pages: SyntheticPages, count: int, among: int) -> list[Float32]:
    """Easy and hard queries in turn."""
    easy, hard = (pages.queries(kind, (count + 1) // 2, among)[0] for kind in ("easy", "hard"))
    return [query for pair in zip(easy, hard, strict=True) for query in pair][:count]


def peers_over(cache: Cache, count: int) -> tuple[list[Peer], list[Absent]]:
    """All engines over the same pages, ready to search, and those that can not take part."""
    held = cache.pages(count)
    peers: list[Peer] = [Ours(cache.ours(count)), ScoreMultiVector(held), FlatMatmul(held), MaxSimCPU(held)]
    if count <= BFLOAT16_PAGES:
        peers.append(ScoreMultiVector(held, "bfloat16"))
    peers.append(LanceMultivector(cache.lance(count, indexed=False), indexed=False))
    if count <= INDEXED_PAGES:
        peers.append(LanceMultivector(cache.lance(count, indexed=True), indexed=True))
    absent = optional_peer("fast_plaid", FastPlaid.name, ": its wheels ask for another torch than this package pins")
    if absent is None:
        peers.append(FastPlaid(held))
    return peers, [] if absent is None else [absent]


def search_times(cache: Cache, count: int, at_once: Sequence[int], repeats: int) -> dict[str, Any]:
    """Latency and recall of all engines over one number of pages."""
    peers, absent = peers_over(cache, count)
    queries = mixed_queries(cache.source, max(*at_once, repeats, 2), count)
    cells: list[dict[str, Any]] = []
    for queries_at_once in sorted(at_once):
        found = measure(peers, count, queries, queries_at_once, repeats)
        exact = found[BASELINE].found
        for cell in found.values():
            row = cell.raw() | {"note": cell.note(repeats)}
            if queries_at_once > 1:
                row["easy"] = recall(cell.found[::2], exact[::2])
                row["hard"] = recall(cell.found[1::2], exact[1::2]) if len(cell.found) > 1 else None
            cells.append(row)
    return {"cells": cells, "absent": [asdict(gone) for gone in absent]}


def disk_and_open(cache: Cache, count: int, repeats: int, work: Path) -> dict[str, Any]:
    """Bytes per page and time to open of our table and of the released engine's node files."""
    pages, ours = cache.source, cache.ours(count)
    node_pages = min(NODE_PAGES, count)
    nodes = work / "nodes"
    nodes.mkdir()
    files = [nodes / f"{pages.page_id(number)}.node" for number in range(node_pages)]
    for number, file in enumerate(files):
        write_node(file, pages.page_id(number), pages.page(number))
    node_seconds, our_seconds = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        open_nodes(files, pages.dim)
        node_seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        Ours(ours)
        our_seconds.append(time.perf_counter() - started)
    node_bytes = sum(file.stat().st_size for file in files) / node_pages
    shutil.rmtree(nodes)
    stored = sum(file.stat().st_size for file in ours.rglob("*") if file.is_file())
    return {
        "pages": count,
        "node_pages": node_pages,
        "node_bytes_per_page": node_bytes,
        "our_bytes_per_page": stored / count,
        "node_sample_seconds": node_seconds,
        "node_open_seconds": median(node_seconds) / node_pages * count,
        "our_open_seconds": our_seconds,
    }


def memory(cache: Cache, count: int) -> dict[str, Any]:
    """Memory of searching, each engine in a process of its own."""
    script = str(Path(__file__).with_name("_memory.py"))
    ask = {"ours": ["ours", str(cache.ours(count))], "all": ["all"]}
    answers: dict[str, Any] = {"pages": count}
    for name, arguments in ask.items():
        command = [sys.executable, script, *arguments, str(count), str(cache.source.seed)]
        answers[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answers


def rows(sizes: Sequence[int]) -> list[str]:
    """Names of what is measured, in the order in which it is."""
    return [*(f"search-{count}" for count in sorted(sizes)), "disk", "memory", "lexical", "ingestion"]


def run(
    wanted: Sequence[str],
    cache: Cache,
    sizes: Sequence[int],
    at_once: Sequence[int],
    repeats: int,
    work: Path,
    *,
    lexical_pages: int = 5000,
    documents: Path | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure.

    Args:
        wanted: Some of :func:`rows`.
        cache: The generated pages.
        sizes: Numbers of pages.
        at_once: Numbers of queries per call.
        repeats: Timed calls of each.
        work: Directory for temporary files.
        lexical_pages: Pages of the lexical search.
        documents: Directory of PDFs to ingest; by default what ``ingestion_speed`` takes.

    Yields:
        A name of ``wanted`` and its raw numbers.
    """
    largest = max(sizes)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        **{f"search-{count}": partial(search_times, cache, count, at_once, repeats) for count in sizes},
        "disk": lambda: disk_and_open(cache, largest, repeats, work),
        "memory": lambda: memory(cache, largest),
        "lexical": lambda: lexical_times(work / "lexical", lexical_pages, repeats),
        "ingestion": lambda: ingestion_speed.run(documents, repeats),
    }
    for name in wanted:
        yield name, measures[name]()


def _numbers(text: str) -> list[int]:
    values = [int(value) for value in text.split(",")]
    if not values or min(values) < 1:
        raise typer.BadParameter(f"expected positive numbers with commas between, got {text!r}")
    return values


def main(
    sizes: Annotated[str, typer.Option(help="Numbers of pages, with commas between.")] = "1000,5000,20000",
    queries: Annotated[str, typer.Option(help="Numbers of queries per call, with commas between.")] = "1,64",
    repeats: Annotated[int, typer.Option(help="Timed calls of each engine.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the generated pages.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of every engine.", min=1)] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Directory of the JSON and the plots.")] = Path("benchmarks/results"),
    work: Annotated[Path | None, typer.Option(help="Directory for temporary tables; by default the system's.")] = None,
    docs: Annotated[Path | None, typer.Option(help="PDFs to ingest; by default as ingestion_speed.py.")] = None,
    cache: Annotated[Path, typer.Option(help="Directory of generated pages, kept for the next run.")] = Path(
        "runs/retrieval_speed_cache"
    ),
    again: Annotated[
        list[str] | None,
        typer.Option(help="Measure only this row (search-PAGES, disk, memory, lexical, ingestion); may be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Small sizes: a minute, to see that everything runs.")] = False,
) -> None:
    """Measure our engine and its peers on generated pages: time, recall, memory, disk, lexical search, ingestion.

    Takes some 25 minutes on two cores and 10 GiB of memory; the first time some ten more, and 12 GB of disk, for the
    generated pages. --quick takes a minute.
    """
    import torch

    torch.set_num_threads(threads)
    page_counts, at_once = ([200, 400], [1, 8]) if quick else (_numbers(sizes), _numbers(queries))
    wanted = again or rows(page_counts)
    if not set(wanted) <= set(rows(page_counts)):
        raise VRAGError(f"--again {' '.join(wanted)}: there are {', '.join(rows(page_counts))}")
    name = "retrieval_speed_quick" if quick else "retrieval_speed"
    file = out / f"{name}.json"
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if again and file.exists() else {"rows": {}}
    result |= {"seed": seed, "repeats": repeats, "machine": machine(threads)}
    pages = Cache(cache, SyntheticPages(seed))
    pages.fill([count for count in page_counts if f"search-{count}" in wanted], INDEXED_PAGES)
    directory = Path(tempfile.mkdtemp(prefix="vrag-speed-", dir=work))
    out.mkdir(parents=True, exist_ok=True)
    try:
        if quick and docs is None:
            docs = ingestion_speed.generate(directory)
        started = time.perf_counter()
        for row, numbers in run(
            wanted,
            pages,
            page_counts,
            at_once,
            repeats,
            directory,
            lexical_pages=400 if quick else 5000,
            documents=docs,
        ):
            minutes = (time.perf_counter() - started) / 60
            result["rows"][row] = {"command": command_line(), "minutes": minutes} | numbers
            print(f"{row}: {minutes:.1f} minutes", file=sys.stderr)
            file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            started = time.perf_counter()
    finally:
        shutil.rmtree(directory)
    print(speed_tables(result))
    for picture in plot_growth(cells(result), out, name):
        print(f"\nplot: {picture}")


if __name__ == "__main__":
    with_threads(threads_given())
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    try:
        application()
    except VRAGError as fault:
        print(f"retrieval_speed: {fault}", file=sys.stderr)
        raise SystemExit(2) from fault
