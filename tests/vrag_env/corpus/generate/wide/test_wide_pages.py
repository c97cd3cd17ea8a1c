"""Every kind of page: nothing off the page, nothing over anything, the evidence where it is said to be."""

from __future__ import annotations

import itertools

import pytest
from drawn import DrawnDocument, Frame, draw, look_at, needs_chinese_font, opened

from vrag_env.corpus.generate.drawing import A4_LANDSCAPE, A4_PORTRAIT, SLIDE
from vrag_env.corpus.generate.wide.asks import asks_of, missing_of
from vrag_env.corpus.generate.wide.dials import PAGE_KINDS
from vrag_env.corpus.generate.wide.registry import KINDS
from vrag_env.rewards.rules import score_answer

LANGUAGES = [pytest.param(0, id="en"), pytest.param(1, id="zh", marks=needs_chinese_font)]
SIZES = (3.0, 5.0, 12.0)


def test_every_kind_is_registered() -> None:
    assert set(KINDS) == set(PAGE_KINDS)


@pytest.mark.parametrize("paper", [SLIDE, A4_PORTRAIT, A4_LANDSCAPE])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_cut_off_or_over_another(language: int, size: float, paper: tuple[float, float]) -> None:
    document = draw(language, size, paper, seed=int(size) + int(paper[0]))
    with opened(document.pdf) as pdf:
        for page, drawn in zip(pdf, document.pages, strict=True):
            sheet = look_at(page)
            assert len(sheet.texts) > 8, drawn.kind
            for text, (x0, y0, x1, y1) in sheet.texts:
                assert x0 >= 12 and x1 <= sheet.width - 12 and y0 >= 6 and y1 <= sheet.height - 6, (drawn.kind, text)
            for (one, first), (other, second) in itertools.combinations(sheet.texts, 2):
                assert shared(first, second) < 0.05, (drawn.kind, one, other)


def shared(first: Frame, second: Frame) -> float:
    """Share of the smaller frame that both cover."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [max((f[2] - f[0]) * (f[3] - f[1]), 1e-6) for f in (first, second)]
    return max(width, 0) * max(height, 0) / min(areas)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_evidence_holds_the_words_of_the_answer(language: int, size: float) -> None:
    document = draw(language, size, A4_PORTRAIT, seed=3)
    checked = 0
    with opened(document.pdf) as pdf:
        for page, drawn, note in zip(pdf, document.pages, document.footnotes, strict=True):
            asks = [*asks_of(drawn.kind, drawn.brief, drawn.drawing), note]
            sheet = look_at(page, tuple({ask.box for ask in asks}))
            for ask in asks:
                x0, y0, x1, y1 = ask.box
                assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
                calculated = ask.template.split("/")[1] in ("difference", "days", "count", "above")
                if (drawn.kind != "board" and not calculated) or ask is note:
                    inside = "".join(sheet.boxed[ask.box].split())
                    assert "".join(ask.answer.split()) in inside, (drawn.kind, ask, inside)
                    checked += 1
    assert checked > 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_differ_and_their_own_variants_count_as_right(language: int) -> None:
    document = draw(language)
    for drawn in document.pages:
        asks = asks_of(drawn.kind, drawn.brief, drawn.drawing)
        assert len(asks) >= 6, drawn.kind
        assert len({ask.body for ask in asks}) == len({ask.key for ask in asks}) == len(asks), drawn.kind
        for ask in asks:
            for written in (ask.answer, *ask.variants):
                assert score_answer(written, (ask.answer, *ask.variants), ask.answer_format, ask.body) == 1.0, ask


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_asked_for_in_vain_is_on_no_page(language: int) -> None:
    document = draw(language)
    with opened(document.pdf) as pdf:
        texts = ["".join(look_at(page).text.split()) for page in pdf]
    brief = document.pages[0].brief
    for item in brief.absent:
        assert not any("".join(brief.say(item).split()) in text for text in texts)
    for drawn, text in zip(document.pages, texts, strict=True):
        bodies = missing_of(drawn.kind, drawn.brief, drawn.drawing)
        asked = {ask.body for ask in asks_of(drawn.kind, drawn.brief, drawn.drawing)}
        assert len(bodies) >= 4 and not asked & {body for _, body in bodies}
        if drawn.kind == "flow":
            for _, body in bodies:
                step = body.split('"' if language == 0 else "“")[1].rstrip("”").split("”")[0]
                assert "".join(step.split()) not in text


def test_the_size_of_the_print_follows_the_dial() -> None:
    heights = []
    for size in (4.0, 8.0):
        document = draw(size=size, kinds=("table",))
        with opened(document.pdf) as pdf:
            sheet = look_at(pdf[0])
        value = document.pages[0].drawing.cells[0].text
        frame = next(frame for text, frame in sheet.texts if text.strip() == value)
        heights.append(frame[3] - frame[1])
    assert heights[1] / heights[0] == pytest.approx(2, rel=0.05)


def test_documents_of_a_family_differ_in_every_value_and_look_the_same() -> None:
    family = [draw(place=place, count=4, seed=5) for place in range(4)]
    for pages in zip(*(document.pages for document in family), strict=True):
        kind = pages[0].kind
        assert len({page.title for page in pages}) == 1
        cells = [{(c.item, c.column): c for c in page.drawing.cells} for page in pages]
        for key in set.intersection(*(set(one) for one in cells)):
            if kind != "board" and not (kind == "table" and not key[1]):  # totals are sums, symbols are few
                assert len({one[key].text for one in cells}) == 4, (kind, key)


def test_an_order_on_the_page_is_printed_and_is_no_answer() -> None:
    document = draw(injection_share=1.0)
    with opened(document.pdf) as pdf:
        for page in pdf:
            text = look_at(page).text
            assert any(word in text for word in ("Ignore", "ASSISTANTS", "System", "out of date"))


def test_pages_without_orders_print_none() -> None:
    document: DrawnDocument = draw(injection_share=0.0)
    with opened(document.pdf) as pdf:
        for page in pdf:
            assert not any(word in look_at(page).text for word in ("Ignore", "ASSISTANTS", "System:", "out of date"))
