from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_pages import Float16, make_pages, make_queries, make_table

from vrag_env.errors import RetrieverError
from vrag_env.retrieval import Hit, searcher
from vrag_env.retrieval.embeddings import EmbeddingTable
from vrag_env.retrieval.searcher import Searcher

COUNT = 400


@pytest.fixture(scope="module")
def pages() -> list[Float16]:
    return make_pages(COUNT)


@pytest.fixture(scope="module")
def table(pages: list[Float16], tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTable:
    return make_table(tmp_path_factory.mktemp("searcher"), pages)


@pytest.fixture(scope="module")
def queries(pages: list[Float16]) -> list[np.ndarray]:
    return make_queries(pages, 24)


def naive(pages: list[Float16], query: np.ndarray, k: int) -> list[str]:
    scores = [float((query @ page.astype(np.float32).T).max(axis=1).sum()) for page in pages]
    return [f"p{i:05d}" for i in np.argsort(-np.array(scores), kind="stable")[:k]]


def ids(hits: list[Hit]) -> list[str]:
    return [hit.page_id for hit in hits]


def test_exact_is_a_naive_loop(table: EmbeddingTable, pages: list[Float16], queries: list[np.ndarray]) -> None:
    engine = Searcher(table)
    assert engine.mode == "exact"
    for query, hits in zip(queries, engine.search_vectors(queries, 10), strict=True):
        assert ids(hits) == naive(pages, query, 10)


def test_from_storage_is_from_memory(
    table: EmbeddingTable, queries: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Searcher(table, search="exact").search_vectors(queries, 12)
    monkeypatch.setattr(searcher, "_STREAM_VECTORS", 1000)
    monkeypatch.setattr(searcher, "_CHUNK_BYTES", 10_000)
    streaming = Searcher(table, search="exact", memory_bytes=0)
    assert streaming._memory is None and streaming.search_vectors(queries, 12) == expected
    some = {"d3", "d30"}
    assert streaming.search_vectors(queries, 3, some) == Searcher(table).search_vectors(queries, 3, some)


def test_two_stage_finds_what_exact_finds(table: EmbeddingTable, queries: list[np.ndarray]) -> None:
    exact = Searcher(table, search="exact").search_vectors(queries, 10)
    engine = Searcher(table, search="two_stage", candidates=80)
    assert engine._memory is None
    found = engine.search_vectors(queries, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]  # hits: the scores are the same bits
    assert np.mean(shared) >= 9.9
    few = Searcher(table, search="two_stage", candidates=10).search_vectors(queries, 10)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(exact, few, strict=True)]) < np.mean(shared)
    assert Searcher(table, search="two_stage", candidates=COUNT).search_vectors(queries, 10) == exact
    for k in (COUNT, 10**6):
        everything = Searcher(table, search="two_stage", candidates=1).search_vectors(queries[:2], k)
        assert everything == Searcher(table, search="exact").search_vectors(queries[:2], k)
        assert len(everything[0]) == COUNT


@pytest.mark.parametrize("mode", ["exact", "two_stage"])
def test_a_query_alone_gets_what_it_gets_among_others(
    table: EmbeddingTable, queries: list[np.ndarray], mode: searcher.SearchMode
) -> None:
    engine = Searcher(table, search=mode, candidates=40)
    together = engine.search_vectors(queries, 10)
    assert [engine.search_vectors([query], 10)[0] for query in queries] == together
    assert engine.search_vectors(queries[::-1], 10) == together[::-1]
    longer = [*make_queries(make_pages(9, seed=4), 40, vectors=33), *queries]
    assert engine.search_vectors(longer, 10)[40:] == together


