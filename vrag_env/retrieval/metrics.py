"""Measures of a ranking against the pages that carry the answer: pure functions of ids.

Relevance is binary. A page that is listed twice counts once, at its first place.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def _distinct(ranked: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ranked))


def _check(gold: Collection[str], k: int | None) -> frozenset[str]:
    if not gold:
        raise ValueError("gold is empty: a question without gold pages has no retrieval measure, leave it out")
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return frozenset(gold)


def recall_at_k(ranked: Sequence[str], gold: Collection[str], k: int) -> float:
    """Share of the gold pages among the first ``k`` distinct pages.

    Args:
        ranked: Page ids, best first.
        gold: Ids of the pages that carry the answer, at least one.
        k: How many pages count.

    Raises:
        ValueError: If ``gold`` is empty or ``k`` is below 1.

    >>> recall_at_k(["a", "b", "c"], {"b", "x"}, 2)
    0.5
    """
    wanted = _check(gold, k)
    return len(wanted.intersection(_distinct(ranked)[:k])) / len(wanted)


def mrr_at_k(ranked: Sequence[str], gold: Collection[str], k: int) -> float:
    """One over the place of the first gold page among the first ``k`` distinct pages; 0 if none is there.

    Args:
        ranked: Page ids, best first.
        gold: Ids of the pages that carry the answer, at least one.
        k: How many pages count.

    Raises:
        ValueError: If ``gold`` is empty or ``k`` is below 1.

    >>> mrr_at_k(["a", "b", "c"], {"b", "c"}, 10)
    0.5
    """
    wanted = _check(gold, k)
    for place, page_id in enumerate(_distinct(ranked)[:k], start=1):
        if page_id in wanted:
            return 1 / place
    return 0.0


def ndcg_at_k(ranked: Sequence[str], gold: Collection[str], k: int | None = None) -> float:
    r"""Normalised discounted cumulative gain of the distinct pages in the order shown.

    .. math:: DCG = \sum_i \frac{2^{s_i} - 1}{\log_2(i + 1)}, \qquad NDCG = DCG / IDCG

    with :math:`s_i = 1` for a gold page and 0 otherwise, and IDCG the DCG of a ranking that begins with all
    gold pages: VRAG-RL (arXiv:2505.22019), equations 7 to 9.

    Args:
        ranked: Page ids in the order in which they were shown, or best first.
        gold: Ids of the pages that carry the answer, at least one.
        k: How many pages count, in the ranking and in the ideal one; ``None`` counts all.

    Raises:
        ValueError: If ``gold`` is empty or ``k`` is below 1.

    >>> ndcg_at_k(["a"], {"a", "b"})
    0.6131471927654584
    """
    wanted = _check(gold, k)
    places = range(1, len(wanted) + 1)[:k]
    ideal = sum(1 / math.log2(place + 1) for place in places)
    gain = sum(
        1 / math.log2(place + 1) for place, page_id in enumerate(_distinct(ranked)[:k], start=1) if page_id in wanted
    )
    return gain / ideal
