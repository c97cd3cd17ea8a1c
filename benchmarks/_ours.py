"""Our engine as a peer: written once, opened from disk, searched in its automatic mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from _peers import Float32
from synthetic_pages import Float16, SyntheticPages

from vrag_env.retrieval.embeddings import EmbeddingTable, PageVectors, table_name, write_embeddings, write_stats
from vrag_env.retrieval.recall import measure_recall
from vrag_env.retrieval.searcher import Searcher

OURS = "vrag (automatic)"
_ENCODER = ("synthetic", "0")


class Ours:
    """The engine over a table on disk; see :class:`_peers.Peer`."""

    name = OURS
    batched = True

    def __init__(self, directory: Path) -> None:
        import lancedb

        table = EmbeddingTable.open(lancedb.connect(directory), table_name(*_ENCODER))
        self._places = {page_id: place for place, page_id in enumerate(table.page_ids)}
        self._searcher = Searcher(table)

    @staticmethod
    def write(directory: Path, pages: SyntheticPages, stored: Iterable[Sequence[Float16]]) -> None:
        """Write the first pages, given in batches, to a new table, streamed, and measure its recall."""
        import lancedb

        def batches() -> Iterator[list[PageVectors]]:
            number = 0
            for batch in stored:
                yield [
                    PageVectors(pages.page_id(number + place), pages.document(number + place), "", vectors)
                    for place, vectors in enumerate(batch)
                ]
                number += len(batch)

        database = lancedb.connect(directory)
        name = write_embeddings(database, *_ENCODER, batches())
        measured = measure_recall(EmbeddingTable.open(database, name))  # as every build does
        write_stats(database.open_table(name), {"candidates": measured.candidates, "recall": measured.recall})

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """See :class:`_peers.Peer`."""
        return [[self._places[hit.page_id] for hit in hits] for hits in self._searcher.search_vectors(queries, k)]
