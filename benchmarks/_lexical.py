"""Lexical search, a batch of 32 queries: ours, LanceDB's full-text search query by query, bm25s."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vrag_env.corpus import Corpus, Page
from vrag_env.errors import missing_extra
from vrag_env.retrieval import make_retriever

_BATCH = 32
_WORDS_PER_PAGE = 200
_VOCABULARY = 30_000
_PAGES_PER_DOCUMENT = 20
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstv" for vowel in "aeiou"]


def _vocabulary(rng: np.random.Generator) -> list[str]:
    words: set[str] = set()
    while len(words) < _VOCABULARY:
        words.add("".join(rng.choice(_SYLLABLES, int(rng.integers(2, 5)))))
    return sorted(words)


def make_corpus(directory: Path, pages: int, seed: int = 0) -> tuple[Corpus, list[str]]:
    """Write a corpus of pages of 200 words, drawn by Zipf's law from 30,000 words.

    Returns:
        The corpus, and the text of its pages.
    """
    rng = np.random.default_rng(seed)
    words = np.array(_vocabulary(rng))
    rng.shuffle(words)
    chances = 1 / np.arange(1, len(words) + 1)
    chances /= chances.sum()
    texts = [" ".join(rng.choice(words, _WORDS_PER_PAGE, p=chances)) for _ in range(pages)]
    dot = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(dot, "PNG")

    corpus = Corpus.create(directory)
    rows = []
    for number, text in enumerate(texts):
        document, place = f"doc{number // _PAGES_PER_DOCUMENT:06d}.pdf", number % _PAGES_PER_DOCUMENT + 1
        page = Page(f"{document}#{place}", document, place, 32, 32, text, (), f"{document}", "layer")
        rows.append((page, dot.getvalue(), "png"))
    corpus.add(rows)
    return corpus, texts


def lexical_times(directory: Path, pages: int, repeats: int) -> dict[str, Any]:
    """Time batches of 32 distinct queries of 6 words, another batch in every repeat.

    Args:
        directory: Where the corpus is written.
        pages: Its size.
        repeats: Timed batches per engine, interleaved.

    Returns:
        Raw seconds per batch by engine, and the seconds that each takes to be ready.
    """
    try:
        import bm25s
    except ImportError as error:
        raise missing_extra("bm25s", "test") from error
    corpus, texts = make_corpus(directory, pages)
    corpus.ensure_text_index()

    started = time.perf_counter()
    retriever = make_retriever("lexical", corpus)
    ready = {"ours": time.perf_counter() - started}
    started = time.perf_counter()
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    ready["bm25s"] = time.perf_counter() - started

    def one_by_one(queries: Sequence[str]) -> None:
        for query in queries:
            request = corpus.table.search(query, query_type="fts", fts_columns="search_text")
            request.select(["page_id", "_score"]).limit(10).to_arrow()

    def by_bm25s(queries: Sequence[str]) -> None:
        tokens = bm25s.tokenize(list(queries), stopwords="en", show_progress=False)
        index.retrieve(tokens, k=10, show_progress=False)

    engines: dict[str, Callable[[Sequence[str]], object]] = {
        "ours": lambda queries: retriever.search(queries, 10),
        "LanceDB full-text, one query after another": one_by_one,
        "bm25s": by_bm25s,
    }
    rng = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(repeats + 1):
        queries = []
        for page in rng.choice(len(texts), _BATCH, replace=False):
            queries.append(" ".join(rng.choice(texts[page].split(), 6, replace=False)))
        for name, search in engines.items():
            started = time.perf_counter()
            search(queries)
            if turn:  # the first batch loads what is loaded on first use
                seconds[name].append(time.perf_counter() - started)
    return {"pages": pages, "batch": _BATCH, "seconds": seconds, "ready_seconds": ready}
