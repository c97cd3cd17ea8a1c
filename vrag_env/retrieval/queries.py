"""What every retriever does to a query before it reads it."""

from __future__ import annotations

from collections.abc import Collection

from vrag_env.corpus.text import clean_text

MAX_QUERY_CHARS = 4096
"""Longer queries are cut: every word costs work, and nobody asks with more."""


def clean_query(query: str) -> str:
    r"""Cut a query to :data:`MAX_QUERY_CHARS` and take out what is not text; may come out empty.

    >>> clean_query(" sales\x00 2021 ")
    'sales  2021'
    """
    return clean_text(query[:MAX_QUERY_CHARS]).strip()


def check_request(k: int, where: Collection[str] | None) -> None:
    """Raise ``ValueError`` unless ``k``, the number of hits, is at least 1 and ``where`` is no single text."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if isinstance(where, str):  # a collection of its letters, which would silently find nothing
        raise ValueError(f"where must be a collection of document ids, got a text: pass [{where!r}]")
