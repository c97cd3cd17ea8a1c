from __future__ import annotations

import pickle
import random
import signal
import time
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from retrieval_pages import make_corpus
from vector_pages import SeededEncoder

from vrag_env.corpus import Corpus
from vrag_env.corpus.info import corpus_info
from vrag_env.corpus.lock import CorpusBusyError, write_lock
from vrag_env.errors import RetrieverError
from vrag_env.retrieval import LateInteractionRetriever, build_embeddings
from vrag_env.retrieval import late_interaction as module
from vrag_env.retrieval.embeddings import EmbeddingTable, table_name
from vrag_env.retrieval.encoder import Encoder

TABLE = table_name("tests/seeded", "r1")


def seeded_corpus(path: Path, pages: int = 60) -> Corpus:
    return make_corpus(path, {f"doc{number}.pdf": ["text"] * 10 for number in range(pages // 10)})


def whole(corpus: Corpus) -> dict[str, bytes]:
    """What the table holds, by page; fails if a page is there twice."""
    rows = corpus.open_side_table(TABLE).to_arrow()
    assert len(set(rows["page_id"].to_pylist())) == len(rows)
    table = EmbeddingTable(corpus.open_side_table(TABLE))
    return dict(zip(table.page_ids, (page.tobytes() for page in table.take(np.arange(len(table)))), strict=True))


def test_the_encoder_of_the_tests_is_one() -> None:
    assert isinstance(SeededEncoder(), Encoder)


def test_build_and_search(tmp_path: Path) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c"), SeededEncoder()
    assert build_embeddings(corpus, encoder, progress=False) == 60
    assert whole(corpus) == {page: encoder.page(page).tobytes() for page in corpus.page_ids()}
    retriever = LateInteractionRetriever(corpus, encoder)
    hits = retriever.search(["doc3.pdf#7", "", "doc0.pdf#1", "doc3.pdf#7"], 3)
    assert [hit[0].page_id if hit else None for hit in hits] == ["doc3.pdf#7", None, "doc0.pdf#1", "doc3.pdf#7"]
    assert retriever.search(["doc3.pdf#7"], 3, where=["doc1.pdf"])[0][0].page_id.startswith("doc1.pdf#")
    assert retriever.search_vectors(encoder.encode_queries(["doc3.pdf#7"]), 3)[0] == hits[0]
    two_stage = LateInteractionRetriever(corpus, encoder, search="two_stage", candidates=20)
    assert two_stage.searcher.mode == "two_stage" and two_stage.search(["doc3.pdf#7"], 3)[0][0] == hits[0][0]
    assert len(retriever.search(["doc3.pdf#7"], 10**6)[0]) == 60


def test_recall_is_measured_and_stored(tmp_path: Path) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c"), SeededEncoder()
    build_embeddings(corpus, encoder, progress=False)
    retriever = LateInteractionRetriever(corpus, encoder, search="two_stage")
    stats = retriever.searcher.table.stats
    assert stats == {"recall_at_10": 1.0, "candidates": 40, "queries": 32, "pages": 60, "pages_searched": 60}
    assert retriever.recall == 1.0 and retriever.searcher.candidates == 40
    (shown,) = corpus_info(corpus).tables
    assert shown.notes["recall_at_10"] == "1.0" and shown.notes["vrag_encoder"] == "tests/seeded"


def test_too_little_recall_warns_and_says_what_to_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrag_env.retrieval.recall._LADDER", (10, 11))
    corpus, encoder = seeded_corpus(tmp_path / "c"), SeededEncoder()
    with pytest.warns(UserWarning, match=r"finds \d+\.\d% .* with 11 candidates: raise .*pooled_vectors \(now 2\)"):
        build_embeddings(corpus, encoder, pooled_vectors=2, progress=False)
    poor = LateInteractionRetriever(corpus, encoder).recall
    assert poor is not None and poor < 0.99
    encoder.encoded.clear()
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_embeddings(corpus, encoder, pooled_vectors=24, progress=False) == 0
    retriever = LateInteractionRetriever(corpus, encoder)
    assert encoder.encoded == [] and retriever.searcher.table.pooled_vectors == 24  # made from what is stored
    assert retriever.recall is not None and retriever.recall > poor
    assert whole(corpus) == {page: encoder.page(page).tobytes() for page in corpus.page_ids()}


def test_token_pooling_has_a_table_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("colpali_engine")
    corpus, encoder = seeded_corpus(tmp_path / "c"), SeededEncoder()
    with pytest.warns(UserWarning, match=r"pooling by 3 keeps \d+\.\d% of the best 10 pages among 60"):
        assert build_embeddings(corpus, encoder, pool_factor=3, progress=False) == 60
    pooled = LateInteractionRetriever(corpus, encoder)  # there is no other
    assert pooled.searcher.table.name == f"{TABLE}_pool3"
    sizes = [len(encoder.page(page)) // 3 for page in pooled.searcher.table.page_ids]
    assert pooled.searcher.table.counts.tolist() == sizes
    assert 0.2 < pooled.searcher.table.stats["pooling_recall_at_10"] < 0.99
    assert pooled.searcher.table.stats["pooling_pages"] == 60
    assert pooled.search(["doc3.pdf#7"], 1)[0][0].page_id == "doc3.pdf#7"
    with pytest.raises(RetrieverError, match="no embeddings by tests/seeded in revision r1"):
        LateInteractionRetriever(corpus, encoder, pool_factor=1)
    build_embeddings(corpus, encoder, progress=False)
    assert LateInteractionRetriever(corpus, encoder).searcher.table.name == TABLE
    assert LateInteractionRetriever(corpus, encoder, pool_factor=3).searcher.table.name == f"{TABLE}_pool3"
    with pytest.raises(RetrieverError, match="pool factor is 0"):
        build_embeddings(corpus, encoder, pool_factor=0)
    with pytest.raises(RetrieverError, match="pooled_vectors must be at least 1"):
        build_embeddings(corpus, encoder, pooled_vectors=0)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.full((3, 32), np.nan, np.float16), r"tests/seeded gave page 'doc1.pdf#4' vectors .* not finite"),
        (np.zeros((3, 32), np.float16), r"tests/seeded gave page 'doc1.pdf#4' only vectors of length 0"),
    ],
)
def test_bad_vectors_name_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vectors: np.ndarray, message: str
) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c"), SeededEncoder()
    good = encoder.page
    monkeypatch.setattr(encoder, "page", lambda page_id: vectors if page_id == "doc1.pdf#4" else good(page_id))
    with pytest.raises(RetrieverError, match=message):
        build_embeddings(corpus, encoder, progress=False)
    monkeypatch.undo()
    build_embeddings(corpus, encoder, progress=False)
    assert len(whole(corpus)) == 60


