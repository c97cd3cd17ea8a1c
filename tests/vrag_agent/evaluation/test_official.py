"""The official score: cases worked out by hand from the released script's rules, and its F1."""

import pytest

from vrag_agent.evaluation.intervals import ratio
from vrag_agent.evaluation.measures import METRICS
from vrag_agent.evaluation.official import extracted, official_score
from vrag_env.questions import Question


def score(kind: str, reference: str, answer: str | None) -> float:
    return official_score(Question("q", "What?", reference, answer_format=kind), answer)


@pytest.mark.parametrize(
    ("kind", "reference", "answer", "expected"),
    [
        ("Int", "58", "58", 1.0),
        ("Int", "58", "58.7", 1.0),  # a fault of the script, kept: whatever is behind the point is cut off
        ("Int", "58", "58 trials", 0.0),
        ("Int", "58", "inf", 0.0),
        ("Float", "0.68", "68%", 1.0),  # a percentage is a fraction
        ("Float", "100", "100.9", 1.0),  # one per cent off
        ("Float", "100", "101.1", 0.0),
        ("Float", "0.003", "0.0", 1.0),  # a fault of the script, kept: rounded to at least two digits
        ("Float", "1.5", "$1.5 (million)", 1.0),
        ("Str", "Bergen", "bergen", 1.0),
        ("Str", "Bergen", "Bergem", 1 - 1 / 6),
        ("Str", "Bergen", "Oslo", 0.0),
        ("Str", "page 4", "page 5", 0.0),  # compared as a whole
        ("Str", "2021-03", "2021-04", 0.0),
        ("Str", "red (dark)", '"red"', 1.0),
        ("List", "['Bergen', 'Oslo']", "['Oslo', 'Bergen']", 1.0),
        ("List", "['Bergen', 'Oslo']", "['Oslo']", 0.0),
        ("List", "['Bergen', 'Oslo']", "Bergen, Oslo", 0.0),  # the script's own extraction would have made a list
        ("List", "['Bergen', 'Oslo']", "['Bergem', 'Oslo']", 1 - 1 / 6),  # the worst element
        ("List", "['1', '2']", "['2', '1']", 1.0),
        ("List", "['a']", "[__import__('os')]", 0.0),
        ("None", "Not answerable", "The document does not mention it.", 1.0),
        ("None", "Not answerable", "42", 0.0),
        ("Str", "Bergen", None, 0.0),
    ],
)
def test_score(kind: str, reference: str, answer: str | None, expected: float) -> None:
    assert score(kind, reference, answer) == pytest.approx(expected)


def test_no_answer_is_scored_as_empty_and_as_answered() -> None:
    assert extracted(None) == "" and extracted("It can not be answered.") == "Not answerable"


def test_a_hostile_answer_takes_no_time() -> None:
    assert score("Str", "Bergen", "(" * 10_000 + " " * 10_000) == 0.0


def test_f1_by_hand() -> None:
    # Three answerable questions: right, half right, wrongly denied; one unanswerable, answered.
    points, answerable, answered = [1.0, 0.6, 0.0, 0.0], [1, 1, 1, 0], [1, 1, 0, 1]
    recall, precision = 1.6 / 3, 1.6 / 3
    tops = [2 * p * a for p, a in zip(points, answerable, strict=True)]
    bottoms = [a + b for a, b in zip(answerable, answered, strict=True)]
    assert ratio(tops, bottoms).value == pytest.approx(2 * precision * recall / (precision + recall))
    assert METRICS["mmlb_f1"].denominator == "answerable_plus_answered"
