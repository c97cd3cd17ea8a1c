"""Swap the algorithm: seven of Stable-Baselines3 and sb3-contrib, our own, and scripted players, on the same questions.

What it measures: accuracy on held-out documents whose tables can be read as words and whose status boards can only
be read as pictures. The algorithms of the libraries play the numeric face, which knows words and no pictures (its
ceiling says what the best choice among its candidates could reach); our PPO and GRPO play the text face with a tiny
vision-language model that was taught boards only. Both faces are the same episodes with the same reward and the
same judge. Learning curves go to swap_algorithms.png.

Small run, on two cores (about 20 minutes for two seeds, and half an hour per seed for the agent on the text face,
if table2_ablation.py has not trained it; what is trained is kept):

    python benchmarks/swap_algorithms.py --seed 0 --seed 1 --agents runs/tiny

``--steps 1000 --limit 30 --no-text-face`` finishes in minutes. Full run: ``--steps 500000`` and five seeds; no GPU
is needed for the numeric face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _agents import ARMS, GRPO
from _numeric import ALGORITHMS, learn, make_numeric, play
from _tables import Clock, LimitOption, OutOption, ResultOption, SeedsOption, cell, result_markdown, run, write_result
from _tiny_agents import Size, TinyWorld

from vrag_agent.evaluation.compare import load_run
from vrag_agent.evaluation.intervals import ratio
from vrag_agent.evaluation.protocol import Policy, ScriptedPolicy
from vrag_agent.evaluation.run import evaluate_policy
from vrag_agent.plots import figure_of
from vrag_env.players import PLAYERS
from vrag_env.questions import Question, load_questions, save_questions

KINDS = {"boards (pictures)": "-board-", "tables (words)": "-table-"}


def main(
    seeds: SeedsOption = None,
    steps: Annotated[int, typer.Option(min=200, help="Steps of training on the numeric face.")] = 15_000,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of our own on the text face.")] = 12,
    text_face: Annotated[bool, typer.Option(help="Train and evaluate the agent of the text face.")] = True,
    agents: Annotated[Path, typer.Option(help="Directory of the tiny agents, as of table2_ablation.py.")] = Path(
        "runs/tiny"
    ),
    limit: LimitOption = None,
    out: OutOption = Path("runs/swap"),
    result: ResultOption = None,
) -> None:
    """Train what is missing, play the same questions with everybody, and print one table."""
    torch.set_num_threads(1)
    clock = Clock(out)
    chosen = seeds or [0]
    found: dict[str, dict[str, float | None]] = {}
    by_seed: dict[str, list[str]] = {}
    curves: dict[str, list[list[list[float]]]] = {}
    ceilings: list[float] = []
    for seed in chosen:
        world = TinyWorld(agents, seed, Size(iterations=iterations))
        train, test = split(world, limit)
        where = out / f"seed-{seed}"
        where.mkdir(parents=True, exist_ok=True)
        save_questions(where / "test.json", test)
        corpus = world.test_env.corpus.path
        ceilings.append(make_numeric(corpus, test, "paper").unwrapped.oracle_ceiling().ceiling)  # type: ignore[attr-defined]  # Gymnasium says Env
        for name in ALGORITHMS:
            model, curve = learn(name, make_numeric(corpus, train, "paper"), seed, steps, where / str(steps))
            curves.setdefault(name, []).append(curve)
            played = play(name, model, make_numeric(corpus, test, "paper"), test)
            keep(found, by_seed, name, seed, {key: row["right"] for key, row in played.items()})
        env = world.env(str((where / "test.json").resolve()))
        policies: list[Policy] = [ScriptedPolicy(name) for name in PLAYERS]
        if text_face:
            policies += text_agents(world)
        for policy in policies:
            evaluate_policy(policy, env, where / policy.name, questions=test, batch_size=96)
            finished = load_run(where / policy.name)
            rights = {q.question_id: finished.value("accuracy", "rule", 0, q.question_id) for q in test}
            keep(found, by_seed, policy.name, seed, rights)
    rows = [{"row": label_of(name), "cells": cells_of(found[name], by_seed[name])} for name in found]
    written = write_result(
        result or out / "swap_algorithms.json",
        "swap_algorithms",
        title="One table for every algorithm",
        columns=list(rows[0]["cells"]),
        rows=rows,
        seeds=chosen,
        seconds=clock.seconds(),
        notes=[
            f"numeric face: {steps} steps, its ceiling on these questions {sum(ceilings) / len(ceilings):.3f}",
            f"text face: a tiny Qwen2.5-VL, imitation of oracle play on boards, then {iterations} iterations",
            "every seed has documents of its own; the interval is over the questions of all seeds",
        ],
        extra={"curves": curves},
    )
    draw((result or out / "swap_algorithms.json").with_suffix(".png"), curves)
    print(result_markdown(written))


def split(world: TinyWorld, limit: int | None) -> tuple[list[Question], list[Question]]:
    """Return the questions to learn from, and the held-out ones: as many about boards as about tables."""
    everything = load_questions(world.train_env.corpus.path.parent / "questions.json")
    kinds = [[q for q in everything if mark in q.question_id and q.answerable] for mark in KINDS.values()]
    test = [[q for q in kind if q.split == "test"] for kind in kinds]
    count = min(limit or world.size.test_questions, *map(len, test))
    train = [q for kind in kinds for q in kind if q.split == "train"]
    return train, [q for kind in test for q in kind[:count]]


def text_agents(world: TinyWorld) -> list[Policy]:
    """Return the agents of the text face."""
    from vrag_agent.checkpoint import load_policy
    from vrag_agent.demo import MAX_TOKENS
    from vrag_agent.evaluation.local import LocalModel
    from vrag_agent.evaluation.methods import Native

    found: list[Policy] = []
    agents = {"SFT": world.imitated(), "our PPO": world.trained(ARMS["rag_crop"]), "our GRPO": world.trained(GRPO)}
    for name, path in agents.items():
        policy = load_policy(path)
        found.append(Native(LocalModel(policy, name, max_tokens=MAX_TOKENS), system=policy.system, label=name))
    return found


def keep(
    found: dict[str, dict[str, float | None]],
    by_seed: dict[str, list[str]],
    name: str,
    seed: int,
    rights: Mapping[str, float | None],
) -> None:
    """Keep who was right where; questions of another seed are other questions."""
    found.setdefault(name, {}).update({f"{seed}/{key}": value for key, value in rights.items()})
    known = [value for value in rights.values() if value is not None]
    by_seed.setdefault(name, []).append(f"{sum(known) / len(known):.3f}")


def cells_of(rights: Mapping[str, float | None], by_seed: Sequence[str]) -> dict[str, Any]:
    """Return the cells of a row."""
    cells: dict[str, Any] = {}
    for label, mark in {"accuracy": "", **KINDS}.items():
        values = [value for key, value in rights.items() if mark in key and value is not None]
        cells[label] = cell(ratio(values, [1.0] * len(values)))
    return {**cells, "by seed": " / ".join(by_seed)}


def label_of(name: str) -> str:
    """Say on which face something plays."""
    if name in ALGORITHMS:
        return f"{name} (numeric face)"
    return f"{name} (scripted)" if name in PLAYERS else f"{name} (text face)"


def draw(path: Path, curves: Mapping[str, Sequence[Sequence[Sequence[float]]]]) -> None:
    """Draw the learning curves: one line per seed, one colour per algorithm."""
    figure = figure_of(7, 4.2)
    axes = figure.subplots()
    for place, (name, seeds) in enumerate(curves.items()):
        for number, curve in enumerate(seeds):
            if curve:
                steps, rights = zip(*curve, strict=True)
                axes.plot(steps, rights, color=f"C{place}", label=name if number == 0 else None, linewidth=1.2)
    axes.set(xlabel="steps", ylabel="right, last 200 episodes of training", ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run(main)
