"""Line chart: three items over six points in time; each line keeps to its own height."""

from __future__ import annotations

import itertools

from vrag_env.corpus.generate.drawing import SOFT, Frame, union
from vrag_env.corpus.generate.wide.facts import Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.kinds.bars import legend
from vrag_env.corpus.generate.wide.paper import Paper, ticks_for

SHOWN = 3


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw three lines with their values printed at the points."""
    x0, y0, x1, y1 = share_area(paper, brief)
    measure = brief.measure
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    columns = [brief.say(term) for term in brief.theme.columns]
    scale = 10.0 if measure.decimals else 1.0
    top, ticks = ticks_for(measure.high / scale)
    plot: Frame = (x0 + 40, y0 + 40, x1 - 8, y1 - 24)
    legend(paper, brief, x1, y0 + 12, items)
    paper.axis(plot, top, ticks, brief.say(measure.unit))
    step = (plot[2] - plot[0]) / len(columns)
    height = (plot[3] - plot[1]) / top / scale
    third = (measure.high - measure.low) // SHOWN
    xs = [plot[0] + step * (c + 0.5) for c in range(len(columns))]
    heads = [
        paper.box(paper.text(x, plot[3] + 8 + brief.label, word, brief.label, align="centre"))
        for x, word in zip(xs, columns, strict=True)
    ]
    cells = []
    for i, item in enumerate(items):
        # A band of its own for every line, with a gap, so that no label stands on another line.
        low = measure.low + i * third
        values = brief.dice.spread(range(low, low + round(third * 0.6)), len(columns))
        points = [(x, plot[3] - value * height) for x, value in zip(xs, values, strict=True)]
        for (ax, ay), (bx, by) in itertools.pairwise(points):
            paper.line(ax, ay, bx, by, paper.style.colour(i, SHOWN), 1.6)
        for c, ((x, y), value) in enumerate(zip(points, values, strict=True)):
            paper.rect((x - 2.4, y - 2.4, x + 2.4, y + 2.4), paper.style.colour(i, SHOWN), radius=2.4)
            text = measure.text(value)
            beside = values[max(c - 1, 0) : c] + values[c + 1 : c + 2]
            # On the side from which the line does not come.
            base = y - 5 if value * len(beside) >= sum(beside) else y + 5 + 0.76 * brief.size
            printed = paper.plated(x, base, text, brief.size, step, align="centre")
            box = paper.box(union(printed, (x - 3, y - 3, x + 3, y + 3)))
            cells.append(Cell(item, columns[c], text, box, value, names=(heads[c],)))
    paper.line(plot[0], plot[3], plot[2], plot[3], SOFT, 1.0)
    return Drawing(tuple(cells))
