from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_pages import make_pages, make_queries

from vrag_env.retrieval import candidates
from vrag_env.retrieval.candidates import PooledIndex, top
from vrag_env.retrieval.maxsim import Queries
from vrag_env.retrieval.pooling import pool_page, quantise

KERNELS = [candidates._by_numpy, candidates._by_torch_float, candidates._by_torch_int]


def make_index(count: int = 200, pooled: int = 8) -> tuple[PooledIndex, Queries]:
    pages = make_pages(count)
    codes, scales = zip(*(quantise(pool_page(page, pooled)) for page in pages), strict=True)
    return PooledIndex(np.stack(codes), np.array(scales)), Queries(make_queries(pages, 9))


def test_scores_by_hand() -> None:
    codes = np.array([[[127, 0], [0, 127]], [[-127, 0], [-127, 0]]], np.int8)
    index = PooledIndex(codes, np.array([1 / 127, 2 / 127]))
    queries = Queries([np.array([[1, 0], [0, 1]], np.float32), np.array([[0.5, 0]], np.float32)])
    # A query's own largest number becomes 127. Page 1: 127 + 127 and 127; page 2, twice as long: 2 * (-127 + 0)
    # and 2 * -127.
    np.testing.assert_allclose(index.scores(queries), np.array([[254, -254], [127, -254]]))
    assert [rows.tolist() for rows in index.best(queries, 1)] == [[0], [0]]
    assert [rows.tolist() for rows in index.best(queries, 1, np.array([1]))] == [[1], [1]]


def test_scores_are_near_maxsim_of_the_pooled_vectors() -> None:
    pages = make_pages(50)
    pooled = [pool_page(page, 8) for page in pages]
    index, queries = make_index(50)
    exact = np.array([[(pooled_page @ column).max() for pooled_page in pooled] for column in queries.columns.T])
    exact = np.add.reduceat(exact, queries.starts[:-1], axis=0)
    scores = index.scores(queries)
    scale = (exact / scores).mean(axis=1, keepdims=True)  # a query's own scale is left out
    np.testing.assert_allclose(scores * scale, exact, rtol=0.02)


@pytest.mark.parametrize("kernel", KERNELS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), pages=st.integers(1, 9), pooled=st.integers(1, 5), dim=st.integers(1, 130))
def test_kernels_give_the_same_integers(
    kernel: candidates._Kernel, seed: int, pages: int, pooled: int, dim: int
) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    flat = rng.integers(-127, 128, (pages * pooled, dim), dtype=np.int8)
    columns = rng.integers(-127, 128, (dim, int(rng.integers(1, 40))), dtype=np.int8)
    products = flat.astype(np.int64) @ columns
    expected = products.reshape(pages, pooled, -1).max(axis=1)
    assert (kernel(flat, columns, pooled) == expected.T).all()


def test_a_kernel_that_saturates_is_not_taken() -> None:
    def saturating(pages: np.ndarray, columns: np.ndarray, per_page: int) -> np.ndarray:
        return np.clip(candidates._by_numpy(pages, columns, per_page), -(2**15), 2**15 - 1)

    assert all(candidates._exact(kernel) for kernel in KERNELS)
    assert not candidates._exact(saturating)


def test_a_query_alone_has_the_scores_that_it_has_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = make_index()
    together = index.scores(queries)
    for query in range(len(queries)):
        assert (index.scores(queries.part(query, query + 1))[0] == together[query]).all()
    chosen = index.best(queries, 20)
    monkeypatch.setattr(candidates, "_BLOCK_VALUES", 1)
    monkeypatch.setattr(candidates, "_MIN_BLOCK", 1)
    monkeypatch.setattr(candidates, "_BATCH_SCORES", 1)
    assert (index.scores(queries) == together).all()
    assert all((a == b).all() for a, b in zip(index.best(queries, 20), chosen, strict=True))


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = make_index()
    scores = index.scores(queries)
    monkeypatch.setattr(candidates.sys, "modules", {name: m for name, m in sys.modules.items() if name != "torch"})
    alone = PooledIndex(index.codes, index.scales)
    assert (alone.scores(queries) == scores).all() and alone._kernel is candidates._by_numpy


def test_some_rows() -> None:
    index, queries = make_index()
    rows = np.array([3, 50, 51, 199])
    assert (index.scores(queries, rows) == index.scores(queries)[:, rows]).all()
    assert [found.tolist() for found in index.best(queries, 4, rows)] == [rows.tolist()] * len(queries)
    scores = index.scores(queries)[:, rows]
    for found, row in zip(index.best(queries, 2, rows), scores, strict=True):
        assert set(found.tolist()) == set(rows[np.argsort(-row)[:2]].tolist())


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 35))
def test_top_is_a_stable_sort(values: list[int], count: int) -> None:
    scores = np.array(values, dtype=float)
    assert top(scores, count).tolist() == sorted(np.argsort(-scores, kind="stable")[:count].tolist())
