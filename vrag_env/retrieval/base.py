"""What a retriever is: queries in, ranked pages out, always in batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Hit:
    """One retrieval result.

    Attributes:
        page_id: The page found.
        score: The retriever's own score, higher is better; not comparable between retrievers.
    """

    page_id: str
    score: float


@runtime_checkable
class Retriever(Protocol):
    """Ranks the pages of one corpus."""

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries.

        Args:
            queries: Query texts; an empty or unmatched query gives an empty list.
            k: Most hits per query, at least 1.
            where: Ids of the documents to search in; ``None`` searches all.

        Returns:
            One list per query, best first, at most ``k`` hits, ties broken by page id.
        """
        ...
