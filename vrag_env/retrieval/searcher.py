"""The search engine over a table of embeddings: exact where it counts, in little memory.

Two ways, with the same scores (:mod:`vrag_env.retrieval.maxsim`):

- *exact*: every page is compared. All vectors are in memory as float16 where they fit, and are read from storage for
  every batch of queries where they do not.
- *two-stage*: candidates are chosen by the pooled vectors, which are all that is in memory, or on disk too with a
  candidate index; their vectors are read from storage, once for all queries of a batch, and scored exactly. A page
  can be missed, its score or its place among those found can not be wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt

from vrag_env.errors import RetrieverError
from vrag_env.retrieval.base import Hit
from vrag_env.retrieval.candidate_index import CandidateIndex
from vrag_env.retrieval.candidates import PooledIndex, top
from vrag_env.retrieval.disk_stage import PooledOnDisk
from vrag_env.retrieval.embeddings import EmbeddingTable
from vrag_env.retrieval.maxsim import Float16, Float64, Queries, Rows, exact_scores, scan, scan_error
from vrag_env.retrieval.queries import check_request

SearchMode = Literal["auto", "exact", "two_stage"]

DEFAULT_CANDIDATES = 100
DEFAULT_MEMORY_BYTES = 512 * 2**20

_CHUNK_BYTES = 4 * 2**20  # page vectors read and scored at once in the second stage, and as much again read ahead
_STREAM_VECTORS = 128 * 1024  # page vectors read at once by an exact search from storage: 32 MiB


class Searcher:
    """Ranks the pages of a table of embeddings for encoded queries.

    Args:
        table: The pages.
        search: ``"exact"``, ``"two_stage"``, or ``"auto"``: exact if all vectors fit into ``memory_bytes``.
        candidates: Pages that two-stage search scores exactly for each query when 10 are asked for; more in
            proportion when more are. By default what the build found to be needed, or 100.
        memory_bytes: How much memory vectors may take.
        first_stage: An index on disk by which two-stage search chooses candidates; by default the pooled vectors are
            read into memory and scanned.

    Attributes:
        mode: ``"exact"`` or ``"two_stage"``.
        candidates: See above.

    Raises:
        RetrieverError: If the index is not of this table's pages.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        search: SearchMode = "auto",
        candidates: int | None = None,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        first_stage: CandidateIndex | None = None,
    ) -> None:
        if search not in ("auto", "exact", "two_stage"):
            raise ValueError(f"search must be 'auto', 'exact' or 'two_stage', got {search!r}")
        if candidates is not None and candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        self.table = table
        fits = table.nbytes <= memory_bytes
        self.mode: Literal["exact", "two_stage"]
        self.mode = ("exact" if fits else "two_stage") if search == "auto" else search
        self.candidates = candidates or int(table.stats.get("candidates", DEFAULT_CANDIDATES))
        self._pooled: PooledIndex | PooledOnDisk | None = None
        if self.mode == "two_stage":
            self._pooled = PooledIndex(*table.pooled()) if first_stage is None else PooledOnDisk(table, first_stage)
        self._memory = table.read(np.arange(len(table))) if self.mode == "exact" and fits else None

    @property
    def on_disk(self) -> bool:
        """Whether candidates are chosen by pooled vectors on disk."""
        return isinstance(self._pooled, PooledOnDisk)

    def search_vectors(
        self, queries: Sequence[npt.NDArray[np.floating]], k: int, where: Collection[str] | None = None
    ) -> list[list[Hit]]:
        """Rank pages for encoded queries.

        Args:
            queries: One array ``(vectors, dim)`` per query.
            k: Most hits per query, at least 1.
            where: Ids of the documents to search in; ``None`` searches all.

        Returns:
            One list per query, best first, ties broken by page id. The same query gets the same list, to the last
            bit of the scores, alone or among others.

        Raises:
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
            RetrieverError: If a query's vectors have another number of dimensions than the pages'.
        """
        check_request(k, where)
        rows = np.arange(len(self.table)) if where is None else self.table.rows_of(where)
        if not queries or not len(rows):
            return [[] for _ in queries]
        ranked = self._search(queries, k, rows)
        ids = self.table.page_ids
        return [[Hit(ids[row], score) for row, score in zip(*found, strict=True)] for found in ranked]

    def top_rows(self, queries: Sequence[npt.NDArray[np.floating]], k: int, rows: Rows) -> list[Rows]:
        """Rank some rows for encoded queries, as :meth:`search_vectors` does, without making hits.

        Args:
            queries: One array ``(vectors, dim)`` per query, at least one.
            k: Most rows per query, at least 1.
            rows: The pages to search in, as places in the table's ``page_ids``, ascending, at least one.
        """
        return [np.array(found, dtype=np.int64) for found, _ in self._search(queries, k, rows)]

    def _search(
        self, queries: Sequence[npt.NDArray[np.floating]], k: int, rows: Rows
    ) -> list[tuple[list[int], list[float]]]:
        prepared = self._prepare(queries)
        if self._pooled is None:
            return self._exact(prepared, rows, k)
        count = max(k, self.candidates, -(-self.candidates * k // 10))
        chosen = self._pooled.best(prepared, count, None if len(rows) == len(self.table) else rows)
        return self._rescore(prepared, chosen, k)

    def best_of(self, queries: Sequence[npt.NDArray[np.floating]], chosen: Sequence[Rows], k: int) -> list[Rows]:
        """Rank given candidates, some for each query, by their exact scores: the second stage alone."""
        ranked = self._rescore(self._prepare(queries), chosen, k)
        return [np.array(found, dtype=np.int64) for found, _ in ranked]

    def scores(self, queries: Sequence[npt.NDArray[np.floating]], rows: Rows | None = None) -> Float64:
        """Compute MaxSim of queries with pages.

        Args:
            queries: One array ``(vectors, dim)`` per query, at least one.
            rows: The pages, as places in the table's ``page_ids``; by default all.

        Returns:
            Scores ``(queries, pages)``.
        """
        prepared = self._prepare(queries)
        rows = np.arange(len(self.table)) if rows is None else rows
        scores = np.empty((len(prepared), len(rows)))
        for low, pages in self._chunks(rows):
            wanted = np.ones((len(prepared), len(pages)), dtype=bool)
            scores[:, low : low + len(pages)] = exact_scores(prepared, pages, wanted)
        return scores

    def _prepare(self, queries: Sequence[npt.NDArray[np.floating]]) -> Queries:
        if any(query.shape[-1] != self.table.dim for query in queries):
            other = next(query.shape[-1] for query in queries if query.shape[-1] != self.table.dim)
            raise RetrieverError(
                f"the vectors of {self.table.name} have {self.table.dim} dimensions, the query's {other}: the pages "
                "were encoded by another model"
            )
        return Queries(queries)

    def _exact(self, queries: Queries, rows: Rows, k: int) -> list[tuple[list[int], list[float]]]:
        if k >= len(rows):
            return self._rescore(queries, [rows] * len(queries), k)
        nearly = np.empty((len(queries), len(rows)), dtype=np.float32)
        for low, high, vectors, starts in self._spans(rows):
            nearly[:, low:high] = scan(queries, vectors, starts)
        error = scan_error(queries, float(self.table.norms[rows].max()))
        # A page that is among the best k is at most two errors below the k-th best of the scan.
        kth = np.partition(nearly, len(rows) - k, axis=1)[:, len(rows) - k]
        floor = kth - 2 * error
        return self._rescore(queries, [rows[row >= low] for row, low in zip(nearly, floor, strict=True)], k)

    def _spans(self, rows: Rows) -> Iterator[tuple[int, int, Float16, Rows]]:
        """Yield pages by their places in ``rows``, with their vectors and first vectors (:func:`maxsim.scan`)."""
        if self._memory is not None and len(rows) == len(self.table):
            yield 0, len(rows), *self._memory
            return
        block = np.cumsum(self.table.counts[rows]) // _STREAM_VECTORS
        low = 0
        for pages in self._read(np.split(rows, np.flatnonzero(np.diff(block)) + 1)):
            starts = np.concatenate([[0], np.cumsum([len(page) for page in pages])]).astype(np.int64)
            yield low, low + len(pages), np.concatenate(pages), starts
            low += len(pages)

    def _chunks(self, rows: Rows) -> Iterator[tuple[int, list[Float16]]]:
        """Yield the vectors of pages, some at a time, with the place of the first."""
        step = max(1, _CHUNK_BYTES * len(self.table) // self.table.nbytes)
        low = 0
        for pages in self._read(np.split(rows, range(step, len(rows), step))):
            yield low, pages
            low += len(pages)

    def _read(self, parts: Sequence[Rows]) -> Iterator[list[Float16]]:
        """Yield the vectors of pages, a part at a time; the next part is read while this one is used."""
        if self._memory is not None:
            vectors, starts = self._memory
            for part in parts:
                yield [vectors[starts[row] : starts[row + 1]] for row in part.tolist()]
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.table.take, parts[0])
            for index in range(len(parts)):
                pages = ahead.result()
                if index + 1 < len(parts):
                    ahead = reader.submit(self.table.take, parts[index + 1])
                yield pages

    def _rescore(self, queries: Queries, chosen: Sequence[Rows], k: int) -> list[tuple[list[int], list[float]]]:
        """Score the pages chosen for each query exactly, and rank them: rows and scores, best first."""
        union = np.unique(np.concatenate(chosen))
        scores = [np.empty(len(rows)) for rows in chosen]
        for low, pages in self._chunks(union):
            block = union[low : low + len(pages)]
            places = [np.searchsorted(rows, (block[0], block[-1] + 1)) for rows in chosen]
            wanted = np.zeros((len(chosen), len(block)), dtype=bool)
            for query, (first, last) in enumerate(places):
                wanted[query, np.searchsorted(block, chosen[query][first:last])] = True
            found = exact_scores(queries, pages, wanted)
            for query, (first, last) in enumerate(places):
                scores[query][first:last] = found[query, wanted[query]]
        return [_ranked(rows, values, k) for rows, values in zip(chosen, scores, strict=True)]


def _ranked(rows: Rows, scores: Float64, k: int) -> tuple[list[int], list[float]]:
    best = top(scores, k)  # ascending rows, which is the order of the page ids
    best = best[np.argsort(-scores[best], kind="stable")]
    return rows[best].tolist(), scores[best].tolist()
