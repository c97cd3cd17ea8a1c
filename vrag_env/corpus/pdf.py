"""Reading PDF pages: the page drawn at a given size, its text layer, and the box of every word.

pdfium does the work (``pypdfium2``). Everything is given *as displayed*: the page's ``/Rotate`` entry and its
``CropBox`` are applied to the picture and to the boxes alike, so that a box cut from the picture holds its
word.
"""

from __future__ import annotations

import ctypes
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, repeat, starmap
from pathlib import Path

import numpy as np
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

_HYPHEN = "\x02"  # what pdfium gives for a hyphen at the end of a line, the line break itself being swallowed
_BULK_HYPHEN = "\ufffe"  # the same where it gives the whole text at once
_WORD = re.compile(rf"[^\s{_HYPHEN}]+{_HYPHEN}?|{_HYPHEN}")
_UNIT = 1_000_000  # side of the device that pdfium is told to map to: whole pixels, so a large one
_MIN_SIDE = 1e-4  # a rule or a dot has no area, but a box must
# The same function of pdfium with addresses as numbers: a page has thousands of characters, and making four
# objects for each of them took as long as drawing the page.
_GetCharBox = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, *[ctypes.c_size_t] * 4)
_get_char_box = _GetCharBox(ctypes.cast(pdfium_c.FPDFText_GetCharBox, ctypes.c_void_p).value or 0)


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
    # Four bytes a pixel, in PIL's own order: the picture is the bitmap's memory, where three bytes would be
    # copied twice. On 175 pages that took 3.6 ms instead of 9.2 ms a page, and the same JPEG came out of it.
    bitmap = page.render(scale=long_side / max(width, height), rev_byteorder=True, prefer_bgrx=True)
    image = bitmap.to_pil()
    bitmap.close()  # the memory is Python's, and the picture holds it
    return image


def _read_text(page: pdfium.PdfPage) -> tuple[tuple[Word, ...], str]:
    """Read the words in the order of the text layer, and the text that they make.

    A word cut by a hyphen at the end of a line stays two words with two boxes, and is one word in the text,
    so that a search for it finds the page.
    """
    layer = page.get_textpage()
    try:
        count = pdfium_c.FPDFText_CountChars(layer)
        if count > MAX_PAGE_CHARS:
            raise IngestError(f"too long: {count} characters, at most {MAX_PAGE_CHARS} are taken")
        chars = _read_chars(layer, count)
        found = list(_WORD.finditer(chars))
        if not found:
            return (), ""
        boxes = _display_boxes(page, _word_bounds(layer, [match.span() for match in found]))
    finally:
        layer.close()
    words: list[Word] = []
    pieces: list[str] = []
    glue = ""  # what stands between the last word and the next one in the text
    end = 0
    for match, box in zip(found, boxes, strict=True):
        space = chars[end : match.start()]
        end = match.end()
        if "\n" in space or "\r" in space:
            glue = "\n"
        elif space and glue != "\n":
            glue = " "
        hyphen = match[0].endswith(_HYPHEN)
        text = clean_text(match[0].replace(_HYPHEN, "-")).strip()
        if text and box is not None:  # otherwise nothing, or outside of what is displayed
            if glue == "-" and pieces:
                if pieces[-1][-2:-1].isalpha() and text[0].islower():
                    pieces[-1] = pieces[-1][:-1]
            elif pieces:
                pieces.append(glue or " ")
            words.append(Word(text, box))
            pieces.append(text)
            glue = ""
        if hyphen:
            glue = "-"
    return tuple(words), "".join(pieces)


def _read_chars(layer: pdfium.PdfTextPage, count: int) -> str:
    """Read the text layer as a string with exactly one character per character of pdfium's."""
    buffer = (ctypes.c_uint16 * (count + 1))()
    written = pdfium_c.FPDFText_GetText(layer, 0, count, buffer) - 1  # without the zero at the end
    if written == count:
        chars = bytes(buffer)[: 2 * count].decode("utf-16-le", "surrogatepass")
        if len(chars) == count:
            return chars.replace(_BULK_HYPHEN, _HYPHEN)
    # What has no Unicode is left out of the bulk, and what is beyond the first plane takes two places in it.
    codes = (pdfium_c.FPDFText_GetUnicode(layer, index) for index in range(count))
    return "".join(chr(code) if 0 < code <= 0x10FFFF else " " for code in codes)


def _word_bounds(layer: pdfium.PdfTextPage, spans: list[tuple[int, int]]) -> np.ndarray:
    """Join the boxes of the characters of each word: (words, 4), left, right, bottom, top in points."""
    count = sum(end - start for start, end in spans)
    bounds = np.zeros((count, 4))
    address, row = bounds.ctypes.data, 4 * bounds.itemsize
    handle = ctypes.cast(layer.raw, ctypes.c_void_p).value
    indices = chain.from_iterable(starmap(range, spans))
    sides = (range(address + 8 * side, address + 8 * side + count * row, row) for side in range(4))
    deque(map(_get_char_box, repeat(handle), indices, *sides), maxlen=0)  # a loop without the interpreter
    firsts = np.cumsum([0] + [end - start for start, end in spans[:-1]])
    low, high = np.minimum.reduceat(bounds, firsts), np.maximum.reduceat(bounds, firsts)
    return np.stack([low[:, 0], high[:, 1], low[:, 2], high[:, 3]], axis=1)


def _display_boxes(page: pdfium.PdfPage, bounds: np.ndarray) -> list[Box | None]:
    """Map boxes in points to the page as displayed; ``None`` for what does not show."""
    # The page's own map from points is affine and turns by right angles only: three corners tell all of it.
    origin, right, down = (_device_to_page(page, x, y) for x, y in ((0, 0), (_UNIT, 0), (0, _UNIT)))
    to_points = np.array([[right[0] - origin[0], down[0] - origin[0]], [right[1] - origin[1], down[1] - origin[1]]])
    try:
        from_points = np.linalg.inv(to_points)
    except np.linalg.LinAlgError as error:
        raise IngestError("corrupt: a page without area") from error
    first = (bounds[:, [0, 2]] - origin) @ from_points.T
    second = (bounds[:, [1, 3]] - origin) @ from_points.T
    low, high = np.minimum(first, second), np.maximum(first, second)
    shown = np.all((low < 1) & (high > 0), axis=1)  # also false where a damaged file gives no number
    low = np.clip(low, 0, 1 - _MIN_SIDE)
    high = np.maximum(np.clip(high, 0, 1), low + _MIN_SIDE)
    sides = np.concatenate([low, high], axis=1).tolist()
    return [(x0, y0, x1, y1) if seen else None for (x0, y0, x1, y1), seen in zip(sides, shown, strict=True)]


def _device_to_page(page: pdfium.PdfPage, x: int, y: int) -> tuple[float, float]:
    page_x, page_y = ctypes.c_double(), ctypes.c_double()
    pdfium_c.FPDF_DeviceToPage(page, 0, 0, _UNIT, _UNIT, 0, x, y, page_x, page_y)
    return page_x.value, page_y.value
