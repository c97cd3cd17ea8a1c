from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.retrieval import mrr_at_k, ndcg_at_k, recall_at_k


def test_recall_by_hand() -> None:
    assert recall_at_k(["a", "b", "c"], ["c", "z"], 2) == 0
    assert recall_at_k(["a", "b", "c"], ["c", "z"], 3) == 0.5
    assert recall_at_k(["c", "z"], ["c", "z", "z"], 10) == 1
    assert recall_at_k([], ["c"], 1) == 0
    assert recall_at_k(["a", "a", "c"], ["c"], 2) == 1  # the second a is no second page


def test_mrr_by_hand() -> None:
    assert mrr_at_k(["a", "b", "c"], {"c", "b"}, 3) == 1 / 2
    assert mrr_at_k(["a", "b", "c"], {"c"}, 2) == 0
    assert mrr_at_k(["a", "a", "c"], {"c"}, 3) == 1 / 2


def test_ndcg_by_hand() -> None:
    assert ndcg_at_k(["g"], ["g"]) == 1
    assert ndcg_at_k(["x", "g"], ["g"]) == pytest.approx(1 / math.log2(3))
    # gold at places 1 and 3 of three, two gold pages: (1 + 1/2) / (1 + 1/log2(3))
    assert ndcg_at_k(["g", "x", "h"], ["g", "h"]) == pytest.approx(1.5 / (1 + 1 / math.log2(3)))
    assert ndcg_at_k(["x", "x", "x", "g"], ["g"]) == pytest.approx(1 / math.log2(3))
    assert ndcg_at_k(["g", "g", "g"], ["g", "h"]) < 1  # showing one page again and again earns nothing
    assert ndcg_at_k([], ["g"]) == 0
    # k cuts the ideal ranking too: one place, one gold page on it
    assert ndcg_at_k(["g", "x"], ["g", "h"], 1) == 1


@pytest.mark.parametrize("measure", [recall_at_k, mrr_at_k, ndcg_at_k])
def test_without_gold_or_places_there_is_no_measure(measure: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="gold is empty"):
        measure(["a"], [], 1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        measure(["a"], ["a"], 0)


@settings(deadline=None, max_examples=200)
@given(
    st.permutations(range(12)),
    st.sets(st.integers(0, 11), min_size=1, max_size=6),
    st.integers(1, 12),
)
def test_ndcg_equals_scikit_learn(ranking: list[int], gold: set[int], k: int) -> None:
    from sklearn.metrics import ndcg_score

    relevance = np.array([[float(page in gold) for page in range(12)]])
    scores = np.zeros((1, 12))
    scores[0, ranking] = np.arange(12, 0, -1)
    ours = ndcg_at_k([str(page) for page in ranking], {str(page) for page in gold}, k)
    assert ours == pytest.approx(ndcg_score(relevance, scores, k=k))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef"), min_size=1), st.integers(1, 8))
def test_measures_lie_between_zero_and_one(ranked: list[str], gold: set[str], k: int) -> None:
    for value in (recall_at_k(ranked, gold, k), mrr_at_k(ranked, gold, k), ndcg_at_k(ranked, gold, k)):
        assert 0 <= value <= 1 + 1e-12
    assert ndcg_at_k(sorted(gold), gold) == pytest.approx(1)
