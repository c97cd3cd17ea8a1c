"""Pie chart: shares in per cent, read through a legend."""

from __future__ import annotations

import math

from vrag_env.corpus.generate.drawing import WHITE, Frame, union
from vrag_env.corpus.generate.wide.facts import Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper

SHOWN = 6
LEAST = 6
"""Smallest share in per cent."""


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw a pie or a ring."""
    x0, y0, x1, y1 = share_area(paper, brief)
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    radius = min((y1 - y0) / 2 - 34, (x1 - x0) * 0.27)
    x, y = x0 + radius + 40, (y0 + y1) / 2
    start = brief.dice.rng.uniform(0, 360)
    ring = brief.dice.rng.random() < 0.5
    shares = _shares(brief)  # last: it takes more random numbers for some documents of a family than for others
    legend_x = x + radius + 62
    legend_y = y - 17 * SHOWN
    cells = []
    around: Frame = (x - radius - 30, y - radius - 22, x + radius + 30, y + radius + 22)
    for i, (item, share) in enumerate(zip(items, shares, strict=True)):
        end = start + 3.6 * share
        angles = [math.radians(start + (end - start) * k / 40) for k in range(41)]
        arc = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
        paper.polygon([(x, y), *arc], paper.style.colour(i), WHITE, line=1.2)
        middle = math.radians((start + end) / 2)
        text = f"{share} %"
        away = radius + 6 + brief.size * 0.9
        paper.text(
            x + away * math.cos(middle),
            y + away * math.sin(middle) + brief.size * 0.35,
            text,
            brief.size,
            align="centre",
        )
        row = legend_y + 34 * i + 20
        paper.rect((legend_x, row - 10, legend_x + 13, row + 3), paper.style.colour(i))
        label = paper.text(legend_x + 22, row, item, max(brief.label, 11))
        box = paper.box(union(around, label, (legend_x, row - 10, legend_x + 13, row + 3)))
        cells.append(Cell(item, "", text, box, share, (str(share), f"{share}%")))
        start = end
    if ring:
        hole = [
            (x + radius * 0.5 * math.cos(t / 40 * math.pi), y + radius * 0.5 * math.sin(t / 40 * math.pi))
            for t in range(80)
        ]
        paper.polygon(hole, WHITE)
    return Drawing(tuple(cells))


def _shares(brief: Brief) -> list[int]:
    """Draw different shares with a sum of 100, none under :data:`LEAST`.

    Six documents of a family have the same shares in other places; the next six have others.
    """
    turn, rotation = divmod(brief.dice.place, SHOWN)
    found: list[int] = []
    for _ in range(turn + 1):
        found = _partition(brief)
    return found[rotation:] + found[:rotation]


def _partition(brief: Brief) -> list[int]:
    while True:
        shares = brief.dice.choose(range(LEAST, 34), SHOWN - 1)
        last = 100 - sum(shares)
        if LEAST <= last <= 40 and last not in shares:
            return [*shares, last]
