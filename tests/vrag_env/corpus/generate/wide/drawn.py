"""What the tests of wide worlds share: pages of every kind, and what a PDF library sees on them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as raw
import pytest

from vrag_env.corpus.generate.drawing import SLIDE
from vrag_env.corpus.generate.wide import family
from vrag_env.corpus.generate.wide.dials import PAGE_KINDS, WorldDials
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Dice
from vrag_env.corpus.generate.wide.fonts import find_cjk_font
from vrag_env.corpus.generate.wide.hops import DrawnPage
from vrag_env.corpus.generate.wide.paper import Style
from vrag_env.corpus.generate.wide.themes import THEMES
from vrag_env.corpus.records import Box

needs_chinese_font = pytest.mark.skipif(find_cjk_font() is None, reason='no Chinese font: install "vrag-gym[cjk]"')

Frame = tuple[float, float, float, float]
"""Left, top, right, bottom in points from the top left corner."""


@dataclass(frozen=True)
class Shape:
    """A filled or stroked path: its frame, its fill, and its corners."""

    frame: Frame
    fill: tuple[int, int, int]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Sheet:
    """One page as pdfium sees it."""

    width: float
    height: float
    texts: tuple[tuple[str, Frame], ...]
    shapes: tuple[Shape, ...]
    text: str
    boxed: dict[Box, str]

    def place(self, word: str) -> Frame:
        """The frame of a text that stands on the page once."""
        [frame] = [frame for text, frame in self.texts if text.strip() == word]
        return frame


@dataclass(frozen=True)
class DrawnDocument:
    """A document with a page of each kind."""

    pdf: bytes
    pages: list[DrawnPage]
    footnotes: list[Ask]


def draw(
    language: int = 0,
    size: float = 5.0,
    paper: tuple[float, float] = SLIDE,
    seed: int = 0,
    kinds: tuple[str, ...] = PAGE_KINDS,
    place: int = 0,
    count: int = 4,
    injection_share: float = 1.0,
) -> DrawnDocument:
    """Draw a document with one page of each kind."""
    dials = WorldDials(seed=seed, font_size=size, injection_share=injection_share)
    rng = family.stream(dials, "test")
    theme = THEMES[seed % len(THEMES)]
    style = Style.draw(rng, language)
    style = Style(style.look, paper, style.hue, style.heading, language)
    items = tuple(rng.sample(theme.items, len(theme.items)))
    identity = family._identity(theme, ("Amber Crest Foods", "琥珀云峰食品公司"), "amber-crest-foods", place + 1, 2023)
    briefs = [
        Brief(
            theme,
            identity,
            theme.measures[p % len(theme.measures)],
            p % 6,
            items[:8],
            items[8:],
            language,
            size,
            Dice(f"{seed}/{p}", place, count),
        )
        for p in range(len(kinds))
    ]
    sheets = family._draw(dials, seed, style, list(kinds), briefs)
    return DrawnDocument(sheets.pdf, sheets.pages, sheets.footnotes)


@contextmanager
def opened(pdf: bytes) -> Iterator[pdfium.PdfDocument]:
    document = pdfium.PdfDocument(pdf)
    try:
        yield document
    finally:
        document.close()


def look_at(page: pdfium.PdfPage, boxes: tuple[Box, ...] = ()) -> Sheet:
    """Read a page with pdfium, which knows nothing of how it was made."""
    width, height = page.get_size()
    textpage = page.get_textpage()
    texts = []
    for k in range(textpage.count_rects()):
        left, bottom, right, top = textpage.get_rect(k)
        words = textpage.get_text_bounded(left - 0.2, bottom - 0.2, right + 0.2, top + 0.2)
        texts.append((words, (left, height - top, right, height - bottom)))
    boxed = {box: "\n".join(text for text, frame in texts if _inside(frame, box, width, height)) for box in boxes}
    shapes = []
    for found in page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH]):
        left, bottom, right, top = found.get_bounds()
        colour = [ctypes.c_uint() for _ in range(4)]
        raw.FPDFPageObj_GetFillColor(found.raw, *colour)
        points = []
        for k in range(raw.FPDFPath_CountSegments(found.raw)):
            x, y = ctypes.c_float(), ctypes.c_float()
            raw.FPDFPathSegment_GetPoint(raw.FPDFPath_GetPathSegment(found.raw, k), x, y)
            points.append((x.value, height - y.value))
        fill = (colour[0].value, colour[1].value, colour[2].value)
        shapes.append(Shape((left, height - top, right, height - bottom), fill, tuple(points)))
    return Sheet(width, height, tuple(texts), tuple(shapes), textpage.get_text_range(), boxed)


def _inside(frame: Frame, box: Box, width: float, height: float) -> bool:
    """Whether the whole of a text is in a box, up to a point."""
    x0, y0, x1, y1 = box[0] * width - 1, box[1] * height - 1, box[2] * width + 1, box[3] * height + 1
    return x0 <= frame[0] and frame[2] <= x1 and y0 <= frame[1] and frame[3] <= y1
