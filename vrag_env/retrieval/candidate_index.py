r"""Candidates from disk: an approximate index of pooled vectors, for corpora whose pooled vectors exceed memory.

A table of LanceDB with one row per pooled vector and an IVF index over them. For every vector of a query the
nearest pooled vectors are looked up; the pages of all of these are the ones considered, with the score

.. math:: \tilde s(q, p) = \sum_i \begin{cases} \max_j \langle q_i, p_j \rangle & \text{if found for } q_i \\
          \min_{\text{found for } q_i} \langle q_i, \cdot \rangle & \text{otherwise} \end{cases}

(a page that was not found for a query vector has at most the similarity of the last one found: the imputation of
XTR, arXiv:2304.01982). The best by this score are compared again as
:class:`~vrag_env.retrieval.candidates.PooledIndex` does, with their integers read from disk. With all partitions
probed and everything found, the candidates are exactly those of a ``PooledIndex`` in memory; both have the method
:meth:`~CandidateIndex.best`, so that one can stand for the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vrag_env.errors import RetrieverError
from vrag_env.retrieval.candidates import PooledIndex
from vrag_env.retrieval.maxsim import Queries, Rows
from vrag_env.retrieval.pooling import Int8

if TYPE_CHECKING:
    import lancedb

__all__ = ["CandidateIndex", "IndexKind"]

IndexKind = Literal["flat", "sq", "rq"]
"""How the index stores a vector: as it is, 8 bits a dimension, or 1 bit a dimension (RaBitQ, arXiv:2405.12497)."""

Pooled = tuple[Int8, npt.NDArray[np.floating]]
"""Pooled vectors of some pages as integers ``(pages, vectors per page, dim)``, and their scales ``(pages,)``."""

_VERSION_KEY = b"vrag_vectors_version"
_KEPT = timedelta(days=7)
_ROWS_PER_WRITE = 500_000
_ROWS_PER_PARTITION = 4096  # 16 million rows get about 4,000 partitions, the square root: both steps take as long


class CandidateIndex:
    """Finds the pages that are worth an exact comparison, with the pooled vectors on disk.

    Pages are known by their places ``0, 1, 2, …`` in the order in which they were written.

    Args:
        database: Where the index is.
        name: Name of the index.
        nprobes: Partitions looked into per query vector: more find more and take longer.
        depth: Pooled vectors looked up per query vector.
        rescored: Pages whose pooled vectors are read and compared exactly.

    Raises:
        ValueError: If one of the numbers is below 1.
        RetrieverError: If there is no such index, or it was not written to its end.

    Example:
        >>> import lancedb, tempfile
        >>> codes = 127 * np.eye(4, dtype=np.int8).reshape(2, 2, 4)  # two pages of two vectors
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     batches = [(codes, np.full(2, 1 / 127))]
        ...     index = CandidateIndex.write(lancedb.connect(directory), "pooled", batches)
        ...     index.best(Queries([np.array([[0.0, 0.0, 0.0, 1.0]])]), 1)[0].tolist()
        [1]
    """

    def __init__(
        self,
        database: lancedb.DBConnection,
        name: str,
        *,
        nprobes: int = 24,
        depth: int = 1000,
        rescored: int = 400,
    ) -> None:
        for argument, value in (("nprobes", nprobes), ("depth", depth), ("rescored", rescored)):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}")
        tables = set(database.list_tables(limit=10_000).tables)
        if not {name, _scales_name(name)} <= tables:  # the scales are written last
            raise RetrieverError(f"there is no whole candidate index {name!r}: write it (CandidateIndex.write)")
        pages = database.open_table(_scales_name(name)).to_arrow()
        self._database = database
        self._name = name
        self._table: lancedb.table.Table = database.open_table(name)
        # What the scales were written for: the vectors of an index that replaces this one are other versions.
        self._table.checkout(int(pages.schema.metadata[_VERSION_KEY]))
        self._scales: npt.NDArray[np.float64] = pages["scale"].to_numpy()
        self._keys: npt.NDArray[np.uint64] = pages["key"].to_numpy()
        self._per_page = self._table.count_rows() // len(self._scales)
        self.nprobes = nprobes
        self.depth = depth
        self.rescored = rescored

    def __len__(self) -> int:
        """Number of pages."""
        return len(self._scales)

    @property
    def per_page(self) -> int:
        """Pooled vectors of a page."""
        return self._per_page

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """What :meth:`write` was given to know the pages by, ``(pages,)``."""
        return self._keys

    @property
    def scales(self) -> npt.NDArray[np.float64]:
        """What multiplies the integers of each page, ``(pages,)``."""
        return self._scales

    @classmethod
    def write(
        cls,
        database: lancedb.DBConnection,
        name: str,
        batches: Iterable[Pooled],
        keys: npt.NDArray[np.uint64] | None = None,
        **settings: int,
    ) -> CandidateIndex:
        """Write the pooled vectors of all pages, streamed; call :meth:`build` afterwards.

        An index of this name that is there already is replaced when all is written; who has opened it before goes on
        with the old one. Without :meth:`build` a search scans the table.

        Args:
            database: Where the index goes.
            name: Its name.
            batches: Pooled vectors of the pages in order, as many for each page.
            keys: A number to know each page by, kept with the index; by default its place.
            settings: See the class.

        Raises:
            RetrieverError: If there are no pages.
        """
        written: lancedb.table.Table | None = None
        scales: list[npt.NDArray[np.floating]] = []
        waiting: list[pa.Table] = []
        pages = 0
        for codes, scale in batches:
            waiting.append(_rows(codes, scale, pages))
            scales.append(scale)
            pages += len(codes)
            if sum(rows.num_rows for rows in waiting) >= _ROWS_PER_WRITE:
                written = _append(database, name, written, waiting)
                waiting = []
        if waiting:
            written = _append(database, name, written, waiting)
        if written is None:
            raise RetrieverError("no pages were given to the candidate index")
        places = np.arange(pages, dtype=np.uint64) if keys is None else keys
        _commit(database, name, written.version, np.concatenate(scales), places)
        return cls(database, name, **settings)

    def build(self, kind: IndexKind = "rq", partitions: int | None = None) -> None:
        """Make the index over the pooled vectors.

        Args:
            kind: How vectors are kept in it; see :data:`IndexKind`.
            partitions: Number of partitions; by default one per 4,096 vectors.
        """
        from lancedb.index import IvfFlat, IvfRq, IvfSq

        config = {"flat": IvfFlat, "sq": IvfSq, "rq": IvfRq}[kind]
        if partitions is None:
            partitions = max(1, math.ceil(len(self) * self._per_page / _ROWS_PER_PARTITION))
        self._table.checkout_latest()
        self._table.create_index("vector", config=config(distance_type="dot", num_partitions=partitions), replace=True)
        self._table.checkout_latest()
        _commit(self._database, self._name, self._table.version, self._scales, self._keys)
        self._table.checkout(self._table.version)

    def remove_old(self) -> None:
        """Free the disk of indexes that this one has replaced a week ago or earlier."""
        for name in (self._name, _scales_name(self._name)):
            self._database.open_table(name).optimize(cleanup_older_than=_KEPT)

    def best(self, queries: Queries, count: int, rows: Rows | None = None) -> list[Rows]:
        """Choose candidates; see :meth:`vrag_env.retrieval.candidates.PooledIndex.best`.

        Args:
            queries: The queries.
            count: How many for each query.
            rows: The pages to choose from, ascending; by default all.

        Returns:
            The pages of each query, ascending; among equals the first ones.
        """
        pages = np.arange(len(self)) if rows is None else rows
        if count >= len(pages):
            return [pages] * len(queries)
        wanted = max(count, self.rescored)
        condition = None if rows is None else _between(rows)
        found = []
        for number in range(len(queries)):
            query = queries.part(number, number + 1)
            # Fewer than the index would leave: compare them all.
            near = pages if len(pages) <= wanted else self._nearest(query, wanted, condition)
            found.append(near[self._read(near).best(query, count)[0]])
        return found

    def _nearest(self, query: Queries, wanted: int, condition: str | None) -> Rows:
        """Pages with the highest imputed scores, ascending."""
        vectors = query.columns.T.astype(np.float32)
        request: Any = self._table.search(list(vectors), vector_column_name="vector").distance_type("dot")
        request = request.nprobes(self.nprobes).limit(max(self.depth, wanted)).select(["page", "_distance"])
        if condition is not None:
            request = request.where(condition, prefilter=True)
        answer = request.to_arrow()
        similarity = 1 - answer["_distance"].to_numpy()
        # With a single query vector LanceDB leaves the number of the vector out.
        single = len(vectors) == 1
        which = np.zeros(len(similarity), dtype=np.int32) if single else answer["query_index"].to_numpy()
        pages, column = np.unique(answer["page"].to_numpy(), return_inverse=True)
        last = np.full(len(vectors), np.inf, dtype=np.float32)
        np.minimum.at(last, which, similarity)
        scores = np.repeat(last[:, None], len(pages), axis=1)
        np.maximum.at(scores, (which, column), similarity)
        order = np.argsort(-scores.sum(axis=0), kind="stable")[:wanted]
        return np.sort(pages[order]).astype(np.int64)

    def _read(self, pages: Rows) -> PooledIndex:
        """Read the integers of some pages, given in ascending order."""
        offsets = pages[:, None] * self._per_page + np.arange(self._per_page)
        answer = self._table.take_offsets(offsets.reshape(-1).tolist()).select(["page", "vector"]).to_arrow()
        column = answer["vector"].combine_chunks()
        dim = column.type.list_size
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        vectors = vectors[np.argsort(answer["page"].to_numpy(), kind="stable")].reshape(len(pages), -1, dim)
        # float16 keeps eleven bits, so rounding finds the integers of seven bits again.
        codes = np.round(vectors.astype(np.float64) / self._scales[pages, None, None]).astype(np.int8)
        return PooledIndex(codes, self._scales[pages])


def _scales_name(name: str) -> str:
    return f"{name}_scales"


def _commit(
    database: lancedb.DBConnection,
    name: str,
    version: int,
    scales: npt.NDArray[np.floating],
    keys: npt.NDArray[np.uint64],
) -> None:
    """Make a version of the vectors the one that is opened from now on, in one step."""
    pages = pa.table({"scale": pa.array(scales, pa.float64()), "key": pa.array(keys, pa.uint64())})
    pages = pages.replace_schema_metadata({_VERSION_KEY: str(version)})
    database.create_table(_scales_name(name), pages, mode="overwrite")


def _rows(codes: Int8, scales: npt.NDArray[np.floating], first: int) -> pa.Table:
    pages, per_page, dim = codes.shape
    vectors = (codes * scales[:, None, None]).astype(np.float16)
    places = np.repeat(np.arange(first, first + pages, dtype=np.int32), per_page)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float16()), dim)
    return pa.table({"page": places, "vector": flat})


def _append(
    database: lancedb.DBConnection, name: str, table: lancedb.table.Table | None, waiting: Sequence[pa.Table]
) -> lancedb.table.Table:
    rows = pa.concat_tables(waiting)
    if table is None:
        return database.create_table(name, rows, mode="overwrite")
    table.add(rows)
    return table


def _between(pages: Rows) -> str:
    """SQL filter for pages by runs of neighbouring places: the pages of a document are neighbours."""
    runs = np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1)
    return " OR ".join(f"(page BETWEEN {run[0]} AND {run[-1]})" for run in runs)
