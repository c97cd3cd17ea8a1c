"""What ``vrag runs`` does: lists the runs below a directory with their headline numbers, and draws them together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from vrag_agent.plots import plot_curves
from vrag_agent.run import CURVES, read_metrics
from vrag_agent.settings import read_yaml
from vrag_agent.training_state import checkpoints
from vrag_env.errors import VRAGError

RECENT = 5
"""Iterations that the numbers are means over."""
COLUMNS = ("run", "algorithm", "state", "iterations", "reward", "best", "right", "invalid", "hours")


def find_runs(root: Path) -> list[Path]:
    """The runs at and below a directory, by name."""
    return sorted(path.parent for path in (root, *root.glob("**/")) for path in path.glob("config.yaml"))


def headline(run: Path) -> dict[str, Any]:
    """The numbers of one run.

    Args:
        run: Its directory.

    Returns:
        ``algorithm``, ``state`` (``finished`` if it has exported its model), ``iterations`` (done / planned), and over
        the last iterations ``reward``, ``right`` (share judged right) and ``invalid`` (share of invalid turns);
        ``best`` is the highest mean reward over as many iterations, ``hours`` the time of all of them.
    """
    config = read_yaml(run / "config.yaml").get("run") or {}
    history = read_metrics(run)
    rewards = [metrics["rollout/ep_rew_mean"] for metrics in history]
    windows = [fmean(rewards[max(0, end - RECENT) : end]) for end in range(1, len(rewards) + 1)]
    seconds = sum(metrics.get("time/rollout", 0.0) + metrics.get("time/train", 0.0) for metrics in history)
    finished = (run / "model").is_dir() and len(history) >= int(config.get("iterations", 0))
    return {
        "run": str(run),
        "algorithm": config.get("algorithm", "?"),
        "state": "finished" if finished else "can resume" if checkpoints(run) else "no checkpoint",
        "iterations": f"{len(history)}/{config.get('iterations', '?')}",
        "reward": windows[-1] if windows else math.nan,
        "best": max(windows, default=math.nan),
        "right": _recent(history, "rollout/success_rate"),
        "invalid": _recent(history, "rollout/invalid_rate"),
        "hours": seconds / 3600,
    }


def _recent(history: Sequence[dict[str, float]], name: str) -> float:
    values = [metrics[name] for metrics in history[-RECENT:] if name in metrics]
    return fmean(values) if values else math.nan


def run_runs(paths: Sequence[Path], plot: Path | None, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """List runs, best last, and draw them.

    Args:
        paths: Runs, or directories that hold some.
        plot: PNG file with the curves of all of them; ``None`` draws nothing.
        say: Where the table goes.

    Raises:
        VRAGError: If there is no run.
    """
    found = list(dict.fromkeys(run for path in paths for run in find_runs(path)))
    if not found:
        raise VRAGError(f"there is no run in {', '.join(map(str, paths))}: expected what vrag train has written")
    rows = sorted((headline(run) for run in found), key=lambda row: (not math.isnan(row["best"]), row["best"]))
    cells = [COLUMNS, *(tuple(_cell(row[name]) for name in COLUMNS) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    for line in cells:
        texts = (
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        say("  ".join(texts).rstrip())
    if plot is not None:
        curves = {str(run): history for run in found if (history := read_metrics(run))}
        if not curves:
            raise VRAGError("no run has finished an iteration: there is nothing to draw")
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_curves(plot, curves, CURVES)
        say(str(plot))
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)
