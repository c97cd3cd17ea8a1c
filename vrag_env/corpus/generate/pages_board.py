"""Status board: six coloured cards in a fixed grid, each with a small symbol that only a zoom makes out."""

from __future__ import annotations

import random

from vrag_env.corpus.generate.config import WorldConfig
from vrag_env.corpus.generate.drawing import INK, SLIDE, WHITE, Colour, Frame, Sheet, hls
from vrag_env.corpus.generate.facts import Clue, Drawn, Fact
from vrag_env.corpus.generate.names import Company
from vrag_env.corpus.generate.symbols import SYMBOLS, draw_symbol

SUBJECT = "status board"
SIZE = SLIDE

CARD_COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (2, 0.50, 0.75),
    "blue": (216, 0.48, 0.70),
    "green": (130, 0.40, 0.60),
    "yellow": (50, 0.58, 0.92),
    "purple": (284, 0.45, 0.55),
    "grey": (220, 0.60, 0.03),
}
"""Hue in degrees, lightness and saturation of the cards, before the jitter of each."""

NUMERALS = ("one", "two", "three", "four", "five", "six")
"""Names of the large numbers that are printed on the cards, in the order of the cells."""

BADGE = (96.0, 72.0)
"""Width and height of the white badge of each card, in points."""
_JITTER = 3.0
_LEFT, _TOP, _CARD_W, _CARD_H, _GAP = 36.0, 104.0, 204.0, 188.0, 18.0


def card_frame(cell: int) -> Frame:
    """Return the frame of a card in points.

    Args:
        cell: 0 to 5, row by row from the top left; three cards a row.
    """
    x = _LEFT + (cell % 3) * (_CARD_W + _GAP)
    y = _TOP + (cell // 3) * (_CARD_H + _GAP)
    return (x, y, x + _CARD_W, y + _CARD_H)


def badge_frame(cell: int) -> Frame:
    """Return the frame of a card's badge in points; the same on every board."""
    x0, y0, x1, _ = card_frame(cell)
    x = (x0 + x1 - BADGE[0]) / 2
    return (x, y0 + 72, x + BADGE[0], y0 + 72 + BADGE[1])


def draw(sheet: Sheet, company: Company, departments: list[str], rng: random.Random, config: WorldConfig) -> Drawn:
    """Draw a status board; see :data:`vrag_env.corpus.generate.world.PAGES` for the arguments."""
    sheet.header(f"{company.name} {SUBJECT}", "Signal of each department at the end of the year")
    colours = list(CARD_COLOURS)
    rng.shuffle(colours)
    labels = rng.sample(departments, len(colours))
    seen = " ".join(f"{colour} {numeral}" for colour, numeral in zip(colours, NUMERALS, strict=True))
    facts, clues = [], {}
    for cell, (colour, label) in enumerate(zip(colours, labels, strict=True)):
        symbol = rng.choice(SYMBOLS)
        badge = sheet.box(badge_frame(cell))
        _draw_card(sheet, cell, colour, label, symbol, rng, config.symbol_size)
        question = f"Which symbol is on the {colour} card of the {company.name} {SUBJECT}?"
        thought = f"I see {seen}. I enlarge {colour} {NUMERALS[cell]}."
        facts.append(Fact(colour, question, symbol, badge, "Figure", thought=thought))
        clues[f"team:{label}"] = Clue(symbol, badge)
    missing = tuple(
        (colour, f"Which symbol is on the {colour} card of the {company.name} {SUBJECT}?")
        for colour in ("orange", "pink", "brown")
    )
    return Drawn(tuple(facts), missing, clues)


def _draw_card(sheet: Sheet, cell: int, colour: str, label: str, symbol: str, rng: random.Random, size: float) -> None:
    hue, lightness, saturation = CARD_COLOURS[colour]
    fill = hls(hue + rng.uniform(-5, 5), lightness + rng.uniform(-0.04, 0.04), saturation)
    frame = card_frame(cell)
    sheet.rect(frame, fill, radius=8)
    sheet.rect((frame[0], frame[1] + 34, frame[2], frame[1] + 35), WHITE)
    ink: Colour = INK if colour in ("yellow", "grey") else WHITE
    sheet.text(frame[0] + 14, frame[1] + 23, label, 12, bold=True, colour=ink)
    sheet.text(frame[0] + 12, frame[1] + 126, str(cell + 1), 52, bold=True, colour=ink)
    badge = badge_frame(cell)
    sheet.rect(badge, WHITE)
    draw_symbol(
        sheet,
        symbol,
        (badge[0] + badge[2]) / 2 + rng.uniform(-_JITTER, _JITTER),
        (badge[1] + badge[3]) / 2 + rng.uniform(-_JITTER, _JITTER),
        size,
        hls(rng.uniform(0, 360), rng.uniform(0.10, 0.24), rng.uniform(0.2, 0.7)),
    )
