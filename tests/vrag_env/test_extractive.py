from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.extractive import MAX_WORDS, find_answer, words_of

FILLER = "Nothing of note happened here. " * 20


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        ("How many members does the choir have?", "The choir of Ulm has 48 members.", "48"),
        ("What percentage of the pupils walk?", "In 2019 some 62% of the pupils walk, 38 by bus.", "62%"),
        (
            "Which city hosts the fair?",
            f"{FILLER}The fair is in Bad Aibling every year. {FILLER}",
            "Bad Aibling",
        ),
        ("In 2019, how many boats sank?", "In 2019, 7 boats sank.", "7"),  # not the number of the question
        ("What colour is the door?", "the door is green", "green"),
        ("How many owls?", "Bats sleep.", ""),
        ("How many owls?", "Many owls sleep.", ""),  # the words are there, a number is not
        ("", "Some text.", ""),
    ],
)
def test_find_answer(question: str, text: str, answer: str) -> None:
    assert find_answer(question, text) == answer


def test_overlong_text_is_cut() -> None:
    assert find_answer("How many owls?", "x " * MAX_WORDS + "5 owls") == ""


@settings(deadline=None, max_examples=150)
@given(st.text(st.characters(), max_size=60), st.text(st.characters(), max_size=120))
def test_answers_come_from_the_text(question: str, text: str) -> None:
    assert all(word in text for word in find_answer(question, text).split())
    assert all(word in text for word in words_of(text))
