r"""Hybrid retrieval: the rankings of several retrievers, fused by their ranks.

.. math:: s(p) = \sum_r \frac{w_r}{60 + \mathrm{rank}_r(p)}

Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009, who chose 60 on other collections), with
ranks from 1; a page that a retriever does not list gets nothing from it. Only ranks count, so that BM25 and
cosines need no common scale.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from vrag_env.retrieval.base import Hit, Retriever
from vrag_env.retrieval.queries import check_request

K_RRF = 60
DEPTH = 20
"""Pages that each retriever puts forward by default. Short lists, since with long ones a page that is far down in
two of them passes the first of one."""


class HybridRetriever:
    """Fuses the rankings of several retrievers by reciprocal rank.

    Args:
        retrievers: Retrievers over one corpus, at least one.
        weights: Weight of each, above 0; equal by default.
        k_rrf: The constant of the formula: the smaller, the more the first ranks count.
        depth: Pages that each retriever puts forward, or ``k`` where more are asked for. For every ``k`` up to
            it, a shorter answer is the beginning of a longer one.

    Raises:
        ValueError: If there is no retriever, the weights do not fit, or a number is out of its range.

    Example:
        >>> hybrid = HybridRetriever([lexical, dense], weights=[1, 0.5])  # doctest: +SKIP
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        weights: Sequence[float] | None = None,
        *,
        k_rrf: float = K_RRF,
        depth: int = DEPTH,
    ) -> None:
        self.retrievers = tuple(retrievers)
        self.weights = (1.0,) * len(self.retrievers) if weights is None else tuple(map(float, weights))
        if not self.retrievers:
            raise ValueError("a hybrid needs at least one retriever, got none")
        if len(self.weights) != len(self.retrievers):
            raise ValueError(f"expected {len(self.retrievers)} weights, one per retriever, got {len(self.weights)}")
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"weights must be above 0 and finite, got {self.weights}: leave a retriever out instead")
        if not 0 <= k_rrf < math.inf or depth < 1:
            raise ValueError(f"k_rrf must be at least 0 and depth at least 1, got {k_rrf} and {depth}")
        self._k_rrf = k_rrf
        self._depth = depth

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries; see :meth:`vrag_env.retrieval.base.Retriever.search`.

        Each retriever is asked once, with the whole batch.

        Raises:
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
        """
        check_request(k, where)
        depth = max(k, self._depth)
        rankings = [retriever.search(queries, depth, where) for retriever in self.retrievers]
        return [self._fuse(lists)[:k] for lists in zip(*rankings, strict=True)]

    def _fuse(self, rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
        """Fuse the rankings of one query."""
        parts: dict[str, list[float]] = {}
        for weight, hits in zip(self.weights, rankings, strict=True):
            for rank, hit in enumerate(hits, start=1):
                parts.setdefault(hit.page_id, []).append(weight / (self._k_rrf + rank))
        # fsum: pages whose ranks are swapped between two retrievers tie, whatever the order of the sum
        hits = [Hit(page_id, math.fsum(part)) for page_id, part in parts.items()]
        return sorted(hits, key=lambda hit: (-hit.score, hit.page_id))
