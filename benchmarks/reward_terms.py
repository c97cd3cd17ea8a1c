"""The reward ablation that the reviewers of VRAG-RL asked for: each term alone, all pairs, and the weights.

What it measures: an agent trained with each reward and evaluated by the same metrics on held-out documents, on the
numeric face with MaskablePPO and PPO of Stable-Baselines3 (minutes, no GPU). PPO does not know which actions are
possible, so that ``pattern`` has something to teach; the masked one never writes an invalid turn. What it leaves
out: language models, for which ``vrag train --reward`` and ``vrag eval`` do the same; their cells are "not
measured".

Small run, on two cores (about 20 minutes for two seeds; trained agents are kept):

    python benchmarks/reward_terms.py --seed 0 --seed 1

``--steps 1000 --limit 50`` finishes in a minute or two. Full run: ``--steps 200000`` and five seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _numeric import estimate, learn, make_numeric, play
from _tables import Clock, LimitOption, OutOption, ResultOption, SeedsOption, cell, result_markdown, run, write_result

from vrag_env.corpus.generate import WorldConfig, build_world
from vrag_env.questions import Question

WORLD = WorldConfig(seed=5, documents=40, kinds=("table", "prose"), unanswerable_share=0.1, footnote_size=4.0)
"""Tables and prose whose words can be read, some only enlarged; a quarter of the documents is held out."""
REWARDS: dict[str, Mapping[str, float]] = {
    "answer": {"answer": 1.0},
    "retrieval": {"retrieval": 1.0},
    "pattern": {"pattern": 1.0},
    "answer + retrieval": {"answer": 0.7, "retrieval": 0.3},
    "answer + pattern": {"answer": 0.9, "pattern": 0.1},
    "retrieval + pattern": {"retrieval": 0.7, "pattern": 0.3},
    "paper: 0.7 answer + 0.2 retrieval + 0.1 pattern": {"answer": 0.7, "retrieval": 0.2, "pattern": 0.1},
    "0.4 answer + 0.5 retrieval + 0.1 pattern": {"answer": 0.4, "retrieval": 0.5, "pattern": 0.1},
    "paper + region": {"answer": 0.6, "retrieval": 0.2, "pattern": 0.1, "region": 0.1},
}


def main(
    seeds: SeedsOption = None,
    steps: Annotated[int, typer.Option(min=200, help="Steps of training of each agent.")] = 15_000,
    algorithm: Annotated[list[str] | None, typer.Option(help="Default: MaskablePPO.")] = None,
    limit: LimitOption = None,
    out: OutOption = Path("runs/reward_terms"),
    result: ResultOption = None,
) -> None:
    """Train an agent with every reward and print how good each is by every metric."""
    torch.set_num_threads(1)
    clock = Clock(out)
    chosen_seeds = seeds or [0]
    corpus, questions = build_world(WORLD, out / f"world-{WORLD.stamp}", progress=False, workers=1, long_side=896)
    train = [question for question in questions if question.split == "train"]
    test = [question for question in questions if question.split == "test"][:limit]
    ids = [question.question_id for question in test]
    rows: list[dict[str, Any]] = []
    for name in algorithm or ["MaskablePPO"]:
        for label, weights in REWARDS.items():
            found = []
            for seed in chosen_seeds:
                env = make_numeric(corpus.path, train, weights)
                place = out / f"{steps}-{'-'.join(f'{term}{weight:g}' for term, weight in weights.items())}"
                model, _ = learn(name, env, seed, steps, place)
                found.append(play(name, model, make_numeric(corpus.path, test, "paper"), test))
            rows.append({"row": f"{name}: {label}", "cells": cells_of(found, ids)})
    held_out: list[Question] = test
    written = write_result(
        result or out / "reward_terms.json",
        "reward_terms",
        title="Terms of the reward",
        columns=[*rows[0]["cells"], "7B, text face"],
        rows=rows,
        seeds=chosen_seeds,
        seconds=clock.seconds(),
        notes=[
            f"numeric face, {steps} steps each, {len(held_out)} questions about documents held out, greedy; the "
            "interval is over questions, with the seeds of a question together; the last column needs a GPU",
        ],
    )
    print(result_markdown(written))


def cells_of(found: list[dict[str, dict[str, Any]]], ids: list[str]) -> dict[str, Any]:
    """Return the cells of a row."""
    names = {
        "accuracy": "accuracy",
        "NDCG of pages": "retrieval_ndcg",
        "IoU of crops": "region_iou",
        "invalid": "invalid_rate",
        "finished": "finish_rate",
        "turns": "mean_turns",
    }
    cells: dict[str, Any] = {label: cell(estimate(found, ids, name)) for label, name in names.items()}
    shares = [sum(row[question_id]["right"] for question_id in ids) / len(ids) for row in found]
    return {**cells, "accuracy by seed": " / ".join(f"{share:.3f}" for share in shares)}


if __name__ == "__main__":
    run(main)
