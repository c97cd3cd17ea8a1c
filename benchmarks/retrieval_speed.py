"""Is the retrieval engine faster, smaller and as right as its peers? All in one run, on generated pages.

What it measures, each as the median of at least five interleaved calls (fewer, and then said so, where one call
takes over a minute), all engines with the same number of threads:

- late interaction, one query and 64 at once, over 1,000, 5,000 and 20,000 pages of about 700 vectors of 128
  dimensions: our engine in its automatic mode against colpali-engine's ``score_multi_vector`` (float32, and
  bfloat16 where memory allows), one flat matmul, maxsim-cpu, LanceDB's own multi-vector search without and with
  index, and fast-plaid where it is installed; recall@10 against the exact scores for easy and hard queries;
- memory while searching, in separate processes; bytes per page and time to open against the JSON node files of
  the released engine; a batch of lexical searches; ingestion (``ingestion_speed.py``).

What it leaves out: encoding pages and queries by a model, and the quality of a model's embeddings.

    python benchmarks/retrieval_speed.py            # over half an hour on two cores, 10 GiB of memory, 12 GB of disk
    python benchmarks/retrieval_speed.py --quick    # a minute: small sizes, the same tables

It needs the extras ``colvision`` and ``test``: pip install "vrag-gym[colvision,test]".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import ingestion_speed
import numpy as np
import typer
from _lexical import lexical_times
from _machine import machine, threads_given, with_threads
from _nodes import open_nodes, write_node
from _ours import Ours
from _peers import (
    Absent,
    FastPlaid,
    FlatMatmul,
    LanceMultivector,
    MaxSimCPU,
    PagesInMemory,
    Peer,
    ScoreMultiVector,
    optional_peer,
)
from _plots import plot_growth
from _speed_report import BASELINE, latency_table, target_table, targets
from _timing import measure, recall
from synthetic_pages import Float32, SyntheticPages

from vrag_env.errors import VRAGError

INDEXED_PAGES = 1000  # LanceDB takes over ten minutes to index the tokens of 5,000 pages
BFLOAT16_PAGES = 5000  # a second copy of more pages would not fit into 10 GiB beside the float32 one
NODE_PAGES = 60  # node files of 2 MB each that are really written and opened


def load(pages: SyntheticPages, count: int) -> PagesInMemory:
    """Make the pages once, for all engines that search in memory."""
    counts: list[int] = []
    vectors = np.empty((count * 760, pages.dim), dtype=np.float32)  # untouched memory costs nothing
    end = 0
    for batch in pages.batches(count):
        for page in batch:
            vectors[end : end + len(page)] = page
            counts.append(len(page))
            end += len(page)
    return PagesInMemory(vectors[:end], counts)


def mixed_queries(pages: SyntheticPages, count: int, among: int) -> list[Float32]:
    """Easy and hard queries in turn."""
    easy, hard = (pages.queries(kind, (count + 1) // 2, among)[0] for kind in ("easy", "hard"))
    return [query for pair in zip(easy, hard, strict=True) for query in pair][:count]


def peers_over(held: PagesInMemory, work: Path, count: int) -> tuple[list[Peer], list[Absent]]:
    """All engines over the same pages, ready to search, and those that can not take part."""
    peers: list[Peer] = [Ours(work / f"ours{count}"), ScoreMultiVector(held), FlatMatmul(held), MaxSimCPU(held)]
    if count <= BFLOAT16_PAGES:
        peers.append(ScoreMultiVector(held, "bfloat16"))
    peers.append(LanceMultivector(work / f"lance{count}", indexed=False))
    if count <= INDEXED_PAGES:
        peers.append(LanceMultivector(work / f"lance{count}", indexed=True))
    absent = optional_peer("fast_plaid", FastPlaid.name, ": its wheels ask for another torch than this package pins")
    if absent is None:
        peers.append(FastPlaid(held))
    return peers, [] if absent is None else [absent]


def search_times(
    pages: SyntheticPages, sizes: Sequence[int], at_once: Sequence[int], repeats: int, work: Path
) -> dict[str, Any]:
    """Latency and recall of all engines over all sizes."""
    everything = load(pages, max(sizes))
    cells: list[dict[str, Any]] = []
    prepared: list[dict[str, Any]] = []
    absent: list[Absent] = []
    for count in sorted(sizes):
        held = everything.first(count)
        started = time.perf_counter()
        Ours.write(work / f"ours{count}", pages, held.batches())
        spent = {"pages": count, "ours_write_seconds": time.perf_counter() - started}
        LanceMultivector.write(work / f"lance{count}", held.batches())
        if count <= INDEXED_PAGES:
            started = time.perf_counter()
            LanceMultivector.build_index(work / f"lance{count}")
            spent["lancedb_index_seconds"] = time.perf_counter() - started
        prepared.append(spent)
        peers, absent = peers_over(held, work, count)
        queries = mixed_queries(pages, max(*at_once, repeats, 2), count)
        for queries_at_once in sorted(at_once):
            found = measure(peers, count, queries, queries_at_once, repeats)
            exact = found[BASELINE].found
            for cell in found.values():
                row = cell.raw() | {"note": cell.note(repeats)}
                if queries_at_once > 1:
                    row["easy"] = recall(cell.found[::2], exact[::2])
                    row["hard"] = recall(cell.found[1::2], exact[1::2]) if len(cell.found) > 1 else None
                cells.append(row)
        del peers
        shutil.rmtree(work / f"lance{count}")
    return {"cells": cells, "absent": [asdict(gone) for gone in absent], "prepared": prepared}


def disk_and_open(pages: SyntheticPages, count: int, repeats: int, work: Path) -> dict[str, Any]:
    """Bytes per page and time to open of our table and of the released engine's node files."""
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
        Ours(work / f"ours{count}")
        our_seconds.append(time.perf_counter() - started)
    node_bytes = sum(file.stat().st_size for file in files) / node_pages
    shutil.rmtree(nodes)
    stored = sum(file.stat().st_size for file in (work / f"ours{count}").rglob("*") if file.is_file())
    return {
        "pages": count,
        "node_pages": node_pages,
        "node_bytes_per_page": node_bytes,
        "our_bytes_per_page": stored / count,
        "node_sample_seconds": node_seconds,
        "node_open_seconds": median(node_seconds) / node_pages * count,
        "our_open_seconds": our_seconds,
    }


