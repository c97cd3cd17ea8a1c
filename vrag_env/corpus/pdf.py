"""Reading PDF pages: the page drawn at a given size, its text layer, and the box of every word.

pdfium does the work (``pypdfium2``). Everything is given *as displayed*: the page's ``/Rotate`` entry and its
``CropBox`` are applied to the picture and to the boxes alike, so that a box cut from the picture holds its
word.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image

from vrag_env.corpus.images import MAX_ASPECT, RawPage
from vrag_env.corpus.records import Box, Word
from vrag_env.corpus.text import clean_text
from vrag_env.errors import IngestError

MAX_PAGES = 5000
"""A PDF with more pages is refused: split it, or it would be one document that takes hours to replace."""
MAX_PAGE_CHARS = 500_000
"""A page with more characters is refused; a full page of print has some thousands."""

_HYPHEN = 0x02  # what pdfium gives for a hyphen at the end of a line, the line break itself being swallowed
_UNIT = 1_000_000  # pdfium maps points to whole device pixels: a large device keeps six digits
_MIN_SIDE = 1e-4  # a rule or a dot has no area, but a box must


def read_pdf(path: Path, long_side: int) -> tuple[int, Iterator[RawPage]]:
    """Open a PDF and return its page count and its pages, one at a time.

    Args:
        path: The file.
        long_side: Length in pixels of the longer side of each page's picture.

    Returns:
        The number of pages, and an iterator that draws and reads them in order.

    Raises:
        IngestError: If the file is encrypted, is not a PDF that can be read, has no page or more than
            :data:`MAX_PAGES`; from the iterator, if a page can not be loaded, is too thin to draw or has more than
            :data:`MAX_PAGE_CHARS` characters.
    """
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if error.err_code in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
            raise IngestError("encrypted: save a copy without the password") from error
        raise IngestError("corrupt: not a PDF that can be read") from error
    count = len(document)
    if not 1 <= count <= MAX_PAGES:
        document.close()
        if count < 1:
            raise IngestError("corrupt: a PDF without pages")
        raise IngestError(f"too long: {count} pages, at most {MAX_PAGES} are taken; split the file")
    return count, _pages(document, long_side)


def _pages(document: pdfium.PdfDocument, long_side: int) -> Iterator[RawPage]:
    try:
        for number in range(1, len(document) + 1):
            try:
                page = document[number - 1]
                image = _draw(page, long_side)
                words, text = _read_text(page)
            except (pdfium.PdfiumError, IngestError) as error:
                raise IngestError(f"page {number}: {error}") from error
            yield RawPage(image, text, words)
            page.close()
    finally:
        document.close()


def _draw(page: pdfium.PdfPage, long_side: int) -> Image.Image:
    width, height = page.get_size()  # as displayed, in points
    if min(width, height) <= 0 or max(width, height) / min(width, height) > MAX_ASPECT:
        raise IngestError(f"a page of {width:g} by {height:g} points is too thin to show")
    bitmap = page.render(scale=long_side / max(width, height), rev_byteorder=True)
    image = bitmap.to_pil().convert("RGB")  # a copy: the bitmap's memory belongs to pdfium
    bitmap.close()
    return image


def _read_text(page: pdfium.PdfPage) -> tuple[tuple[Word, ...], str]:
    """Read the words in the order of the text layer, and the text that they make.

    A word cut by a hyphen at the end of a line stays two words with two boxes, and is one word in the text,
    so that a search for it finds the page.
    """
    layer = page.get_textpage()
    count = pdfium_c.FPDFText_CountChars(layer)
    if count > MAX_PAGE_CHARS:
        raise IngestError(f"too long: {count} characters, at most {MAX_PAGE_CHARS} are taken")
    words: list[Word] = []
    pieces: list[str] = []
    chars: list[str] = []
    bounds: list[tuple[float, float, float, float]] = []  # left, bottom, right, top in points
    glue = ""  # what stands between the last word and the next one in the text
    for index in range(count):
        code = pdfium_c.FPDFText_GetUnicode(layer, index)
        char = chr(code) if code <= 0x10FFFF else " "
        if code != _HYPHEN and not char.isspace():
            chars.append(char)
            bounds.append(_char_bounds(layer, index))
            continue
        if code == _HYPHEN:
            chars.append("-")
            bounds.append(_char_bounds(layer, index))
        glue = _finish_word(page, chars, bounds, words, pieces, glue)
        chars, bounds = [], []
        if code == _HYPHEN:
            glue = "-"
        elif char in "\r\n":
            glue = "\n"
        elif glue != "\n":
            glue = " "
    _finish_word(page, chars, bounds, words, pieces, glue)
    layer.close()
    return tuple(words), "".join(pieces)


def _finish_word(
    page: pdfium.PdfPage,
    chars: list[str],
    bounds: list[tuple[float, float, float, float]],
    words: list[Word],
    pieces: list[str],
    glue: str,
) -> str:
    """Append one word and what stands before it; return the glue still pending."""
    text = clean_text("".join(chars)).strip()
    box = _display_box(page, bounds) if text else None
    if box is None:  # nothing, or outside of what is displayed
        return glue
    if glue == "-" and pieces:
        if pieces[-1][-2:-1].isalpha() and text[0].islower():
            pieces[-1] = pieces[-1][:-1]
    elif pieces:
        pieces.append(glue or " ")
    words.append(Word(text, box))
    pieces.append(text)
    return ""


def _char_bounds(layer: pdfium.PdfTextPage, index: int) -> tuple[float, float, float, float]:
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    pdfium_c.FPDFText_GetCharBox(layer, index, left, right, bottom, top)
    return left.value, bottom.value, right.value, top.value


def _display_box(page: pdfium.PdfPage, bounds: list[tuple[float, float, float, float]]) -> Box | None:
    """Join boxes in points and map them to the page as displayed; ``None`` if nothing of them shows."""
    left, bottom, right, top = (
        min(b[0] for b in bounds),
        min(b[1] for b in bounds),
        max(b[2] for b in bounds),
        max(b[3] for b in bounds),
    )
    xs, ys = [], []
    for x, y in ((left, bottom), (right, top)):
        device_x, device_y = ctypes.c_int(), ctypes.c_int()
        pdfium_c.FPDF_PageToDevice(page, 0, 0, _UNIT, _UNIT, 0, x, y, device_x, device_y)
        xs.append(device_x.value / _UNIT)
        ys.append(device_y.value / _UNIT)
    x0, x1 = max(min(xs), 0.0), min(max(xs), 1.0)
    y0, y1 = max(min(ys), 0.0), min(max(ys), 1.0)
    if x0 > x1 or y0 > y1 or x0 >= 1 or y0 >= 1 or x1 <= 0 or y1 <= 0:
        return None
    x0, y0 = min(x0, 1 - _MIN_SIDE), min(y0, 1 - _MIN_SIDE)
    return (x0, y0, max(x1, x0 + _MIN_SIDE), max(y1, y0 + _MIN_SIDE))
