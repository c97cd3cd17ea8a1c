"""The speed benchmark at a tiny size: every engine runs, agrees with the exact scores, and is reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("colpali_engine")
pytest.importorskip("maxsim_cpu")

from _cache import Cache
from _machine import machine
from _nodes import open_nodes, write_node
from _peers import FlatMatmul, LanceMultivector, MaxSimCPU, Peer, ScoreMultiVector
from _plots import plot_growth
from _speed_report import BASELINE, cells, latency_table, speed_tables, target_table, targets
from _timing import Cell, measure, recall
from retrieval_speed import mixed_queries, rows, run
from synthetic_pages import SyntheticPages

COUNT = 40


@pytest.fixture(scope="module")
def pages() -> SyntheticPages:
    return SyntheticPages(0)


def test_all_exact_peers_find_the_same_pages(pages: SyntheticPages, tmp_path: Path) -> None:
    held = Cache(tmp_path / "cache", pages).pages(COUNT)
    queries = mixed_queries(pages, 4, COUNT)
    LanceMultivector.write(tmp_path / "lance", pages.batches(COUNT))
    peers: list[Peer] = [ScoreMultiVector(held), FlatMatmul(held), MaxSimCPU(held)]
    peers.append(LanceMultivector(tmp_path / "lance", indexed=False))
    expected = [
        np.argsort([-(query @ page.T).max(axis=1).sum() for page in held.pages], kind="stable")[:5].tolist()
        for query in queries
    ]
    for peer in peers:
        assert peer.search(queries, 5) == expected, peer.name


def test_measure_takes_turns_and_samples_slow_engines(pages: SyntheticPages) -> None:
    calls: list[str] = []

    class Recorded:
        batched = True

        def __init__(self, name: str) -> None:
            self.name = name

        def search(self, queries: list[np.ndarray], k: int) -> list[list[int]]:
            calls.append(self.name)
            return [[0] * k for _ in queries]

    cells = measure([Recorded("a"), Recorded("b")], 1, mixed_queries(pages, 2, COUNT), 2, 3)
    assert calls == ["a", "b"] * 4  # one call each to begin with, then three turns
    assert len(cells["a"].seconds) == 3
    assert Cell("a", 1, 64, 8, [2.0, 4.0, 3.0]).ms_per_query == pytest.approx(375)
    assert Cell("a", 1, 64, 8, [70.0]).note(5) == "1 call(s); 8 of 64 queries timed, one after another"


def test_recall_by_hand() -> None:
    assert recall([[1, 2], [3, 4]], [[2, 9], [4, 3]]) == pytest.approx(0.75)


def test_node_files_hold_the_vectors_as_text(pages: SyntheticPages, tmp_path: Path) -> None:
    file = tmp_path / "a.node"
    page = pages.page(0)
    write_node(file, "a", page)
    assert 18 < file.stat().st_size / page.size < 25  # bytes per value; a published file has 22
    (opened,) = open_nodes([file])
    np.testing.assert_array_equal(opened.float().numpy(), page.astype(np.float32))


def test_the_cache_gives_the_same_pages_again(pages: SyntheticPages, tmp_path: Path) -> None:
    for _ in range(2):
        held = Cache(tmp_path, pages).pages(5)
        expected = [pages.page(number).astype(np.float32).tobytes() for number in range(5)]
        assert [page.tobytes() for page in held.pages] == expected
    cache = Cache(tmp_path, pages)
    (cache.ours(5) / "mark").touch()
    assert (Cache(tmp_path, pages).ours(5) / "mark").exists()  # not written again
    (cache.ours(5).parent / "lance5.part").mkdir()  # what a kill leaves
    assert not (cache.lance(5, indexed=False) / "mark").exists()


def test_from_measuring_to_the_tables(pages: SyntheticPages, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", pages)
    assert rows([COUNT]) == ["search-40", "disk", "memory", "lexical", "ingestion"]
    measured = {
        name: {"command": "python x.py", "minutes": 1.0} | numbers
        for name, numbers in run(["search-40", "disk"], cache, [COUNT], [1, 4], 2, tmp_path)
    }
    result = {"seed": 0, "repeats": 2, "machine": machine(1), "rows": measured}
    result = json.loads(json.dumps(result))
    exact = {cell["engine"]: (cell["easy"], cell["hard"]) for cell in cells(result) if cell["queries"] == 4}
    assert exact.pop(BASELINE) == (1.0, 1.0)
    assert exact["vrag (automatic)"] == (1.0, 1.0)
    assert "not installed" in latency_table(cells(result), [{"name": "fast-plaid", "reason": "not installed"}])
    result["rows"]["disk"]["pages"] = 20_000  # as if; of 40 pages, sizes say little
    assert "bytes per page on disk" in target_table(targets(result))
    assert "`python x.py`" in speed_tables(result) and "seed 0; 2 minutes" in speed_tables(result)
    for picture in plot_growth(cells(result), tmp_path, "growth"):
        assert picture.stat().st_size > 10_000
