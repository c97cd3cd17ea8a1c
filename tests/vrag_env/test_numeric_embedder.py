"""Embedders: the hashing one by hand, length and likeness; what a name may be."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.errors import VRAGError
from vrag_env.numeric import HashingEmbedder, make_embedder
from vrag_env.numeric.cache import LRU, CachedRetriever
from vrag_env.numeric.embedder import projection
from vrag_env.retrieval import Hit


def test_by_hand() -> None:
    # "ab" is marked "<ab>": the word itself with weight 1, its n-grams of 3 and 4 with 1 / sqrt(3) each.
    expected = np.zeros(16)
    for feature, weight in (("=ab", 1.0), ("<ab", 3**-0.5), ("ab>", 3**-0.5), ("<ab>", 3**-0.5)):
        code = zlib.crc32(feature.encode())
        expected[(code >> 1) % 16] += weight if code & 1 else -weight
    expected /= np.linalg.norm(expected)
    got = HashingEmbedder(16).embed(["ab", "  AB. ", "", "?!"])
    np.testing.assert_allclose(got[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(got[1], got[0])
    assert not got[2:].any()
    assert got.dtype == np.float32


def test_what_is_alike() -> None:
    embed = HashingEmbedder().embed
    question, near, word, far = embed(
        ["How many visitors does Oslo list?", "visitor numbers of the Oslo site", "visitors", "a chart of sales"]
    )
    assert question @ near > 0.2 > question @ far
    assert question @ word > 0.2
    # Stop words say little: they hardly move a text that says something, and are not nothing by themselves.
    with_stops, alone, stops = embed(["what is the revenue of it", "revenue", "what is the"])
    assert with_stops @ alone > 0.95
    assert np.linalg.norm(stops) == pytest.approx(1, abs=1e-5)
    chinese = embed(["年度收入", "收入", "天气"])
    assert chinese[0] @ chinese[1] > chinese[0] @ chinese[2] + 0.2


@given(st.lists(st.text(max_size=40), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_text(texts: list[str]) -> None:
    rows = HashingEmbedder(32).embed(texts)
    assert rows.shape == (len(texts), 32)
    for row in rows:
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-4) or not row.any()
    np.testing.assert_array_equal(rows, HashingEmbedder(32).embed(texts))


def test_names_and_objects() -> None:
    assert make_embedder("hashing").dimensions == 256
    mine = HashingEmbedder(8)
    assert make_embedder(mine) is mine
    with pytest.raises(ValueError, match="at least 8, got 4"):
        HashingEmbedder(4)


@pytest.mark.slow
def test_no_such_model(tmp_path) -> None:
    with pytest.raises(VRAGError, match="could not load"):
        make_embedder(str(tmp_path))  # a directory without a model


def test_the_projection_keeps_products() -> None:
    assert projection(64, 64) is None
    matrix = projection(256, 64)
    rows = np.random.default_rng(1).standard_normal((200, 256))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    error = (rows @ matrix) @ (rows @ matrix).T - rows @ rows.T
    assert abs(error.mean()) < 0.01 and error.std() < 0.2
    np.testing.assert_array_equal(matrix, projection(256, 64))


def test_a_cache_keeps_what_was_used_last() -> None:
    cache, made = LRU[int](2), []

    def make(key: str) -> int:
        def build() -> int:
            made.append(key)
            return len(made)

        return cache.get(key, build)

    assert [make(key) for key in "abacab"] == [1, 2, 1, 3, 1, 4]
    assert made == ["a", "b", "c", "b"] and len(cache) == 2
    with pytest.raises(ValueError, match="at least 1"):
        LRU(0)


def test_a_cached_retriever_answers_the_same_and_asks_once() -> None:
    asked = []

    class Counting:
        def search(self, queries, k, where=None):
            asked.append((tuple(queries), k, where))
            return [[Hit(f"{query}#{place}", 1.0 / place) for place in range(1, k + 1)] for query in queries]

    cached = CachedRetriever(Counting())
    first = cached.search(["a", "b", "a"], 2)
    assert first == Counting().search(["a", "b", "a"], 2)
    asked.clear()
    first[0].clear()  # what a caller does with its list is its own business
    assert cached.search(["a"], 2) == [[Hit("a#1", 1.0), Hit("a#2", 0.5)]]
    assert asked == []
    assert len(cached.search(["a"], 3)[0]) == 3
    cached.search(["a"], 2, where=["x"])
    assert asked == [(("a",), 3, None), (("a",), 2, ["x"])]
