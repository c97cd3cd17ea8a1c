"""Two-stage search with the pooled vectors on disk: same results, same order, and never an index of other pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import lancedb
import numpy as np
import pytest
from retrieval_pages import make_corpus
from vector_pages import SeededEncoder, make_pages, make_queries, make_table

from vrag_env.corpus import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval import LateInteractionRetriever, build_embeddings
from vrag_env.retrieval import disk_stage as module
from vrag_env.retrieval.candidate_index import CandidateIndex
from vrag_env.retrieval.disk_stage import PooledOnDisk, candidates_directory, open_candidates, write_candidates
from vrag_env.retrieval.embeddings import EmbeddingTable, table_name, write_stats
from vrag_env.retrieval.recall import measure_disk_recall
from vrag_env.retrieval.searcher import Searcher

TABLE = table_name("tests/seeded", "r1")
PAGES = 600
CANDIDATES = 30


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTable:
    return make_table(tmp_path_factory.mktemp("table"), make_pages(PAGES), pooled_vectors=8)


@pytest.fixture(scope="module")
def index(table: EmbeddingTable, tmp_path_factory: pytest.TempPathFactory) -> CandidateIndex:
    """4,800 vectors, so with partitions; all of them are looked into."""
    index = write_candidates(tmp_path_factory.mktemp("index"), table)
    index.nprobes, index.depth, index.rescored = 10, 8 * PAGES, PAGES - 1  # one bit a dimension orders only roughly
    return index


@pytest.fixture(scope="module")
def queries() -> list[np.ndarray]:
    return list(make_queries(make_pages(PAGES), 6))


@pytest.mark.parametrize("where", [None, [f"d{number}" for number in range(3, 60, 2)], ["d5"]])
def test_same_results_in_the_same_order(
    table: EmbeddingTable, index: CandidateIndex, queries: list[np.ndarray], where: list[str] | None
) -> None:
    memory = Searcher(table, search="two_stage", candidates=CANDIDATES)
    disk = Searcher(table, search="two_stage", candidates=CANDIDATES, first_stage=index)
    assert disk.on_disk and not memory.on_disk
    assert disk.search_vectors(queries, 10, where) == memory.search_vectors(queries, 10, where)
    assert disk.search_vectors(queries[:1], 10, where) == memory.search_vectors(queries, 10, where)[:1]


def test_recall_is_measured_and_too_little_shows(table: EmbeddingTable, index: CandidateIndex) -> None:
    measured = measure_disk_recall(table, index, CANDIDATES)
    assert measured.recall >= 0.995 and measured.probing in module.LADDER
    assert (index.nprobes, index.depth) == (measured.probing.nprobes, measured.probing.depth)


def test_recall_by_an_index_that_finds_only_some(
    table: EmbeddingTable, index: CandidateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that always gives the same pages finds the right ones by chance only."""
    monkeypatch.setattr(PooledOnDisk, "best", lambda self, queries, count: [np.arange(count)] * len(queries))
    assert measure_disk_recall(table, index, CANDIDATES).recall < 0.3


def test_pages_that_the_table_does_not_show_are_not_found(table: EmbeddingTable, index: CandidateIndex) -> None:
    shown = dict.fromkeys((page for place, page in enumerate(table.page_ids) if not 100 <= place < 150), "v1")
    fewer = EmbeddingTable(table._table, shown)
    pages = make_pages(PAGES)
    asked = [pages[120][:7].astype(np.float32), pages[200][:7].astype(np.float32)]
    memory, disk = (Searcher(fewer, search="two_stage", candidates=20, first_stage=stage) for stage in (None, index))
    assert disk.search_vectors(asked, 5) == memory.search_vectors(asked, 5)
    assert disk.search_vectors(asked, 5)[1][0].page_id == "p00200"


def test_an_index_of_other_pages_is_refused(index: CandidateIndex, tmp_path: Path) -> None:
    for pages, per_page in ((make_pages(PAGES, seed=5), 8), (make_pages(PAGES + 1), 8), (make_pages(PAGES), 4)):
        other = make_table(tmp_path / f"{len(pages)}_{per_page}_{pages[0].size}", pages, pooled_vectors=per_page)
        with pytest.raises(RetrieverError, match="not of its present pages: run vrag index again"):
            PooledOnDisk(other, index)


