"""The lexical retriever on 678 pages of real documentation with 50 answerable questions, where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vrag_env.corpus import Corpus, ingest
from vrag_env.retrieval import LexicalRetriever, mrr_at_k, recall_at_k

REALDOCS = Path(__file__).resolve().parents[4] / "shared" / "realdocs"


@pytest.mark.slow
@pytest.mark.skipif(not REALDOCS.is_dir(), reason="the real documents are not beside the repository")
def test_not_worse_than_plain_bm25(tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "corpus")
    report = ingest([REALDOCS / "docs"], corpus, progress=False)
    assert report.failures == () and len(corpus) == 678
    examples = json.loads((REALDOCS / "questions.json").read_text(encoding="utf-8"))["examples"]
    asked = [example for example in examples if example["meta_info"]["answer_format"] != "None"]
    gold = [[f"{doc}#{page}" for doc, page in example["meta_info"]["reference"]] for example in asked]
    assert len(asked) == 50 and all(corpus.has_page(page) for pages in gold for page in pages)
    found = LexicalRetriever(corpus).search([example["query"] for example in asked], 10)
    ranked = [[hit.page_id for hit in hits] for hits in found]
    # what BM25 with English stop words and without stemming reaches on the same text (bm25s)
    for k, bar in ((1, 0.57), (5, 0.89), (10, 0.92)):
        assert np.mean([recall_at_k(r, g, k) for r, g in zip(ranked, gold, strict=True)]) >= bar
    assert np.mean([mrr_at_k(r, g, 10) for r, g in zip(ranked, gold, strict=True)]) >= 0.77


@pytest.mark.slow
@pytest.mark.skipif(not REALDOCS.is_dir(), reason="the real documents are not beside the repository")
def test_word_boxes_of_a_sideways_page(tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "corpus")
    ingest([REALDOCS / "docs" / "r-cran-hsaur3" / "Ch_graphical_display.pdf"], corpus, progress=False)
    page = corpus.page("Ch_graphical_display.pdf#18")
    image = np.asarray(corpus.image(page.page_id).convert("L"))
    sideways = [word for word in page.words if word.text in ("Population", "Life.Expectancy", "Graduates")]
    assert len(sideways) == 3
    for word in sideways:
        x0, y0, x1, y1 = word.box
        assert y1 - y0 > 2 * (x1 - x0)  # the table is set sideways on an upright page
        left, top, right, bottom = (
            int(x0 * page.width),
            int(y0 * page.height),
            int(x1 * page.width) + 1,
            int(y1 * page.height) + 1,
        )
        assert image[top:bottom, left:right].min() < 100  # there is ink in the box
