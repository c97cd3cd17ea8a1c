"""Paper: a sheet that fits text into the room it has, in the language of the document."""

from __future__ import annotations

import random
from dataclasses import dataclass

from reportlab.pdfgen.canvas import Canvas

from vrag_env.corpus.generate.drawing import (
    A4_LANDSCAPE,
    A4_PORTRAIT,
    INK,
    MARGIN,
    RULE,
    SLIDE,
    SOFT,
    WHITE,
    Colour,
    Frame,
    Look,
    Sheet,
    hls,
    union,
)
from vrag_env.corpus.generate.wide.fonts import cjk_font

FORMATS = {"deck": SLIDE, "report": A4_PORTRAIT, "landscape": A4_LANDSCAPE}
"""Page sizes in points: slides, and A4 reports in both orientations."""
HEAD, FOOT = 92.0, 66.0
"""Points at the top and the bottom of a page that its drawing leaves free."""
LABEL = 8.0
"""Smallest size of the words that only help to find the way."""


@dataclass(frozen=True)
class Style:
    """How the pages of one family of documents look.

    Attributes:
        look: Fonts and colours.
        size: Width and height of the page in points.
        hue: Base hue of the charts in degrees.
        heading: 0: a full band; 1: a rule below; 2: a side bar; 3: a tab.
        language: Place in a :data:`~vrag_env.corpus.generate.wide.terms.Term`.
    """

    look: Look
    size: tuple[float, float]
    hue: float
    heading: int
    language: int

    @classmethod
    def draw(cls, rng: random.Random, language: int) -> Style:
        """Draw a style at random."""
        look = Look.draw(rng)
        if language == 1:
            look = Look(look.accent, look.tint, cjk_font(), cjk_font(), look.band)
        size = FORMATS[rng.choice(tuple(FORMATS))]
        return cls(look, size, rng.uniform(0, 360), rng.randrange(4), language)

    def colour(self, index: int, count: int = 6) -> Colour:
        """Return one of several colours that can be told apart."""
        return hls(self.hue + 360 * index / count, 0.42 + 0.14 * (index % 2), 0.55)


