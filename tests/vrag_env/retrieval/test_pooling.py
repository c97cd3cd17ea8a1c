from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_pages import make_pages, unit

from vrag_env.errors import RetrieverError
from vrag_env.retrieval.pooling import levels, pool_page, pool_tokens, quantise


def test_pooling_by_hand() -> None:
    page = np.array([[1, 0], [0, 1], [1, 0], [0, -1], [1, 0]], np.float16)
    pooled = pool_page(page, 3)
    assert sorted(map(tuple, np.round(pooled, 5).tolist())) == [(0, -1), (0, 1), (1, 0)]
    # (1, 0) and (0.6, 0.8) have the mean direction (2, 1) / sqrt(5); both are farther from (-1, 0)
    pooled = pool_page(np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32), 2)
    np.testing.assert_allclose(pooled[pooled[:, 0] > 0][0], np.array([2, 1]) / np.sqrt(5), atol=1e-6)


def test_a_page_of_few_vectors_is_its_own_pooling() -> None:
    page = np.array([[3, 0], [0, 0.5]], np.float16)
    assert pool_page(page, 4).tolist() == [[3, 0], [0, 0.5], [3, 0], [3, 0]]
    assert pool_page(page, 2).tolist() == page.tolist()


def test_a_pooled_vector_is_as_long_as_its_cluster_on_average() -> None:
    page = np.concatenate([np.full((4, 1), 1) * [2, 0], np.full((4, 1), 1) * [0, 6]]).astype(np.float16)
    page[0] *= 2  # lengths 4, 2, 2, 2 and 6
    assert sorted(np.linalg.norm(pool_page(page, 2), axis=1).tolist()) == pytest.approx([2.5, 6])


def test_pooling_covers_the_page() -> None:
    """With as many as there are clusters, every vector has a pooled one nearby; runs of the raster would not."""
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((12, 64)))
    which = np.concatenate([np.zeros(500, dtype=int), np.arange(12)])  # one cluster fills the page but for its end
    page = unit(centres[which] + 0.1 * unit(rng.standard_normal((512, 64))))
    assert (page @ pool_page(page, 12).T).max(axis=1).min() > 0.9


@pytest.mark.parametrize("page", [np.zeros((9, 3), np.float16), np.ones((9, 3), np.float16)])
def test_pages_without_any_structure(page: np.ndarray) -> None:
    assert np.isfinite(pool_page(page, 4)).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 16, 128, 1536]), st.floats(1e-3, 1e3))
def test_quantising(seed: int, dim: int, length: float) -> None:
    vectors = (length * unit(np.random.default_rng(seed).standard_normal((5, dim)))).astype(np.float32)
    codes, scale = quantise(vectors)
    assert np.abs(codes).max() == levels(dim)
    assert np.abs(codes * scale - vectors).max() <= scale / 2 * 1.001


def test_sums_of_integers_stay_exact_in_float32() -> None:
    for dim in (1, 128, 1040, 1041, 1536, 4096, 100_000):
        assert dim * levels(dim) ** 2 <= 2**24 and levels(dim) >= 1
    assert levels(1040) == 127 and levels(1041) == 126


def test_token_pooling_is_colpali_engines() -> None:
    torch = pytest.importorskip("torch")
    pooling = pytest.importorskip("colpali_engine.compression.token_pooling")
    pages = make_pages(3)
    reference = pooling.HierarchicalTokenPooler().pool_embeddings(
        [torch.from_numpy(page.astype(np.float32)) for page in pages], pool_factor=3
    )
    for ours, page, expected in zip(pool_tokens(pages, 3), pages, reference, strict=True):
        assert ours.dtype == np.float16 and len(ours) == len(page) // 3
        np.testing.assert_allclose(ours.astype(np.float32), expected.numpy(), atol=1e-3)


def test_token_pooling_of_single_vectors_and_by_one() -> None:
    pages = [np.ones((1, 32), np.float16), make_pages(1)[0][:20]]
    assert [len(page) for page in pool_tokens(pages, 1)] == [1, 20]
    pytest.importorskip("colpali_engine")
    assert [len(page) for page in pool_tokens(pages, 2)] == [1, 10]
    with pytest.raises(RetrieverError, match="pool factor is 0"):
        pool_tokens(pages, 0)
