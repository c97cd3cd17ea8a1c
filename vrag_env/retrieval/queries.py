"""What every retriever does to a query before it reads it."""

from __future__ import annotations

from vrag_env.corpus.text import clean_text

MAX_QUERY_CHARS = 4096
"""Longer queries are cut: every word costs work, and nobody asks with more."""


def clean_query(query: str) -> str:
    r"""Cut a query to :data:`MAX_QUERY_CHARS` and take out what is not text; may come out empty.

    >>> clean_query(" sales\x00 2021 ")
    'sales  2021'
    """
    return clean_text(query[:MAX_QUERY_CHARS]).strip()


def check_k(k: int) -> None:
    """Raise ``ValueError`` unless ``k``, the number of hits asked for, is at least 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
