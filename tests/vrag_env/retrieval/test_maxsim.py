from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_pages import make_pages, make_queries, unit

from vrag_env.retrieval import maxsim
from vrag_env.retrieval.maxsim import Float16, Float32, Queries, exact_scores, grid, scan, scan_error


def everything(queries: Queries, pages: list[Float16]) -> np.ndarray:
    return exact_scores(queries, pages, np.ones((len(queries), len(pages)), dtype=bool))


def stacked(pages: list[Float16]) -> tuple[Float16, np.ndarray]:
    return np.concatenate(pages), np.concatenate([[0], np.cumsum([len(page) for page in pages])])


def in_fractions(query: Float32, page: Float16) -> Fraction:
    """MaxSim of the gridded query by a naive loop over exact fractions."""
    total = Fraction(0)
    for row in grid(query).tolist():
        total += max(sum(Fraction(x) * Fraction(y) for x, y in zip(row, other, strict=True)) for other in page.tolist())
    return total


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_equals_a_naive_loop_to_the_last_bit(
    seed: int, query_sizes: list[int], page_sizes: list[int], dim: int
) -> None:
    rng = np.random.default_rng(seed)
    queries = [unit(rng.standard_normal((size, dim))) for size in query_sizes]
    pages = [unit(rng.standard_normal((size, dim))).astype(np.float16) for size in page_sizes]
    expected = [[in_fractions(query, page) for page in pages] for query in queries]
    found = everything(Queries(queries), pages)
    assert [[Fraction(x) for x in row] for row in found.tolist()] == expected  # no addition rounded
    plain = [[(q @ p.astype(np.float32).T).max(axis=1).sum() for p in pages] for q in queries]
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_by_hand() -> None:
    pages = [np.array([[1, 0], [0.5, 0.5]], np.float16), np.array([[-1, -0.25]], np.float16)]
    queries = Queries([np.array([[1, 0], [0, 1]], np.float32), np.array([[0, 2]], np.float32)])
    # Page 1: max(1, .5) + max(0, .5) = 1.5 and max(0, 1) = 1; page 2 has one vector: -1 - .25 and -.5, which stay
    # negative: nothing is padded with zeros.
    assert everything(queries, pages).tolist() == [[1.5, -1.25], [1.0, -0.5]]
    wanted = np.array([[True, False], [False, True]])
    assert exact_scores(queries, pages, wanted).tolist() == [[1.5, -np.inf], [-np.inf, -0.5]]


def test_equals_score_multi_vector() -> None:
    torch = pytest.importorskip("torch")
    processing = pytest.importorskip("colpali_engine.utils.processing_utils")
    pages, rng = make_pages(20, dim=128), np.random.default_rng(5)
    queries = [*make_queries(pages, 3, vectors=25), unit(rng.standard_normal((40, 128)))]
    tensors = [torch.from_numpy(page.astype(np.float32)) for page in pages]
    reference = processing.BaseVisualRetrieverProcessor.score_multi_vector(
        [torch.from_numpy(query) for query in queries], tensors, device="cpu"
    )
    np.testing.assert_allclose(everything(Queries(queries), pages), reference.numpy(), atol=2e-5)


def test_bits_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = make_pages(30, dim=128)
    vectors = [make_queries(pages, 1, seed=i, vectors=5 + i)[0] for i in range(20)]
    together = everything(Queries(vectors), pages)
    for index, query in enumerate(vectors):
        assert (everything(Queries([query]), pages)[0] == together[index]).all()
    rng = np.random.default_rng(0)
    wanted = rng.random(together.shape) < 0.3
    some = exact_scores(Queries(vectors), pages, wanted)
    assert (some[wanted] == together[wanted]).all() and np.isneginf(some[~wanted]).all()
    for vectors_at_once, columns in ((1, 1), (100, 13), (10**6, 10**6)):
        monkeypatch.setattr(maxsim, "_BLOCK_VECTORS", vectors_at_once)
        monkeypatch.setattr(maxsim, "_BLOCK_COLUMNS", columns)
        assert (everything(Queries(vectors), pages) == together).all()


def test_bits_do_not_depend_on_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pages = make_pages(10, dim=128)
    queries = Queries(make_queries(pages, 6, vectors=25))
    by_torch = everything(queries, pages)
    monkeypatch.setattr(maxsim.sys, "modules", {name: m for name, m in sys.modules.items() if name != "torch"})
    assert (everything(queries, pages) == by_torch).all()


def test_float32_would_not_do() -> None:
    """What the grid is for: in float32 the bits do depend on the order of the additions."""
    page, query = make_pages(1, dim=128)[0].astype(np.float32), make_queries(make_pages(1, dim=128), 1)[0]
    backwards = np.ascontiguousarray(page[:, ::-1]) @ np.ascontiguousarray(query[:, ::-1]).T
    assert (page @ query.T != backwards).any()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 31, 128]), st.sampled_from([0.01, 1.0, 300.0]))
def test_scan_is_within_its_error(seed: int, dim: int, length: float) -> None:
    rng = np.random.default_rng(seed)
    pages = [(length * page).astype(np.float16) for page in make_pages(9, dim=dim, seed=seed)]
    queries = Queries([length * query for query in make_queries(pages, 4, seed=seed, vectors=int(rng.integers(1, 40)))])
    longest = max(float(np.linalg.norm(page.astype(np.float64), axis=1).max()) for page in pages)
    off = np.abs(scan(queries, *stacked(pages)) - everything(queries, pages)).max(axis=1)
    error = scan_error(queries, longest)
    assert (off <= error).all()
    assert (error <= 1e-3 * queries.lengths * longest).all()  # and that is no empty promise


@pytest.mark.parametrize(
    "bad", [np.ones((0, 4), np.float32), np.ones(4, np.float32), np.full((2, 4), np.nan), np.ones((1, 5), np.float32)]
)
def test_bad_queries(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected queries as finite arrays"):
        Queries([np.ones((2, 4), np.float32), bad])


def test_zero_query() -> None:
    assert everything(Queries([np.zeros((3, 4), np.float32)]), [np.ones((2, 4), np.float16)]).tolist() == [[0.0]]


def test_does_not_import_torch() -> None:
    code = "import sys, vrag_env.retrieval.searcher; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
