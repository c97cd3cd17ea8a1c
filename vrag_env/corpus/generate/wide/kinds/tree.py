"""Chart of responsibilities: who is in charge of what, under whom."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import SOFT, Frame, union
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import PEOPLE, terms

TOPICS = terms("safety=安全, training=培训, purchasing=采购, planning=规划, archives=档案, energy=能源管理")
SHOWN = 6


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw a head, two deputies, and three people under each of them."""
    x0, y0, x1, y1 = share_area(paper, brief)
    size = brief.size
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    people = [brief.say(name) for name in brief.dice.spread(PEOPLE, SHOWN + 3)]
    tall = 26 + brief.label * 1.3 + size * 1.3
    level = (y1 - y0 - tall) / 2

    def card(x: float, row: int, role: str, name: str, wide: float) -> Frame:
        top = y0 + row * level
        frame: Frame = (x - wide / 2, top, x + wide / 2, top + tall)
        paper.rect(frame, paper.look.tint, paper.style.colour(row, 3), line=1.2, radius=5)
        paper.fit(x, top + 11 + brief.label * 0.8, role, brief.label, wide - 8, bold=True, align="centre")
        paper.fit(x, top + 17 + brief.label * 1.2 + size, name, size, wide - 8, align="centre")
        return frame

    middle = (x0 + x1) / 2
    quarter = (x1 - x0) / 4
    step = (x1 - x0) / SHOWN
    head = card(middle, 0, brief.say("Head", "负责人"), people[0], 150)
    deputies = [
        card(middle - quarter, 1, brief.say("First deputy", "第一副手"), people[1], 140),
        card(middle + quarter, 1, brief.say("Second deputy", "第二副手"), people[2], 140),
    ]
    leaves = [card(x0 + step * (i + 0.5), 2, item, people[3 + i], step * 0.92) for i, item in enumerate(items)]
    for upper, lowers in ((head, deputies), (deputies[0], leaves[:3]), (deputies[1], leaves[3:])):
        joint = upper[3] + (lowers[0][1] - upper[3]) / 2
        ux = (upper[0] + upper[2]) / 2
        paper.line(ux, upper[3], ux, joint, SOFT, 1.0)
        for lower in lowers:
            lx = (lower[0] + lower[2]) / 2
            paper.line(ux, joint, lx, joint, SOFT, 1.0)
            paper.line(lx, joint, lx, lower[1], SOFT, 1.0)
    cells = tuple(Cell(item, "", people[3 + i], paper.box(leaves[i])) for i, item in enumerate(items))
    asks = [
        Ask(
            "tree/superior",
            f"superior-{i}",
            brief.say(f"to which deputy does the person in charge of {item} report", f"{item}的负责人向哪位副手汇报"),
            people[1 + i // 3],
            paper.box(union(deputies[i // 3], leaves[i])),
            difficulty="medium",
            source_type="Figure",
        )
        for i, item in enumerate(items)
    ]
    asks.append(Ask("tree/head", "head", brief.say("who is the head", "谁是负责人"), people[0], paper.box(head)))
    return Drawing(cells, tuple(asks))
