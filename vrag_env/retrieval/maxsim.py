r"""MaxSim, exact to the last bit whatever the batch, the machine and the number of threads.

.. math:: s(q, p) = \sum_i \max_j \langle q_i, p_j \rangle

(ColBERT, arXiv:2004.12832.) A matrix product of floats depends in its last bits on the shapes that were multiplied,
since another order of additions rounds differently: a query would get other scores, and near ties another order,
alone than among 64. Here no addition rounds. Stored vectors are float16, so multiples of :math:`2^{-24}`; queries are
rounded to about the precision of float32 (:func:`grid`). The products are then multiples of one number, and their
sums fit the 53 bits of a float64 as long as the pages' vectors are no longer than 2 (models give length 1; beyond it,
results may differ in the last bits of a float64).

float64 is half as fast as float32, so :func:`scan` goes over many pages in float32 and says how far off it may be;
only pages that may be among the best are scored by :func:`exact_scores`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_BLOCK_COLUMNS = 128  # query vectors multiplied with them at once: the products take about as much
_BLOCK_VECTORS = 8192  # page vectors multiplied at once: 4 MiB in float32 with 128 dimensions, about a cache


class Queries:
    """A batch of queries, prepared to be multiplied.

    Args:
        vectors: One array ``(vectors, dim)`` per query, at least one query.

    Attributes:
        columns: All vectors side by side on the grid, ``(dim, vectors of all queries)``, float64.
        starts: First column of each query, and the number of columns.
        lengths: Sum of the lengths of each query's vectors, what an error of a score is relative to.

    Raises:
        ValueError: If a query is empty, is not finite, or has another number of dimensions than the first.
    """

    def __init__(self, vectors: Sequence[npt.NDArray[np.floating]]) -> None:
        dim = vectors[0].shape[-1]
        for query in vectors:
            if query.ndim != 2 or len(query) == 0 or query.shape[1] != dim or not np.isfinite(query).all():
                raise ValueError(
                    f"expected queries as finite arrays (vectors, {dim}) with at least one vector, got one of shape "
                    f"{query.shape}, {'finite' if np.isfinite(query).all() else 'with values that are not finite'}"
                )
        self.columns: npt.NDArray[np.floating] = np.ascontiguousarray(
            np.concatenate([grid(query) for query in vectors]).T
        )
        self.starts = _starts([len(query) for query in vectors])
        norms = np.sqrt(np.einsum("dc,dc->c", self.columns, self.columns))
        self.lengths: Float64 = np.add.reduceat(norms, self.starts[:-1])

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.starts) - 1

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return len(self.columns)

    def single(self) -> Queries:
        """The same in float32."""
        single = object.__new__(Queries)
        single.columns, single.starts, single.lengths = self.columns.astype(np.float32), self.starts, self.lengths
        return single

    def part(self, low: int, high: int) -> Queries:
        """Queries ``low`` to ``high``."""
        part = object.__new__(Queries)
        part.columns = self.columns[:, self.starts[low] : self.starts[high]]
        part.starts = self.starts[low : high + 1] - self.starts[low]
        part.lengths = self.lengths[low:high]
        return part


def grid(query: npt.NDArray[np.floating]) -> Float64:
    """Round a query's vectors so that a score with float16 vectors adds up without rounding.

    Args:
        query: ``(vectors, dim)``.

    Returns:
        The same in float64, every value a multiple of a power of two: for n vectors, about n * 2**-28 of the longest,
        which for 25 vectors of length 1 is the precision of float32.
    """
    wide = query.astype(np.float64)
    longest = float(np.sqrt(np.einsum("ij,ij->i", wide, wide).max()))
    if longest == 0:
        return wide
    step = 2.0 ** (np.ceil(np.log2(longest)) + np.ceil(np.log2(len(wide))) - 28)
    return np.asarray(np.round(wide / step) * step, dtype=np.float64)


def exact_scores(queries: Queries, pages: Sequence[Float16], wanted: npt.NDArray[np.bool_]) -> Float64:
    """Score pages for the queries that want them.

    Args:
        queries: The queries.
        pages: One array ``(vectors, dim)`` per page.
        wanted: Which queries want which pages, ``(queries, pages)``.

    Returns:
        Scores ``(queries, pages)``; minus infinity where not wanted.
    """
    if wanted.all():
        starts = _starts([len(page) for page in pages])
        scores = np.empty(wanted.shape)
        for low, high in _blocks(starts):
            part = np.concatenate(pages[low:high])
            scores[:, low:high] = _block_scores(part, starts[low:high] - starts[low], queries)
        return scores
    result = np.full(wanted.shape, -np.inf)
    counts = np.diff(queries.starts)
    for index, page in enumerate(pages):
        asking = np.flatnonzero(wanted[:, index])
        if len(asking):
            columns = queries.columns[:, np.repeat(wanted[:, index], counts)]
            best = _multiply(columns, _widen(page, np.float64)).max(axis=1)
            result[asking, index] = np.add.reduceat(best, _starts(counts[asking])[:-1])
    return result


def scan(queries: Queries, vectors: Float16, starts: Rows) -> Float32:
    """Score all of many pages, nearly.

    Args:
        queries: The queries.
        vectors: Vectors of the pages, one page after another, ``(vectors, dim)``.
        starts: First vector of each page, and the number of vectors.

    Returns:
        Scores ``(queries, pages)``, off by at most :func:`scan_error`.
    """
    single = queries.single()
    scores = np.empty((len(queries), len(starts) - 1), dtype=np.float32)
    for low, high in _blocks(starts):
        part = vectors[starts[low] : starts[high]]
        scores[:, low:high] = _block_scores(part, starts[low:high] - starts[low], single)
    return scores


def _block_scores(vectors: Float16, starts: Rows, queries: Queries) -> npt.NDArray[np.floating]:
    """Score a block of pages, ``(queries, pages)``, a few queries at a time so that the products stay in the cache."""
    wide = _widen(vectors, queries.columns.dtype)
    scores = np.empty((len(queries), len(starts)), dtype=queries.columns.dtype)
    low = 0
    while low < len(queries):
        high = max(low + 1, int(np.searchsorted(queries.starts, queries.starts[low] + _BLOCK_COLUMNS, "right")) - 1)
        part = queries.part(low, high)
        # A page's products lie side by side: their maximum is many times faster than across the rows of a matrix.
        best = np.maximum.reduceat(_multiply(part.columns, wide), starts, axis=1)
        scores[low:high] = np.add.reduceat(best, part.starts[:-1], axis=0)
        low = high
    return scores


def _widen(vectors: Float16, dtype: npt.DTypeLike) -> npt.NDArray[np.floating]:
    """Turn float16 into another precision."""
    if "torch" not in sys.modules:
        return vectors.astype(dtype)
    import torch  # the process has it already, and it reads float16 ten times as fast as numpy

    wide = torch.from_numpy(vectors).float()
    return np.asarray((wide.double() if dtype == np.float64 else wide).numpy())


def _multiply(columns: npt.NDArray[np.floating], wide: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Products ``(columns, vectors)``, by torch where it is loaded: its threads and numpy's would wait for another."""
    if "torch" not in sys.modules:
        return np.asarray(columns.T @ wide.T)
    import torch

    return np.asarray((torch.from_numpy(columns).T @ torch.from_numpy(wide).T).numpy())


def _blocks(starts: Rows) -> Iterator[tuple[int, int]]:
    """Split pages into runs of about :data:`_BLOCK_VECTORS` vectors, of one page at least."""
    low = 0
    while low < len(starts) - 1:
        high = max(low + 1, int(np.searchsorted(starts, starts[low] + _BLOCK_VECTORS, side="right")) - 1)
        yield low, high
        low = high


def scan_error(queries: Queries, longest: float) -> Float64:
    """Bound the error of :func:`scan` against :func:`exact_scores` for each query.

    A sum of n products in float32 is off by at most n * 2**-24 of the product of the lengths, a sum of m of these
    by m * 2**-24 more (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and the rounding of the
    query to float32 by 2**-24.

    Args:
        queries: The queries.
        longest: Length of the longest vector of the pages.
    """
    counts = np.diff(queries.starts)
    return np.asarray((queries.dim + counts + 2) * 2.0**-24 * 1.01 * queries.lengths * longest, dtype=np.float64)


def _starts(counts: npt.ArrayLike) -> Rows:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
