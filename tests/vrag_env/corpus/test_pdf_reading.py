from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pdf_files import write_marked_pdf, write_pdf

from vrag_env.corpus import pdf as pdf_module
from vrag_env.corpus.images import RawPage
from vrag_env.corpus.pdf import read_pdf
from vrag_env.errors import IngestError


def read(path: Path, long_side: int = 800) -> list[RawPage]:
    count, pages = read_pdf(path, long_side)
    read_pages = list(pages)
    assert len(read_pages) == count
    return read_pages


def red_box(page: RawPage) -> tuple[float, float, float, float]:
    """Where the picture is red, normalised: found without the text layer."""
    pixels = np.asarray(page.image).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 150) & (pixels[..., 1] < 110))
    height, width = pixels.shape[:2]
    return (
        columns.min() / width,
        rows.min() / height,
        (columns.max() + 1) / width,
        (rows.max() + 1) / height,
    )


@pytest.mark.parametrize("crop", [None, (60, 100, 360, 500)])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_word_boxes_lie_where_the_word_is_seen(tmp_path: Path, rotate: int, crop: tuple | None) -> None:
    (page,) = read(write_marked_pdf(tmp_path / "a.pdf", rotate, crop))
    width, height = (400, 600) if crop is None else (300, 400)
    if rotate in (90, 270):
        width, height = height, width
    assert max(page.image.size) == 800
    assert page.image.width / page.image.height == pytest.approx(width / height, abs=0.01)
    (mark,) = [word for word in page.words if word.text == "MARK"]
    assert mark.box == pytest.approx(red_box(page), abs=0.005)


def test_box_by_hand(tmp_path: Path) -> None:
    # MARK stands at x 120, baseline y 420 on a page of 400 x 600: its left edge is 0.3, its foot 1 - 0.7.
    (page,) = read(write_marked_pdf(tmp_path / "a.pdf", 0, None))
    (mark,) = [word for word in page.words if word.text == "MARK"]
    assert mark.box[0] == pytest.approx(120 / 400, abs=0.004)
    assert mark.box[3] == pytest.approx(1 - 420 / 600, abs=0.001)


def test_words_outside_of_the_crop_are_not_there(tmp_path: Path) -> None:
    (page,) = read(write_marked_pdf(tmp_path / "a.pdf", 0, (0, 0, 400, 300)))
    assert [word.text for word in page.words] == ["plain"]
    assert page.text == "plain"


def test_text_keeps_lines_and_joins_hyphenated_words(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["Annual docu-\nmentation of sales\nTotal 42"])
    (page,) = read(path)
    assert page.text == "Annual documentation of sales\nTotal 42"
    assert [word.text for word in page.words][:4] == ["Annual", "docu-", "mentation", "of"]
    first, second = page.words[1].box, page.words[2].box
    assert first[1] < second[1] and first[0] > second[0]  # two boxes on two lines, not one over both


def test_a_hyphen_before_a_number_or_a_name_stays(tmp_path: Path) -> None:
    (page,) = read(write_pdf(tmp_path / "a.pdf", ["see the plan of Saint-\nMartin"]))
    assert page.text.replace("\n", "") == "see the plan of Saint-Martin"


def test_every_box_is_a_box(tmp_path: Path) -> None:
    (page,) = read(write_pdf(tmp_path / "a.pdf", [". - _ | l 'quoted' 3,5 %"]))
    assert len(page.words) == 8
    for word in page.words:
        x0, y0, x1, y1 = word.box
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
        assert word.text == word.text.strip() != ""


def test_encrypted(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["secret"], password="open sesame")
    with pytest.raises(IngestError, match="encrypted"):
        read_pdf(path, 800)


@pytest.mark.parametrize("content", [b"%PDF-1.7\n", b"not a pdf at all", b"\x00" * 4096])
def test_corrupt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    with pytest.raises(IngestError, match="corrupt"):
        read_pdf(path, 800)


def test_too_many_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrag_env.corpus.pdf.MAX_PAGES", 2)
    path = write_pdf(tmp_path / "a.pdf", ["1", "2", "3"])
    with pytest.raises(IngestError, match="3 pages, at most 2"):
        read_pdf(path, 800)


def test_a_page_too_thin_to_show(tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    sheet = canvas.Canvas(str(tmp_path / "a.pdf"), pagesize=(10, 5000))
    sheet.drawString(1, 1, "x")
    sheet.save()
    with pytest.raises(IngestError, match=r"page 1: .*too thin"):
        read(tmp_path / "a.pdf")


def test_a_page_of_endless_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["short", "x" * 60])
    monkeypatch.setattr(pdf_module, "MAX_PAGE_CHARS", 50)
    with pytest.raises(IngestError, match=r"page 2: too long: 6\d characters, at most 50"):
        read(path)


def test_bulk_and_single_reading_of_the_text_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where the bulk text does not fit character by character, each is asked for alone: the same comes out.
    path = write_pdf(tmp_path / "a.pdf", ["Annual docu-\nmentation of sales\nTotal 42"])
    (bulk,) = read(path)
    monkeypatch.setattr(pdf_module.pdfium_c, "FPDFText_GetText", lambda *_: 1)
    (single,) = read(path)
    assert single.words == bulk.words and single.text == bulk.text
