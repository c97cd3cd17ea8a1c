"""Tracking: TensorBoard is read back by TensorBoard; what is missing or unknown is told by name."""

import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image as PILImage

from vrag_agent.tracking import make_tracker
from vrag_env.errors import DependencyError, VRAGError


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = make_tracker("tensorboard", tmp_path, {})
    for step in (1, 2, 3):
        tracker.log(step, {"rollout/ep_rew_mean": step / 2, "train/explained_variance": math.nan})
    tracker.histogram(3, "train/log_ratio", torch.tensor([0.0, 0.1, -0.1]))
    tracker.histogram(3, "train/nothing", torch.zeros(0))
    tracker.images(3, "rollout/seen", [PILImage.new("RGB", (8, 6), "red")])
    tracker.close()
    # A resumed run writes steps 3 and later again; what was there of them is hidden.
    tracker = make_tracker("tensorboard", tmp_path, {}, purge_step=3)
    tracker.log(3, {"rollout/ep_rew_mean": 9.0})
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert tags["scalars"] == ["rollout/ep_rew_mean"]
    values = {event.step: event.value for event in events.Scalars("rollout/ep_rew_mean")}
    assert values == {1: 0.5, 2: 1.0, 3: 9.0}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(VRAGError, match=f"{name} is not installed: run pip install {name}"):
        make_tracker(name, tmp_path, {})


def test_tensorboard_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DependencyError, match=r"vrag-gym\[agent\]"):
        make_tracker("tensorboard", tmp_path, {})


def test_an_unknown_tracker_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VRAGError, match="unknown tracker 'mlflow': expected one of tensorboard, trackio, wandb, none"):
        make_tracker("mlflow", tmp_path, {})
    make_tracker("none", tmp_path, {}).log(1, {})
