from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.questions import ANSWER_FORMATS
from vrag_env.rewards import JudgeItem, RuleJudge
from vrag_env.rewards.rules import is_denial, score_answer

REAL_QUESTIONS = Path(__file__).parents[4] / "shared" / "realdocs" / "questions.json"
LONG = " ".join(f"word{number}" for number in range(1200))

RIGHT = [
    ("58", "58", "Int", ""),
    ("58.0", "58", "Int", ""),
    ("fifty-eight", "58", "Int", ""),
    ("58 participants", "58", "Int", ""),
    ("n = 58", "58", "Int", ""),
    ("1,258", "1258", "Int", ""),
    ("9 (18 %)", "9", "Int", ""),
    ("\u22121.8", "-1.8", "Float", ""),
    ("101", "100", "Float", ""),
    ("0.68", "68", "Float", "What percentage is that?"),
    ("68%", "0.68", "Float", ""),
    ("$42.5M", "42.5 million", "Float", ""),
    ("885", "885", "Str", ""),
    ("1,258", "1258", "Str", ""),
    ("killen 90", "Killen90", "Str", ""),
    ("labeling_lboxed", "labeling_lboxed()", "Str", ""),
    ("The Amber Falcon.", "Amber Falcon", "Str", ""),
    ("Sao Paulo", "S\u00e3o Paulo", "Str", ""),
    ("7 am", "07:00", "Str", ""),
    ("Yes.", "yes", "Str", ""),
    ("oak (1258)", "oak", "Str", ""),
    ("()", "()", "Str", ""),
    ("B; A", "A, B", "List", "Which letters?"),
    ("6, 2", "6, 2", "List", "Give both in this order."),
    ("2403 and 48308", "2,403, 48,308", "List", ""),
    ("- A\n- B", "['A', 'B']", "List", ""),
    ("not answerable", "Not answerable", "None", ""),
    ("The document does not mention larch.", "Not answerable", "None", ""),
    ("It cannot be determined from the given pages.", "Not answerable", "None", ""),
    ("The pages do not state the 2021 revenue", "Not answerable", "None", "What was the revenue in 2021?"),
    ("The answer is 42.", "42", "Int", ""),
    ("There are 42 companies.", "42", "Int", "How many companies are there?"),
    ("So, the final answer is **42**.", "42", "Int", ""),
    (r"$\boxed{42}$", "42", "Int", ""),
    ("in the year 2021", "2021", "Int", ""),
    ("42k", "42,000", "Int", ""),
    ("negative 1.8", "-1.8", "Float", ""),
    ("The answer is North.", "the North", "Str", ""),
    ("Yes, it does.", "Yes", "Str", ""),
    ("No, it does not.", "No", "Str", ""),
    ("12 kilometers", "12 km", "Str", ""),
    ("3.5 million USD", "$3.5 million", "Str", ""),
    ("March 5th, 2021", "5 March 2021", "Str", ""),
    ("2021-03-05", "on Friday, Mar. 5, 2021", "Str", ""),
    ("between 10 and 20", "10\u201320", "Str", ""),
    ("10-20%", "10% to 20%", "Str", ""),
    ("The answer is A, B, and C", "['A', 'B', 'C']", "List", ""),
    ("C, B, A", "C, B, A", "List", "Name them from highest to lowest."),
    ("Answer: Not answerable", "Not answerable", "None", ""),
]
WRONG = [
    ("The answer is 43", "42", "Int", ""),
    ("The answer is 42. The answer is 43.", "42", "Int", ""),
    ("It is not 42", "42", "Int", ""),
    ("42 hundred", "42", "Int", ""),
    ("42k", "42", "Int", ""),
    ("\u20ac3.5 million", "$3.5 million", "Str", ""),
    ("3.5 euros", "$3.5", "Str", ""),
    ("Table 2", "Figure 2", "Str", ""),
    ("1990", "1990s", "Str", ""),
    ("Yes, but not always", "Yes", "Str", ""),
    ("Yes, no", "Yes", "Str", ""),
    ("No, yes", "No", "Str", ""),
    ("5 April 2021", "5 March 2021", "Str", ""),
    ("March 2021", "5 March 2021", "Str", ""),
    ("10-30", "10-20", "Str", ""),
    ("10 and 20", "10-20", "Str", ""),
    ("-10-20", "10-20", "Str", ""),
    ("10-20 km", "10-20 miles", "Str", ""),
    ("A, B, C", "C, B, A", "List", "Name them from highest to lowest."),
    ("The answer is 42", "Not answerable", "None", ""),
    ("58.7", "58", "Int", ""),
    ("-58", "58", "Int", ""),
    ("not 58", "58", "Int", ""),
    ("57, 58", "58", "Int", ""),
    ("58 or 59", "58", "Int", ""),
    ("58 (or 59)", "58", "Int", ""),
    ("0.58", "58", "Int", "What percentage?"),
    ("0.0", "0.003", "Float", ""),
    ("102", "100", "Float", ""),
    ("0.68", "68", "Float", "How tall is it?"),
    ("42.5 million", "42.5", "Float", "What is the revenue?"),
    ("5 km", "5 miles", "Str", ""),
    ("22", "022", "Str", ""),
    ("VVE", "VVI", "Str", ""),
    ("Killen91", "Killen90", "Str", ""),
    ("labeling_rboxed()", "labeling_lboxed()", "Str", ""),
    ("https://example.org/a", "https://example.org/b", "Str", ""),
    ("2021-03-05", "2021-03-06", "Str", ""),
    ("Amber Heron", "Amber Falcon", "Str", ""),
    ("not significant", "significant", "Str", ""),
    ("North Carolina or Ohio", "North Carolina", "Str", ""),
    ("North Carolina, Ohio", "North Carolina", "Str", ""),
    ("increase", "decrease", "Str", ""),
    ("Yes and no", "yes", "Str", ""),
    ("7 pm", "07:00", "Str", ""),
    ("251", "251 (84%)", "Str", ""),
    ("oak (1259)", "oak (1258)", "Str", ""),
    ("...", "Chicago", "Str", ""),
    ("\u200b", "Chicago", "Str", ""),
    (f"{LONG} Chicago {LONG}", "Chicago", "Str", ""),
    ("Chicago " * 1000, "Chicago", "Str", ""),
    (f"{LONG} 58 {LONG}", "58", "Int", ""),
    ("2, 6", "6, 2", "List", "Give both in this order."),
    ("A, B, C", "A, B", "List", ""),
    ("A, A", "A, B", "List", ""),
    ("0.003, 0.009", "0.003, 0.008", "List", ""),
    ("Not answerable", "58", "Int", ""),
    ("Not answerable", "Answerable", "Str", ""),
    ("The document does not say.", "the document", "Str", ""),
    ("42", "Not answerable", "None", ""),
    ("answerable", "Not answerable", "None", ""),
    ("Not answerable, 42", "Not answerable", "None", ""),
    ("Not answerable, but probably green", "Not answerable", "None", ""),
    ("Not answerable or green", "Not answerable", "None", ""),
    (f"not answerable {LONG}", "Not answerable", "None", ""),
]


