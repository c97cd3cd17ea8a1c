"""Lexical retrieval: BM25 over the words of the pages, the default that needs no model."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from vrag_env.corpus.schema import sql_in
from vrag_env.corpus.store import Corpus
from vrag_env.corpus.text import TOKENIZERS, whole_words
from vrag_env.retrieval.base import Hit
from vrag_env.retrieval.bm25 import BM25Index
from vrag_env.retrieval.queries import check_request, clean_query

MEMORY_PAGES = 100_000
"""Largest corpus whose index of words is held in memory by default."""


class LexicalRetriever:
    """Ranks pages by BM25 of their text and their file's name (k1 1.2, b 0.75).

    A page is found if it has at least one of the query's words, in any grammatical form; pages that have the
    very words come first (the score is the sum over the two forms of :mod:`vrag_env.corpus.text`). A query is
    only words: no character of it is an operator. Chinese and Japanese are separated into words.

    Up to ``memory_pages`` pages, the words of all pages are read at the first search (about 0.2 ms per page)
    and held in memory (about 2 kB per page of prose); a query then takes a fraction of what LanceDB spends on
    planning one. Beyond, every query is one of LanceDB's full-text index. Both give the same pages with the
    same scores, within the rounding of float32.

    It may be used from several threads, and it is pickled with the path of its corpus.

    Args:
        corpus: The pages.
        memory_pages: Largest corpus that is searched in memory; 0 always asks LanceDB.

    Raises:
        CorpusError: If LanceDB's index has to be made and another process is writing to the corpus.
    """

    def __init__(self, corpus: Corpus, *, memory_pages: int = MEMORY_PAGES) -> None:
        self._corpus = corpus
        self._memory_pages = memory_pages
        self._memory: tuple[int, _PagesInMemory] | None = None  # with the version of the table
        self._lock = threading.Lock()
        if len(corpus) > memory_pages:
            corpus.ensure_text_index()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (self._corpus, self._memory_pages))

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries; see :meth:`vrag_env.retrieval.base.Retriever.search`.

        Raises:
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
        """
        check_request(k, where)
        if len(self._corpus) == 0 or (where is not None and not where):
            return [[] for _ in queries]
        # The episodes of a vector environment often ask the same.
        forms = {query: clean_query(query) for query in dict.fromkeys(queries)}
        asked = {
            query: {"search_text": text, "search_words": whole_words(text)} for query, text in forms.items() if text
        }
        if len(self._corpus) > self._memory_pages:
            condition = None if where is None else sql_in("doc_id", sorted(where))
            answers = {query: self._ask_index(form, k, condition) for query, form in asked.items()}
        else:
            answers = self._pages_in_memory().search(asked, k, where)
        return [list(answers.get(query, ())) for query in queries]

    def _pages_in_memory(self) -> _PagesInMemory:
        version = self._corpus.version  # another one after the corpus's own add() or remove()
        with self._lock:
            if self._memory is None or self._memory[0] != version:
                self._memory = (version, _PagesInMemory(self._corpus))
            return self._memory[1]

    def _ask_index(self, forms: dict[str, str], k: int, condition: str | None) -> list[Hit]:
        # One more than asked for shows whether pages tie across the cut; those are all fetched, so that the
        # ids and not the layout of the index decide which of them are in.
        pages = len(self._corpus)
        limit = min(k + 1, pages)
        while True:
            hits = self._fetch(forms, limit, condition)
            if len(hits) < limit or limit == pages or hits[k - 1].score > hits[-1].score:
                return sorted(hits, key=lambda hit: (-hit.score, hit.page_id))[:k]
            limit = min(limit * 4, pages)

    def _fetch(self, forms: dict[str, str], limit: int, condition: str | None) -> list[Hit]:
        from lancedb.query import BooleanQuery, MatchQuery, Occur

        either = BooleanQuery([(Occur.SHOULD, MatchQuery(text, column)) for column, text in forms.items()])
        request = self._corpus.table.search(either, query_type="fts").select(["page_id", "_score"])
        if condition is not None:
            request = request.where(condition, prefilter=True)
        rows = request.limit(limit).to_arrow().to_pydict()
        return [Hit(*pair) for pair in zip(rows["page_id"], rows["_score"], strict=True)]


def _restore(corpus: Corpus, memory_pages: int) -> LexicalRetriever:
    return LexicalRetriever(corpus, memory_pages=memory_pages)


class _PagesInMemory:
    """The index of a corpus's words, with the ids of its pages and documents."""

    def __init__(self, corpus: Corpus) -> None:
        documents = corpus.page_documents()
        self._page_ids = sorted(documents)  # so that ties by place are ties by id
        self._documents = np.array([documents[page_id] for page_id in self._page_ids], dtype=object)
        place = {page_id: number for number, page_id in enumerate(self._page_ids)}
        rows = corpus.table.search().select(["page_id", *TOKENIZERS]).limit(None).to_batches(256)
        self._index = BM25Index((place[row["page_id"]], row) for batch in rows for row in batch.to_pylist())

    def search(self, asked: dict[str, dict[str, str]], k: int, where: Collection[str] | None) -> dict[str, list[Hit]]:
        allowed = None if where is None else np.isin(self._documents, list(where))
        answers = {}
        for query, forms in asked.items():
            places, scores = self._index.search(forms, k, allowed)
            found = zip(places.tolist(), scores.tolist(), strict=True)
            answers[query] = [Hit(self._page_ids[place], score) for place, score in found]
        return answers
