"""The speed benchmark measures what it says: the plain loop and the environments show the same pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import env_speed
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_speed, "ENVS", 2)
    monkeypatch.setattr(env_speed, "QUERY_WORDS", 4)


def test_every_number_is_there(small: None, tiny_corpus: Any) -> None:
    result = env_speed.run(tiny_corpus, repeats=2, numeric_steps=10)
    assert all(rate > 0 for rate in result["steps_per_second"].values())
    assert result["rounds_of_new_pages"] == 2
    assert sum(result["share_of_a_vector_step"].values()) == pytest.approx(1.0)
    assert "| `VRAG-v0`, 2 environments, known pages |" in env_speed.report(result)


def test_the_same_pages_and_sizes(small: None, tiny_corpus: Any, tmp_path: Path) -> None:
    import gymnasium as gym

    work = env_speed.Work(tiny_corpus.pinned(), tmp_path, seed=0)
    page, box = work.ids[0], work.boxes(1)[0]
    drawn: list[Image.Image] = []
    resize = Image.Image.resize

    def kept(image: Image.Image, *args: Any, **kwargs: Any) -> Image.Image:
        drawn.append(resize(image, *args, **kwargs))
        return drawn[-1]

    with mock.patch.object(Image.Image, "resize", kept):
        env_speed.plain(work, [page], [box])
    options = {"corpus": work.corpus, "questions": work.questions, "retriever": work.retriever}
    envs = gym.make_vec("VRAG-v0", num_envs=1, **options)
    envs.reset(options={"question_ids": [page]})
    shown = envs.step([env_speed._SEARCH.format(work.queries[page])])[0]["image"][0]
    np.testing.assert_array_equal(shown, np.asarray(drawn[0]))  # a whole page: byte for byte
    crop = envs.step([env_speed._CROP.format(list(box))])[0]["image"][0]
    assert abs(crop.size - np.asarray(drawn[1]).size) <= 0.1 * crop.size  # its box is cut to whole pixels
