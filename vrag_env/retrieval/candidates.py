r"""The first stage of a two-stage search: MaxSim on a few quantised vectors per page, all in memory.

.. math:: c(q, p) = \frac{a_p}{a_q} \sum_i \max_j \langle \hat q_i, \hat p_j \rangle

with the pooled vectors of the page and the vectors of the query as integers of eight bits. Sums of integers do not
round, so the candidates of a query are the same alone or in a batch, with any library and any number of threads.
Being free to choose, :meth:`PooledIndex.scores` takes the fastest product there is: eight-bit instructions through
torch where the process has loaded it already, as it has with any encoder, or float32 (which holds these integers
exactly) otherwise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vrag_env.retrieval.maxsim import Float64, Queries, Rows
from vrag_env.retrieval.pooling import Int8, levels

Int32 = npt.NDArray[np.int32]

_BLOCK_VALUES = 400_000  # products held at once: 1.6 MB stay in the cache until the maxima are taken
_MIN_BLOCK = 512  # page vectors; with fewer, starting a product costs more than the product
_TRIAL_VECTORS = 16_384
_BATCH_SCORES = 2**22  # scores held at once: 32 MiB

# (integers of pages (vectors, dim), integers of queries (dim, columns), pooled vectors per page)
# -> maxima (columns, pages)
_Kernel = Callable[[Int8, Int8, int], Int32]


class PooledIndex:
    """Pooled vectors of pages, in memory.

    Args:
        codes: ``(pages, vectors per page, dim)``, int8 (:func:`~vrag_env.retrieval.pooling.quantise`).
        scales: What multiplies the integers of each page, ``(pages,)``.
    """

    def __init__(self, codes: Int8, scales: npt.NDArray[np.floating]) -> None:
        self.codes = codes
        self.scales = scales.astype(np.float64)
        self._kernel: _Kernel | None = None

    def __len__(self) -> int:
        """Number of pages."""
        return len(self.codes)

    def scores(self, queries: Queries, rows: Rows | None = None) -> Float64:
        """Score pages by their pooled vectors.

        Args:
            queries: The queries.
            rows: The pages to score; by default all.

        Returns:
            Scores ``(queries, pages)``, to be compared within a query only.
        """
        count = len(self) if rows is None else len(rows)
        scores = np.empty((len(queries), count))
        columns = _integers(queries)
        per_page = self.codes.shape[1]
        step = max(_MIN_BLOCK, _BLOCK_VALUES // columns.shape[1]) // per_page + 1
        if self._kernel is None:
            self._kernel = _fastest(self.codes, columns)
        for low in range(0, count, step):
            block = self.codes[low : low + step] if rows is None else self.codes[rows[low : low + step]]
            maxima = self._kernel(block.reshape(-1, block.shape[2]), columns, per_page)
            scores[:, low : low + step] = np.add.reduceat(maxima, queries.starts[:-1], axis=0, dtype=np.int64)
        scores *= self.scales if rows is None else self.scales[rows]
        return scores

    def best(self, queries: Queries, count: int, rows: Rows | None = None) -> list[Rows]:
        """Choose candidates.

        Args:
            queries: The queries.
            count: How many for each query.
            rows: The pages to choose from, ascending; by default all.

        Returns:
            The pages of each query, ascending; among equals the first ones.
        """
        pages = len(self) if rows is None else len(rows)
        every = np.arange(pages) if rows is None else rows
        if count >= pages:
            return [every] * len(queries)
        found: list[Rows] = []
        step = max(1, _BATCH_SCORES // pages)
        for low in range(0, len(queries), step):
            scores = self.scores(queries.part(low, min(low + step, len(queries))), rows)
            found.extend(every[top(row, count)] for row in scores)
        return found


def top(scores: npt.NDArray[np.floating], count: int) -> Rows:
    """Places of the ``count`` highest scores, ascending; among equals the first ones.

    >>> top(np.array([2.0, 3.0, 1.0, 2.0]), 2).tolist()
    [0, 1]
    """
    if count >= len(scores):
        return np.arange(len(scores))
    last = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > last)
    equal = np.flatnonzero(scores == last)[: count - len(above)]
    return np.sort(np.concatenate([above, equal]))


def _integers(queries: Queries) -> Int8:
    """Quantise each query with the number of levels of the pages; its own scale does not change its ranking."""
    largest = np.maximum.reduceat(np.abs(queries.columns).max(axis=0), queries.starts[:-1])
    factor = levels(queries.dim) / np.where(largest > 0, largest, 1)
    return np.round(queries.columns * np.repeat(factor, np.diff(queries.starts))).astype(np.int8)


def _fastest(codes: Int8, columns: Int8) -> _Kernel:
    """Try the kernels on a few pages: they give the same integers, and which is fastest depends on the processor."""
    if "torch" not in sys.modules:
        return _by_numpy
    trial = codes[: max(1, _TRIAL_VECTORS // codes.shape[1])]
    flat = trial.reshape(-1, trial.shape[2])

    def seconds(kernel: _Kernel) -> float:
        times = []
        for _ in range(4):  # the first sets up threads and buffers
            started = time.perf_counter()
            kernel(flat, columns, codes.shape[1])
            times.append(time.perf_counter() - started)
        return min(times)

    return min((kernel for kernel in (_by_numpy, _by_torch_float, _by_torch_int) if _exact(kernel)), key=seconds)


def _exact(kernel: _Kernel) -> bool:
    """Whether the largest numbers come out right: eight-bit instructions of some older processors saturate."""
    largest = np.full((64, 128), 127, dtype=np.int8)
    signs = np.where(np.arange(32) % 2, 127, -127).astype(np.int8) * np.ones((128, 1), dtype=np.int8)
    return bool((largest.astype(np.int64) @ signs == kernel(largest, signs, 1).T).all())


# The products of a page lie side by side, where their maximum is fastest.


def _by_numpy(pages: Int8, columns: Int8, per_page: int) -> Int32:
    products = columns.astype(np.float32).T @ pages.astype(np.float32).T
    return np.asarray(np.maximum.reduceat(products, range(0, len(pages), per_page), axis=1), dtype=np.int32)


def _by_torch_float(pages: Int8, columns: Int8, per_page: int) -> Int32:
    import torch

    products = torch.from_numpy(columns).float().T @ torch.from_numpy(pages).float().T
    return np.asarray(products.view(len(products), -1, per_page).amax(dim=2).numpy(), dtype=np.int32)


def _by_torch_int(pages: Int8, columns: Int8, per_page: int) -> Int32:
    import torch

    # int8 x int8 -> int32. Not transposed as above: for few dimensions or columns torch 2.12 gets that wrong.
    products = torch._int_mm(torch.from_numpy(pages), torch.from_numpy(columns))
    return np.asarray(products.view(-1, per_page, products.shape[1]).amax(dim=1).numpy().T)
