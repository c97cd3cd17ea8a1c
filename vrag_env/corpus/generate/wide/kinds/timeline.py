"""Timeline: six dates on a line, in small print."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import SOFT, WHITE, Frame, union
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import MONTHS, terms

TOPICS = terms("review=评审, audit=审计, opening=开放日, visit=走访, delivery=交付, inspection=检查")
SHOWN = 6
_DAYS = 28
"""Days that every month has."""


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw six cards alternately above and below a line."""
    x0, y0, x1, y1 = share_area(paper, brief)
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    days = sorted(brief.dice.spread(range(12 * _DAYS), SHOWN))
    order = brief.dice.spread(_TURNS, 1)[0]
    items = [items[k] for k in order]
    middle = (y0 + y1) / 2
    paper.line(x0, middle, x1 - 4, middle, paper.look.accent, 3)
    paper.arrow(x1 - 20, middle, x1, middle, paper.look.accent, 3)
    step = (x1 - x0 - 24) / SHOWN
    cells = []
    frames: list[Frame] = []
    for i, (item, day) in enumerate(zip(items, days, strict=True)):
        x = x0 + step * (i + 0.5)
        up = i % 2 == 0
        wide = step * 0.94
        tall = 30 + brief.label * 1.4 + brief.size * 1.4
        away = 34 + 26 * (i % 3)
        top = middle - away - tall if up else middle + away
        card: Frame = (x - wide / 2, top, x + wide / 2, top + tall)
        paper.line(x, middle, x, card[3] if up else card[1], SOFT, 0.8)
        paper.rect((x - 5, middle - 5, x + 5, middle + 5), WHITE, paper.style.colour(i), line=2, radius=5)
        paper.rect(card, paper.look.tint, paper.style.colour(i), line=1.0, radius=4)
        text, variants = written(brief, day)
        paper.fit(x, top + 12 + brief.label * 0.9, item, brief.label + 1, wide - 8, bold=True, align="centre")
        paper.fit(x, top + 18 + brief.label * 1.4 + brief.size, text, brief.size, wide - 8, align="centre")
        frames.append(card)
        cells.append(Cell(item, "", text, paper.box(card), None, variants))
    topic = brief.say(TOPICS[brief.topic])
    asks = []
    for i in range(SHOWN - 1):
        box = paper.box(union(frames[i], frames[i + 1]))
        body = brief.say(f"whose {topic} comes directly after that of {items[i]}", f"紧接在{items[i]}之后{topic}的是谁")
        asks.append(Ask("timeline/after", f"after-{i}", body, items[i + 1], box, difficulty="medium"))
        body = brief.say(
            f"whose {topic} comes directly before that of {items[i + 1]}", f"紧接在{items[i + 1]}之前{topic}的是谁"
        )
        asks.append(Ask("timeline/before", f"before-{i}", body, items[i], box, difficulty="medium"))
        # Within one month, so that the difference does not ask for the length of months.
        if days[i] // _DAYS == days[i + 1] // _DAYS:
            body = brief.say(
                f"how many days lie between the {topic} of {items[i]} and that of {items[i + 1]}",
                f"{items[i]}与{items[i + 1]}的{topic}相隔多少天",
            )
            asks.append(
                Ask("timeline/days", f"days-{i}", body, str(days[i + 1] - days[i]), box, "Int", difficulty="hard")
            )
    return Drawing(tuple(cells), tuple(asks))


_TURNS = [[(start + step * k) % SHOWN for k in range(SHOWN)] for start in range(SHOWN) for step in (1, 5)]
"""Twelve orders of the items."""


def written(brief: Brief, day: int) -> tuple[str, tuple[str, ...]]:
    """Write a day of the year, 28 to a month, and say how else it may be written."""
    month, number = MONTHS[day // _DAYS], day % _DAYS + 1
    year = brief.identity.year
    if brief.language:
        text = f"{month[1]}{number}日"
        return text, (f"{year}年{text}", f"{number} {month[0]}", f"{month[0]} {number}")
    return f"{number} {month[0]}", (
        f"{month[0]} {number}",
        f"{number} {month[0]} {year}",
        f"{month[0]} {number}, {year}",
    )