@pytest.mark.parametrize(("answer", "reference", "answer_format", "question"), RIGHT)
def test_right(answer: str, reference: str, answer_format: str, question: str) -> None:
    assert score_answer(answer, [reference], answer_format, question) == 1.0


@pytest.mark.parametrize(("answer", "reference", "answer_format", "question"), WRONG)
def test_wrong(answer: str, reference: str, answer_format: str, question: str) -> None:
    assert score_answer(answer, [reference], answer_format, question) == 0.0


def test_close_strings_get_their_anls() -> None:
    assert score_answer("Chicagoo", ["Chicago"], "Str") == 1 - 1 / 8
    # 20 of 26 characters stay, and every word is there.
    assert score_answer("Diskless Workstation entry", ["Diskless Workstation"], "Str") == pytest.approx(20 / 26)


def test_best_over_references() -> None:
    assert score_answer("nine", ["9 (18 %)", "9"], "Int") == 1.0
    assert score_answer("x", [], "Str") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "unanswerable",
        "n/a",
        "None",
        "unknown.",
        "The question can\u2019t be answered.",
        "insufficient information",
        "No information is available.",
        "The documents don't contain this information",
        "not specified",
    ],
)
def test_wordings_of_a_denial(text: str) -> None:
    assert is_denial(text)


@pytest.mark.parametrize("text", ["", "42", "noon", "None of them is red", "knotanswerable", "nonstop"])
def test_what_is_no_denial(text: str) -> None:
    assert not is_denial(text)


@settings(deadline=None, max_examples=300)
@given(
    st.text(st.characters(), max_size=80),
    st.lists(st.text(st.characters(), max_size=80), max_size=3),
    st.sampled_from(ANSWER_FORMATS),
    st.text(st.characters(), max_size=40),
    st.sampled_from(["mmlongbench", "exact_match", "token_f1"]),
)
def test_never_raises_and_stays_in_range(
    answer: str, references: list[str], answer_format: str, question: str, metric: str
) -> None:
    item = JudgeItem(question, answer, tuple(references), answer_format)
    assert 0.0 <= RuleJudge(metric).judge([item])[0] <= 1.0


@pytest.mark.parametrize("unit", ["(", "a ", "1,", "-", "['a", "not ", "a.b.", "\ud800", "\0"])
@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
def test_a_megabyte(unit: str, answer_format: str) -> None:
    answer = unit * (1_000_000 // len(unit))
    assert score_answer(answer, ["Chicago"], answer_format) == 0.0


def _real() -> list[dict[str, Any]]:
    if not REAL_QUESTIONS.exists():
        pytest.skip("the folder of real documents is not beside this checkout")
    return json.loads(REAL_QUESTIONS.read_text(encoding="utf-8"))["examples"]


def _references(example: dict[str, Any]) -> list[str]:
    return [example["reference_answer"], *example["answer_variants"]]


def test_references_and_variants_of_real_questions_are_right() -> None:
    for example in _real():
        answer_format, references = example["meta_info"]["answer_format"], _references(example)
        for answer in references:
            assert score_answer(answer, references, answer_format, example["query"]) == 1.0, example["uid"]


def test_real_answers_do_not_score_for_other_questions() -> None:
    for first, second in permutations(_real(), 2):
        answer, own = second["reference_answer"], _references(first)
        expected = float(answer in own)
        got = score_answer(answer, own, first["meta_info"]["answer_format"], first["query"])
        assert got == expected, (first["uid"], second["uid"])
