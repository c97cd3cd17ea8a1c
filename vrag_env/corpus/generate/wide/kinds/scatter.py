"""Scatter plot: six items by two measures, with a dashed line to count from."""

from __future__ import annotations

from itertools import pairwise

from vrag_env.corpus.generate.drawing import RULE, SOFT, Frame, union
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import LABEL, Paper, ticks_for

SHOWN = 6


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw six points; the height of a point is the measure, its distance from the left a score."""
    x0, y0, x1, y1 = share_area(paper, brief)
    measure = brief.measure
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    scale = 10.0 if measure.decimals else 1.0
    values = brief.dice.spread(range(measure.low, measure.high), SHOWN)
    top, ticks = ticks_for(measure.high / scale)
    plot: Frame = (x0 + 40, y0 + 40, x1 - 10, y1 - 40)
    paper.axis(plot, top, ticks, brief.say(measure.unit))
    height = (plot[3] - plot[1]) / top / scale
    slot = (plot[2] - plot[0]) / SHOWN
    places = brief.dice.spread(range(SHOWN), SHOWN)
    shifts = [brief.dice.rng.uniform(0.05, 0.22) for _ in range(SHOWN)]
    # In the middle of the widest gap, so that nobody has to guess on which side of the line a point lies.
    below, above = max(pairwise(sorted(values)), key=lambda pair: pair[1] - pair[0])
    limit = (below + above) / 2
    line_y = plot[3] - limit * height
    for left in range(int(plot[0]), int(plot[2]) - 6, 12):
        paper.line(left, line_y, left + 6, line_y, paper.look.accent, 1.0)
    cells = []
    centres = {}
    for item, value, place, shift in zip(items, values, places, shifts, strict=True):
        x, y = plot[0] + slot * (place + shift), plot[3] - value * height
        centres[item] = (x, y)
        dot: Frame = (x - 4, y - 4, x + 4, y + 4)
        paper.rect(dot, paper.style.colour(0), radius=4)
        room = plot[0] + slot * (place + 1) - x - 10
        # Two lines of text beside the dot, moved up or down so that the dashed line does not run through them.
        gap = 0.3 * brief.label + 0.85 * brief.size
        rise, fall = 0.8 * brief.label + 3, gap + 0.3 * brief.size + 3
        base = min(y + 2, line_y - fall) if y < line_y else max(y + 2, line_y + rise)
        name = paper.plated(x + 8, base, item, brief.label, room)
        text = measure.text(value)
        printed = paper.plated(x + 8, base + gap, text, brief.size, room)
        cells.append(Cell(item, "", text, paper.box(union(dot, name, printed)), value))
    paper.line(plot[0], plot[1], plot[0], plot[3], SOFT, 1.0)
    paper.line(plot[0], plot[3], plot[2], plot[3], SOFT, 1.0)
    for k in range(SHOWN + 1):
        x = plot[0] + slot * k
        paper.line(x, plot[3], x, plot[3] + 4, RULE, 0.6)
        paper.text(x, plot[3] + 14, str(20 * k), LABEL, colour=SOFT, align="centre")
    score = brief.say("maturity score", "成熟度评分")
    paper.text(plot[2], plot[3] + 28, score, 9, colour=SOFT, align="right")
    whole = paper.box(plot)
    count = sum(value > limit for value in values)
    rightmost = max(items, key=lambda item: centres[item][0])
    leftmost = min(items, key=lambda item: centres[item][0])
    kind = brief.say(brief.theme.item)
    return Drawing(
        tuple(cells),
        (
            Ask(
                "scatter/above",
                "above",
                brief.say("how many points lie above the dashed line", "有多少个点位于虚线之上"),
                str(count),
                whole,
                "Int",
                difficulty="medium",
                source_type="Figure",
            ),
            Ask(
                "scatter/right",
                "right",
                brief.say(f"which {kind} has the highest maturity score", f"哪个{kind}的成熟度评分最高"),
                rightmost,
                whole,
                difficulty="medium",
            ),
            Ask(
                "scatter/left",
                "left",
                brief.say(f"which {kind} has the lowest maturity score", f"哪个{kind}的成熟度评分最低"),
                leftmost,
                whole,
                difficulty="medium",
            ),
        ),
    )
