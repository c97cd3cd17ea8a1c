"""Bootstrap intervals and paired tests, by scipy: the resampled unit is the question, never the single episode.

Several seeds of one question are not independent: their sums belong together and are drawn together. All intervals
are 95 % percentile intervals (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

RESAMPLES = 2_000
CONFIDENCE = 0.95
_BATCH_NUMBERS = 4_000_000  # resampled numbers in memory at once


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The number; ``None`` where nothing is measured.
        low: Lower end of the 95 % interval; ``None`` with fewer than two questions.
        high: Upper end.
        questions: Questions that it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    questions: int


def ratio(numerators: Sequence[float], denominators: Sequence[float], *, interval: bool = True) -> Estimate:
    """Estimate a sum over a sum.

    Args:
        numerators: One per question.
        denominators: One per question, not negative; questions with 0 do not count.
        interval: Whether the interval is computed.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    top, bottom = top[bottom > 0], bottom[bottom > 0]
    count = len(bottom)
    if count == 0:
        return Estimate(None, None, None, 0)
    value = float(top.sum() / bottom.sum())
    if count < 2 or not interval:
        return Estimate(value, None, None, count)
    low, high = _bootstrap((top, bottom), _ratio, count)
    return Estimate(value, low, high, count)


def mean_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate the mean of ``second - first``, paired by question."""
    differences = np.asarray(second, float) - np.asarray(first, float)
    count = len(differences)
    if count == 0:
        return Estimate(None, None, None, 0)
    value = float(differences.mean())
    if count < 2:
        return Estimate(value, None, None, count)
    low, high = _bootstrap((differences,), np.mean, count)
    return Estimate(value, low, high, count)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Questions on which both are right or both are wrong say nothing; of the others, either is as likely if the
    two are equally good (McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", 1947; exact by the binomial distribution).

    >>> mcnemar(1, 9)
    0.021484375
    """
    discordant = only_first + only_second
    return 1.0 if discordant == 0 else float(stats.binomtest(only_first, discordant, 0.5).pvalue)


def _ratio(top: Any, bottom: Any, axis: int = -1) -> Any:
    return top.sum(axis=axis) / bottom.sum(axis=axis)


def _bootstrap(data: tuple[npt.NDArray[np.float64], ...], statistic: Any, count: int) -> tuple[float, float]:
    found = stats.bootstrap(
        data,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_NUMBERS // count),
        vectorized=True,
        paired=True,
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),  # the same data always give the same interval
    ).confidence_interval
    return float(found.low), float(found.high)
