from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from retrieval_pages import make_corpus

from vrag_env.corpus import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval import Hit, LexicalRetriever, make_retriever


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "corpus", {"a.pdf": ["alpha"]})


def test_lexical(corpus: Corpus) -> None:
    retriever = make_retriever("lexical", corpus)
    assert isinstance(retriever, LexicalRetriever)
    assert retriever.search(["alpha"], 1)[0][0].page_id == "a.pdf#1"


def test_an_object_passes_through(corpus: Corpus) -> None:
    class Mine:
        def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
            return [[] for _ in queries]

    mine = Mine()
    assert make_retriever(mine, corpus) is mine


@pytest.mark.parametrize("spec", ["", "bm26", "Lexical "])
def test_unknown_name(corpus: Corpus, spec: str) -> None:
    with pytest.raises(RetrieverError, match=r"unknown retriever .*lexical, colpali, colqwen2"):
        make_retriever(spec, corpus)


def test_no_retriever_at_all(corpus: Corpus) -> None:
    with pytest.raises(RetrieverError, match="object with a search method"):
        make_retriever(42, corpus)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("spec", ["colqwen2.5", "ColQwen2.5", "vidore/colqwen2.5-v0.2"])
def test_a_model_without_embeddings_is_not_even_loaded(corpus: Corpus, spec: str) -> None:
    with pytest.raises(RetrieverError, match=r"--encoder vidore/colqwen2\.5-v0\.2"):
        make_retriever(spec, corpus)


def test_a_model_from_a_directory(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("colpali_engine")
    from tiny_encoders import tiny_colqwen2_5

    from vrag_env.retrieval import LateInteractionEncoder, LateInteractionRetriever, build_embeddings

    directory = str(tmp_path / "colqwen2.5-tiny")
    for part in tiny_colqwen2_5():
        part.save_pretrained(directory)
    build_embeddings(corpus, LateInteractionEncoder.load(directory, device="cpu"), progress=False)
    retriever = make_retriever(directory, corpus)
    assert isinstance(retriever, LateInteractionRetriever)
    assert retriever.search(["alpha"], 5)[0][0].page_id == "a.pdf#1"
