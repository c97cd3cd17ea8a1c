"""Floor plan: rooms along a corridor, with their numbers in small print."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import INK, RULE, SOFT, WHITE, Frame, union
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import terms

BUILDINGS = terms("Main house=主楼, Annex=附楼, Workshop=工坊楼, Pavilion=展厅楼, Gatehouse=门楼, Studio=工作室楼")
_UTILITY = terms("Kitchen=厨房, Storage=储藏室, Lounge=休息室, Printing=打印室")
_ROW = 4


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw eight rooms; six of them belong to items."""
    x0, y0, x1, y1 = share_area(paper, brief)
    names = [brief.say(item) for item in brief.dice.choose(brief.items, 6)]
    utility = [brief.say(term) for term in brief.dice.choose(_UTILITY, 2)]
    numbers = brief.dice.spread(range(101, 200), 2 * _ROW)
    # Who sits where differs within the family, so it may not disturb the dice that all share.
    rooms = brief.dice.spread(_ORDERS, 1)[0]
    labels = [(names + utility)[k] for k in rooms]
    paper.rect((x0, y0, x1, y1), WHITE, INK, line=2.6)
    corridor = 40.0
    tall = (y1 - y0 - corridor) / 2
    paper.text((x0 + x1) / 2, (y0 + y1) / 2 + 4, brief.say("Corridor", "走廊"), 9, colour=SOFT, align="centre")
    frames: list[Frame] = []
    for top in (y0, y1 - tall):
        weights = [brief.dice.rng.uniform(0.85, 1.15) for _ in range(_ROW)]
        x = x0
        for weight in weights:
            width = (x1 - x0) * weight / sum(weights)
            frames.append((x, top, x + width, top + tall))
            x += width
    cells = []
    for i, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        number = str(numbers[i])
        _room(paper, brief, frame, label, number, label in names, frame[1] == y0)
        if label in names:
            cells.append(Cell(label, "", number, paper.box(frame)))
    asks = []
    for i in range(2 * _ROW - 1):
        if i % _ROW == _ROW - 1 or not {labels[i], labels[i + 1]} <= set(names):
            continue
        box = paper.box(union(frames[i], frames[i + 1]))
        left, right = labels[i], labels[i + 1]
        body = brief.say(f"what is in the room directly to the right of {left}", f"紧邻{left}右侧的房间是什么")
        asks.append(Ask("plan/right", f"right-{i}", body, right, box, difficulty="medium"))
        body = brief.say(f"what is in the room directly to the left of {right}", f"紧邻{right}左侧的房间是什么")
        asks.append(Ask("plan/left", f"left-{i}", body, left, box, difficulty="medium"))
    for i in range(_ROW):
        if {labels[i], labels[i + _ROW]} <= set(names):
            # The rooms of the two rows have other widths: only the place in the row tells.
            box = paper.box(union(frames[i], frames[i + _ROW]))
            place = ("first", "second", "third", "fourth")[i], ("一", "二", "三", "四")[i]
            body = brief.say(
                f"what is in the {place[0]} room from the left in the lower row", f"下排从左数第{place[1]}个房间是什么"
            )
            asks.append(Ask("plan/lower", f"lower-{i}", body, labels[i + _ROW], box, difficulty="medium"))
    return Drawing(tuple(cells), tuple(asks))


def _orders() -> list[list[int]]:
    """Some arrangements of the rooms that put every room somewhere else."""
    return [[(start + step * k) % 8 for k in range(8)] for start in range(8) for step in (1, 3, 5, 7)]


_ORDERS = _orders()


def _room(paper: Paper, brief: Brief, frame: Frame, name: str, number: str, used: bool, upper: bool) -> None:
    x0, y0, x1, y1 = frame
    paper.rect(frame, paper.look.tint if used else None, INK, line=1.4)
    room = x1 - x0 - 16
    paper.fit(x0 + 8, y0 + 8 + brief.label, name, brief.label + 1, room, bold=True)
    y = y0 + 14 + brief.label + brief.size
    paper.fit(x0 + 8, y, f"{brief.say('Room', '房间')} {number}", brief.size, room, colour=INK)
    door = x0 + (x1 - x0) * 0.45
    wall = y1 if upper else y0
    paper.line(door, wall, door + 20, wall, WHITE, 2.4)
    paper.line(door, wall, door + 10, wall + (-16 if upper else 16), SOFT, 0.8)
    if upper or used:
        low = y1 - 54 if upper else y1 - 40
        for k in range(2):
            left = x0 + 10 + 34 * k
            if left + 26 < x1 - 6 and low > y + 8:
                paper.rect((left, low, left + 26, low + 15), WHITE, RULE, line=0.8, radius=2)
                paper.rect((left + 8, low + 18, left + 18, low + 26), RULE, radius=4)
