"""Floor plan: who sits where; the answer follows from the position."""

from __future__ import annotations

import random

from vrag_env.corpus.generate.config import WorldConfig
from vrag_env.corpus.generate.drawing import A4_LANDSCAPE, INK, RULE, SOFT, WHITE, Frame, Sheet, union
from vrag_env.corpus.generate.facts import Clue, Drawn, Fact
from vrag_env.corpus.generate.names import Company

SUBJECT = "floor plan"
SIZE = A4_LANDSCAPE

_OTHER_ROOMS = ("Kitchen", "Library", "Storage", "Lounge", "Printing", "Reception")
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 782.0, 112.0, 528.0
_ROOM_H = 170.0


def draw(sheet: Sheet, company: Company, departments: list[str], rng: random.Random, config: WorldConfig) -> Drawn:
    """Draw a floor plan; see :data:`vrag_env.corpus.generate.world.PAGES` for the arguments."""
    del config
    sheet.header(f"Floor plan, {company.name}", f"Rooms of the {company.short} teams at the head office")
    rooms = [*departments, *rng.sample(_OTHER_ROOMS, 2)]
    rng.shuffle(rooms)
    numbers = rng.sample(range(101, 160), len(rooms))
    sheet.rect((_LEFT, _TOP, _RIGHT, _BOTTOM), WHITE, INK, line=3)
    sheet.text((_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2 + 4, "C o r r i d o r", 9, colour=SOFT, align="centre")
    frames: list[Frame] = []
    for y in (_TOP, _BOTTOM - _ROOM_H):
        weights = [rng.uniform(0.75, 1.25) for _ in range(4)]
        x = _LEFT
        for weight in weights:
            width = (_RIGHT - _LEFT) * weight / sum(weights)
            frames.append((x, y, x + width, y + _ROOM_H))
            x += width
    for i, frame in enumerate(frames):
        _draw_room(sheet, frame, rooms[i], f"Room {numbers[i]}", rooms[i] in departments, rng)
    pairs = [(i, i + 1) for i in range(len(rooms) - 1) if i % 4 < 3 and {rooms[i], rooms[i + 1]} <= set(departments)]
    facts = []
    if pairs:
        left, right = rng.choice(pairs)
        side = rng.choice(("left", "right"))
        known, answer = (right, left) if side == "left" else (left, right)
        question = (
            f"Which team sits in the room directly to the {side} of {rooms[known]} on the {company.name} {SUBJECT}?"
        )
        box = sheet.box(union(frames[left], frames[right]))
        facts.append(Fact(f"{side}-of-{rooms[known]}".lower(), question, rooms[answer], box, "Layout"))
    room = rng.choice([i for i, name in enumerate(rooms) if name in departments])
    facts.append(
        Fact(
            f"room-{numbers[room]}",
            _question(company, numbers[room]),
            rooms[room],
            sheet.box(frames[room]),
            "Layout",
        )
    )
    clues = {
        f"room:{numbers[i]}": Clue(name, sheet.box(frames[i])) for i, name in enumerate(rooms) if name in departments
    }
    absent = rng.randrange(201, 260)
    return Drawn(tuple(facts), ((f"room-{absent}", _question(company, absent)),), clues)


def _question(company: Company, number: int) -> str:
    return f"Which team sits in room {number} on the {company.name} {SUBJECT}?"


def _draw_room(sheet: Sheet, frame: Frame, name: str, number: str, team: bool, rng: random.Random) -> None:
    x0, y0, x1, y1 = frame
    sheet.rect(frame, sheet.look.tint if team else None, INK, line=1.6)
    sheet.text(x0 + 10, y0 + 20, name, 11, bold=True)
    sheet.text(x0 + 10, y0 + 33, number, 7, colour=SOFT)
    door = x0 + (x1 - x0) * rng.uniform(0.3, 0.6)
    wall = y1 if y0 == _TOP else y0
    sheet.line(door, wall, door + 24, wall, WHITE, 3)
    sheet.line(door, wall, door + 12, wall + (20 if wall == y1 else -20), SOFT, 0.8)
    for k in range(rng.randint(2, 3) if team else 1):
        x, y = x0 + 12 + 40 * k, y0 + rng.uniform(60, 100)
        if x + 30 < x1 - 8:
            sheet.rect((x, y, x + 30, y + 18), WHITE, RULE, line=0.8, radius=2)
            sheet.rect((x + 9, y + 22, x + 21, y + 32), RULE, radius=4)
