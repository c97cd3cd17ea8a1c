from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from retrieval_pages import make_corpus

from vrag_env.corpus import Corpus
from vrag_env.corpus.lock import CorpusBusyError
from vrag_env.retrieval import Hit, LexicalRetriever, Retriever
from vrag_env.retrieval.lexical import MEMORY_PAGES

DOCUMENTS = {
    "cats.pdf": ["cats and dogs", "cats cats cats", "a chart of revenue by region"],
    "it's.pdf": ["call labeling_lboxed from query.h with dh-make", "naïve Müller sold 42 charts"],
    "zh.pdf": ["北京的销售额增长了", "上海的利润下降了"],
    "twins.pdf": ["identical page"] * 9,
    "blank.pdf": [""],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("lexical") / "corpus", DOCUMENTS)


@pytest.fixture(scope="module", params=[MEMORY_PAGES, 0], ids=["memory", "LanceDB"])
def retriever(request: pytest.FixtureRequest, corpus: Corpus) -> LexicalRetriever:
    return LexicalRetriever(corpus, memory_pages=request.param)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.page_id for hit in hits]


def test_is_a_retriever(retriever: LexicalRetriever) -> None:
    assert isinstance(retriever, Retriever)


def test_score_is_bm25_by_hand(tmp_path: Path) -> None:
    # The file's name "x" is a word of every page. "apple" is on page 1 (once, of 2 words) and on page 2
    # (twice, of 4 words): idf = ln(1 + (3 - 2 + 0.5) / (2 + 0.5)), mean length (2 + 4 + 3) / 3 = 3. Both
    # forms of the text have the same words here, so that the sum of their scores is twice the one.
    corpus = make_corpus(tmp_path / "c", {"x.pdf": ["apple", "apple apple pear", "plum pear"]})
    hits = LexicalRetriever(corpus).search(["apple"], 5)[0]

    def score(count: int, length: int) -> float:
        return 2 * math.log(1 + 1.5 / 2.5) * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / 3))

    expected = {"x.pdf#1": score(1, 2), "x.pdf#2": score(2, 4)}
    assert {hit.page_id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-6)
    by_index = LexicalRetriever(corpus, memory_pages=0).search(["apple"], 5)[0]
    assert {hit.page_id: hit.score for hit in by_index} == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("cat", "cats.pdf#2"),  # stem
        ("REVENUE", "cats.pdf#3"),
        ("labeling_lboxed", "it's.pdf#1"),
        ("lboxed", "it's.pdf#1"),
        ("dh-make", "it's.pdf#1"),
        ("query.h", "it's.pdf#1"),
        ("naive muller", "it's.pdf#2"),  # accents folded
        ("42", "it's.pdf#2"),
        ("销售额", "zh.pdf#1"),
        ("上海", "zh.pdf#2"),
    ],
)
def test_finds(retriever: LexicalRetriever, query: str, first: str) -> None:
    assert ids(retriever.search([query], 3)[0])[0] == first


def test_the_written_form_comes_first(tmp_path: Path) -> None:
    texts = [
        "tools: dh make and dh python",
        "tools: dh-make only here today",
        "it makes charts",
        "a chart maker",
    ]
    retriever = LexicalRetriever(make_corpus(tmp_path / "c", {"x.pdf": texts}))
    assert ids(retriever.search(["dh-make"], 2)[0]) == ["x.pdf#2", "x.pdf#1"]
    assert ids(retriever.search(["chart"], 2)[0]) == ["x.pdf#4", "x.pdf#3"]
    assert ids(retriever.search(["charts"], 2)[0]) == ["x.pdf#3", "x.pdf#4"]


def test_no_foreign_stop_words(retriever: LexicalRetriever) -> None:
    # "dog" is a stop word in Danish and "cat" in Romanian: neither is in English
    assert ids(retriever.search(["dog"], 3)[0]) == ["cats.pdf#1"]


def test_any_word_suffices_and_the_file_name_counts(retriever: LexicalRetriever) -> None:
    assert set(ids(retriever.search(["revenue dogs nonsense"], 9)[0])) == {"cats.pdf#1", "cats.pdf#3"}
    assert ids(retriever.search(["blank"], 9)[0]) == ["blank.pdf#1"]


def test_batch_keeps_the_order_of_the_queries(retriever: LexicalRetriever) -> None:
    queries = ["dogs", "", "revenue", "dogs", "qqqq"]
    assert [ids(hits) for hits in retriever.search(queries, 1)] == [
        ["cats.pdf#1"],
        [],
        ["cats.pdf#3"],
        ["cats.pdf#1"],
        [],
    ]
    assert retriever.search([], 1) == []


def test_ties_are_broken_by_page_id_at_the_cut_too(retriever: LexicalRetriever) -> None:
    for k in (1, 2, 4, 9, 100):
        hits = retriever.search(["identical"], k)[0]
        assert ids(hits) == [f"twins.pdf#{n}" for n in range(1, 10)][:k]
        assert len({hit.score for hit in hits}) == 1


