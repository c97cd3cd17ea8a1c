from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas

from vrag_env.corpus import Corpus, ingest
from vrag_env.episode import Episode, EpisodeConfig
from vrag_env.questions import Evidence, Question
from vrag_env.retrieval import make_retriever
from vrag_env.rewards import Reward
from vrag_env.views import PixelBudget

TEXTS = ("apple orchard harvest", "apple cider press", "banana boat rental", "cherry stone count 58")


@pytest.fixture(scope="session")
def fruit_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Four square pages of one document, each with one line of text."""
    folder: Path = tmp_path_factory.mktemp("fruit")
    canvas = Canvas(str(folder / "fruit.pdf"), pagesize=(400, 400))
    for text in TEXTS:
        canvas.setFont("Helvetica", 20)
        canvas.drawString(40, 340, text)
        canvas.showPage()
    canvas.save()
    corpus = Corpus.create(folder / "corpus")
    ingest([folder / "fruit.pdf"], corpus, long_side=400, workers=1, progress=False)
    return corpus


@pytest.fixture
def new_episode(fruit_corpus: Corpus) -> Callable[..., Episode]:
    """Make a started episode: shown images are 112 by 112 pixels, so that costs are easy to work out."""
    retriever = make_retriever("lexical", fruit_corpus)

    def make(reward: Reward | None = None, config: dict[str, Any] | None = None, **fields: Any) -> Episode:
        values: dict[str, Any] = {
            "question_id": "q1",
            "text": "How many stones does the cherry have?",
            "answer": "58",
            "answer_format": "Int",
            "gold_pages": ("fruit.pdf#4",),
            "evidence": (Evidence("fruit.pdf#4", (0.0, 0.0, 0.5, 0.5)),),
            **fields,
        }
        settings = {"pixels": PixelBudget(112 * 112, 112 * 112), **(config or {})}
        chosen = reward if reward is not None else Reward.preset("paper")
        episode = Episode(Question(**values), fruit_corpus, retriever, chosen, EpisodeConfig(**settings))
        episode.start()
        return episode

    return make
