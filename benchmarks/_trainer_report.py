"""The tables of :mod:`trainer_speed`, made from its results and put into the documentation."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from _speed_report import table

MARK = "<!-- made by: python benchmarks/trainer_speed.py --write -->"
END = "<!-- end of trainer_speed -->"


def _least_squares(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Intercept, slope and share of the variance explained of a straight line."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    intercept = mean_y - slope * mean_x
    left = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return intercept, slope, 1 - left / sum((b - mean_y) ** 2 for b in y)


def step_numbers(part: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Medians of both trainers."""
    out = {}
    for name in ("ours", "trl"):
        steps = part[name]
        out[name] = {
            "trajectories_per_second": median(step["trajectories"] / step["seconds"] for step in steps),
            "processor_seconds": median(step["processor_seconds"] for step in steps),
            "peak_mib": max(step["peak_mib"] for step in steps),
            "growth_mib": max(step["growth_mib"] for step in steps),
        }
    return out


def step_table(part: dict[str, Any]) -> str:
    """One whole step against TRL."""
    numbers = step_numbers(part)
    rows = []
    for name, title in (("ours", "this package, `GRPO`"), ("trl", "TRL 1.16 `GRPOTrainer`, `environment_factory`")):
        found = numbers[name]
        rows.append(
            [
                title,
                f"{found['trajectories_per_second']:.2f}",
                f"{found['processor_seconds']:.1f}",
                f"{found['peak_mib']:,.0f}",
                f"{found['growth_mib']:,.0f}",
            ]
        )
    ours, theirs = numbers["ours"], numbers["trl"]
    rows.append(
        [
            "ratio",
            f"{ours['trajectories_per_second'] / theirs['trajectories_per_second']:.2f}",
            f"{ours['processor_seconds'] / theirs['processor_seconds']:.2f}",
            f"{ours['peak_mib'] / theirs['peak_mib']:.2f}",
            f"{ours['growth_mib'] / theirs['growth_mib']:.2f}",
        ]
    )
    header = ["one training step", "trajectories/s", "processor seconds", "peak MiB", "of them in training"]
    return table(header, rows)


def rollout_table(part: dict[str, Any]) -> str:
    """Rollouts with each means switched off."""
    base = median(part["ways"]["as it is"]["processor_seconds"])
    rows = []
    for name, way in part["ways"].items():
        spent = median(way["processor_seconds"])
        rows.append(
            [name, f"{way['action_tokens'] / median(way['seconds']):,.0f}", f"{spent:.2f}", f"{spent / base:.2f}"]
        )
    return table(["rollouts", "action tokens/s", "processor seconds", "times as long"], rows)


def update_table(part: dict[str, Any]) -> str:
    """Forward and backward passes, way by way."""
    rows = [
        [
            way["variant"],
            f"{way['tokens'] / median(way['seconds']):,.0f}",
            f"{median(way['processor_seconds']):.2f}",
            f"{way['growth_mib']:,.0f}",
        ]
        for way in part["ways"]
    ]
    return table(["forward and backward", "tokens/s", "processor seconds", "memory, MiB"], rows)


def cost_table(part: dict[str, Any]) -> str:
    """Cost against turns and images, and how straight the line is."""
    blocks = []
    for what in ("turns", "images"):
        rows = part[what]
        x = [float(row["number"]) for row in rows]
        y = [median(row["rollout"]) + median(row["update"]) for row in rows]
        intercept, slope, explained = _least_squares(x, y)
        lines = [
            [
                str(row["number"]),
                f"{row['tokens'] / row['trajectories']:,.0f}",
                f"{row['images'] / row['trajectories']:.0f}",
                f"{median(row['rollout']) / row['trajectories']:.3f}",
                f"{median(row['update']) / row['trajectories']:.3f}",
            ]
            for row in rows
        ]
        header = [what, "tokens per episode", "images per episode", "rollout, s", "update, s"]
        line = (
            f"Processor seconds per episode. A straight line, {intercept / rows[0]['trajectories']:.3f} + "
            f"{slope / rows[0]['trajectories']:.3f} per {what[:-1]}, explains {explained:.3f} of the variance."
        )
        blocks.append(f"{table(header, lines)}\n\n{line}")
    return "\n\n".join(blocks)


def phases_table(part: dict[str, Any]) -> str:
    """Share of time per phase, and operations per second."""
    spent = part["processor_seconds"]
    total = sum(spent.values())
    rows = [
        [name, f"{seconds:.2f}", f"{100 * seconds / total:.0f} %"]
        for name, seconds in sorted(spent.items(), key=lambda pair: -pair[1])
    ]
    rate, peak = part["flops"] / total, part["matrix_flops_per_second"]
    line = (
        f"A step does {part['flops'] / 1e9:,.0f} GFLOP in {total:.1f} processor seconds: {rate / 1e9:.1f} GFLOP/s, "
        f"{100 * rate / peak:.0f} % of the {peak / 1e9:.0f} GFLOP/s that a product of 1024 x 1024 matrices reaches."
    )
    return f"{table(['phase', 'processor seconds', 'share'], rows)}\n\n{line}"


MAKERS = {
    "step": step_table,
    "rollout": rollout_table,
    "update": update_table,
    "cost": cost_table,
    "phases": phases_table,
}


def tables(results: dict[str, Any]) -> list[str]:
    """All tables that the results have."""
    return [make(results[part]) for part, make in MAKERS.items() if part in results]


def readme_block(results: dict[str, Any]) -> str:
    """What stands between the marks in the README."""
    note = "Processor seconds compare the two; trajectories per second hang on what else the machine was doing."
    return f"{MARK}\n\n{step_table(results['step'])}\n\n{note}\n\n{END}"


SECTIONS = {
    "step": (
        "One training step against TRL",
        "The same model, questions and tokens; each trainer in a process of its own, step by step in turn.",
    ),
    "rollout": ("Rollouts", "16 episodes of 4 turns in 8 rows, with one means after the other switched off."),
    "update": ("Updates", "Forward and backward passes over 16 episodes, 8 at a time."),
    "cost": ("Cost against turns and images", "8 episodes at a time, rollout and update."),
    "phases": ("Where the time goes", "One training step of 16 episodes."),
}


def document(results: dict[str, Any]) -> str:
    """The whole of docs/trainer_speed.md, with the parts that were measured."""
    measured = results["step"]["machine"]
    parts = [
        "# Speed of the trainer",
        f"{MARK}\n\nMade by `python benchmarks/trainer_speed.py`, which says what is measured and what is not. "
        f"{measured['processor']}, one thread; medians of {results['step']['repeats']} interleaved steps, of "
        "3 to 5 repeats elsewhere. Processor seconds change little with what else a machine does; seconds and "
        "what is counted per second do: on a machine that is not quiet, compare the processor seconds.",
    ]
    for part, (title, text) in SECTIONS.items():
        body = MAKERS[part](results[part]) if part in results else f"Not measured: `--again {part}`."
        parts += [f"## {title}", text, body]
    return "\n\n".join(parts) + "\n"


def write(results: dict[str, Any], root: Path) -> None:
    """Put the tables where they are read."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(MARK)
    after = rest.split(END)[1]
    (root / "README.md").write_text(before + readme_block(results) + after, encoding="utf-8")
    (root / "docs" / "trainer_speed.md").write_text(document(results), encoding="utf-8")
