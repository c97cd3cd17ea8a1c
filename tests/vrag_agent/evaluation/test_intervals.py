"""Intervals and tests: against what can be worked out, and against closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from vrag_agent.evaluation.intervals import mcnemar, mean_difference, ratio


def test_a_mean_and_its_interval() -> None:
    values = [1.0] * 30 + [0.0] * 70
    found = ratio(values, [1.0] * 100)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert (found.value, found.questions) == (0.3, 100)
    assert found.low == pytest.approx(0.3 - half, abs=0.02) and found.high == pytest.approx(0.3 + half, abs=0.02)


def test_a_ratio_of_sums_is_no_mean_of_ratios() -> None:
    assert ratio([1, 0], [1, 9]).value == pytest.approx(0.1)


def test_what_does_not_apply_does_not_count() -> None:
    found = ratio([1, 0, 0], [1, 1, 0])
    assert (found.value, found.questions) == (0.5, 2)
    assert ratio([0], [0]) == ratio([], []) and ratio([], []).value is None
    assert ratio([1], [1]).low is None  # one question has no spread


def test_the_same_data_give_the_same_interval() -> None:
    values = np.random.default_rng(1).random(40).tolist()
    assert ratio(values, [1] * 40) == ratio(values, [1] * 40)


def test_seeds_of_a_question_are_one_observation() -> None:
    # Ten questions with ten equal seeds each: as wide as ten observations, not as a hundred.
    tops, bottoms = [10.0] * 5 + [0.0] * 5, [10.0] * 10
    clustered = ratio(tops, bottoms)
    single = ratio([1.0] * 5 + [0.0] * 5, [1.0] * 10)
    assert (clustered.low, clustered.high) == (single.low, single.high)


def test_pairing_takes_out_what_both_share() -> None:
    rng = np.random.default_rng(0)
    shared = rng.random(200)
    found = mean_difference(shared, shared + 0.01 + 0.01 * rng.standard_normal(200))
    assert found.low is not None and found.low > 0  # unpaired, the spread of 0.3 would hide it
    assert found.value == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize(("only_first", "only_second"), [(1, 9), (5, 5), (0, 6)])
def test_mcnemar_is_the_sign_test(only_first: int, only_second: int) -> None:
    n, k = only_first + only_second, min(only_first, only_second)
    by_hand = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(only_first, only_second) == pytest.approx(by_hand)
    assert mcnemar(only_first, only_second) == pytest.approx(stats.binomtest(only_first, n).pvalue)


def test_mcnemar_without_a_difference() -> None:
    assert mcnemar(0, 0) == 1.0
