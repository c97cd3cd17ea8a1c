"""The six symbols: apart as words, apart as shapes."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pypdfium2
import pytest
from reportlab.pdfgen.canvas import Canvas

from vrag_env.corpus.generate.drawing import Look, Sheet
from vrag_env.corpus.generate.symbols import SYMBOLS, draw_symbol

LOOK = Look((0, 0, 0), (1, 1, 1), "Helvetica", "Helvetica-Bold", 0)


def picture(name: str, size: float = 60.0) -> np.ndarray:
    """Render one symbol in the middle of a page of 100 by 100 points: True where it is dark."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1)
    draw_symbol(Sheet(canvas, (100, 100), LOOK), name, 50, 50, size, (0.1, 0.1, 0.1))
    canvas.save()
    with pypdfium2.PdfDocument(buffer.getvalue()) as document:
        image = document[0].render(scale=1).to_pil().convert("L")
    return np.asarray(image) < 128


def edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


def test_edit_distance_by_hand() -> None:
    assert edit_distance("star", "square") == 3  # insert q, u; r stays; append e; t becomes u
    assert edit_distance("", "moon") == 4


@pytest.mark.parametrize(("a", "b"), list(combinations(SYMBOLS, 2)))
def test_no_two_names_are_more_than_half_alike(a: str, b: str) -> None:
    assert 1 - edit_distance(a, b) / max(len(a), len(b)) <= 0.5


@pytest.mark.parametrize(("a", "b"), list(combinations(SYMBOLS, 2)))
def test_no_two_shapes_look_alike(a: str, b: str) -> None:
    one, other = picture(a), picture(b)
    assert (one & other).sum() / (one | other).sum() < 0.8


@pytest.mark.parametrize("name", SYMBOLS)
def test_a_shape_fills_its_size_around_its_centre(name: str) -> None:
    rows, columns = np.nonzero(picture(name))
    for low, high in ((rows.min(), rows.max()), (columns.min(), columns.max())):
        assert low >= 15 and high <= 85
        assert high - low >= 40


def test_area_of_square_and_circle() -> None:
    assert picture("square").sum() == pytest.approx(60**2, rel=0.05)
    assert picture("circle").sum() == pytest.approx(np.pi * 30**2, rel=0.05)
