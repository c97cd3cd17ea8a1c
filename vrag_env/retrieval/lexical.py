"""Lexical retrieval: BM25 on the corpus's full-text index, the default that needs no model."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vrag_env.corpus.schema import sql_in
from vrag_env.corpus.store import Corpus
from vrag_env.corpus.text import whole_words
from vrag_env.retrieval.base import Hit
from vrag_env.retrieval.queries import check_request, clean_query


class LexicalRetriever:
    """Ranks pages by BM25 of their text and their file's name (LanceDB's full-text index, k1 1.2, b 0.75).

    A page is found if it has at least one of the query's words, in any grammatical form; pages that have the
    very words come first (the score is the sum over the two forms of :mod:`vrag_env.corpus.text`). A query is
    only words: no character of it is an operator.

    Args:
        corpus: The pages. The index is made now if it does not cover them all.

    Raises:
        CorpusError: If the index has to be made and another process is writing to the corpus.
    """

    def __init__(self, corpus: Corpus) -> None:
        corpus.ensure_text_index()
        self._corpus = corpus

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries; see :meth:`vrag_env.retrieval.base.Retriever.search`.

        Raises:
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
        """
        check_request(k, where)
        if len(self._corpus) == 0 or (where is not None and not where):
            return [[] for _ in queries]
        condition = None if where is None else sql_in("doc_id", sorted(where))
        answers: dict[str, list[Hit]] = {}  # the episodes of a vector environment often ask the same
        for query in queries:
            if query not in answers:
                answers[query] = self._search_one(query, k, condition)
        return [list(answers[query]) for query in queries]

    def _search_one(self, query: str, k: int, condition: str | None) -> list[Hit]:
        text = clean_query(query)
        if not text:
            return []
        # One more than asked for shows whether pages tie across the cut; those are all fetched, so that the
        # ids and not the layout of the index decide which of them are in.
        pages = len(self._corpus)
        limit = min(k + 1, pages)
        while True:
            hits = self._fetch(text, limit, condition)
            if len(hits) < limit or limit == pages or hits[k - 1].score > hits[-1].score:
                return sorted(hits, key=lambda hit: (-hit.score, hit.page_id))[:k]
            limit = min(limit * 4, pages)

    def _fetch(self, text: str, limit: int, condition: str | None) -> list[Hit]:
        from lancedb.query import BooleanQuery, MatchQuery, Occur

        forms = {"search_text": text, "search_words": whole_words(text)}
        either = BooleanQuery([(Occur.SHOULD, MatchQuery(form, column)) for column, form in forms.items()])
        request = self._corpus.table.search(either, query_type="fts").select(["page_id", "_score"])
        if condition is not None:
            request = request.where(condition, prefilter=True)
        rows = request.limit(limit).to_arrow().to_pydict()
        return [Hit(*pair) for pair in zip(rows["page_id"], rows["_score"], strict=True)]
