"""Interleaved timing: engine after engine in turn, so that a change of the machine's load hits all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from _peers import Float32, Peer

K = 10
SLOW_SECONDS = 30.0
"""One call over this is measured once."""

_SAMPLE_SECONDS = 5.0  # engines without batches answer as many of the queries as fit, so that repeats stay possible


@dataclass
class Cell:
    """One engine's times for one number of pages and queries.

    Attributes:
        engine: Name of the engine.
        pages: Number of pages searched.
        queries: Queries asked at once.
        answered: Queries that the timed calls answered: fewer than asked where the engine answers one after
            another and all would take too long.
        seconds: Of each timed call.
        found: Page numbers found for the queries of the last call.
    """

    engine: str
    pages: int
    queries: int
    answered: int
    seconds: list[float] = field(default_factory=list)
    found: list[list[int]] = field(default_factory=list)

    @property
    def ms_per_query(self) -> float:
        """Median time of one query in milliseconds."""
        return 1000 * median(self.seconds) / self.answered

    def note(self, repeats: int) -> str:
        """What is not as in the other rows, or an empty text."""
        notes = [f"{len(self.seconds)} call(s)"] if len(self.seconds) < repeats else []
        if self.answered < self.queries:
            notes.append(f"{self.answered} of {self.queries} queries timed, one after another")
        return "; ".join(notes)

    def raw(self) -> dict[str, Any]:
        """What goes into the JSON."""
        return {
            "engine": self.engine,
            "pages": self.pages,
            "queries": self.queries,
            "answered": self.answered,
            "seconds": self.seconds,
            "ms_per_query": self.ms_per_query,
        }


def measure(
    peers: Sequence[Peer], pages: int, queries: Sequence[Float32], at_once: int, repeats: int
) -> dict[str, Cell]:
    """Time all engines in turn.

    Args:
        peers: The engines, all over the same pages.
        pages: How many these are.
        queries: More than ``at_once`` are used in turn where ``at_once`` is 1.
        at_once: Queries per call.
        repeats: Timed calls per engine.

    Returns:
        One cell per engine, by its name.
    """
    cells: dict[str, Cell] = {}
    for peer in peers:  # a first call, which loads what is loaded on first use; it counts only where it is long
        asked = at_once
        if not peer.batched and at_once > 1:
            one = min(_seconds(peer, queries[:1])[0] for _ in range(2))
            asked = max(1, min(at_once, int(_SAMPLE_SECONDS / one)))
        spent, found = _seconds(peer, queries[:asked])
        cells[peer.name] = Cell(peer.name, pages, at_once, asked, [spent] if spent > _SAMPLE_SECONDS else [], found)
    for turn in range(repeats):
        for peer in peers:
            cell = cells[peer.name]
            if len(cell.seconds) >= repeats or (cell.seconds and cell.seconds[0] > SLOW_SECONDS):
                continue
            start = turn % len(queries) if at_once == 1 else 0
            spent, cell.found = _seconds(peer, queries[start : start + cell.answered])
            cell.seconds.append(spent)
    return cells


def _seconds(peer: Peer, queries: Sequence[Float32]) -> tuple[float, list[list[int]]]:
    started = time.perf_counter()
    found = peer.search(queries, K)
    return time.perf_counter() - started, found


def recall(found: Sequence[Sequence[int]], exact: Sequence[Sequence[int]]) -> float:
    """Mean share of the exact best pages that were found."""
    shares = [len(set(ours) & set(theirs)) / len(theirs) for ours, theirs in zip(found, exact, strict=False)]
    return sum(shares) / len(shares)
