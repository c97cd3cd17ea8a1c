"""The Chinese font: found, embedded, and what is said where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pypdfium2.raw as raw
import pytest
import reportlab
from drawn import draw, needs_chinese_font, opened

from vrag_env.corpus.generate import WorldDials, generate_wide_world
from vrag_env.corpus.generate.wide import fonts
from vrag_env.errors import WorldError


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    fonts.cjk_font.cache_clear()
    yield
    fonts.cjk_font.cache_clear()


def test_without_a_font_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fonts.VARIABLE, raising=False)
    monkeypatch.setattr(fonts, "_PACKAGED", ("no_such_package", "font.ttc"))
    monkeypatch.setattr(fonts, "_SYSTEM", ())
    with pytest.raises(WorldError, match=r'pip install "vrag-gym\[cjk\]".*fonts-wqy-microhei.*VRAG_CJK_FONT'):
        generate_wide_world(WorldDials(questions=5, language="zh"), tmp_path / "w", progress=False)
    assert not (tmp_path / "w").exists()


def test_a_font_that_can_not_be_embedded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setenv(fonts.VARIABLE, str(tmp_path / "broken.ttf"))
    with pytest.raises(WorldError, match=r"broken\.ttf can not be embedded"):
        fonts.cjk_font()


def test_a_font_without_chinese_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    latin = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
    monkeypatch.setenv(fonts.VARIABLE, str(latin))
    with pytest.raises(WorldError, match="no Chinese characters"):
        fonts.cjk_font()


@needs_chinese_font
def test_chinese_is_embedded_and_drawn_as_different_characters() -> None:
    """A character that the font lacks would be drawn as an empty box: all would look alike."""
    document = draw(language=1, kinds=("table",), size=12)
    with opened(document.pdf) as pdf:
        page = pdf[0]
        texts = page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT])
        names = {raw.FPDFFont_GetIsEmbedded(raw.FPDFTextObj_GetFont(found.raw)) for found in texts}
        assert names == {1}
        image = np.asarray(page.render(scale=4, grayscale=True).to_pil())
        textpage = page.get_textpage()
        height = page.get_size()[1]
        pictures = {}
        text = textpage.get_text_range()
        for k, character in enumerate(text):
            if "\u4e00" <= character <= "\u9fff" and character not in pictures:
                left, bottom, right, top = textpage.get_charbox(k)
                pictures[character] = image[
                    int((height - top) * 4) : int((height - bottom) * 4), int(left * 4) : int(right * 4)
                ]
        assert len(pictures) > 20
        assert len({(p.shape, p.tobytes()) for p in pictures.values()}) == len(pictures)
        assert all(p.std() > 20 for p in pictures.values())