def test_where(retriever: LexicalRetriever) -> None:
    assert set(ids(retriever.search(["chart"], 9)[0])) == {"cats.pdf#3", "it's.pdf#2"}
    assert ids(retriever.search(["chart"], 9, where=["it's.pdf", "no such"])[0]) == ["it's.pdf#2"]
    assert retriever.search(["chart"], 9, where=[]) == [[]]
    assert retriever.search(["chart"], 9, where=["no such"]) == [[]]
    assert retriever.search(["chart"], 9, where=["x') OR ('1'='1"]) == [[]]
    with pytest.raises(ValueError, match=r"pass \['a.pdf'\]"):  # else a collection of letters
        retriever.search(["chart"], 9, where="a.pdf")


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one(retriever: LexicalRetriever, k: int) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        retriever.search(["cats"], k)


@pytest.mark.parametrize(
    "query",
    ["", " \n", "\x00", "\ud800", '"', "a AND (b OR", "title:x^3 ~2 +[a TO b] *", "the of", "x" * 100_000],
)
def test_odd_queries_never_raise(retriever: LexicalRetriever, query: str) -> None:
    assert len(retriever.search([query], 3)) == 1


def test_operators_are_words(retriever: LexicalRetriever) -> None:
    plain = retriever.search(["cats dogs"], 9)
    assert retriever.search(['"cats" +dogs'], 9) == plain
    assert ids(retriever.search(["cats -dogs"], 9)[0]) == ids(plain[0])  # not "without dogs"


def test_a_100_kb_query_is_quick_and_its_beginning_counts(retriever: LexicalRetriever) -> None:
    assert ids(retriever.search(["dogs " + "filler " * 15_000], 1)[0]) == ["cats.pdf#1"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(max_size=40), k=st.integers(1, 20))
def test_any_text_is_a_query(retriever: LexicalRetriever, query: str, k: int) -> None:
    (hits,) = retriever.search([query], k)
    assert len(hits) <= k
    assert [(-hit.score, hit.page_id) for hit in hits] == sorted((-hit.score, hit.page_id) for hit in hits)


def test_empty_corpus(tmp_path: Path) -> None:
    assert LexicalRetriever(Corpus.create(tmp_path / "c")).search(["x"], 3) == [[]]


def test_scores_depend_on_the_pages_and_not_on_their_history(tmp_path: Path) -> None:
    straight = make_corpus(tmp_path / "straight", DOCUMENTS)
    winding = make_corpus(tmp_path / "winding", {"cats.pdf": ["cats"] * 5, "gone.pdf": ["cats"] * 4})
    LexicalRetriever(winding)
    winding.remove("gone.pdf")
    make_corpus(tmp_path / "winding", dict(reversed(DOCUMENTS.items())))
    queries = ["cats", "chart of dogs", "identical"]
    expected = LexicalRetriever(straight).search(queries, 20)
    assert LexicalRetriever(Corpus.open(winding.path)).search(queries, 20) == expected


@pytest.mark.parametrize("memory_pages", [MEMORY_PAGES, 0])
def test_pages_added_later_are_found(tmp_path: Path, memory_pages: int) -> None:
    corpus = make_corpus(tmp_path / "c", {"a.pdf": ["alpha"]})
    retriever = LexicalRetriever(corpus, memory_pages=memory_pages)
    make_corpus(tmp_path / "c", {"b.pdf": ["beta"]})
    assert retriever.search(["beta"], 3) == [[]]  # the open corpus is a snapshot
    fresh = LexicalRetriever(Corpus.open(corpus.path), memory_pages=memory_pages)
    assert ids(fresh.search(["beta"], 3)[0]) == ["b.pdf#1"]


def test_what_the_corpus_itself_adds_and_removes_shows_at_once(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "c", {"a.pdf": ["alpha"], "b.pdf": ["beta"]})
    retriever = LexicalRetriever(corpus)
    assert ids(retriever.search(["beta"], 3)[0]) == ["b.pdf#1"]
    corpus.remove("b.pdf")
    assert retriever.search(["beta"], 3) == [[]]
    assert ids(retriever.search(["alpha"], 3)[0]) == ["a.pdf#1"]


def test_a_corpus_without_an_index_is_searched_while_another_writes(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "c", {"a.pdf": ["alpha"]})
    with Corpus.open(corpus.path).writing():
        assert ids(LexicalRetriever(corpus).search(["alpha"], 3)[0]) == ["a.pdf#1"]
        with pytest.raises(CorpusBusyError):
            LexicalRetriever(corpus, memory_pages=0)


def test_a_reader_works_while_another_writes(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "c", {"a.pdf": ["alpha"]})
    corpus.ensure_text_index()
    make_corpus(tmp_path / "c", {"b.pdf": ["beta alpha"]})  # not in the index yet
    with Corpus.open(corpus.path).writing():
        for memory_pages in (MEMORY_PAGES, 0):
            retriever = LexicalRetriever(Corpus.open(corpus.path), memory_pages=memory_pages)
            assert set(ids(retriever.search(["alpha"], 3)[0])) == {"a.pdf#1", "b.pdf#1"}
