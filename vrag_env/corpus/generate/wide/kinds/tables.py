"""Tables: one with a total column, one with merged heads over two halves."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import RULE, WHITE
from vrag_env.corpus.generate.wide.facts import Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper

COLUMNS = 4
"""Columns of values before the total; per half of a merged head, two."""
_MOST_ROW = 40.0


def draw_plain(paper: Paper, brief: Brief) -> Drawing:
    """Draw eight rows with four values and their total."""
    measure = brief.measure
    columns = [brief.say(term) for term in brief.theme.columns[:COLUMNS]]
    values = [brief.dice.spread(range(measure.low, measure.high), len(brief.items)) for _ in columns]
    rows = [list(row) for row in zip(*values, strict=True)]
    total = brief.say("Total", "合计")
    return _draw(paper, brief, [], [*columns, total], [[*row, sum(row)] for row in rows], [*columns, ""])


def draw_merged(paper: Paper, brief: Brief) -> Drawing:
    """Draw eight rows under two merged heads with two columns each."""
    measure = brief.measure
    halves = [brief.say(term) for term in brief.theme.series]
    columns = [brief.say(term) for term in brief.theme.columns[:2]]
    values = [brief.dice.spread(range(measure.low, measure.high), len(brief.items)) for _ in halves for _ in columns]
    rows = [list(row) for row in zip(*values, strict=True)]
    join = brief.say(", ", "，")
    names = [f"{half}{join}{column}" for half in halves for column in columns]
    return _draw(paper, brief, halves, columns * 2, rows, names)


def _draw(
    paper: Paper, brief: Brief, merged: list[str], heads: list[str], rows: list[list[int]], names: list[str]
) -> Drawing:
    x0, y0, x1, y1 = share_area(paper, brief)
    look, measure = paper.look, brief.measure
    label = brief.label
    lines = len(rows) + 1 + bool(merged)
    height = min((y1 - y0 - 10) / lines, _MOST_ROW)
    first = x0 + (x1 - x0) * 0.24
    step = (x1 - first) / len(heads)

    def base(line: int, size: float) -> float:
        return y0 + height * (line + 0.5) + size * 0.35

    top = len(merged) // 2
    paper.rect((x0, y0, x1, y0 + height * (1 + top)), look.accent)
    kind = brief.say(brief.theme.item)
    unit = brief.say(measure.unit)
    head = brief.say(f"{kind.capitalize()} ({unit})", f"{kind}（{unit}）")
    paper.fit(x0 + 6, base(top, label), head, label, first - x0 - 12, bold=True, colour=WHITE)
    for m, word in enumerate(merged):
        left, right = first + step * 2 * m, first + step * 2 * (m + 1)
        paper.fit(
            (left + right) / 2, base(0, label), word, label, step * 2 - 8, bold=True, colour=WHITE, align="centre"
        )
        paper.line(left + 8, y0 + height, right - 8, y0 + height, WHITE, 0.8)
    columns = []
    for c, word in enumerate(heads):
        x = first + step * (c + 1) - 10
        frame = paper.fit(x, base(top, label), word, label, step - 12, bold=True, colour=WHITE, align="right")
        columns.append(paper.box(frame))
    items = brief.dice.shuffled([brief.say(item) for item in brief.items])
    cells = []
    for r, (item, row) in enumerate(zip(items, rows, strict=True)):
        line = r + 1 + top
        y = y0 + height * line
        if r % 2:
            paper.rect((x0, y, x1, y + height), look.tint)
        paper.line(x0, y + height, x1, y + height, RULE, 0.4)
        named = paper.fit(x0 + 6, base(line, label), item, label, first - x0 - 12)
        for c, value in enumerate(row):
            text = measure.text(value)
            paper.fit(first + step * (c + 1) - 10, base(line, brief.size), text, brief.size, step - 12, align="right")
            frame = (first + step * c, y, first + step * (c + 1), y + height)
            cells.append(Cell(item, names[c], text, paper.box(frame), value, names=(paper.box(named), columns[c])))
    return Drawing(tuple(cells))
