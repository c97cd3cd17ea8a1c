"""Is the built-in lexical retriever as good as plain BM25? Both search one corpus with the same questions.

What it does: takes every question that has gold pages as a query, as it is, and ranks all pages of the
corpus twice: by ``vrag_env``'s lexical retriever (LanceDB's full-text index over stemmed words, whole words
and the name of the file) and by bm25s over the text of the pages alone (English stop words, no stemming, its
own defaults). Prints recall, MRR and NDCG of both, the time of one query, and the ratio of the times, as a
Markdown table.

What it leaves out: retrieval by vision, agents that write queries of their own, and the time of building the
index, which ``vrag index`` has spent before.

    vrag index my_pdfs --corpus runs/my_corpus
    python benchmarks/retrieval_quality.py --corpus runs/my_corpus --questions my_questions.json

bm25s comes with the extra ``test``: pip install "vrag-gym[test]".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from vrag_agent.evaluate import direct_retrieval
from vrag_env.corpus import Corpus
from vrag_env.errors import VRAGError, missing_extra
from vrag_env.questions import Question, load_questions
from vrag_env.retrieval import Hit, Retriever, make_retriever

METRICS = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10")
REPEATS = 5  # timed passes over all questions; the median is reported


class PlainBM25:
    """The yardstick: bm25s over the text of the pages.

    Args:
        corpus: The pages.

    Raises:
        DependencyError: If bm25s is not installed.
    """

    def __init__(self, corpus: Corpus) -> None:
        try:
            import bm25s
        except ImportError as error:
            raise missing_extra("bm25s", "test") from error
        self._bm25s: Any = bm25s
        self._page_ids = corpus.page_ids()
        texts = [page.text for page in corpus.pages(self._page_ids)]
        self._index: Any = bm25s.BM25()
        self._index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages; see :meth:`vrag_env.retrieval.Retriever.search`. Searches in all documents only."""
        if where is not None:
            raise ValueError("this yardstick searches in all documents: leave 'where' out")
        tokens = self._bm25s.tokenize(list(queries), stopwords="en", show_progress=False)
        rows, scores = self._index.retrieve(tokens, k=min(k, len(self._page_ids)), show_progress=False)
        return [
            [Hit(self._page_ids[row], float(score)) for row, score in zip(*ranked, strict=True) if score > 0]
            for ranked in zip(rows, scores, strict=True)
        ]


def milliseconds(retriever: Retriever, questions: Sequence[Question]) -> float:
    """Median time of one query in milliseconds, all questions asked in one call."""
    texts = [question.text for question in questions]
    retriever.search(texts, 10)  # what is loaded on first use is not counted
    passes = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        retriever.search(texts, 10)
        passes.append(time.perf_counter() - started)
    return 1000 * median(passes) / len(texts)


def main(
    corpus: Annotated[Path, typer.Option(help="Directory of a corpus, made by 'vrag index'.")],
    questions: Annotated[Path, typer.Option(help="Questions in the common JSON of VRAG-RL.")],
) -> None:
    """Compare the lexical retriever with plain BM25 and print a Markdown table."""
    store = Corpus.open(corpus)
    asked = [question for question in load_questions(questions) if question.gold_pages]
    absent = sorted({page for question in asked for page in question.gold_pages if not store.has_page(page)})
    if not asked or absent:
        fault = f"gold page {absent[0]!r} is not in {corpus}" if absent else "no question has a gold page"
        raise VRAGError(f"{questions}: {fault}: ask for pages of this corpus")

    retrievers: dict[str, Retriever] = {
        "lexical": make_retriever("lexical", store),
        "bm25s": PlainBM25(store),
    }
    spent = {name: milliseconds(retriever, asked) for name, retriever in retrievers.items()}
    print(f"{len(asked)} questions, {len(store)} pages\n")
    print(f"| retriever | {' | '.join(METRICS)} | ms per query |")
    print("|---|" + "---:|" * (len(METRICS) + 1))
    for name, retriever in retrievers.items():
        found = direct_retrieval(retriever, asked)
        print(f"| {name} | " + " | ".join(f"{found[key]:.3f}" for key in METRICS) + f" | {spent[name]:.2f} |")
    print(f"\ntime of lexical / time of bm25s: {spent['lexical'] / spent['bm25s']:.1f}")


if __name__ == "__main__":
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    try:
        application()
    except VRAGError as fault:
        print(f"retrieval_quality: {fault}", file=sys.stderr)
        raise SystemExit(2) from fault
