"""The curve: a picture of the numbers given to it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vrag_agent.plots import _smooth, plot_learning


def history(rewards: list[float]) -> list[dict[str, float]]:
    return [{"rollout/ep_rew_mean": reward, "rollout/success_rate": reward / 2} for reward in rewards]


def drawn(path: Path, rewards: list[float], summary: dict[str, Any] | None = None) -> np.ndarray:
    plot_learning(path, [3.0, 1.0, 0.3], history(rewards), summary or {})
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)


def test_smoothing_by_hand() -> None:
    assert _smooth([1, 3, 5, 7, 9, 11, 13]) == [1, 2, 3, 4, 5, 7, 9]
    assert _smooth([1, 3, 5], window=2) == [1, 2, 4]
    assert _smooth([]) == []


def test_the_picture_shows_the_numbers(tmp_path: Path) -> None:
    low, high = drawn(tmp_path / "low.png", [0.1] * 9), drawn(tmp_path / "high.png", [0.9] * 9)
    assert low.shape == high.shape == (546, 1430, 3)  # 11 x 4.2 inches at 130 dots per inch

    def heights_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
        plot = image[:490, 700:1000]  # left of the legend, above the labels
        return np.nonzero((np.abs(plot - np.array(colour)).sum(-1) < 30).any(1))[0]

    blue = (0x1B, 0x6C, 0xA8)
    assert heights_of(high, blue).max() < heights_of(low, blue).min()  # rows count from the top


def test_accuracies_are_marked(tmp_path: Path) -> None:
    plain = drawn(tmp_path / "plain.png", [0.5] * 5)
    marked = drawn(tmp_path / "marked.png", [0.5] * 5, {"sft": {"accuracy": 0.3}, "ppo": {"accuracy": 0.95}})
    assert (plain != marked).any()


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_no_or_one_iteration(tmp_path: Path, count: int, recwarn: pytest.WarningsRecorder) -> None:
    drawn(tmp_path / "short.png", [0.5] * count)
    assert not [warning for warning in recwarn if "limits" in str(warning.message)]
