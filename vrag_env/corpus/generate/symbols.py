"""The symbols of the status boards: six shapes drawn as vector graphics, without any text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vrag_env.corpus.generate.drawing import Colour, Sheet

SYMBOLS = ("circle", "square", "triangle", "star", "cross", "moon")
"""Names that stay apart under a fuzzy match of strings: no two are more than half alike."""

Points = Sequence[tuple[float, float]]


def _arc(radius: float, start: float, end: float, steps: int = 32, x: float = 0.0) -> Points:
    """Return points on a circle around ``(x, 0)`` from one angle to another, in degrees."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star() -> Points:
    return [
        (radius * math.sin(math.radians(36 * i)), -radius * math.cos(math.radians(36 * i)))
        for i in range(10)
        for radius in [(0.56, 0.22)[i % 2]]
    ]


def _cross() -> Points:
    a, b = 0.15, 0.5
    return [
        (-a, -b),
        (a, -b),
        (a, -a),
        (b, -a),
        (b, a),
        (a, a),
        (a, b),
        (-a, b),
        (-a, a),
        (-b, a),
        (-b, -a),
        (-a, -a),
    ]


def _moon() -> Points:
    # The outer circle has radius 0.52; the bite is a circle of radius 0.44 around (0.26, 0). They meet where
    # x = (0.52**2 - 0.44**2 + 0.26**2) / (2 * 0.26).
    x = (0.52**2 - 0.44**2 + 0.26**2) / 0.52
    outer = math.degrees(math.acos(x / 0.52))
    inner = math.degrees(math.acos((x - 0.26) / 0.44))
    return [*_arc(0.52, outer, 360 - outer), *_arc(0.44, 360 - inner, inner, x=0.26)]


_OUTLINES: dict[str, Points] = {
    "circle": _arc(0.5, 0, 360),
    "square": [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)],
    "triangle": [(0.0, -0.52), (0.54, 0.44), (-0.54, 0.44)],
    "star": _star(),
    "cross": _cross(),
    "moon": _moon(),
}


def draw_symbol(sheet: Sheet, name: str, x: float, y: float, size: float, colour: Colour) -> None:
    """Draw a symbol.

    Args:
        sheet: The page.
        name: One of :data:`SYMBOLS`.
        x: Centre of the symbol, in points from the left.
        y: Centre of the symbol, in points from the top.
        size: Width and height in points, roughly.
        colour: Its fill.
    """
    sheet.polygon([(x + size * px, y + size * py) for px, py in _OUTLINES[name]], colour)
