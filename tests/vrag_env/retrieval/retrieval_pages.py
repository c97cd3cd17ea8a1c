"""Pages made for the retrieval tests."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vrag_env.corpus import Corpus, Page, page_id_of


def make_corpus(path: Path, documents: Mapping[str, Sequence[str]]) -> Corpus:
    """A corpus with the given page texts by document; every page has a picture of its own."""
    corpus = Corpus.create(path)
    rows: list[tuple[Page, bytes, str]] = []
    for doc_id, texts in documents.items():
        for number, text in enumerate(texts, start=1):
            seed = np.random.default_rng(len(rows))
            blocks = seed.integers(0, 255, (4, 3 + number % 2, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(np.kron(blocks, np.ones((28, 28, 1), dtype=np.uint8))).save(buffer, "PNG")
            width, height = 28 * blocks.shape[1], 28 * blocks.shape[0]
            page = Page(page_id_of(doc_id, number), doc_id, number, width, height, text, (), "v1")
            rows.append((page, buffer.getvalue(), "png"))
    corpus.add(rows)
    return corpus
