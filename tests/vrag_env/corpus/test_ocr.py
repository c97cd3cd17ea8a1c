from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from pdf_files import write_pdf
from PIL import Image, ImageDraw, ImageFont

from vrag_env.corpus import Corpus, ingest, ocr
from vrag_env.corpus.ocr import PageReader, in_rows, split_line
from vrag_env.errors import DependencyError

needs_ocr = pytest.mark.skipif(ocr.missing_package() is not None, reason='needs pip install "vrag-gym[ocr]"')
CJK_FONTS = (
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)


def chinese_font() -> ImageFont.FreeTypeFont:
    """A font with Chinese: of the system, or of one of two packages."""
    candidates = [Path(name) for name in CJK_FONTS]
    for package, place in (("paperang_p2_fonts_cjk", "fonts/*.ttc"), ("cvttf_NotoSansCJK_Regular", "*.otf")):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            candidates += Path(spec.origin).parent.glob(place)
    for path in candidates:
        if path.is_file():
            return ImageFont.truetype(str(path), 48)
    pytest.skip("no font with Chinese: apt install fonts-wqy-microhei, or pip install paperang-p2-fonts-cjk")


def slide(path: Path, lines: dict[tuple[int, int], str], font: ImageFont.FreeTypeFont | None = None) -> Path:
    image = Image.new("RGB", (1200, 600), "white")
    draw = ImageDraw.Draw(image)
    for place, text in lines.items():
        draw.text(place, text, font=font or ImageFont.load_default(48), fill="black")
    image.save(path)
    return path


@needs_ocr
def test_english_words_stand_where_they_are_drawn(tmp_path: Path) -> None:
    font = ImageFont.load_default(48)
    path = slide(tmp_path / "a.png", {(80, 100): "Revenue of the North: 42.5", (80, 300): "left", (700, 300): "right"})
    corpus = Corpus.create(tmp_path / "corpus")
    report = ingest([path], corpus, ocr="auto", workers=1, progress=False)
    assert report.pages_without_text == 0
    page = corpus.page("a.png#1")
    assert page.text == "Revenue of the North: 42.5\nleft right"
    assert page.text_source == "ocr"
    words = {word.text: word.box for word in page.words}
    assert list(words) == ["Revenue", "of", "the", "North:", "42.5", "left", "right"]
    left = 80 + font.getlength("Revenue of the ")
    drawn = (left / 1200, 100 / 600, (left + font.getlength("North:")) / 1200, 165 / 600)
    assert words["North:"] == pytest.approx(drawn, abs=0.04)
    assert words["right"][0] == pytest.approx(700 / 1200, abs=0.02)


@needs_ocr
def test_chinese(tmp_path: Path) -> None:
    path = slide(tmp_path / "a.png", {(80, 100): "人工智能", (80, 300): "文档检索 2021"}, chinese_font())
    corpus = Corpus.create(tmp_path / "corpus")
    ingest([path], corpus, ocr="always", workers=1, progress=False)
    page = corpus.page("a.png#1")
    assert page.text.replace(" ", "") == "人工智能\n文档检索2021"
    assert page.words[0].text == "人工智能"
    assert page.words[0].box == pytest.approx((80 / 1200, 105 / 600, 272 / 1200, 165 / 600), abs=0.04)


@needs_ocr
def test_only_what_a_setting_changes_is_read_again(tmp_path: Path) -> None:
    library = tmp_path / "library"
    write_pdf(library / "text.pdf", ["Sales of 2021"])
    slide(library / "scan.png", {(80, 100): "Scanned words"})
    corpus = Corpus.create(tmp_path / "corpus")

    def run(mode: str) -> tuple[tuple[str, ...], int]:
        report = ingest([library], corpus, ocr=mode, workers=1, progress=False, long_side=1200)
        assert not report.failures
        return report.added + report.replaced, report.pages_without_text

    assert run("never") == (("scan.png", "text.pdf"), 1)
    assert run("auto") == (("scan.png",), 0)
    assert corpus.page("scan.png#1").text == "Scanned words"
    assert corpus.page("text.pdf#1").text_source == "layer"
    assert run("auto") == ((), 0)
    assert run("always") == (("scan.png", "text.pdf"), 0)
    assert corpus.page("text.pdf#1").text == "Sales of 2021"
    assert corpus.page("text.pdf#1").text_source == "ocr"


@needs_ocr
def test_a_page_without_anything_has_no_words() -> None:
    assert PageReader().read(Image.new("RGB", (300, 200), "white")) == ((), "")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[ingest.__module__], "missing_package", lambda: "rapidocr")
    monkeypatch.setattr(ocr, "missing_package", lambda: "rapidocr")
    Image.new("RGB", (90, 60), "red").save(tmp_path / "scan.png")
    corpus = Corpus.create(tmp_path / "corpus")
    report = ingest([tmp_path / "scan.png"], corpus, ocr="auto", workers=1, progress=False)
    assert report.pages_without_text == 1
    assert str(report).count('pip install "vrag-gym[ocr]"') == 1
    with pytest.raises(DependencyError, match=r"vrag-gym\[ocr\]"):
        ingest([tmp_path / "scan.png"], corpus, ocr="always", workers=1, progress=False)
    with pytest.raises(DependencyError, match=r"vrag-gym\[ocr\]"):
        PageReader()


def test_the_default_asks_for_ocr_where_text_is_missing(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "scan.png")
    report = ingest([tmp_path / "scan.png"], Corpus.create(tmp_path / "corpus"), workers=1, progress=False)
    assert str(report).endswith("1 pages have no text: to read them with OCR, run again with --ocr auto")


def test_lines_are_cut_at_spaces() -> None:
    pieces = [("中", (0.0, 0.0, 10.0, 9.0)), ("文", (10.0, 0.0, 20.0, 9.0)), ("A", (30.0, 1.0, 34.0, 9.0))]
    words = split_line("中文 A", (0.0, 0.0, 40.0, 10.0), pieces)
    assert words == [("中文", (0.0, 0.0, 20.0, 9.0)), ("A", (30.0, 1.0, 34.0, 9.0))]
    # pieces that do not spell the line: five characters share a width of 40
    words = split_line("ab cd", (0.0, 0.0, 40.0, 10.0), pieces)
    assert words == [("ab", (0.0, 0.0, 16.0, 10.0)), ("cd", (24.0, 0.0, 40.0, 10.0))]
    assert split_line("   ", (0.0, 0.0, 40.0, 10.0), []) == []


def test_lines_side_by_side_are_one_row() -> None:
    def line(text: str, left: float, top: float) -> list[tuple[str, tuple[float, float, float, float]]]:
        return [(text, (left, top, left + 50, top + 20))]

    rows = in_rows([line("d", 0, 40), line("c", 80, 3), line("b", 0, 8), line("e", 90, 36)])
    assert [[text for text, _ in row] for row in rows] == [["b", "c"], ["d", "e"]]
