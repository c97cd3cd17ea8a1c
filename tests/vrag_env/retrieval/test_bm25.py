from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from retrieval_pages import make_corpus

from vrag_env.corpus.text import TOKENIZERS, clean_text
from vrag_env.retrieval import LexicalRetriever
from vrag_env.retrieval.bm25 import BM25Index, _cut, tokenize

WORDS = [
    "cats\u00a0cat",
    "cats",
    "cat",
    "dogs",
    "the",
    "x_y",
    "dh-make",
    "图表",
    "销售额增长",
    "Müller",
    "42",
    "3.14",
    "R",
    "a" * 50,
]


def both(text: str) -> dict[str, str]:
    return dict.fromkeys(TOKENIZERS, text)


def test_score_by_hand() -> None:
    # "red" is on 2 of 3 pages, once of 2 words and twice of 3; mean length (2 + 3 + 1) / 3 = 2. A word that
    # the query repeats counts twice, and both columns have the same words: 4 times the formula.
    index = BM25Index([(0, both("red cats")), (1, both("red red dogs")), (2, both("birds"))])
    idf = math.log(1 + 1.5 / 2.5)

    def score(times: int, length: int) -> float:
        return 4 * idf * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / 2))

    places, scores = index.search(both("red unheard red"), 5)
    assert places.tolist() == [1, 0]
    assert scores.tolist() == pytest.approx([score(2, 3), score(1, 2)], rel=1e-6)


def test_words_on_many_pages_and_on_few_score_alike() -> None:
    # "often" is kept as a row for all pages, "seldom" as a list of pages: the formula must not show it
    texts = ["often seldom"] + ["often filler"] * 3 + ["filler filler"] * 5
    index = BM25Index(enumerate(map(both, texts)))
    for word, spread in (("often", 4), ("seldom", 1)):
        _, scores = index.search(both(word), 9)
        assert len(scores) == spread
        assert scores[0] == pytest.approx(2 * math.log(1 + (9 - spread + 0.5) / (spread + 0.5)), rel=1e-6)


def test_places_are_those_given() -> None:
    texts = ["alpha", "beta beta", "gamma alpha"]
    straight = BM25Index(enumerate(map(both, texts)))
    turned = BM25Index([(2, both(texts[2])), (0, both(texts[0])), (1, both(texts[1]))])
    for query in ("alpha", "beta", "gamma"):
        for a, b in zip(straight.search(both(query), 3), turned.search(both(query), 3), strict=True):
            assert a.tolist() == b.tolist()


def test_ties_at_the_cut_and_places_that_are_not_allowed() -> None:
    index = BM25Index((place, both("twin words")) for place in reversed(range(9)))
    assert index.search(both("twin"), 4)[0].tolist() == [0, 1, 2, 3]
    allowed = np.arange(9) % 2 == 1
    assert index.search(both("twin"), 9, allowed)[0].tolist() == [1, 3, 5, 7]


def test_no_pages_and_no_words() -> None:
    assert [part.tolist() for part in BM25Index([]).search(both("x"), 3)] == [[], []]
    index = BM25Index([(0, both("")), (1, both("the of"))])
    assert len(index) == 2
    assert index.search(both("the"), 3)[0].tolist() == []


def test_many_counts_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 20)) for _ in range(60)]
    whole = BM25Index(enumerate(map(both, texts)))
    monkeypatch.setattr("vrag_env.retrieval.bm25._COUNTED", 70)  # a count every fourth page
    monkeypatch.setattr("vrag_env.retrieval.bm25._BLOCK", 3)
    parts = BM25Index(enumerate(map(both, texts)))
    assert parts.nbytes == whole.nbytes
    for word in WORDS:
        for a, b in zip(whole.search(both(word), 60), parts.search(both(word), 60), strict=True):
            assert a.tolist() == b.tolist()


@pytest.mark.parametrize("column", TOKENIZERS)
def test_a_page_that_holds_the_mark_between_pieces(column: str) -> None:
    # the marks that would be tried first are words of the page, as such and in other letters
    pieces = ["qz0qz", "cats", "QZ1QZ", "qž0qz", "the", "qz2qz,dogs"]
    assert list(_cut(pieces, column)) == [tokenize(piece, column) for piece in pieces]


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=60) | st.lists(st.sampled_from(["\u00a0", "\u0301", *WORDS])).map(" ".join))
def test_no_word_crosses_a_space(text: str) -> None:
    # what makes cutting piece by piece the same as cutting the page
    text = clean_text(text).replace("\r", "\n")
    for column in TOKENIZERS:
        pieces = text.replace("\n", " ").split(" ")
        assert [token for piece in _cut(pieces, column) for token in piece] == tokenize(text, column)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=12),
    queries=st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=5),
    k=st.integers(1, 14),
)
def test_equals_the_full_text_index(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], queries: list[str], k: int
) -> None:
    half = len(texts) // 2
    documents = {"the.pdf": texts[:half], "r.pdf": texts[half:]}  # "the" leaves pages without any word
    corpus = make_corpus(
        tmp_path_factory.mktemp("equal") / "c", {doc: pages for doc, pages in documents.items() if pages}
    )
    memory, index = LexicalRetriever(corpus), LexicalRetriever(corpus, memory_pages=0)
    for where in (None, ["r.pdf"]):
        everything = index.search(queries, 100, where)
        for query, ours, theirs, all_hits in zip(
            queries, memory.search(queries, k, where), index.search(queries, k, where), everything, strict=True
        ):
            scores = {hit.page_id: hit.score for hit in all_hits}
            assert len(ours) == len(theirs), query
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], rel=1e-6), query
            # the very order, but for pages that differ by less than the rounding of a float32 sum
            assert [scores[hit.page_id] for hit in ours] == pytest.approx([hit.score for hit in theirs], rel=1e-6)


def test_the_same_order_as_the_full_text_index(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    vocabulary = [
        f"{stem}{end}"
        for stem in ("chart", "region", "label", "北京", "profit")
        for end in ("", "s", "-x", "_y", "ing")
    ]
    documents = {
        f"{name}.pdf": [" ".join(random.choice(vocabulary, size)) for size in random.integers(1, 40, 25)]
        for name in ("sales", "图表", "notes")
    }
    corpus = make_corpus(tmp_path / "c", documents)
    queries = [" ".join(random.choice(vocabulary, size)) for size in random.integers(1, 8, 40)]
    memory = LexicalRetriever(corpus).search(queries, 10)
    index = LexicalRetriever(corpus, memory_pages=0).search(queries, 10)
    assert [[hit.page_id for hit in hits] for hits in memory] == [[hit.page_id for hit in hits] for hits in index]
    assert all(len(hits) > 0 for hits in memory)
