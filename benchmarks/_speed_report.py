"""The tables of :mod:`retrieval_speed`, from the numbers in its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from _ours import OURS

BASELINE = "colpali-engine score_multi_vector"

_FEW_PAGES = 1000  # with fewer, what every process and every table has at the least outweighs the pages


@dataclass(frozen=True)
class Target:
    """One line of the last table.

    Attributes:
        what: What is measured.
        against: With what it is compared.
        must: What must be reached, in words.
        reached: What was reached, in words.
        met: Whether that is enough.
    """

    what: str
    against: str
    must: str
    reached: str
    met: bool


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def latency_table(cells: Sequence[dict[str, Any]], absent: Sequence[dict[str, str]]) -> str:
    """Times and recall of all engines, block by block."""
    rows = []
    for pages, queries in sorted({(cell["pages"], cell["queries"]) for cell in cells}):
        block = [cell for cell in cells if (cell["pages"], cell["queries"]) == (pages, queries)]
        base = next((cell["ms_per_query"] for cell in block if cell["engine"] == BASELINE), None)
        for cell in sorted(block, key=lambda cell: float(cell["ms_per_query"])):
            ratio = "" if base is None else f"{base / cell['ms_per_query']:.1f}"
            recalls = [f"{cell[key]:.3f}" if cell.get(key) is not None else "" for key in ("easy", "hard")]
            speed = f"{cell['ms_per_query']:,.1f}"
            rate = f"{1000 / cell['ms_per_query']:,.1f}"
            rows.append([f"{pages:,}", str(queries), cell["engine"], speed, rate, *recalls, ratio, cell["note"]])
        rows += [[f"{pages:,}", str(queries), gone["name"], "", "", "", "", "", gone["reason"]] for gone in absent]
    header = ["pages", "queries at once", "engine", "ms per query", "queries/s", "recall@10 easy", "hard"]
    return table([*header, "times as fast as score_multi_vector", "note"], rows)


def cells(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Times of all engines over all numbers of pages and queries."""
    return [cell for name, row in result["rows"].items() if name.startswith("search-") for cell in row["cells"]]


def speed_tables(result: dict[str, Any]) -> str:
    """All tables of a run as Markdown, with what it ran on."""
    machine = result["machine"]
    absent: list[dict[str, str]] = next((row["absent"] for row in result["rows"].values() if "absent" in row), [])
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    minutes = sum(row["minutes"] for row in result["rows"].values())
    about = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads for every engine; medians of "
        f"{result['repeats']} interleaved calls unless said otherwise; seed {result['seed']}; {minutes:.0f} minutes. "
        f"Python {machine['python']}, {packages}."
    )
    commands = list(dict.fromkeys(row["command"] for row in result["rows"].values()))
    return "\n\n".join(
        [
            about,
            "Measured by " + ", ".join(f"`{command}`" for command in commands) + ".",
            target_table(targets(result)),
            latency_table(cells(result), absent),
        ]
    )


def targets(result: dict[str, Any]) -> list[Target]:
    """What the engine must reach, and whether it does, as far as this run measured it."""
    found: list[Target] = []
    by_key = {(cell["engine"], cell["pages"], cell["queries"]): cell for cell in cells(result)}
    sizes = sorted({pages for _, pages, _ in by_key})
    for queries in sorted({queries for _, _, queries in by_key}):
        for pages in sizes:
            ours, base = by_key[OURS, pages, queries], by_key[BASELINE, pages, queries]
            ratio = base["ms_per_query"] / ours["ms_per_query"]
            recall = min(value for value in (ours.get("easy"), ours.get("hard"), 1.0) if value is not None)
            need = 10.0 if pages >= 20_000 else 1.0 if pages <= 1000 else None
            if need is None:
                continue
            must = "10 times as fast, recall@10 >= 0.99" if need == 10 else "not slower"
            reached = f"{ratio:.1f} times as fast" + (f", recall@10 {recall:.3f}" if need == 10 else "")
            what = f"search, {pages:,} pages, {queries} at once"
            found.append(Target(what, BASELINE, must, reached, ratio >= need and (need < 10 or recall >= 0.99)))
    memory = result["rows"].get("memory")
    if memory and memory["pages"] >= _FEW_PAGES:
        share = memory["ours"]["batch"] / memory["all"]["open"]
        what = f"memory while searching {memory['pages']:,} pages (growth)"
        reached = f"{memory['ours']['batch']:,.0f} of {memory['all']['open']:,.0f} MiB: 1/{1 / share:.1f}"
        found.append(Target(what, "all multi-vectors in memory (bfloat16)", "at most 1/10", reached, share <= 0.1))
    disk = result["rows"].get("disk")
    if disk and disk["pages"] >= _FEW_PAGES:
        ratio = disk["node_bytes_per_page"] / disk["our_bytes_per_page"]
        reached = f"{disk['our_bytes_per_page']:,.0f} of {disk['node_bytes_per_page']:,.0f} bytes: 1/{ratio:.1f}"
        found.append(Target("bytes per page on disk", "released JSON node files", "at most 1/15", reached, ratio >= 15))
        ratio = disk["node_open_seconds"] / median(disk["our_open_seconds"])
        milliseconds = 1000 * median(disk["our_open_seconds"])
        reached = f"{milliseconds:,.0f} ms of {disk['node_open_seconds']:,.1f} s: {ratio:,.0f} times"
        what = f"time to open {disk['pages']:,} pages"
        against = f"released JSON node files (measured on {disk['node_pages']}, in proportion)"
        found.append(Target(what, against, "50 times as fast", reached, ratio >= 50))
    lexical = result["rows"].get("lexical")
    if lexical:
        times = {name: median(seconds) for name, seconds in lexical["seconds"].items()}
        ours_seconds = times.pop("ours")
        for name, seconds in times.items():
            share = ours_seconds / seconds
            reached = f"{1000 * ours_seconds:,.1f} of {1000 * seconds:,.1f} ms: {share:.2f}"
            must = "at most 1/3" if name != "bm25s" else "shown"
            what = f"lexical search, batch of {lexical['batch']}, {lexical['pages']:,} pages"
            found.append(Target(what, name, must, reached, name == "bm25s" or share <= 1 / 3))
    ingestion = result["rows"].get("ingestion")
    if ingestion:
        mine, bare = ingestion["ingest_pages_per_second"], ingestion["bare_pages_per_second"]
        reached = f"{mine:.1f} of {bare:.1f} pages/s: {ingestion['ratio']:.2f}"
        against = "bare pypdfium2 rendering and encoding"
        found.append(Target("ingestion", against, "at least 0.80 of its pages/s", reached, ingestion["ratio"] >= 0.8))
        peak = ingestion["peak_total_bytes"] / 2**30
        found.append(Target("ingestion, peak memory", "", "under 2 GiB", f"{peak:.2f} GiB, all processes", peak < 2))
    return found


def target_table(found: Sequence[Target]) -> str:
    """The last table."""
    rows = [[line.what, line.against, line.must, line.reached, "yes" if line.met else "NO"] for line in found]
    return table(["what", "against", "must reach", "reached", "met"], rows)
