"""How many of the right pages a faster search finds, measured when an index is built.

There are no real queries at that time. Instead, queries are drawn from the pages' own vectors: some 25 vectors of a
page, moved away from it by noise, half of the queries a little (cosine about 0.85) and half a lot (about 0.6). Only
the first place of their exact ranking is easy to find; the other nine are the best among chance matches, with scores
close together, which is harder than what real queries ask of a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vrag_env.retrieval.candidate_index import CandidateIndex
from vrag_env.retrieval.candidates import PooledIndex, top
from vrag_env.retrieval.disk_stage import LADDER, PooledOnDisk, Probing
from vrag_env.retrieval.embeddings import EmbeddingTable
from vrag_env.retrieval.maxsim import Float16, Float32, Float64, Queries, Rows, exact_scores
from vrag_env.retrieval.searcher import Searcher

TARGET = 0.99
"""Recall@10 below which a build warns."""

_AIM = 0.995  # what the number of candidates is chosen for: the target with a margin, since the queries are a sample
_K = 10
_QUERIES = 32
_VECTORS = 25
_COSINES = (0.85, 0.6)
_MAX_PAGES = 20_000  # as many are compared exactly: about half a minute on two cores
_LADDER = (40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000)


@dataclass(frozen=True)
class Recall:
    """What two-stage search finds of exact search's best 10.

    Attributes:
        recall: Recall@10 with ``candidates``.
        candidates: The fewest that suffice, or the most that are taken unasked.
        queries: Queries asked.
        pages: Pages searched: all, or a sample of 20,000 of a larger corpus.
    """

    recall: float
    candidates: int
    queries: int
    pages: int


def sample_queries(pages: Sequence[Float16], rng: np.random.Generator) -> list[Float32]:
    """Draw one query from each page; see the module."""
    queries = []
    for index, page in enumerate(pages):
        cosine = _COSINES[index % len(_COSINES)]
        picked = page[rng.choice(len(page), min(_VECTORS, len(page)), replace=False)].astype(np.float32)
        noise = rng.standard_normal(picked.shape, dtype=np.float32)
        noise *= np.linalg.norm(picked, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
        queries.append(cosine * picked + np.float32(np.sqrt(1 - cosine**2)) * noise)
    return queries


def measure_recall(table: EmbeddingTable, *, seed: int = 0) -> Recall:
    """Measure two-stage search over a table, and choose its number of candidates.

    Args:
        table: The embeddings, of at least one page.
        seed: Of the queries.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(table))
    if len(rows) > _MAX_PAGES:
        rows = np.sort(rng.choice(rows, _MAX_PAGES, replace=False))
    if len(rows) <= _LADDER[0]:  # every page is a candidate
        return Recall(1.0, _LADDER[0], 0, len(rows))
    queries = sample_queries(table.take(rng.choice(rows, _QUERIES)), rng)
    best = Searcher(table, search="exact", memory_bytes=0).top_rows(queries, _K, rows)
    scores = PooledIndex(*table.pooled(None if len(rows) == len(table) else rows)).scores(Queries(queries))
    places = np.concatenate(
        [_places(row, np.searchsorted(rows, right)) for row, right in zip(scores, best, strict=True)]
    )
    shares = [float((places < count).mean()) for count in _LADDER]
    enough = next((index for index, share in enumerate(shares) if share >= _AIM), len(_LADDER) - 1)
    return Recall(shares[enough], _LADDER[enough], len(queries), len(rows))


@dataclass(frozen=True)
class DiskRecall:
    """What a candidate index on disk finds of what a scan of the same pooled vectors leads to.

    Attributes:
        recall: Share of the best 10 after both stages.
        probing: The fastest settings that suffice, or those that find most.
    """

    recall: float
    probing: Probing


def measure_disk_recall(table: EmbeddingTable, index: CandidateIndex, candidates: int, *, seed: int = 0) -> DiskRecall:
    """Measure a candidate index, and choose how far it is looked into; the index is left with these settings.

    Args:
        table: The embeddings.
        index: An index of their pooled vectors.
        candidates: How many of them are scored exactly for each query.
        seed: Of the queries.
    """
    rng = np.random.default_rng(seed)
    queries = sample_queries(table.take(rng.choice(len(table), _QUERIES)), rng)
    prepared = Queries(queries)
    count = min(candidates, len(table))
    right = Searcher(table, search="exact", memory_bytes=0).best_of(queries, _scan(table, prepared, count), _K)
    stage = PooledOnDisk(table, index)
    share = 0.0
    for probing in LADDER:
        index.nprobes, index.depth, index.rescored = probing.nprobes, probing.depth, probing.rescored
        found = stage.best(prepared, count)
        share = float(np.mean([np.isin(best, rows).mean() for best, rows in zip(right, found, strict=True)]))
        if share >= _AIM:
            break
    return DiskRecall(share, probing)


def _scan(table: EmbeddingTable, queries: Queries, count: int) -> list[Rows]:
    """Candidates of a scan of all pooled vectors, which are read from disk a part at a time."""
    scores: list[Float64] = []
    for low in range(0, len(table), _MAX_PAGES):
        rows = np.arange(low, min(low + _MAX_PAGES, len(table)))
        scores.append(PooledIndex(*table.pooled(rows)).scores(queries))
    return [top(row, count) for row in np.concatenate(scores, axis=1)]


def pooling_recall(pages: Sequence[Float16], pooled: Sequence[Float16], *, seed: int = 0) -> float:
    """Measure how many of the best 10 pages remain the best 10 when their tokens are pooled.

    Args:
        pages: Pages as encoded.
        pooled: The same after :func:`~vrag_env.retrieval.pooling.pool_tokens`.
        seed: Of the queries.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(pages), min(_QUERIES, len(pages)))
    queries = Queries(sample_queries([pages[index] for index in chosen], rng))
    every = np.ones((len(queries), len(pages)), dtype=bool)
    right, found = (_best(exact_scores(queries, kind, every)) for kind in (pages, pooled))
    return float(np.mean([len(np.intersect1d(*pair)) / len(pair[0]) for pair in zip(right, found, strict=True)]))


def _best(scores: Float64) -> Rows:
    return np.argsort(-scores, axis=1, kind="stable")[:, :_K]


def _places(scores: Float64, right: Rows) -> Rows:
    """Places of some pages in the order of the scores, from 0."""
    order = np.argsort(-scores, kind="stable")
    places = np.empty(len(scores), dtype=np.int64)
    places[order] = np.arange(len(scores))
    return places[right]
