"""Reading text off a picture with RapidOCR, for pages without a text layer.

RapidOCR's wheel carries its models (PP-OCR, Chinese and English); nothing is downloaded. What comes out has
the form of a text layer: words separated by white space (a run of Chinese is one word), each with its box
on the page, in rows from the top and from left to right.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from vrag_env.corpus.records import Box, Word
from vrag_env.corpus.text import clean_text
from vrag_env.errors import missing_extra

OCR_MODES = ("auto", "always", "never")
"""``auto`` reads the pages that have no text of their own, ``always`` all pages, ``never`` none."""

_MIN_SIDE = 1e-4  # a box must have an area

Piece = tuple[str, tuple[float, float, float, float]]
"""Some characters and where they stand, in pixels: left, top, right, bottom."""


def missing_package() -> str | None:
    """Name of the first package that OCR needs and that is not installed; ``None`` if all are there."""
    return next((name for name in ("rapidocr", "onnxruntime") if find_spec(name) is None), None)


class PageReader:
    """RapidOCR, loaded once per process (0.3 GB).

    Args:
        threads: Threads of one reading; where several processes read, more than their share slows all down.

    Raises:
        DependencyError: If RapidOCR or onnxruntime is not installed.
    """

    def __init__(self, threads: int = 1) -> None:
        missing = missing_package()
        if missing is not None:
            raise missing_extra(missing, "ocr")
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(threads)
        self._engine: Any = RapidOCR(
            params={
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def read(self, image: Image.Image) -> tuple[tuple[Word, ...], str]:
        """Read the words of a page and its text, one line per row.

        Args:
            image: The page in RGB; its box is the unit of the words' boxes.
        """
        pixels = np.asarray(image)[:, :, 2::-1]  # RapidOCR takes BGR
        result = self._engine(np.ascontiguousarray(pixels), return_word_box=True)
        if result.txts is None or result.boxes is None:
            return (), ""
        lines = []
        # RapidOCR leaves lines without pieces out of the list of pieces, which then fits to none of the lines.
        fits = len(result.word_results) == len(result.txts)
        for number, (text, corners) in enumerate(zip(result.txts, result.boxes, strict=True)):
            pieces = [(str(piece[0]), _bounds(piece[2])) for piece in result.word_results[number]] if fits else []
            lines.append(split_line(clean_text(str(text)), _bounds(corners), pieces))
        rows = in_rows([line for line in lines if line])
        words = [
            Word(text, box)
            for row in rows
            for text, bounds in row
            if (box := _normalised(bounds, image.width, image.height)) is not None
        ]
        return tuple(words), "\n".join(" ".join(text for text, _ in row) for row in rows)


def split_line(text: str, bounds: tuple[float, float, float, float], pieces: Sequence[Piece]) -> list[Piece]:
    """Cut a line into words at its spaces, each with its bounds.

    Args:
        text: The line.
        bounds: Where the line stands, in pixels.
        pieces: Its words or characters as the engine has placed them, from the left. Where they do not spell
            the line, each character gets an equal share of the line's width instead.

    Returns:
        The words.
    """
    words = text.split()
    spelled = "".join("".join(characters.split()) for characters, _ in pieces)
    if spelled != "".join(words):
        left, top, right, bottom = bounds
        step = (right - left) / max(len(text), 1)
        pieces = [(char, (left + i * step, top, left + (i + 1) * step, bottom)) for i, char in enumerate(text)]
    spots = [spot for characters, spot in pieces for _ in "".join(characters.split())]  # one per character
    placed, start = [], 0
    for word in words:
        own = spots[start : start + len(word)]
        start += len(word)
        lefts, tops, rights, bottoms = zip(*own, strict=True)
        placed.append((word, (min(lefts), min(tops), max(rights), max(bottoms))))
    return placed


def in_rows(lines: Sequence[list[Piece]]) -> list[list[Piece]]:
    """Put lines into reading order and join those that stand side by side.

    Two lines are in one row if the middle of the lower one is above the foot of the row's first.

    Args:
        lines: The words of every line; no line is empty.

    Returns:
        The words of every row.
    """
    rows: list[list[list[Piece]]] = []
    for line in sorted(lines, key=lambda line: line[0][1][1] + line[0][1][3]):
        _, (_, top, _, bottom) = line[0]
        if rows and (top + bottom) / 2 < rows[-1][0][0][1][3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [[word for line in sorted(row, key=lambda line: line[0][1][0]) for word in line] for row in rows]


def _bounds(corners: Any) -> tuple[float, float, float, float]:
    points = np.asarray(corners, dtype=float)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _normalised(bounds: tuple[float, float, float, float], width: int, height: int) -> Box | None:
    """Pixels as shares of the page, clipped to it; ``None`` if nothing of them lies on it."""
    left, top, right, bottom = bounds[0] / width, bounds[1] / height, bounds[2] / width, bounds[3] / height
    if left >= 1 or top >= 1 or right <= 0 or bottom <= 0:
        return None
    x0, y0 = min(max(left, 0.0), 1 - _MIN_SIDE), min(max(top, 0.0), 1 - _MIN_SIDE)
    return (x0, y0, max(min(right, 1.0), x0 + _MIN_SIDE), max(min(bottom, 1.0), y0 + _MIN_SIDE))