def test_a_retriever_stays_as_it_was_opened(tmp_path: Path) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c"), SeededEncoder()
    build_embeddings(corpus, encoder, progress=False)
    for mode in ("exact", "two_stage"):
        opened = Corpus.open(corpus.path)
        retriever = LateInteractionRetriever(opened, encoder, search=mode, memory_bytes=0)  # type: ignore[arg-type]
        before = retriever.search(["doc3.pdf#7"], 60)
        other = Corpus.open(corpus.path)
        other.remove(other.doc_ids()[0])
        build_embeddings(other, encoder, progress=False)
        assert retriever.search(["doc3.pdf#7"], 60) == before
        remaining = LateInteractionRetriever(other, encoder).search(["doc3.pdf#7"], 60)[0]
        assert len(remaining) == len(other) == len(before[0]) - 10


def test_an_older_corpus_object_does_not_undo_newer_embeddings(tmp_path: Path) -> None:
    older, encoder = seeded_corpus(tmp_path / "c", 20), SeededEncoder()
    newer = seeded_corpus(tmp_path / "c", 40)
    assert build_embeddings(newer, encoder, progress=False) == 40
    assert build_embeddings(older, encoder, progress=False) == 0
    assert len(whole(newer)) == 40


def test_a_fixed_corpus_is_not_built(tmp_path: Path) -> None:
    corpus = seeded_corpus(tmp_path / "c", 10)
    with pytest.raises(RetrieverError, match="this corpus is fixed at version"):
        build_embeddings(corpus.pinned(), SeededEncoder(), progress=False)
    build_embeddings(corpus, SeededEncoder(), progress=False)
    assert len(LateInteractionRetriever(corpus.pinned(), SeededEncoder()).search(["doc0.pdf#1"], 99)[0]) == 10


