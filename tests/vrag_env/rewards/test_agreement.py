from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from vrag_env.errors import RewardError
from vrag_env.rewards import JudgeItem, RuleJudge, agreement


class Fixed:
    """Says what it was told to say."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def judge(self, items: Sequence[JudgeItem]) -> list[float]:
        return list(self.scores)


def items(count: int) -> list[JudgeItem]:
    return [JudgeItem("?", f"answer {number}", ("r",), "Str") for number in range(count)]


def test_kappa_by_hand() -> None:
    # Both right 4, only A 2, only B 1, both wrong 3: p_o = 0.7; A says right 0.6, B 0.5;
    # p_e = 0.6 * 0.5 + 0.4 * 0.5 = 0.5; kappa = 0.2 / 0.5.
    a, b = Fixed(*[1.0] * 6, *[0.0] * 4), Fixed(*[1.0] * 4, 0, 0, 1, 0, 0, 0)
    report = agreement(items(10), a, b)
    assert (report.both_right, report.only_a, report.only_b, report.both_wrong) == (4, 2, 1, 3)
    assert report.agreement == 0.7 and report.kappa == pytest.approx(0.4)
    assert [case.index for case in report.disagreements] == [4, 5, 6]
    assert (report.disagreements[2].score_a, report.disagreements[2].score_b) == (0.0, 1.0)
    text = str(report)
    assert "answers 10" in text and "agreement 0.700" in text and "kappa 0.400" in text and "'answer 6'" in text


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    report = agreement(items(len(pairs)), Fixed(*(float(a) for a, _ in pairs)), Fixed(*(float(b) for _, b in pairs)))
    if len({verdict for pair in pairs for verdict in pair}) == 1:
        assert report.kappa is None  # undefined: nothing but chance
    else:
        assert report.kappa == pytest.approx(cohen_kappa_score([a for a, _ in pairs], [b for _, b in pairs]))
    assert report.items == len(pairs)
    assert len(report.disagreements) == report.only_a + report.only_b


def test_scores_count_from_one_half() -> None:
    report = agreement(items(3), Fixed(0.5, 0.49, 1.0), Fixed(1.0, 1.0, 0.9))
    assert (report.both_right, report.only_b) == (2, 1)


def test_nothing_to_compare() -> None:
    report = agreement([], RuleJudge(), RuleJudge())
    assert (report.items, report.agreement, report.kappa) == (0, None, None)
    assert "agreement -" in str(report)


def test_a_judge_that_loses_answers() -> None:
    with pytest.raises(RewardError, match="2 scores for 3"):
        agreement(items(3), Fixed(1, 1), Fixed(1, 1, 1))


def test_a_long_report_ends() -> None:
    report = agreement(items(50), Fixed(*[1.0] * 50), Fixed(*[0.0] * 50))
    assert "and 30 more" in str(report) and report.kappa == 0.0