def test_who_has_the_old_index_open_goes_on_with_it(tmp_path: Path, queries: list[np.ndarray]) -> None:
    old = make_table(tmp_path / "old", make_pages(60))
    searcher = Searcher(old, search="two_stage", candidates=20, first_stage=write_candidates(tmp_path / "i", old))
    before = searcher.search_vectors(queries, 5)
    new = make_table(tmp_path / "new", make_pages(80, seed=9))
    write_candidates(tmp_path / "i", new)
    assert searcher.search_vectors(queries, 5) == before
    opened = open_candidates(tmp_path / "i", {})
    assert opened is not None and len(PooledOnDisk(new, opened).index) == 80


def seeded(path: Path, documents: int) -> Corpus:
    return make_corpus(path, {f"doc{number}.pdf": ["text"] * 10 for number in range(documents)})


def test_build_writes_keeps_and_removes_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, encoder = seeded(tmp_path / "c", 6), SeededEncoder()
    directory = candidates_directory(corpus.path, TABLE)
    build_embeddings(corpus, encoder, progress=False)
    assert not directory.exists()  # so few fit into memory
    with pytest.raises(RetrieverError, match=r"no index on disk .* --first-stage disk"):
        LateInteractionRetriever(corpus, encoder, search="two_stage", first_stage="disk")

    build_embeddings(corpus, encoder, first_stage="disk", progress=False)
    retriever = LateInteractionRetriever(corpus, encoder, search="two_stage", first_stage="disk")
    assert retriever.searcher.on_disk and retriever.recall == 1.0
    memory = LateInteractionRetriever(corpus, encoder, search="two_stage", first_stage="memory")
    asked = ["doc3.pdf#7", "doc0.pdf#1"]
    assert retriever.search(asked, 10) == memory.search(asked, 10)
    assert not memory.searcher.on_disk
    small = LateInteractionRetriever(corpus, encoder, memory_bytes=1)  # what does not fit is on disk
    assert small.searcher.on_disk and small.search(asked, 10) == memory.search(asked, 10)

    # Once there, it is kept up to date: with pages added, it would be of other pages.
    written = []
    monkeypatch.setattr(
        "vrag_env.retrieval.late_interaction.write_candidates",
        lambda *arguments: written.append(arguments) or write_candidates(*arguments),
    )
    build_embeddings(corpus, encoder, progress=False)
    assert not written
    grown = seeded(tmp_path / "c", 7)
    build_embeddings(grown, encoder, progress=False)
    assert len(written) == 1
    found = LateInteractionRetriever(grown, encoder, memory_bytes=1).search(["doc6.pdf#2"], 3)
    assert found[0][0].page_id == "doc6.pdf#2"

    build_embeddings(grown, encoder, first_stage="memory", progress=False)
    assert not directory.exists()


def test_an_index_whose_build_was_killed_is_written_again(tmp_path: Path) -> None:
    corpus, encoder = seeded(tmp_path / "c", 6), SeededEncoder()
    build_embeddings(corpus, encoder, first_stage="disk", progress=False)
    directory = candidates_directory(corpus.path, TABLE)
    lancedb.connect(directory).drop_table("pooled_scales")  # they are written last
    with pytest.raises(RetrieverError, match="no whole candidate index"):
        LateInteractionRetriever(corpus, encoder, search="two_stage", first_stage="disk")
    assert build_embeddings(corpus, encoder, progress=False) == 0
    assert LateInteractionRetriever(corpus, encoder, memory_bytes=1).searcher.on_disk
    write_stats(corpus.database.open_table(TABLE), {"recall_at_10": 1.0, "candidates": 40})  # killed before measuring
    build_embeddings(corpus, encoder, progress=False)
    assert LateInteractionRetriever(corpus, encoder, memory_bytes=1).recall == 1.0
    shutil.rmtree(directory)
    build_embeddings(corpus, encoder, first_stage="disk", progress=False)
    assert LateInteractionRetriever(corpus, encoder, memory_bytes=1).searcher.on_disk


def test_a_stage_that_does_not_exist(tmp_path: Path) -> None:
    corpus, encoder = seeded(tmp_path / "c", 1), SeededEncoder()
    with pytest.raises(RetrieverError, match="must be one of auto, memory, disk, got 'gpu'"):
        build_embeddings(corpus, encoder, first_stage="gpu", progress=False)  # type: ignore[arg-type]  # on purpose