def test_an_empty_corpus(tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "c")
    assert build_embeddings(corpus, SeededEncoder(), progress=False) == 0
    with pytest.raises(RetrieverError, match="no embeddings by"):
        LateInteractionRetriever(corpus, SeededEncoder())


def test_embeddings_of_another_version_are_an_error_and_made_anew(tmp_path: Path) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c", 10), SeededEncoder()
    build_embeddings(corpus, encoder, progress=False)
    rows = corpus.open_side_table(TABLE).to_arrow().drop_columns(["norm"])
    corpus.database.create_table(TABLE, rows, mode="overwrite")
    with pytest.raises(RetrieverError, match="written by another version of this package: build them again"):
        LateInteractionRetriever(corpus, encoder)
    assert build_embeddings(corpus, encoder, progress=False) == 10
    assert len(LateInteractionRetriever(corpus, encoder).search(["doc0.pdf#1"], 99)[0]) == 10


def test_two_builders_at_once(tmp_path: Path) -> None:
    corpus = seeded_corpus(tmp_path / "c", 10)
    build_embeddings(corpus, SeededEncoder(), progress=False)
    with write_lock(corpus.path / f"{TABLE}.build"), pytest.raises(CorpusBusyError, match="another process is writing"):
        build_embeddings(corpus, SeededEncoder(), progress=False)
    assert build_embeddings(corpus, SeededEncoder("tests/other"), progress=False) == 10  # another table


class SlowEncoder(SeededEncoder):
    """Tells of every call, and takes its time."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def encode_pages(self, corpus: Any, page_ids: Any) -> Any:
        self._connection.send("encoding")
        time.sleep(0.005 * len(page_ids))
        return super().encode_pages(corpus, page_ids)


def build_slowly(connection: Connection, path: Path) -> None:
    module._ENCODE_PAGES, module._COMMIT_PAGES = 2, 4
    build_embeddings(Corpus.open(path), SlowEncoder(connection), progress=False)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c", 300), SeededEncoder()
    rng = random.Random(0)
    done = 0
    for _ in range(20):
        process, told = warm.start(build_slowly, corpus.path)
        with suppress(EOFError):  # there is nothing left to encode
            for _ in range(rng.randint(1, 12)):
                told.recv()
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        assert warm.finish(process) in (0, -signal.SIGKILL)
        now = len(whole(corpus)) if TABLE in corpus.side_tables() else 0
        assert now >= done  # what was written stays
        done = now
    missing = 300 - done
    assert done > 0 and build_embeddings(corpus, encoder, progress=False) == missing
    assert whole(corpus) == {page: encoder.page(page).tobytes() for page in corpus.page_ids()}


@pytest.mark.slow
def test_two_processes_at_once_leave_a_whole_table(tmp_path: Path) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c", 60), SeededEncoder()
    processes = [warm.start(build_slowly, corpus.path) for _ in range(2)]
    for _, told in processes:
        with suppress(EOFError):
            while True:
                told.recv()
    assert 0 in [warm.finish(process) for process, _ in processes]
    build_embeddings(corpus, encoder, progress=False)
    assert whole(corpus) == {page: encoder.page(page).tobytes() for page in corpus.page_ids()}


def test_what_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, encoder = seeded_corpus(tmp_path / "c", 70), SeededEncoder()
    monkeypatch.setattr(module, "_ENCODE_PAGES", 8)
    monkeypatch.setattr(module, "_COMMIT_PAGES", 30)
    build_embeddings(corpus, encoder, progress=False)
    fragments = corpus.open_side_table(TABLE).stats()["fragment_stats"]["num_fragments"]
    assert fragments == 3  # 32, 32 and 6 pages
    assert pickle.loads(pickle.dumps(corpus)).side_tables() == [TABLE]
