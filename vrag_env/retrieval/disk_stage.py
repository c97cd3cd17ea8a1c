"""The first stage of a search with the pooled vectors on disk: a candidate index of a table of embeddings.

Beside the table ``T`` of a corpus lies the directory ``T.candidates`` with a
:class:`~vrag_env.retrieval.candidate_index.CandidateIndex` of the same pooled vectors. Its pages are known by the
numbers of their rows in ``T`` and by their scales, so that an index of other content is never taken for this one's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vrag_env.errors import RetrieverError
from vrag_env.retrieval.candidate_index import CandidateIndex, Pooled
from vrag_env.retrieval.embeddings import EmbeddingTable
from vrag_env.retrieval.maxsim import Queries, Rows

FirstStage = Literal["auto", "memory", "disk"]
"""Where the pooled vectors are while searching; ``"auto"`` decides by their size."""

FIRST_STAGES: tuple[FirstStage, ...] = ("auto", "memory", "disk")

_NAME = "pooled"
_READ_PAGES = 4096
_INDEXED_VECTORS = 4096  # fewer would be one partition: nothing is found faster than by a scan


@dataclass(frozen=True)
class Probing:
    """How far a candidate index is looked into; see :class:`~vrag_env.retrieval.candidate_index.CandidateIndex`."""

    nprobes: int
    depth: int
    rescored: int


LADDER = (
    Probing(8, 200, 100),
    Probing(24, 1000, 400),
    Probing(48, 2000, 400),
    Probing(96, 4000, 1000),
    Probing(192, 8000, 2000),
)
"""What a build tries, from the fastest to the one that finds most."""


class PooledOnDisk:
    """Chooses rows of a table of embeddings by a candidate index.

    Args:
        table: The table.
        index: An index of the same pooled vectors; it may hold pages that the table does not show.

    Raises:
        RetrieverError: If the index lacks pages of the table, or is of other content.
    """

    def __init__(self, table: EmbeddingTable, index: CandidateIndex) -> None:
        self.index = index
        order = np.argsort(index.keys)
        places = order[np.minimum(np.searchsorted(index.keys[order], table.row_ids), len(order) - 1)]
        same = index.per_page == table.pooled_vectors and (index.keys[places] == table.row_ids).all()
        if not same or not (index.scales[places].astype(np.float32) == table.scales).all():
            raise RetrieverError(
                f"the candidate index of {table.name} is not of its present pages: run vrag index again with the same "
                "encoder"
            )
        self._places: Rows = places.astype(np.int64)  # ascending: both are in the order of the page ids

    def best(self, queries: Queries, count: int, rows: Rows | None = None) -> list[Rows]:
        """Choose candidates; see :meth:`vrag_env.retrieval.candidates.PooledIndex.best`."""
        every = rows is None and len(self._places) == len(self.index)
        places = None if every else self._places if rows is None else self._places[rows]
        return [np.searchsorted(self._places, found) for found in self.index.best(queries, count, places)]


def candidates_directory(corpus: Path, table: str) -> Path:
    """Directory of the candidate index of a table of embeddings."""
    return corpus / f"{table}.candidates"


def write_candidates(directory: Path, table: EmbeddingTable) -> CandidateIndex:
    """Write the candidate index of a table and build it; one that is there already is replaced at the end.

    Args:
        directory: Where it goes (:func:`candidates_directory`).
        table: The embeddings, of at least one page.
    """
    import lancedb

    def batches() -> Iterator[Pooled]:
        for low in range(0, len(table), _READ_PAGES):
            yield table.pooled(np.arange(low, min(low + _READ_PAGES, len(table))))

    index = CandidateIndex.write(lancedb.connect(directory), _NAME, batches(), table.row_ids)
    if len(index) * index.per_page >= _INDEXED_VECTORS:
        index.build()
    index.remove_old()
    return index


def open_candidates(directory: Path, stats: dict[str, Any]) -> CandidateIndex | None:
    """Open a candidate index, if there is one, with the settings that its build has measured.

    Args:
        directory: Where it is.
        stats: :attr:`EmbeddingTable.stats <vrag_env.retrieval.embeddings.EmbeddingTable.stats>`.
    """
    if not directory.is_dir():
        return None
    import lancedb

    settings = {name: int(stats[name]) for name in ("nprobes", "depth", "rescored") if name in stats}
    return CandidateIndex(lancedb.connect(directory), _NAME, **settings)


def drop_candidates(directory: Path) -> None:
    """Remove a candidate index, if there is one."""
    if directory.is_dir():
        shutil.rmtree(directory)
