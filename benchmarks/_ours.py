"""Our engine as a peer: written once, opened from disk, searched in its automatic mode."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
from _peers import Float32
from synthetic_pages import SyntheticPages

from vrag_env.retrieval.embeddings import EmbeddingTable, PageVectors, record_batch, table_name, write_stats
from vrag_env.retrieval.recall import measure_recall
from vrag_env.retrieval.searcher import Searcher

OURS = "vrag (automatic)"
_ENCODER = ("synthetic", "0")


_PART = 100  # pages made by a process at once


def _rows(seed: int, low: int, count: int) -> pa.RecordBatch:
    """Rows of the table for some pages, as a build makes them of what the encoder gives."""
    pages = SyntheticPages(seed)
    numbers = range(low, min(low + _PART, count))
    vectors = [PageVectors(pages.page_id(number), pages.document(number), "", pages.page(number)) for number in numbers]
    return record_batch(_ENCODER[0], vectors)


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
    def write(directory: Path, pages: SyntheticPages, count: int) -> None:
        """Write the first pages to a new table, made by all cores, and measure its recall."""
        import lancedb

        database, name = lancedb.connect(directory), table_name(*_ENCODER)
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
            batches = processes.map(_rows, repeat(pages.seed), range(0, count, _PART), repeat(count))
            first = next(batches)
            reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
            database.create_table(name, reader)
        measured = measure_recall(EmbeddingTable.open(database, name))  # as every build does
        write_stats(database.open_table(name), {"candidates": measured.candidates, "recall": measured.recall})

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """See :class:`_peers.Peer`."""
        return [[self._places[hit.page_id] for hit in hits] for hits in self._searcher.search_vectors(queries, k)]
