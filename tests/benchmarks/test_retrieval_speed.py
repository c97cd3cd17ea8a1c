"""The speed benchmark at a tiny size: every engine runs, agrees with the exact scores, and is reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("colpali_engine")
pytest.importorskip("maxsim_cpu")

from _nodes import open_nodes, write_node
from _peers import FlatMatmul, LanceMultivector, MaxSimCPU, Peer, ScoreMultiVector
from _plots import plot_growth
from _speed_report import BASELINE, latency_table, target_table, targets
from _timing import Cell, measure, recall
from retrieval_speed import disk_and_open, load, mixed_queries, search_times
from synthetic_pages import SyntheticPages

COUNT = 40


@pytest.fixture(scope="module")
def pages() -> SyntheticPages:
    return SyntheticPages(0)


def test_all_exact_peers_find_the_same_pages(pages: SyntheticPages, tmp_path: Path) -> None:
    held = load(pages, COUNT)
    queries = mixed_queries(pages, 4, COUNT)
    LanceMultivector.write(tmp_path, pages.batches(COUNT))
    peers: list[Peer] = [ScoreMultiVector(held), FlatMatmul(held), MaxSimCPU(held)]
    peers.append(LanceMultivector(tmp_path, indexed=False))
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


def test_from_measuring_to_the_tables(pages: SyntheticPages, tmp_path: Path) -> None:
    result = search_times(pages, [COUNT], [1, 4], 2, tmp_path)
    result["disk"] = disk_and_open(pages, COUNT, 2, tmp_path)
    json.dumps(result)
    exact = {cell["engine"]: (cell["easy"], cell["hard"]) for cell in result["cells"] if cell["queries"] == 4}
    assert exact.pop(BASELINE) == (1.0, 1.0)
    assert exact["vrag (automatic)"] == (1.0, 1.0)
    assert "not installed" in latency_table(result["cells"], [{"name": "fast-plaid", "reason": "not installed"}])
    result["disk"]["pages"] = 20_000  # as if; of 40 pages, sizes say little
    assert "bytes per page on disk" in target_table(targets(result))
    for picture in plot_growth(result["cells"], tmp_path, "growth"):
        assert picture.stat().st_size > 10_000
