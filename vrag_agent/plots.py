"""Plots of a run, drawn with matplotlib without a screen."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrag_env.episode import Episode
from vrag_env.errors import missing_extra
from vrag_env.render import describe_action, printable
from vrag_env.views import relative_to

REWARD, SUCCESS, LOSS = "#1b6ca8", "#d1495b", "#6a7b8c"


def plot_learning(
    path: Path,
    sft_losses: Sequence[float],
    history: Sequence[Mapping[str, float]],
    summary: Mapping[str, Any],
) -> None:
    """Draw the learning curves of a run: SFT loss on the left, PPO reward and success on the right.

    Args:
        path: PNG file.
        sft_losses: Loss of each SFT step.
        history: Metrics of each PPO iteration.
        summary: Accuracies under ``sft``, ``ppo``, ``ppo_blind`` and the players' names, drawn as marks.
    """
    figure = figure_of(11, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.7))
    left.plot(range(1, len(sft_losses) + 1), sft_losses, color=LOSS, linewidth=1)
    left.set(
        xlabel="step",
        ylabel="loss per action token (nats)",
        yscale="log",
        title="SFT on oracle demonstrations",
    )
    iterations = range(1, len(history) + 1)
    for key, label, colour in (
        ("rollout/ep_rew_mean", "reward, sampled", REWARD),
        ("rollout/success_rate", "accuracy, sampled", SUCCESS),
    ):
        values = [metrics[key] for metrics in history]
        right.plot(iterations, values, color=colour, alpha=0.25, linewidth=1)
        right.plot(iterations, _smooth(values), color=colour, linewidth=2, label=label)
    last = len(history) + 0.5
    for name, style in (
        ("sft", ":"),
        ("ppo", "--"),
        ("ppo_blind", "-."),
        ("retrieve_then_answer", (0, (1, 4))),
    ):
        if name in summary:
            accuracy = summary[name]["accuracy"]
            label = f"{name.replace('_', ' ')}, held out, greedy: {accuracy:.2f}"
            right.axhline(accuracy, color=SUCCESS, linestyle=style, linewidth=1, label=label)
    right.set(xlabel="iteration", xlim=(0.5, last), ylim=(0, 1.02), title="PPO in VRAG-v0")
    right.legend(loc="lower right", fontsize=8, framealpha=0.9)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def plot_curves(
    path: Path,
    runs: Mapping[str, Sequence[Mapping[str, float | None]]],
    metrics: Sequence[str] = ("rollout/ep_rew_mean", "rollout/success_rate"),
) -> None:
    """Draw metrics of one or more runs over their iterations, one panel per metric.

    Args:
        path: PNG file.
        runs: By label, the metrics of each iteration. Labels with the same first word share a colour.
        metrics: What is drawn; a run that does not have one is left out of that panel.
    """
    figure = figure_of(5.2 * len(metrics), 3.8)
    families = list(dict.fromkeys(label.split(" ")[0] for label in runs))
    for axes, name in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for label, history in runs.items():
            points = [(i, m[name]) for i, m in enumerate(history, 1) if m.get(name) is not None]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            colour = f"C{families.index(label.split(' ')[0]) % 10}"
            axes.plot(steps, values, color=colour, alpha=0.2, linewidth=1)
            axes.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=printable(label))
        axes.set(xlabel="iteration", title=name)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(runs) > 1 and axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, framealpha=0.9)
    figure.savefig(path, dpi=120)


def plot_episode(path: Path, episode: Episode) -> None:
    """Draw a finished episode as one picture: each view with the next crop on it, and what was said between.

    Args:
        path: PNG file.
        episode: An episode that showed at least one image.
    """
    from matplotlib.patches import Rectangle

    shown = [(turn, view) for turn in episode.turns for view in turn.views]
    if not shown:
        raise ValueError("the episode showed no image: there is nothing to draw")
    figure = figure_of(4.6 * len(shown), 4.4)
    children = {view.parent_id: view for view in episode.views if view.parent_id is not None}
    for axes, (turn, view) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axes.imshow(episode.image(view), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(_wrap(describe_action(turn.action), 42), fontsize=10, loc="left")
        if view.view_id in children:
            x0, y0, x1, y1 = relative_to(view.box, children[view.view_id].box)
            width, height = view.size
            corner, size = (x0 * width, y0 * height), ((x1 - x0) * width, (y1 - y0) * height)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=SUCCESS, linewidth=2.5))
    last = episode.turns[-1]
    verdict = "right" if episode.is_success else "wrong"
    figure.suptitle(_wrap(episode.question.text, 60 * len(shown)), fontsize=12, fontweight="bold")
    figure.supxlabel(
        f"{describe_action(last.action)}   ({verdict}, reward {sum(t.reward for t in episode.turns):.2f})",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)


def figure_of(width: float, height: float) -> Any:
    """Make a figure that needs no screen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "agent") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _wrap(text: str, width: int) -> str:
    # A dollar sign would start a formula.
    return textwrap.fill(printable(text).replace("$", r"\$"), width)


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    """Mean of the last ``window`` values."""
    means = []
    for end in range(1, len(values) + 1):
        recent = values[max(0, end - window) : end]
        means.append(sum(recent) / len(recent))
    return means
