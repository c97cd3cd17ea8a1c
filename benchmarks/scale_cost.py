"""What a corpus of 100 million pages would take: sizes, building, queries, money per month.

What it does: plain arithmetic from three kinds of numbers, each of which is printed with its kind: measured ones,
which it reads from the JSON of ``scale.py`` (build time, bytes of table and index, time of a query); sizes that
follow from the layout; and assumptions, which are options of this command: prices and the speed of storage differ
between clouds and years, so put in your own.

What it leaves out: encoding the pages by a model (GPU time), traffic out of the cloud, staff.

    python benchmarks/scale_cost.py --results benchmarks/results/scale.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from _speed_report import table

_VECTORS, _DIM = 700, 128  # of a page
_POOLED_IN_MEMORY = 64  # the engine's default, eight bits each
_HOURS = 730  # of a month


def estimate(
    run: dict[str, Any],
    pages: int,
    *,
    bytes_per_page: int,
    candidates: int,
    shard_pages: int,
    gb_month: float,
    thousand_gets: float,
    machine_hour: float,
    machine_gb: float,
    queries_per_month: int,
) -> list[list[str]]:
    """Work it out.

    Args:
        run: One run of ``scale.py``.
        pages: Pages of the corpus.
        bytes_per_page: What a page takes in the table of embeddings.
        candidates: Pages whose full vectors are read per query.
        shard_pages: Pages of one index.
        gb_month: Price of a GB of object storage for a month.
        thousand_gets: Price of a thousand reads from it.
        machine_hour: Price of a machine that answers queries.
        machine_gb: Its fast disk and memory for indexes, in GB.
        queries_per_month: Queries asked.

    Returns:
        Rows ``(what, value, how it is known)``.
    """
    per_page = run["pooled_per_page"]
    vectors = run["pages"] * per_page
    index_gb = pages * per_page * run["index_bytes"] / vectors / 1e9
    rows_gb = pages * per_page * run["table_bytes"] / vectors / 1e9
    full_gb = pages * bytes_per_page / 1e9
    shards = -(-pages // shard_pages)
    # Assigning every vector to a partition, with partitions in proportion to the vectors, grows with the square.
    growth = shard_pages / run["pages"]
    build_low, build_high = run["build_seconds"] * growth, run["build_seconds"] * growth**2
    setting = max(
        run["search"], key=lambda row: (round(min(row["recall_easy"], row["recall_hard"]), 2), -row["ms_median"])
    )
    machines = max(1, -(-round(index_gb + rows_gb) // round(machine_gb)))
    gets = candidates + 25  # one per page; what the caches do not hold of the index
    storage = (full_gb + rows_gb + index_gb) * gb_month
    reads = queries_per_month * gets / 1000 * thousand_gets
    hosts = machines * machine_hour * _HOURS
    return [
        ["full multi-vectors, plain float16", f"{pages * _VECTORS * _DIM * 2 / 1e12:,.1f} TB", "computed"],
        ["table of embeddings", f"{full_gb / 1e3:,.1f} TB", f"computed from {bytes_per_page:,} bytes per page"],
        ["the same, tokens pooled by 3", f"{full_gb / 3e3:,.1f} TB", "computed"],
        [
            "pooled vectors as kept in memory, 64 x 8 bits",
            f"{pages * _POOLED_IN_MEMORY * _DIM / 1e9:,.0f} GB",
            "computed",
        ],
        [f"pooled vectors on disk, {per_page} x float16", f"{rows_gb:,.0f} GB", "measured per vector, in proportion"],
        [f"index IVF_{run['kind'].upper()}", f"{index_gb:,.0f} GB", "measured per vector, in proportion"],
        ["indexes (shards by document)", f"{shards:,} of {shard_pages:,} pages", "assumption"],
        [
            "build of one shard, two cores",
            f"{build_low / 60:,.0f} to {build_high / 60:,.0f} min",
            f"measured at {run['pages']:,} pages; growth linear to quadratic",
        ],
        ["build of all", f"{shards * build_high / 3600:,.0f} hours of two cores at most", "computed"],
        [
            "query in one shard, two cores",
            f"{setting['ms_median']:.0f} ms at recall {setting['recall_easy']:.3f} / {setting['recall_hard']:.3f}",
            f"measured at {run['pages']:,} pages",
        ],
        [
            "all shards for one query",
            f"{shards * setting['ms_median'] / 1000:.1f} s of two cores",
            "computed, not measured",
        ],
        ["read per query", f"{candidates} pages, {candidates * bytes_per_page / 1e6:,.0f} MB", "computed"],
        [
            "machines that hold pooled vectors and index",
            f"{machines}",
            f"computed from {machine_gb:,.0f} GB each (assumption)",
        ],
        ["object storage per month", f"${storage:,.0f}", f"assumption ${gb_month}/GB"],
        [
            "reads per month",
            f"${reads:,.0f}",
            f"assumption {queries_per_month:,} queries, ${thousand_gets}/1,000 reads",
        ],
        ["machines per month", f"${hosts:,.0f}", f"assumption ${machine_hour}/h"],
        ["together per month", f"${storage + reads + hosts:,.0f}", "computed"],
    ]


def main(
    results: Annotated[Path, typer.Option(help="JSON of scale.py; its largest run counts.")] = Path(
        "benchmarks/results/scale.json"
    ),
    pages: Annotated[int, typer.Option(help="Pages of the corpus.")] = 100_000_000,
    bytes_per_page: Annotated[int, typer.Option(help="Of the table of embeddings (retrieval_speed.py).")] = 122_000,
    candidates: Annotated[int, typer.Option(help="Pages read in full per query.")] = 200,
    shard_pages: Annotated[int, typer.Option(help="Pages of one index.")] = 1_000_000,
    gb_month: Annotated[float, typer.Option(help="Object storage, $ per GB and month.")] = 0.023,
    thousand_gets: Annotated[float, typer.Option(help="Object storage, $ per 1,000 reads.")] = 0.0004,
    machine_hour: Annotated[float, typer.Option(help="Machine with local disk, $ per hour.")] = 1.40,
    machine_gb: Annotated[float, typer.Option(help="Its local disk that indexes may use, GB.")] = 3000,
    queries_per_month: Annotated[int, typer.Option(help="Queries per month.")] = 1_000_000,
) -> None:
    """Print sizes, time and cost of a large corpus, from measured numbers and stated assumptions."""
    runs = [run for run in json.loads(results.read_text()) if run["kind"] == "rq"]
    run = max(runs, key=lambda run: int(run["pages"]))
    rows = estimate(
        run,
        pages,
        bytes_per_page=bytes_per_page,
        candidates=candidates,
        shard_pages=shard_pages,
        gb_month=gb_month,
        thousand_gets=thousand_gets,
        machine_hour=machine_hour,
        machine_gb=machine_gb,
        queries_per_month=queries_per_month,
    )
    print(f"{pages:,} pages; measured run: {run['pages']:,} pages\n")
    print(table(["what", "value", "how it is known"], rows))


if __name__ == "__main__":
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    application()
