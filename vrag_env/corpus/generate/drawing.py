"""Sheet: a page to draw on, measured from its top-left corner, that says where each thing stands."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence
from dataclasses import dataclass

from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from vrag_env.corpus.records import Box

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""
Frame = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in points from the top-left corner of the page."""

WHITE: Colour = (1.0, 1.0, 1.0)
INK: Colour = (0.13, 0.14, 0.17)
SOFT: Colour = (0.42, 0.44, 0.48)
RULE: Colour = (0.80, 0.81, 0.84)

SLIDE = (720.0, 540.0)
A4_PORTRAIT = (595.0, 842.0)
A4_LANDSCAPE = (842.0, 595.0)

MARGIN = 40.0


def hls(hue: float, lightness: float, saturation: float) -> Colour:
    """Return a colour from its hue in degrees and its lightness and saturation in [0, 1]."""
    return colorsys.hls_to_rgb(hue % 360 / 360, lightness, saturation)


@dataclass(frozen=True)
class Look:
    """How the pages of one document look.

    Attributes:
        accent: Colour of bands, rules and headings.
        tint: A very light variant, for backgrounds.
        regular: Name of the text font.
        bold: Name of the heading font.
        band: 0: a full title band; 1: a thin stripe; 2: a side bar.
    """

    accent: Colour
    tint: Colour
    regular: str
    bold: str
    band: int

    @classmethod
    def draw(cls, rng: random.Random) -> Look:
        """Draw a look at random."""
        hue = rng.uniform(0, 360)
        serif = rng.random() < 0.3
        return cls(
            accent=hls(hue, 0.30, rng.uniform(0.35, 0.7)),
            tint=hls(hue, 0.95, 0.5),
            regular="Times-Roman" if serif else "Helvetica",
            bold="Times-Bold" if serif else "Helvetica-Bold",
            band=rng.randrange(3),
        )


class Sheet:
    """One page of a PDF.

    Args:
        canvas: Where it is drawn; its current page gets the size.
        size: Width and height in points.
        look: Fonts and colours.
    """

    def __init__(self, canvas: Canvas, size: tuple[float, float], look: Look) -> None:
        canvas.setPageSize(size)
        self.width, self.height = size
        self.look = look
        self._canvas = canvas

    def box(self, frame: Frame) -> Box:
        """Normalise a frame in points to the page, clipped to it."""
        x0, y0, x1, y1 = frame
        return (
            round(max(x0 / self.width, 0.0), 5),
            round(max(y0 / self.height, 0.0), 5),
            round(min(x1 / self.width, 1.0), 5),
            round(min(y1 / self.height, 1.0), 5),
        )

    def rect(
        self,
        frame: Frame,
        fill: Colour | None = None,
        stroke: Colour | None = None,
        *,
        line: float = 0.6,
        radius: float = 0.0,
    ) -> None:
        """Draw a rectangle with rounded corners of ``radius`` points."""
        x0, y0, x1, y1 = frame
        self._paint(fill, stroke, line)
        args = (x0, self.height - y1, x1 - x0, y1 - y0)
        flags = {"stroke": int(stroke is not None), "fill": int(fill is not None)}
        if radius:
            self._canvas.roundRect(*args, radius, **flags)
        else:
            self._canvas.rect(*args, **flags)

    def polygon(
        self,
        points: Sequence[tuple[float, float]],
        fill: Colour | None = None,
        stroke: Colour | None = None,
        *,
        line: float = 0.6,
    ) -> None:
        """Draw a closed polygon."""
        self._paint(fill, stroke, line)
        path = self._canvas.beginPath()
        path.moveTo(points[0][0], self.height - points[0][1])
        for x, y in points[1:]:
            path.lineTo(x, self.height - y)
        path.close()
        self._canvas.drawPath(path, stroke=int(stroke is not None), fill=int(fill is not None))

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, width: float = 0.6) -> None:
        """Draw a straight line."""
        self._paint(None, colour, width)
        self._canvas.line(x0, self.height - y0, x1, self.height - y1)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        bold: bool = False,
        colour: Colour = INK,
        align: str = "left",
    ) -> Frame:
        """Write one line of text.

        Args:
            x: The point that ``align`` speaks of.
            y: The base line.
            text: What to write.
            size: Font size in points.
            bold: Use the heading font.
            colour: Colour of the text.
            align: ``left``, ``centre`` or ``right``.

        Returns:
            The frame that the text fills, from its ascenders to its descenders.
        """
        font = self.look.bold if bold else self.look.regular
        width = stringWidth(text, font, size)
        x -= {"left": 0.0, "centre": width / 2, "right": width}[align]
        self._canvas.setFillColorRGB(*colour)
        self._canvas.setFont(font, size)
        self._canvas.drawString(x, self.height - y, text)
        return (x, y - 0.76 * size, x + width, y + 0.24 * size)

    def measure(self, text: str, size: float, *, bold: bool = False) -> float:
        """Return the width of a line of text in points."""
        return float(stringWidth(text, self.look.bold if bold else self.look.regular, size))

    def header(self, title: str, subtitle: str) -> float:
        """Draw the head of the page.

        Returns:
            How far down it reaches, in points.
        """
        look = self.look
        if look.band == 0:
            self.rect((0, 0, self.width, 74), look.accent)
            for i in range(3):
                x = self.width - 34 - 20 * i
                self.rect((x, 28, x + 14, 42), None, WHITE, line=0.8)
            colours = (WHITE, look.tint)
        else:
            stripe = (0, 0, self.width, 10) if look.band == 1 else (0, 0, 12, self.height)
            self.rect(stripe, look.accent)
            self.line(MARGIN, 72, self.width - MARGIN, 72, look.accent, 1.2)
            self.rect((self.width - MARGIN - 16, 30, self.width - MARGIN, 46), look.accent, radius=5)
            colours = (look.accent, SOFT)
        self.text(MARGIN, 40, title, 21, bold=True, colour=colours[0])
        self.text(MARGIN, 59, subtitle, 10.5, colour=colours[1])
        return 78.0

    def footer(self, left: str, right: str) -> None:
        """Draw the foot of the page."""
        y = self.height - 16
        self.line(MARGIN, y - 11, self.width - MARGIN, y - 11, RULE)
        self.text(MARGIN, y, left, 7, colour=SOFT)
        self.text(self.width - MARGIN, y, right, 7, colour=SOFT, align="right")

    def _paint(self, fill: Colour | None, stroke: Colour | None, line: float) -> None:
        if fill is not None:
            self._canvas.setFillColorRGB(*fill)
        if stroke is not None:
            self._canvas.setStrokeColorRGB(*stroke)
            self._canvas.setLineWidth(line)


def union(*frames: Frame) -> Frame:
    """Return the smallest frame around some frames."""
    x0, y0, x1, y1 = zip(*frames, strict=True)
    return (min(x0), min(y0), max(x1), max(y1))
