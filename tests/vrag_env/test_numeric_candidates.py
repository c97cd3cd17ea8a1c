"""Candidates by hand: queries from a question and a view, answers from words with boxes; what a view lets read."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.actions import Answer, Search, format_turn, parse
from vrag_env.corpus.records import Word
from vrag_env.extractive import find_answer, rank_spans
from vrag_env.numeric import HashingEmbedder, TextCandidates
from vrag_env.numeric.features import CANVAS, Featurizer, Sizes, plain
from vrag_env.questions import NOT_ANSWERABLE, Question
from vrag_env.views import FULL_PAGE, View

QUESTION = "How many staff does Amber Falcon 2021 list for its Oslo site?"
ROWS = [["Amber", "Falcon", "2021"], ["Site", "Staff"], ["Oslo", "512"], ["Riga", "77"], ["Elena", "Marsh"]]


def page(rows: list[list[str]], left: float = 0.1, step: float = 0.3) -> list[Word]:
    """Words of a grid: rows 0.1 apart and 0.03 high, columns ``step`` apart."""
    return [
        Word(text, (left + step * c, 0.1 + 0.1 * r, left + step * c + 0.02 * len(text), 0.13 + 0.1 * r))
        for r, row in enumerate(rows)
        for c, text in enumerate(row)
    ]


def test_queries_by_hand() -> None:
    queries = TextCandidates().queries(QUESTION, page(ROWS), 8)
    assert queries == [
        QUESTION,
        "staff Amber Falcon 2021 list Oslo site",
        "Amber Falcon 2021 Oslo",
        "staff list site",
        "staff Amber Falcon 2021 list Oslo site Riga",
        "staff Amber Falcon 2021 list Oslo site Elena",
        "staff Amber Falcon 2021 list Oslo site Marsh",
    ]
    assert TextCandidates().queries(QUESTION, page(ROWS), 2) == queries[:2]
    assert TextCandidates().queries("why?", [], 6) == ["why?"]


def test_answers_by_hand() -> None:
    answers = TextCandidates().answers(QUESTION, page(ROWS), 5)
    # Two numbers, then the line of the better one (the same text), then lines in reading order.
    assert [answer.text for answer in answers[:2]] == ["512", "77"]
    assert answers[0].context.split() == ["Oslo", "512"]
    close = page([["Elena", "Marsh", "moved"]], step=0.12)
    assert [a.text for a in TextCandidates().answers("Who moved?", close, 5)] == ["Elena Marsh", "Elena Marsh moved"]
    assert [a.text for a in TextCandidates().answers("Is Elena there?", close, 3)][:2] == ["Yes", "No"]
    assert TextCandidates().answers(QUESTION, [], 5) == []


def test_the_ranking_is_that_of_the_baseline() -> None:
    words = page(ROWS)
    assert rank_spans(QUESTION, words)[0].text == find_answer(QUESTION, words) == "512"
    # Without a word of the question the baseline has nothing to say; candidates are there all the same.
    assert find_answer("How many zebras?", words) == ""
    assert [span.text for span in rank_spans("How many zebras?", words)] == ["2021", "512", "77"]


@given(st.text(max_size=60), st.lists(st.text(max_size=8), max_size=12), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_written(question: str, texts: list[str], limit: int) -> None:
    words = page([texts[i : i + 3] for i in range(0, len(texts), 3)])
    queries = TextCandidates().queries(question, words, limit)
    answers = TextCandidates().answers(question, words, limit)
    assert len(queries) <= limit and len(answers) <= limit
    for text in (*queries, *(answer.text for answer in answers)):
        cleaned = plain(text, 50)
        assert len(cleaned) <= 50
        if cleaned:
            assert parse(format_turn("", Search(cleaned))).action == Search(cleaned)
            assert parse(format_turn("", Answer(cleaned))).action == Answer(cleaned)


def test_sizes() -> None:
    with pytest.raises(ValueError, match="grid must be at least 1, got 0"):
        Sizes(grid=0)


@pytest.fixture
def featurizer(tiny_corpus: Any) -> Featurizer:
    return Featurizer(tiny_corpus, HashingEmbedder(), TextCandidates(), Sizes())


def test_features_by_hand(featurizer: Featurizer, tiny_questions: tuple[Question, ...]) -> None:
    question = tiny_questions[0]
    view = View(1, "finance/amber.pdf#1", FULL_PAGE, None, (728, 532))
    features = featurizer.of(question, view, None)
    assert features is featurizer.of(question, View(7, *list(vars(view).values())[1:]), None)  # not by its number
    assert features.answers[0] == NOT_ANSWERABLE and features.oracle
    embed = HashingEmbedder().embed
    asked = embed([question.text])[0]
    np.testing.assert_allclose(
        features.arrays["query_sim"][: len(features.queries)], embed(features.queries) @ asked, atol=1e-6
    )
    assert features.arrays["query_sim"][0] == pytest.approx(1)
    # Lines stand at 0.16 and 0.32 of the height (the upper third) and at 0.48, from 0.12 of the width.
    cells = features.arrays["cell_sim"].reshape(3, 3)
    words = featurizer.readable(view)
    first = " ".join(w.text for w in words if (w.box[0] + w.box[2]) / 2 < 1 / 3 and w.box[3] < 0.4)
    assert cells[0, 0] == pytest.approx(float(embed([first])[0] @ asked), abs=1e-6)
    assert not cells[2].any()
    assert features.arrays["page_sim"][0] == cells.max()
    best = features.answers[1 + int(np.argmax(features.arrays["cand_sim"][1:]))]
    assert best in " ".join(word.text for word in words)


def test_before_the_first_page(featurizer: Featurizer, tiny_questions: tuple[Question, ...]) -> None:
    features = featurizer.of(tiny_questions[0], None, None)
    assert features.answers == (NOT_ANSWERABLE,) and features.zooms == (None,) * 9 and features.zoom == 0
    assert not any(features.arrays[name].any() for name in ("page", "page_sim", "cell_sim", "cand_sim"))
    assert not featurizer.canvas(None).any()


def test_the_canvas_shows_the_view(featurizer: Featurizer) -> None:
    whole = featurizer.canvas(View(1, "finance/amber.pdf#1", FULL_PAGE, None, (728, 532)))
    assert whole.shape == (3, CANVAS, CANVAS) and whole.dtype == np.uint8
    # The circle of the first page has its middle at 0.8 of the width and 0.7 of the height from the top.
    np.testing.assert_allclose(whole[:, int(0.7 * CANVAS), int(0.8 * CANVAS)], (38, 89, 153), atol=12)
    inside = featurizer.canvas(View(2, "finance/amber.pdf#1", (0.78, 0.68, 0.82, 0.72), 1, (532, 392)))
    assert inside.std(axis=(1, 2)).max() < 8
