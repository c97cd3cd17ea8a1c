from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.corpus.records import Word
from vrag_env.extractive import MAX_WORDS, find_answer, words_of

FILLER = "Nothing of note happened here. " * 20


def prose(text: str) -> list[Word]:
    """Set words ten to a line, one hundredth of the page high."""
    return [
        Word(word, (x := (i % 10) / 11, y := (i // 10) / 100, x + 0.085, y + 0.008))
        for i, word in enumerate(text.split())
    ]


def grid(*rows: str) -> list[Word]:
    """Set a table: one word per cell, columns far apart."""
    return [
        Word(word, (0.2 * x, 0.05 * y, 0.2 * x + 0.1, 0.05 * y + 0.02))
        for y, row in enumerate(rows)
        for x, word in enumerate(row.split())
    ]


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        ("How many members does the choir have?", "The choir of Ulm has 48 members.", "48"),
        ("What percentage of the pupils walk?", "In 2019 some 62% of the pupils walk, 38 by bus.", "62%"),
        ("Which city hosts the fair?", f"{FILLER}The fair is in Bad Aibling every year. {FILLER}", "Bad Aibling"),
        ("In 2019, how many boats sank?", "In 2019, 7 boats sank.", "7"),  # not the number of the question
        ("What time does the shop open?", "The shop has 12 rooms and opens at 07:30 daily.", "07:30"),
        ("How many owls are in Figure 3?", "Figure 3: there are (14) owls.", "14"),
        ("What are the heights of the two towers?", "One tower has 40 m, the other tower 52 m.", "40, 52"),
        ("Is the door green?", "The door is green.", "Yes"),
        ("What colour is the door?", "the door is green", "green"),
        ("How many owls?", "Bats sleep.", ""),
        ("How many owls?", "Many owls sleep.", ""),  # the words are there, a number is not
        ("", "Some text.", ""),
    ],
)
def test_find_answer_in_prose(question: str, text: str, answer: str) -> None:
    assert find_answer(question, prose(text)) == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many visitors does Oslo have?", "62"),
        ("How many staff does Oslo have?", "51"),
        ("How many staff does Turin have?", "73"),
    ],
)
def test_find_answer_where_row_and_column_cross(question: str, answer: str) -> None:
    table = grid("Site Staff Visitors", "Padua 40 41", "Oslo 51 62", "Turin 73 84")
    assert find_answer(question, table) == answer


def test_overlong_page_is_cut() -> None:
    assert find_answer("How many owls?", prose("x " * MAX_WORDS + "5 owls")) == ""


def test_no_words() -> None:
    assert find_answer("How many owls?", []) == ""


@settings(deadline=None, max_examples=150)
@given(st.text(st.characters(), max_size=60), st.text(st.characters(), max_size=120))
def test_answers_come_from_the_page(question: str, text: str) -> None:
    answer = find_answer(question, prose(text))
    assert answer == "Yes" or all(word.rstrip(",") in text for word in answer.split())
    assert all(word in text for word in words_of(text))
