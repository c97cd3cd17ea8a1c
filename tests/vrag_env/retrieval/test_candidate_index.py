"""The index of pooled vectors on disk: at full probes its candidates are exactly those of the scan in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lancedb
import numpy as np
import pytest

from vrag_env.errors import RetrieverError
from vrag_env.retrieval.candidate_index import CandidateIndex, IndexKind, Pooled
from vrag_env.retrieval.candidates import PooledIndex
from vrag_env.retrieval.maxsim import Queries
from vrag_env.retrieval.pooling import quantise

DIM = 16
PAGES = 300
PER_PAGE = 5


@pytest.fixture(scope="module")
def pooled() -> Pooled:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((PAGES, PER_PAGE, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    codes, scales = zip(*(quantise(page) for page in vectors), strict=True)
    return np.stack(codes), np.array(scales)


@pytest.fixture(scope="module")
def queries() -> Queries:
    rng = np.random.default_rng(1)
    return Queries([rng.standard_normal((length, DIM)) / 4 for length in (1, 5, 9)])


@pytest.fixture
def database(tmp_path: Path) -> lancedb.DBConnection:
    return lancedb.connect(tmp_path)


@pytest.fixture
def index(database: lancedb.DBConnection, pooled: Pooled) -> CandidateIndex:
    def batches() -> Iterator[Pooled]:
        for low in range(0, PAGES, 64):
            yield pooled[0][low : low + 64], pooled[1][low : low + 64]

    return CandidateIndex.write(database, "pooled", batches(), nprobes=8, depth=PAGES * PER_PAGE, rescored=50)


@pytest.mark.parametrize("kind", [None, "flat", "sq", "rq"])
def test_at_full_probes_the_candidates_are_those_of_the_scan_in_memory(
    index: CandidateIndex, pooled: Pooled, queries: Queries, kind: IndexKind | None
) -> None:
    if kind is not None:
        index.build(kind, partitions=8)
    if kind == "rq":  # one bit a dimension orders so few dimensions badly: all pages but one are compared again
        index.rescored = PAGES - 1
    expected = PooledIndex(*pooled).best(queries, 20)
    assert [rows.tolist() for rows in index.best(queries, 20)] == [rows.tolist() for rows in expected]


def test_a_page_that_is_not_found_for_a_query_vector_gets_the_last_similarity_found(
    database: lancedb.DBConnection,
) -> None:
    # Four pages of one vector; two query vectors, two rows found for each. By hand:
    #   similarities of q0: 0.9, 0.6, 0.1, 0.0 -> found 0 and 1; of q1: 0.0, 0.2, 0.8, 0.7 -> found 2 and 3
    #   imputed sums: page 0: 0.9 + 0.7, page 1: 0.6 + 0.7, page 2: 0.6 + 0.8, page 3: 0.6 + 0.7
    # so pages 0 and 2 are compared again. Exactly they are 0.9 and 0.9: among equals the first one.
    # Without imputation (nothing for what was not found) pages 0 and 2 would stay too, so q1 is asked alone below.
    vectors = np.array([[0.9, 0.0], [0.6, 0.2], [0.1, 0.8], [0.0, 0.7]])
    codes = np.round(vectors / 0.9 * 126).astype(np.int8)[:, None]
    index = CandidateIndex.write(database, "tiny", [(codes, np.full(4, 0.9 / 126))], depth=2, rescored=2)
    assert index.best(Queries([np.eye(2)]), 2)[0].tolist() == [0, 2]
    assert index.best(Queries([np.eye(2)[1:]]), 2)[0].tolist() == [2, 3]


def test_only_the_pages_asked_for(index: CandidateIndex, pooled: Pooled, queries: Queries) -> None:
    memory = PooledIndex(*pooled)
    for rows in (np.arange(10, 40), np.concatenate([np.arange(100), np.arange(150, 290)]), np.arange(0, 300, 7)):
        expected = memory.best(queries, 15, rows)
        assert [found.tolist() for found in index.best(queries, 15, rows)] == [found.tolist() for found in expected]
    assert index.best(queries, 15, np.arange(3))[0].tolist() == [0, 1, 2]
    assert index.best(queries, 15, np.arange(0))[0].tolist() == []


def test_opens_again(database: lancedb.DBConnection, index: CandidateIndex, queries: Queries) -> None:
    again = CandidateIndex(database, "pooled", nprobes=8, depth=PAGES * PER_PAGE, rescored=50)
    assert len(again) == PAGES
    assert [rows.tolist() for rows in again.best(queries, 5)] == [rows.tolist() for rows in index.best(queries, 5)]


def test_errors_say_what_to_do(database: lancedb.DBConnection, pooled: Pooled) -> None:
    with pytest.raises(RetrieverError, match="no whole candidate index 'pooled'"):
        CandidateIndex(database, "pooled")
    with pytest.raises(RetrieverError, match="no pages"):
        CandidateIndex.write(database, "pooled", [])
    with pytest.raises(ValueError, match="nprobes"):
        CandidateIndex.write(database, "pooled", [pooled], nprobes=0)
    database.drop_table("pooled_scales")  # as after a kill while it was written
    with pytest.raises(RetrieverError, match="no whole candidate index"):
        CandidateIndex(database, "pooled")