class Paper(Sheet):
    """One page of a wide world.

    Args:
        canvas: Where it is drawn.
        style: How it looks.
    """

    def __init__(self, canvas: Canvas, style: Style) -> None:
        super().__init__(canvas, style.size, style.look)
        self.style = style

    @property
    def area(self) -> Frame:
        """The frame that is free for the drawing of a page."""
        return (MARGIN, HEAD, self.width - MARGIN, self.height - FOOT)

    def fit(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        room: float,
        *,
        bold: bool = False,
        colour: Colour = INK,
        align: str = "left",
    ) -> Frame:
        """Write one line as :meth:`Sheet.text` does, smaller if it would be wider than ``room`` points."""
        width = self.measure(text, size, bold=bold)
        if width > room:
            size *= room / width
        return self.text(x, y, text, size, bold=bold, colour=colour, align=align)

    def plated(self, x: float, y: float, text: str, size: float, room: float, *, align: str = "left") -> Frame:
        """Write one line as :meth:`fit` does, on a white plate, so that no line of a chart runs through it."""
        width = self.measure(text, size)
        size *= min(room / width, 1.0)
        left = x - {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * min(width, room)
        self.rect((left - 0.5, y - 0.78 * size, left + min(width, room) + 0.5, y + 0.1 * size), WHITE)
        return self.text(x, y, text, size, align=align)

    def wrap(self, text: str, size: float, room: float, *, bold: bool = False) -> list[str]:
        """Break a text into lines; Chinese between any two characters, English between words."""
        chinese = self.style.language == 1
        pieces = list(text) if chinese else text.split(" ")
        lines: list[str] = []
        line = ""
        for piece in pieces:
            longer = piece if not line else line + ("" if chinese else " ") + piece
            # A closing mark of punctuation never begins a line.
            if line and piece not in "，。；：！？、）" and self.measure(longer, size, bold=bold) > room:
                lines.append(line)
                line = piece
            else:
                line = longer
        return [*lines, line] if line else lines

    def paragraph(
        self,
        frame: Frame,
        text: str,
        size: float,
        *,
        bold: bool = False,
        colour: Colour = INK,
        align: str = "left",
        middle: bool = False,
    ) -> Frame:
        """Write a text into a frame, line below line, smaller if it would not fit.

        Returns:
            The frame that the text fills.
        """
        x0, y0, x1, y1 = frame
        lines = self.wrap(text, size, x1 - x0, bold=bold)
        widest = max((self.measure(line, size, bold=bold) for line in lines), default=0.0)
        while size > 1 and (len(lines) * size * 1.3 > y1 - y0 or widest > x1 - x0):
            size *= 0.95
            lines = self.wrap(text, size, x1 - x0, bold=bold)
            widest = max(self.measure(line, size, bold=bold) for line in lines)
        y = y0 + size * 0.95
        if middle:
            y += (y1 - y0 - len(lines) * size * 1.3) / 2
        x = {"left": x0, "centre": (x0 + x1) / 2, "right": x1}[align]
        frames = [
            self.text(x, y + i * size * 1.3, line, size, bold=bold, colour=colour, align=align)
            for i, line in enumerate(lines)
        ]
        return union(*frames)

    def arrow(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, width: float = 1.0) -> None:
        """Draw a straight arrow along one of the axes, or slanted."""
        self.line(x0, y0, x1, y1, colour, width)
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
        ux, uy = (x1 - x0) / length * 6, (y1 - y0) / length * 6
        tip = [(x1, y1), (x1 - ux - uy / 2, y1 - uy + ux / 2), (x1 - ux + uy / 2, y1 - uy - ux / 2)]
        self.polygon(tip, colour)

    def heading(self, title: str, subtitle: str, right: str) -> None:
        """Draw the head of the page: what it shows, of whom, and the kind of document."""
        look, kind = self.style.look, self.style.heading
        left, room = MARGIN, self.width - 2 * MARGIN
        ink, soft = look.accent, SOFT
        if kind == 0:
            self.rect((0, 0, self.width, 74), look.accent)
            ink, soft = WHITE, look.tint
        elif kind == 1:
            self.line(MARGIN, 72, self.width - MARGIN, 72, look.accent, 1.4)
        elif kind == 2:
            self.rect((0, 0, 14, self.height), look.accent)
            self.line(MARGIN, 70, MARGIN + 90, 70, look.accent, 2.4)
        else:
            self.rect((0, 0, self.width, 6), look.accent)
            self.rect((0, 74, self.width, 75), RULE)
        self.text(left + room, 24, right, 9, colour=soft, align="right")
        self.fit(left, 44, title, 20, room, bold=True, colour=ink)
        self.fit(left, 62, subtitle, 10.5, room, colour=soft)

    def axis(self, plot: Frame, top: float, ticks: list[float], unit: str) -> None:
        """Draw a vertical axis with its ticks, grid and unit.

        Args:
            plot: The frame between the axes; the ticks stand to its left.
            top: Value at its upper edge; its lower edge is 0.
            ticks: Values to mark.
            unit: Written above the axis.
        """
        x0, y0, x1, y1 = plot
        for tick in ticks:
            y = y1 - (y1 - y0) * tick / top
            self.line(x0, y, x1, y, RULE, 0.5)
            self.text(x0 - 6, y + 3, f"{tick:g}", LABEL, colour=SOFT, align="right")
        self.text(x0 - 6, y0 - 12, unit, LABEL, colour=SOFT)


def ticks_for(largest: float) -> tuple[float, list[float]]:
    """Choose the top of an axis and its ticks.

    >>> ticks_for(87.0)
    (100, [0, 20, 40, 60, 80, 100])
    """
    step = next(s * m for m in (0.1, 1, 10, 100, 1000) for s in (1, 2, 5) if largest <= 5.4 * s * m)
    count = int(-(-largest * 1.02 // step))
    values = [round(step * i, 6) for i in range(count + 1)]
    return values[-1], values
