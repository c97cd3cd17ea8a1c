"""Compaction: the same pages and search results on less disk; old versions are gone, young ones are not."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from vrag_env.corpus import Corpus
from vrag_env.corpus.compact import compact
from vrag_env.corpus.lock import CorpusBusyError, write_lock
from vrag_env.errors import CorpusError
from vrag_env.retrieval.lexical import LexicalRetriever

sys.path.insert(0, str(Path(__file__).parents[1] / "retrieval"))
from retrieval_pages import make_corpus
from vector_pages import SeededEncoder

from vrag_env.retrieval import LateInteractionRetriever, build_embeddings


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Pages that were written, replaced and embedded in many small steps."""
    corpus = make_corpus(tmp_path / "c", {"a.pdf": ["falcon revenue", "falcon staff"], "b.pdf": ["otter"] * 8})
    for _ in range(5):
        rows = corpus.table.to_arrow()
        with corpus.writing():
            corpus.commit(rows.to_batches(), set(corpus.doc_ids()))
            corpus.update_text_index()
    build_embeddings(corpus, SeededEncoder(), progress=False)
    return corpus


def test_the_same_corpus_on_less_disk(corpus: Corpus) -> None:
    before = corpus.fingerprint, corpus.table.to_arrow().sort_by("page_id").to_pylist()
    found = LexicalRetriever(corpus, memory_pages=0).search(["falcon", "otter"], 10)
    encoder = SeededEncoder()
    seen = LateInteractionRetriever(corpus, encoder).search(["a.pdf#2"], 10)
    old = corpus.version - 3
    report = compact(corpus, timedelta(0))
    assert report.bytes_after < report.bytes_before and report.versions > 10
    for newest in (corpus, Corpus.open(corpus.path)):
        assert (newest.fingerprint, newest.table.to_arrow().sort_by("page_id").to_pylist()) == before
        assert LexicalRetriever(newest, memory_pages=0).search(["falcon", "otter"], 10) == found
        assert LateInteractionRetriever(newest, encoder).search(["a.pdf#2"], 10) == seen
    assert corpus.version >= report.oldest
    assert Corpus.open(corpus.path, report.oldest).page_ids() == corpus.page_ids()
    with pytest.raises(CorpusError, match=f"no version {old}: it was never written, or was cleaned up"):
        Corpus.open(corpus.path, old)
    assert build_embeddings(corpus, encoder, progress=False) == 0  # nothing to do again


def test_young_versions_stay(corpus: Corpus) -> None:
    old = Corpus.open(corpus.path, corpus.version - 3)
    report = compact(corpus)
    assert report.versions == 0 and report.oldest == 1
    assert len(old.rows(old.page_ids(), ["image"])) == 10
    assert len(Corpus.open(corpus.path, old.version)) == 10


def test_nobody_else_may_write(corpus: Corpus) -> None:
    with write_lock(corpus.path), pytest.raises(CorpusBusyError):
        compact(corpus, timedelta(0))
    [building] = corpus.path.glob("*.build")
    with write_lock(building), pytest.raises(CorpusBusyError):
        compact(corpus, timedelta(0))
    with pytest.raises(CorpusError, match="read only"):
        compact(corpus.pinned(), timedelta(0))
    with pytest.raises(ValueError, match="must not be negative"):
        compact(corpus, timedelta(days=-1))
    assert len(Corpus.open(corpus.path, 1)) == 0
