"""The engines that :mod:`retrieval_speed` compares, behind one method: queries in, page numbers out.

All of them hold the same pages. The ones that search in memory share one float32 array of all vectors, so that
the comparison fits into memory once; they are given it ready to use, and what that takes is not counted.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vrag_env.errors import missing_extra

Float32 = npt.NDArray[np.float32]

_BLOCK_VECTORS = 8192  # page vectors multiplied at once by the flat matmul: 4 MiB


class Peer(Protocol):
    """An engine over a fixed set of pages."""

    name: str
    batched: bool
    """Whether one call answers several queries together; otherwise they are answered one after another."""

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """Return the numbers of the best ``k`` pages of every query, best first."""


@dataclass(frozen=True)
class Absent:
    """A peer that could not take part, and why."""

    name: str
    reason: str


class PagesInMemory:
    """All vectors of the pages in one array.

    Args:
        vectors: Rows of all pages, one page after another ``(vectors, dim)``, float32.
        counts: Vectors of every page.
    """

    def __init__(self, vectors: Float32, counts: Sequence[int]) -> None:
        self.vectors = vectors
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.pages = [vectors[low:high] for low, high in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def first(self, pages: int) -> PagesInMemory:
        """The first pages, without a copy."""
        return PagesInMemory(self.vectors[: self.starts[pages]], np.diff(self.starts[: pages + 1]).tolist())

    def batches(self, size: int = 128) -> Iterator[list[npt.NDArray[np.float16]]]:
        """Yield the pages as they are stored, in lists."""
        for low in range(0, len(self.pages), size):
            yield [page.astype(np.float16) for page in self.pages[low : low + size]]


def best(scores: npt.NDArray[Any], k: int) -> list[list[int]]:
    """Numbers of the highest scores of every row, highest first."""
    return [np.argsort(-row, kind="stable")[:k].tolist() for row in np.asarray(scores)]


class ScoreMultiVector:
    """colpali-engine's ``score_multi_vector`` on the CPU with its default batch size."""

    batched = True

    def __init__(self, pages: PagesInMemory, dtype: str = "float32") -> None:
        import torch

        try:
            from colpali_engine.utils.processing_utils import BaseVisualRetrieverProcessor
        except ImportError as error:
            raise missing_extra("colpali_engine", "colvision") from error
        self.name = "colpali-engine score_multi_vector" + ("" if dtype == "float32" else f" ({dtype})")
        self._score: Any = BaseVisualRetrieverProcessor.score_multi_vector
        self._dtype = getattr(torch, dtype)
        self._tensor: Any = torch.from_numpy
        self._pages = [torch.from_numpy(page).to(self._dtype) for page in pages.pages]

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """See :class:`Peer`."""
        asked = [self._tensor(query).to(self._dtype) for query in queries]
        return best(self._score(asked, self._pages, device="cpu").numpy(), k)


class FlatMatmul:
    """One product of all page vectors with all query vectors and the maximum of each page, in blocks.

    A single product of 64 queries with 20,000 pages would fill 90 GB: blocks of 8,192 vectors stay in the cache.
    """

    name = "flat matmul + segment max (numpy)"
    batched = True

    def __init__(self, pages: PagesInMemory) -> None:
        self._pages = pages

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """See :class:`Peer`."""
        stacked = np.ascontiguousarray(np.concatenate(queries).T)  # (dim, query vectors)
        firsts = np.concatenate([[0], np.cumsum([len(query) for query in queries])[:-1]])
        starts, vectors = self._pages.starts, self._pages.vectors
        scores = np.empty((len(starts) - 1, len(queries)), dtype=np.float32)
        low = 0
        while low < len(scores):
            high = max(low + 1, int(np.searchsorted(starts, starts[low] + _BLOCK_VECTORS, side="right")) - 1)
            product = vectors[starts[low] : starts[high]] @ stacked
            maxima = np.maximum.reduceat(product, starts[low:high] - starts[low], axis=0)
            scores[low:high] = np.add.reduceat(maxima, firsts, axis=1)
            low = high
        return best(scores.T, k)


