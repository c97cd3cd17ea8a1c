"""Bar charts: grouped and stacked, the values printed at the bars."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import SOFT, WHITE, Frame, union
from vrag_env.corpus.generate.wide.facts import Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper, ticks_for

SHOWN = 6
"""Items on a chart."""


def draw_grouped(paper: Paper, brief: Brief) -> Drawing:
    """Draw two bars for every item, one for each series."""
    return _draw(paper, brief, stacked=False)


def draw_stacked(paper: Paper, brief: Brief) -> Drawing:
    """Draw one bar for every item, made of two parts."""
    return _draw(paper, brief, stacked=True)


def legend(paper: Paper, brief: Brief, right: float, y: float, words: list[str]) -> None:
    """Draw the legend of some series, from the right."""
    for i, word in reversed(list(enumerate(words))):
        frame = paper.text(right, y, word, 9, align="right")
        paper.rect((frame[0] - 14, y - 8, frame[0] - 5, y + 1), paper.style.colour(i, len(words)))
        right = frame[0] - 28


def _draw(paper: Paper, brief: Brief, *, stacked: bool) -> Drawing:
    x0, y0, x1, y1 = share_area(paper, brief)
    measure, size = brief.measure, brief.size
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    series = [brief.say(term) for term in brief.theme.series]
    values = [brief.dice.spread(range(measure.low, measure.high), SHOWN) for _ in series]
    scale = 10.0 if measure.decimals else 1.0
    sums = [sum(column) for column in zip(*values, strict=True)]
    top, ticks = ticks_for((max(sums) if stacked else max(map(max, values))) / scale)
    plot: Frame = (x0 + 40, y0 + 40, x1, y1 - 24)
    legend(paper, brief, x1, y0 + 12, series)
    paper.axis(plot, top, ticks, brief.say(measure.unit))
    step = (plot[2] - plot[0]) / SHOWN
    height = (plot[3] - plot[1]) / top / scale  # points per step of the measure
    width = step * (0.52 if stacked else 0.38)
    cells = []
    for i, item in enumerate(items):
        middle = plot[0] + step * (i + 0.5)
        label = paper.fit(middle, plot[3] + 8 + brief.label, item, brief.label, step - 6, align="centre")
        base = plot[3]
        for s, name in enumerate(series):
            value = values[s][i]
            left = middle - width / 2 if stacked else middle + (s - 1) * width
            bar: Frame = (left, base - value * height, left + width, base)
            paper.rect(bar, paper.style.colour(s, len(series)))
            text = measure.text(value)
            if stacked:
                y, ink = (bar[1] + bar[3]) / 2 + size * 0.36, WHITE
                base = bar[1]
            else:
                y, ink = bar[1] - 3, (0.1, 0.1, 0.12)
            printed = paper.fit((bar[0] + bar[2]) / 2, y, text, size, width, colour=ink, align="centre")
            cells.append(Cell(item, name, text, paper.box(union(bar, label, printed)), value))
    paper.line(plot[0], plot[3], plot[2], plot[3], SOFT, 1.0)
    return Drawing(tuple(cells))
