"""Heat map: six items over six points in time; the darker, the more."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import INK, SOFT, WHITE, Frame, hls
from vrag_env.corpus.generate.wide.facts import Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import LABEL, Paper

SHOWN = 6


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw a grid of coloured cells with their values."""
    x0, y0, x1, y1 = share_area(paper, brief)
    measure = brief.measure
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    columns = [brief.say(term) for term in brief.theme.columns]
    names = max(paper.measure(item, brief.label) for item in items) + 14
    grid: Frame = (x0 + names, y0 + 34, x1, y1 - 30)
    width, height = (grid[2] - grid[0]) / len(columns), (grid[3] - grid[1]) / SHOWN
    table = [brief.dice.spread(range(measure.low, measure.high), SHOWN) for _ in columns]
    paper.text(x0, y0 + 12, brief.say(measure.unit), LABEL, colour=SOFT)
    heads = [
        paper.box(paper.text(grid[0] + width * (c + 0.5), grid[1] - 6, word, brief.label, align="centre"))
        for c, word in enumerate(columns)
    ]
    cells = []
    for r, item in enumerate(items):
        top = grid[1] + height * r
        row = paper.text(grid[0] - 8, top + height / 2 + brief.label * 0.35, item, brief.label, align="right")
        for c, column in enumerate(columns):
            value = table[c][r]
            share = (value - measure.low) / (measure.high - measure.low)
            frame: Frame = (grid[0] + width * c, top, grid[0] + width * (c + 1), top + height)
            paper.rect(frame, hls(paper.style.hue, 0.94 - 0.62 * share, 0.55), WHITE, line=1.0)
            text = measure.text(value)
            paper.text(
                (frame[0] + frame[2]) / 2,
                (frame[1] + frame[3]) / 2 + brief.size * 0.35,
                text,
                brief.size,
                colour=WHITE if share > 0.45 else INK,
                align="centre",
            )
            cells.append(Cell(item, column, text, paper.box(frame), value, names=(paper.box(row), heads[c])))
    for k in range(20):
        left = grid[0] + 6 * k
        paper.rect((left, grid[3] + 12, left + 6, grid[3] + 20), hls(paper.style.hue, 0.94 - 0.62 * k / 19, 0.55))
    paper.text(grid[0] - 6, grid[3] + 19, measure.text(measure.low), LABEL, colour=SOFT, align="right")
    paper.text(grid[0] + 126, grid[3] + 19, measure.text(measure.high), LABEL, colour=SOFT)
    return Drawing(tuple(cells))
