"""Tracking: where the metrics of a run go beside its own files; TensorBoard by default, others by name.

All trackers get the same names, those of Stable-Baselines3 where it has one (``rollout/ep_rew_mean``,
``train/approx_kl``), histograms of log-ratios, and pictures of sampled episodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image as PILImage

from vrag_env.errors import VRAGError, missing_extra

TRACKERS = ("tensorboard", "trackio", "wandb", "none")
"""The names that :func:`make_tracker` knows."""


class Tracker(Protocol):
    """Takes what a run tells, step by step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take numbers."""
        ...

    def histogram(self, step: int, name: str, values: torch.Tensor) -> None:
        """Take a distribution, as flat values."""
        ...

    def images(self, step: int, name: str, images: Sequence[PILImage.Image]) -> None:
        """Take pictures."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Writes event files that ``tensorboard --logdir`` shows.

    Args:
        directory: Where to.
        purge_step: What an earlier run wrote from this step on is hidden: a resumed run writes it again.
    """

    def __init__(self, directory: Path, purge_step: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_extra("tensorboard", "agent") from error
        self._writer: Any = SummaryWriter(str(directory), purge_step=purge_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def histogram(self, step: int, name: str, values: torch.Tensor) -> None:
        """Write a histogram."""
        if values.numel():
            self._writer.add_histogram(name, values, step)

    def images(self, step: int, name: str, images: Sequence[PILImage.Image]) -> None:
        """Write pictures."""
        import numpy as np

        for number, image in enumerate(images):
            self._writer.add_image(f"{name}/{number}", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class Wandb:
    """Weights & Biases, or trackio, which has the same interface and keeps everything on this machine.

    Args:
        module: ``wandb`` or ``trackio``.
        name: Of the run.
        config: Its configuration.
        directory: Where files go (wandb only).
    """

    def __init__(self, module: str, name: str, config: Mapping[str, Any], directory: Path) -> None:
        import importlib

        try:
            self._module: Any = importlib.import_module(module)
        except ImportError as error:
            raise VRAGError(
                f"{module} is not installed: run pip install {module}, or take --track tensorboard"
            ) from error
        options: dict[str, Any] = {"dir": str(directory)} if module == "wandb" else {}
        self._module.init(project="vrag-gym", name=name, config=dict(config), **options)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send numbers."""
        self._module.log({name: value for name, value in metrics.items() if math.isfinite(value)}, step=step)

    def histogram(self, step: int, name: str, values: torch.Tensor) -> None:
        """Send quantiles, which both understand as numbers."""
        if values.numel():
            points = torch.tensor([0.01, 0.5, 0.99])
            cuts = torch.quantile(values[: 1 << 20].float(), points).tolist()
            self._module.log(
                {f"{name}/p{int(q * 100)}": c for q, c in zip(points.tolist(), cuts, strict=True)}, step=step
            )

    def images(self, step: int, name: str, images: Sequence[PILImage.Image]) -> None:
        """Send pictures."""
        import numpy as np

        shown = {f"{name}/{i}": self._module.Image(np.asarray(image.convert("RGB"))) for i, image in enumerate(images)}
        if shown:
            self._module.log(shown, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._module.finish()


class NoTracker:
    """Keeps nothing; the run's own files hold the metrics anyway."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def histogram(self, step: int, name: str, values: torch.Tensor) -> None:
        """Do nothing."""

    def images(self, step: int, name: str, images: Sequence[PILImage.Image]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def make_tracker(name: str, run: Path, config: Mapping[str, Any], purge_step: int | None = None) -> Tracker:
    """Make a tracker by name.

    Args:
        name: One of :data:`TRACKERS`.
        run: Directory of the run.
        config: Its configuration.
        purge_step: The first step that will be logged, where a run is resumed.

    Raises:
        VRAGError: If the name is not known or its package is not installed.
    """
    if name == "tensorboard":
        return TensorBoard(run / "tensorboard", purge_step)
    if name in ("wandb", "trackio"):
        return Wandb(name, run.name, config, run)
    if name == "none":
        return NoTracker()
    raise VRAGError(f"unknown tracker {name!r}: expected one of {', '.join(TRACKERS)}")
