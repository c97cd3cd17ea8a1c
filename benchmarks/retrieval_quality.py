"""How good are the retrievers that need no GPU? All search one corpus with the same questions.

What it does: takes every question that has gold pages as a query, as it is, and ranks all pages of the
corpus by each retriever: ``vrag_env``'s lexical retriever (BM25 over stemmed words, whole words and the name
of the file); bm25s over the text of the pages alone (English stop words, no stemming, its own defaults); and,
for every model by which the corpus was embedded, that model alone and ``hybrid`` (lexical and the model,
reciprocal rank fusion with equal weights). Prints recall, MRR and NDCG, the median time of one query with all
questions asked in one call, and how the hybrid and bm25s compare with lexical question by question, as
Markdown. ``--retriever`` adds any other, such as a hybrid with weights.

What it leaves out: agents that write queries of their own, and the time of building the index and of
embedding, which ``vrag index`` has spent before. Beware of small question sets: of 50 questions one is 0.02.

    vrag index my_pdfs --corpus runs/my_corpus --encoder minilm
    python benchmarks/retrieval_quality.py --corpus runs/my_corpus --questions my_questions.json

bm25s comes with the extra ``test``: pip install "vrag-gym[test]".
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from _machine import command_line, machine
from _quality_report import METRICS, quality_tables

from vrag_agent.evaluate import direct_retrieval
from vrag_env.corpus import Corpus
from vrag_env.errors import VRAGError, missing_extra
from vrag_env.questions import Question, load_questions
from vrag_env.retrieval import Hit, HybridRetriever, Retriever, make_retriever, mrr_at_k
from vrag_env.retrieval.factory import embedded_with

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


def reciprocal_ranks(retriever: Retriever, questions: Sequence[Question]) -> list[float]:
    """One over the rank of every question's first gold page, 0 beyond the tenth."""
    found = retriever.search([question.text for question in questions], 10)
    return [
        mrr_at_k([hit.page_id for hit in hits], question.gold_pages, 10)
        for hits, question in zip(found, questions, strict=True)
    ]


def main(
    corpus: Annotated[Path, typer.Option(help="Directory of a corpus, made by 'vrag index'.")],
    questions: Annotated[Path, typer.Option(help="Questions in the common JSON of VRAG-RL.")],
    retriever: Annotated[
        list[str] | None, typer.Option(help="Another retriever, such as 'hybrid:lexical+minilm*0.5'; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the numbers to this JSON file.")] = None,
) -> None:
    """Compare retrievers on one set of questions and print Markdown tables."""
    store = Corpus.open(corpus)
    asked = [question for question in load_questions(questions) if question.gold_pages]
    absent = sorted({page for question in asked for page in question.gold_pages if not store.has_page(page)})
    if not asked or absent:
        fault = f"gold page {absent[0]!r} is not in {corpus}" if absent else "no question has a gold page"
        raise VRAGError(f"{questions}: {fault}: ask for pages of this corpus")

    lexical = make_retriever("lexical", store)
    retrievers: dict[str, Retriever] = {"bm25s": PlainBM25(store), "lexical": lexical}
    for name in embedded_with(store):
        short = Path(name).name
        retrievers[short] = make_retriever(name, store)
        retrievers[f"hybrid:{short}"] = HybridRetriever([lexical, retrievers[short]])
    retrievers |= {spec: make_retriever(spec, store) for spec in retriever or ()}

    started = time.perf_counter()
    bar = reciprocal_ranks(lexical, asked)
    rows: list[dict[str, Any]] = []
    for name, searched in retrievers.items():
        found = direct_retrieval(searched, asked)
        ranks = reciprocal_ranks(searched, asked)
        signs = [(rank > other) - (rank < other) for rank, other in zip(ranks, bar, strict=True)]
        row = {"name": name} | {key: found[key] for key in METRICS}
        row |= {"earlier": signs.count(1), "same": signs.count(0), "later": signs.count(-1)}
        rows.append(row | {"ms_per_query": milliseconds(searched, asked)})
    result = {
        "questions": len(asked),
        "pages": len(store),
        "fingerprint": store.fingerprint,
        "command": command_line(),
        "minutes": (time.perf_counter() - started) / 60,
        "machine": machine(1),
        "retrievers": rows,
    }
    print(quality_tables(result))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    try:
        application()
    except VRAGError as fault:
        print(f"retrieval_quality: {fault}", file=sys.stderr)
        raise SystemExit(2) from fault
