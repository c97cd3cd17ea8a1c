"""Page vectors made for the tests of the search engine."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import lancedb
import numpy as np
import numpy.typing as npt

from vrag_env.corpus import Corpus
from vrag_env.retrieval.embeddings import EmbeddingTable, PageVectors, write_embeddings

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]


def unit(vectors: npt.NDArray[np.floating]) -> Float32:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_pages(count: int, dim: int = 32, seed: int = 0, clusters: int = 8) -> list[Float16]:
    """Pages of 20 to 60 unit vectors around a few centres of their own."""
    rng = np.random.default_rng(seed)
    pages = []
    for _ in range(count):
        centres = unit(rng.standard_normal((clusters, dim)))
        picked = centres[rng.integers(0, clusters, int(rng.integers(20, 61)))]
        pages.append(unit(picked + 0.4 * unit(rng.standard_normal(picked.shape))).astype(np.float16))
    return pages


def make_queries(pages: Sequence[Float16], count: int, seed: int = 1, vectors: int = 7) -> list[Float32]:
    """Queries near vectors of a page each."""
    rng = np.random.default_rng(seed)
    queries = []
    for _ in range(count):
        page = pages[int(rng.integers(len(pages)))]
        picked = page[rng.integers(0, len(page), vectors)].astype(np.float32)
        queries.append(unit(picked + 0.5 * unit(rng.standard_normal(picked.shape))))
    return queries


def make_table(path: Path, pages: Sequence[Float16], pooled_vectors: int = 8, per_document: int = 10) -> EmbeddingTable:
    """A table with the given pages, ``p00000`` and so on, in documents ``d0``, ``d1``, ..."""
    rows = [PageVectors(f"p{i:05d}", f"d{i // per_document}", "v1", page) for i, page in enumerate(pages)]
    database = lancedb.connect(path)
    batches = [rows[low : low + 100] for low in range(0, len(rows), 100)]
    return EmbeddingTable.open(database, write_embeddings(database, "m", "r", batches, pooled_vectors=pooled_vectors))


class SeededEncoder:
    """An encoder without a model: the vectors of a page follow from its id, those of a query from its text.

    A query that is a page's id gets vectors of that page.
    """

    def __init__(self, name: str = "tests/seeded", dim: int = 32) -> None:
        self.name = name
        self.revision = "r1"
        self.dim = dim
        self.encoded: list[str] = []

    def page(self, page_id: str) -> Float16:
        return make_pages(1, dim=self.dim, seed=zlib.crc32(page_id.encode()))[0]

    def encode_pages(self, corpus: Corpus, page_ids: Sequence[str]) -> list[Float16]:
        self.encoded.extend(page_ids)
        return [self.page(page_id) for page_id in page_ids]

    def encode_queries(self, queries: Sequence[str]) -> list[Float32]:
        return [self.page(query)[:7].astype(np.float32) for query in queries]
