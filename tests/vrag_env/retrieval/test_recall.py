from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vector_pages import make_pages, make_table, unit

from vrag_env.retrieval import recall
from vrag_env.retrieval.recall import measure_recall, pooling_recall, sample_queries
from vrag_env.retrieval.searcher import Searcher


def test_sampled_queries_lie_near_their_page() -> None:
    pages = make_pages(6, dim=64)
    queries = sample_queries([*pages, pages[0][:3]], np.random.default_rng(0))
    for index, (page, query) in enumerate(zip(pages, queries, strict=False)):
        cosines = (unit(query) @ page.astype(np.float32).T).max(axis=1)
        assert len(query) == min(25, len(page)) and cosines.mean() == pytest.approx((0.85, 0.6)[index % 2], abs=0.08)
    assert len(queries[-1]) == 3


def test_measured_is_what_a_search_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(tmp_path, make_pages(300), pooled_vectors=3)
    monkeypatch.setattr(recall, "_LADDER", (20,))
    measured = measure_recall(table)
    rng = np.random.default_rng(0)
    queries = sample_queries(table.take(rng.choice(np.arange(300), 32)), rng)
    exact = Searcher(table, search="exact").search_vectors(queries, 10)
    found = Searcher(table, search="two_stage", candidates=20).search_vectors(queries, 10)
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
    assert measured.recall == pytest.approx(share) and 0.2 < share < 0.95
    assert (measured.candidates, measured.queries, measured.pages) == (20, 32, 300)


def test_candidates_are_the_fewest_that_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(tmp_path, make_pages(300), pooled_vectors=8)
    monkeypatch.setattr(recall, "_LADDER", (10, 20, 40, 60, 100, 150, 250))
    chosen = measure_recall(table)
    assert chosen.recall >= 0.995 and 10 < chosen.candidates < 250
    monkeypatch.setattr(recall, "_LADDER", tuple(c for c in recall._LADDER if c < chosen.candidates))
    fewer = measure_recall(table)
    assert fewer.recall < 0.995 and fewer.candidates == recall._LADDER[-1]


def test_a_sample_of_a_large_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(tmp_path, make_pages(150))
    monkeypatch.setattr(recall, "_MAX_PAGES", 90)
    assert measure_recall(table).pages == 90
    assert measure_recall(make_table(tmp_path, make_pages(30))) == recall.Recall(1.0, 40, 0, 30)


def test_pooling_recall() -> None:
    pages = make_pages(60)
    assert pooling_recall(pages, pages) == 1.0
    assert pooling_recall(pages, pages[::-1]) < 0.4
    halves = [page[::2] for page in pages]
    assert pooling_recall(pages, pages[::-1]) < pooling_recall(pages, halves) < 1.0
