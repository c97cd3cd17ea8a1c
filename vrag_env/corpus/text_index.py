"""The full-text indexes of the table of pages: whether they cover it, and how they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vrag_env.corpus.text import TOKENIZERS

if TYPE_CHECKING:
    import lancedb

TEXT_INDEXES = {"search_text": "text_idx", "search_words": "words_idx"}
"""Name of the full-text index of each searched column."""


def has_text_index(table: lancedb.table.Table) -> bool:
    """Whether the table can be searched by text at all."""
    return set(TEXT_INDEXES.values()) <= {index.name for index in table.list_indices()}


def text_index_covers(table: lancedb.table.Table, pages: int) -> bool:
    """Whether the indexes hold each of the table's ``pages`` rows and nothing of rows that are gone."""
    if not has_text_index(table):
        return False
    for name in TEXT_INDEXES.values():
        stats = table.index_stats(name)
        if stats is None or stats.num_unindexed_rows or stats.num_indexed_rows != pages:
            return False
    return True


def build_text_index(table: lancedb.table.Table) -> None:
    """Make both indexes anew; the table must be at its newest version, and the corpus held for writing."""
    from lancedb.index import FTS

    for column, name in TEXT_INDEXES.items():
        table.create_index(column, config=FTS(**TOKENIZERS[column]), replace=True, name=name)