def memory(pages: SyntheticPages, count: int, work: Path) -> dict[str, Any]:
    """Memory of searching, each engine in a process of its own."""
    script = str(Path(__file__).with_name("_memory.py"))
    ask = {"ours": ["ours", str(work / f"ours{count}")], "all": ["all"]}
    answers: dict[str, Any] = {"pages": count}
    for name, arguments in ask.items():
        command = [sys.executable, script, *arguments, str(count), str(pages.seed)]
        answers[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answers


def run(
    sizes: Sequence[int],
    at_once: Sequence[int],
    repeats: int,
    work: Path,
    *,
    seed: int = 0,
    lexical_pages: int = 5000,
    documents: Path | None = None,
) -> dict[str, Any]:
    """Measure everything.

    Args:
        sizes: Numbers of pages.
        at_once: Numbers of queries per call.
        repeats: Timed calls of each.
        work: Directory for tables.
        seed: Seed of the generated pages.
        lexical_pages: Pages of the lexical search.
        documents: Directory of PDFs to ingest; by default what ``ingestion_speed`` takes.

    Returns:
        All raw numbers.
    """
    pages = SyntheticPages(seed)
    result = search_times(pages, sizes, at_once, repeats, work)
    result["disk"] = disk_and_open(pages, max(sizes), repeats, work)
    result["memory"] = memory(pages, max(sizes), work)
    result["lexical"] = lexical_times(work / "lexical", lexical_pages, repeats)
    result["ingestion"] = ingestion_speed.run(documents, repeats)
    return result


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
    quick: Annotated[bool, typer.Option(help="Small sizes: a minute, to see that everything runs.")] = False,
) -> None:
    """Measure our engine and its peers on generated pages: time, recall, memory, disk, lexical search, ingestion.

    Takes over half an hour on two cores, 10 GiB of memory and 12 GB of disk; --quick takes a minute.
    """
    import torch

    torch.set_num_threads(threads)
    page_counts, at_once = ([200, 400], [1, 8]) if quick else (_numbers(sizes), _numbers(queries))
    directory = Path(tempfile.mkdtemp(prefix="vrag-speed-", dir=work))
    started = time.perf_counter()
    try:
        if quick and docs is None:
            docs = ingestion_speed.generate(directory)
        result = run(
            page_counts, at_once, repeats, directory, seed=seed, lexical_pages=400 if quick else 5000, documents=docs
        )
    finally:
        shutil.rmtree(directory)
    result |= {"machine": machine(threads), "minutes": (time.perf_counter() - started) / 60}
    reached = targets(result)
    print(f"{threads} threads for every engine; medians of {repeats} interleaved calls unless said otherwise\n")
    print(latency_table(result["cells"], result["absent"]) + "\n")
    print(target_table(reached))
    out.mkdir(parents=True, exist_ok=True)
    name = "retrieval_speed_quick" if quick else "retrieval_speed"
    result["targets"] = [asdict(line) for line in reached]
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for picture in plot_growth(result["cells"], out, name):
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