@pytest.mark.parametrize("mode", ["exact", "two_stage"])
@settings(deadline=None, max_examples=20)
@given(documents=st.sets(st.integers(0, 45)), k=st.integers(1, 30))
def test_filter_by_document(
    table: EmbeddingTable,
    pages: list[Float16],
    queries: list[np.ndarray],
    mode: searcher.SearchMode,
    documents: set[int],
    k: int,
) -> None:
    engine = Searcher(table, search=mode, candidates=COUNT)
    found = engine.search_vectors(queries[:2], k, [f"d{number}" for number in documents])
    for query, hits in zip(queries[:2], found, strict=True):
        assert ids(hits) == [p for p in naive(pages, query, COUNT) if int(p[1:]) // 10 in documents][:k]


@pytest.mark.parametrize("mode", ["exact", "two_stage"])
def test_ties_are_broken_by_page_id(tmp_path: Path, mode: searcher.SearchMode) -> None:
    page = make_pages(1)[0]
    table = make_table(tmp_path, [page] * 300)
    engine = Searcher(table, search=mode, candidates=15)
    (hits,) = engine.search_vectors(make_queries([page], 1), 12)
    assert ids(hits) == [f"p{i:05d}" for i in range(12)] and len({hit.score for hit in hits}) == 1


def test_near_ties_are_in_the_right_order(tmp_path: Path) -> None:
    """Scores that float32 can not tell apart: the scan must not decide between them."""
    rng = np.random.default_rng(3)
    base = (rng.standard_normal((30, 256)) / 16).astype(np.float16)
    pages = []
    for _ in range(200):
        page = base.copy()
        page[rng.integers(30), rng.integers(256)] *= np.float16(1.01)
        pages.append(page)
    query = (rng.standard_normal((40, 256)) / 16).astype(np.float32)
    engine = Searcher(make_table(tmp_path, pages))
    scores = engine.scores([query])[0]
    expected = [f"p{i:05d}" for i in np.argsort(-scores, kind="stable")[:50]]
    assert ids(engine.search_vectors([query], 50)[0]) == expected
    assert len(set(scores.astype(np.float32).tolist())) < len(set(scores.tolist()))


def test_the_way_is_chosen_by_size(table: EmbeddingTable) -> None:
    assert Searcher(table, memory_bytes=table.nbytes).mode == "exact"
    assert Searcher(table, memory_bytes=table.nbytes - 1).mode == "two_stage"
    assert Searcher(table, memory_bytes=0, search="exact").mode == "exact"
    with pytest.raises(ValueError, match="search must be"):
        Searcher(table, search="fast")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="candidates must be at least 1"):
        Searcher(table, candidates=0)


def test_bad_requests(table: EmbeddingTable, queries: list[np.ndarray]) -> None:
    for mode in ("exact", "two_stage"):
        engine = Searcher(table, search=mode)  # type: ignore[arg-type]  # one of the modes
        assert engine.search_vectors([], 3) == []
        assert engine.search_vectors(queries[:2], 3, []) == [[], []]
        assert engine.search_vectors(queries[:2], 3, ["no such"]) == [[], []]
        with pytest.raises(ValueError, match="k must be at least 1"):
            engine.search_vectors(queries, 0)
        with pytest.raises(ValueError, match="got a text"):
            engine.search_vectors(queries, 3, "d1")
        with pytest.raises(RetrieverError, match="have 32 dimensions, the query's 16"):
            engine.search_vectors([queries[0], queries[0][:, :16]], 3)
        with pytest.raises(ValueError, match="not finite"):
            engine.search_vectors([np.full((1, 32), np.nan)], 3)


def test_single_vectors(tmp_path: Path) -> None:
    """A model with one vector per page and query: MaxSim is a product, and a page its own pooling."""
    rng = np.random.default_rng(0)
    pages = [vector[None] for vector in rng.standard_normal((500, 24)).astype(np.float16)]
    queries = [vector[None] for vector in rng.standard_normal((5, 24)).astype(np.float32)]
    table = make_table(tmp_path, pages, pooled_vectors=1)
    exact = Searcher(table, search="exact").search_vectors(queries, 10)
    for query, hits in zip(queries, exact, strict=True):
        scores = np.concatenate(pages).astype(np.float64) @ query[0]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:10], rtol=1e-5)
    assert Searcher(table, search="two_stage", candidates=20).search_vectors(queries, 10) == exact