class MaxSimCPU:
    """maxsim-cpu: MaxSim of one query with a list of pages, compiled."""

    name = "maxsim-cpu"
    batched = False

    def __init__(self, pages: PagesInMemory) -> None:
        maxsim_cpu: Any = importlib.import_module("maxsim_cpu")  # it has no types
        self._scores = maxsim_cpu.maxsim_scores_variable
        self._pages = pages.pages

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """See :class:`Peer`."""
        return best(np.stack([self._scores(query, self._pages) for query in queries]), k)


class LanceMultivector:
    """LanceDB's own search over a multi-vector column of float16, cosine.

    Args:
        directory: Where the table is.
        indexed: Search through the index with 64 probes, 100 candidates and exact re-scoring (``refine_factor=1``):
            with fewer, the scores are not MaxSim and a third to a half of the best ten is missed. Otherwise the
            table is scanned.
    """

    batched = False

    def __init__(self, directory: Path, *, indexed: bool) -> None:
        import lancedb

        self.name = "LanceDB multivector " + ("IVF_SQ index" if indexed else "without index")
        self._table = lancedb.connect(directory).open_table("pages")
        self._indexed = indexed

    @staticmethod
    def write(directory: Path, batches: Iterable[Sequence[npt.NDArray[np.float16]]]) -> None:
        """Write pages to a new table, streamed."""
        import lancedb
        import pyarrow as pa

        table = None
        number = 0
        for batch in batches:
            dim = batch[0].shape[1]
            flat = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(batch).reshape(-1), pa.float16()), dim)
            offsets = pa.array(np.concatenate([[0], np.cumsum([len(page) for page in batch])]), pa.int32())
            numbers = pa.array(range(number, number + len(batch)), pa.int32())
            rows = pa.table({"page": numbers, "vectors": pa.ListArray.from_arrays(offsets, flat)})
            if table is None:
                table = lancedb.connect(directory).create_table("pages", rows)
            else:
                table.add(rows)
            number += len(batch)

    @staticmethod
    def build_index(directory: Path) -> None:
        """Index every vector (IVF_SQ)."""
        import lancedb
        from lancedb.index import IvfSq

        table = lancedb.connect(directory).open_table("pages")
        table.create_index("vectors", config=IvfSq(distance_type="cosine"))

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """See :class:`Peer`."""
        return [self._one(query, k) for query in queries]

    def _one(self, query: Float32, k: int) -> list[int]:
        request = self._table.search(query, vector_column_name="vectors").distance_type("cosine")
        if self._indexed:
            request = request.nprobes(64).refine_factor(1).limit(max(100, k))
        else:
            request = request.bypass_vector_index().limit(k)
        rows = request.select(["page", "_distance"]).to_arrow()
        found: list[int] = rows["page"].to_pylist()[:k]
        return found


class FastPlaid:
    """fast-plaid: PLAID in Rust, through its own index on disk with its default settings."""

    name = "fast-plaid"
    batched = True

    def __init__(self, pages: PagesInMemory) -> None:
        import torch

        search: Any = importlib.import_module("fast_plaid.search")  # not among this package's dependencies
        self._torch: Any = torch
        self._directory = tempfile.TemporaryDirectory()  # lives as long as this object
        self._index: Any = search.FastPlaid(index=self._directory.name, device="cpu")
        self._index.create(documents_embeddings=[torch.from_numpy(page) for page in pages.pages])

    def search(self, queries: Sequence[Float32], k: int) -> list[list[int]]:
        """See :class:`Peer`."""
        asked = self._torch.from_numpy(np.stack(queries))
        return [[page for page, _ in row] for row in self._index.search(queries_embeddings=asked, top_k=k)]


def optional_peer(package: str, name: str, extra_reason: str = "") -> Absent | None:
    """Say why a peer can not take part, or None if its package is installed."""
    if importlib.util.find_spec(package) is not None:
        return None
    return Absent(name, f"not installed{extra_reason}")
