"""Do MaskablePPO and PPO learn the easiest generated world? Curves of accuracy over steps.

What it does: makes the easiest world of the generator (one page of prose per document, no footnotes, every question
answerable), trains algorithms of Stable-Baselines3 and sb3-contrib on ``VRAG-Discrete-v0`` with the same settings
and several seeds, and plays every question greedily after every 5,120 steps. Beside them stand the ceiling of the
candidates and a player that acts at random.

What it leaves out: questions that were not trained on. This shows that the numeric face can be learned by algorithms
that were not written for it, not that they generalise.

    python benchmarks/numeric_learning.py --out benchmarks/results/numeric_learning.json
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import typer
from _machine import command_line, machine, with_threads

import vrag_env  # noqa: F401  # registers the ids
from vrag_env.corpus.generate import WorldConfig, build_world
from vrag_env.errors import missing_extra

EASIEST = WorldConfig(seed=1, documents=4, kinds=("prose",), unanswerable_share=0.0, test_share=0.0, footnote_size=10.0)
"""Every answer is a word or a line that can be read on the whole page."""
ALGORITHMS = {"MaskablePPO": "sb3_contrib", "PPO": "stable_baselines3"}
SETTINGS = {"n_steps": 1024, "batch_size": 128, "n_epochs": 10, "learning_rate": 1e-3, "ent_coef": 0.01}
ROUND = 5_120
TARGET = 0.9


def accuracy(model: Any, env: Any, masked: bool) -> float:
    """Share of the questions that are answered right with the most likely actions."""
    right = []
    for question in env.questions:
        observation, info = env.reset(options={"question_id": question.question_id})
        ended = False
        while not ended:
            masks = {"action_masks": env.action_masks()} if masked else {}
            action, _ = model.predict(observation, deterministic=True, **masks)
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        right.append(info["is_success"])
    return float(np.mean(right))


def random_accuracy(env: Any, rounds: int = 10) -> float:
    """The same of random possible actions."""
    rng = np.random.default_rng(0)
    right = []
    for question in env.questions * rounds:
        _, info = env.reset(options={"question_id": question.question_id})
        ended = False
        while not ended:
            _, _, terminated, truncated, info = env.step(rng.choice(np.flatnonzero(env.action_masks())))
            ended = terminated or truncated
        right.append(info["is_success"])
    return float(np.mean(right))


def learn(name: str, make: Any, seed: int, steps: int, until: float | None = None) -> dict[str, Any]:
    """Train one algorithm and return its curve.

    Args:
        name: One of :data:`ALGORITHMS`.
        make: Makes an environment.
        seed: Of the algorithm.
        steps: Most steps.
        until: Stop at this accuracy.

    Returns:
        ``steps`` and ``accuracy`` of the curve, which begins before training, and ``seconds``.
    """
    from importlib import import_module

    try:
        library = import_module(ALGORITHMS[name])
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "sb3") from error
    started = time.perf_counter()
    model = getattr(library, name)("MultiInputPolicy", make(), seed=seed, device="cpu", **SETTINGS)
    fresh, masked = make().unwrapped, name == "MaskablePPO"
    curve = [(0, accuracy(model, fresh, masked))]
    while model.num_timesteps < steps and (until is None or curve[-1][1] < until):
        model.learn(ROUND, reset_num_timesteps=False)
        curve.append((model.num_timesteps, accuracy(model, fresh, masked)))
    return {
        "algorithm": name,
        "seed": seed,
        "steps": [at for at, _ in curve],
        "accuracy": [value for _, value in curve],
        "seconds": time.perf_counter() - started,
    }


def report(result: dict[str, Any]) -> str:
    """Write the curves as Markdown."""
    steps = result["runs"][0]["steps"]
    lines = [f"| accuracy after | {' | '.join(f'{at:,}' for at in steps)} |", "|---" * (len(steps) + 1) + "|"]
    for run in result["runs"]:
        cells = " | ".join(f"{value:.2f}" for value in run["accuracy"])
        lines.append(f"| {run['algorithm']}, seed {run['seed']} | {cells} |")
    lines += ["", f"{result['questions']} questions; ceiling {result['ceiling']:.2f}, random {result['random']:.2f}."]
    return "\n".join(lines)


def main(
    steps: Annotated[int, typer.Option(min=ROUND, help="Steps of each run.")] = 8 * ROUND,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each algorithm.")] = 3,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the result here, as JSON.")] = None,
) -> None:
    """Train, and print the curves."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        corpus, questions = build_world(EASIEST, Path(directory, "world"), progress=False, workers=1, long_side=896)

        def make() -> gym.Env[Any, Any]:
            return gym.make("VRAG-Discrete-v0", corpus=corpus, questions=questions, canvas=False)

        env: Any = make().unwrapped
        result: dict[str, Any] = {
            "questions": len(env.questions),
            "ceiling": env.oracle_ceiling().ceiling,
            "random": random_accuracy(env),
            "settings": SETTINGS,
            "runs": [learn(name, make, seed, steps) for name in ALGORITHMS for seed in range(seeds)],
        }
    result |= {"command": command_line(), "machine": machine(1)}
    print(report(result))
    for name in ALGORITHMS:
        best = [max(run["accuracy"]) for run in result["runs"] if run["algorithm"] == name]
        print(f"{name}: {sum(value >= TARGET for value in best)} of {len(best)} runs reach {TARGET:g}")
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    with_threads(1)
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    application()
