r"""Robustness: how much an agent loses when retrieval is bad, pages mislead, or there is no answer. Not in the paper.

What it measures: one agent under known amounts of noise (``vrag_env.retrieval.noisy``): gold pages that a search
misses, wrong pages put first (random ones, or the best-ranked wrong ones), a shuffled ranking, searches that find
nothing, no gold page at all; and, where the questions have them, unanswerable questions and orders that a page
gives to its reader. Every condition is the same questions, so that the last column is a paired difference.

Full run, on a GPU server (eleven runs; time not measured):

    python benchmarks/robustness.py --policy Qwen/Qwen2.5-VL-7B-Instruct --method vrag \
        --server http://localhost:8000/v1 --corpus runs/bench --questions runs/bench/questions.json

Small run, a few minutes on two cores: scripted players over the built-in world, with two seeds of the noise.

    python benchmarks/robustness.py --policy oracle --policy retrieve_then_answer --seed 0 --seed 1
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from _runs import CorpusOption, QuestionsOption, RetrieverOption
from _tables import (
    Clock,
    LimitOption,
    OutOption,
    ResultOption,
    SeedsOption,
    cell,
    from_summary,
    result_markdown,
    run,
    write_result,
)

from vrag_agent.commands import make_env
from vrag_agent.evaluation.compare import compare, load_run
from vrag_agent.evaluation.policies import NATIVE, make_policy
from vrag_agent.evaluation.run import evaluate_policy, slug

CONDITIONS: dict[str, Mapping[str, Any]] = {
    "as it is": {},
    "1 random page first": {"distractors": 1},
    "3 random pages first": {"distractors": 3},
    "1 hard page first": {"distractors": 1, "hardest": True},
    "3 hard pages first": {"distractors": 3, "hardest": True},
    "shuffled": {"shuffle": True},
    "gold missed in 20 %": {"drop_gold": 0.2},
    "gold missed in 50 %": {"drop_gold": 0.5},
    "no gold page at all": {"drop_gold": 1.0},
    "nothing found in 20 %": {"empty": 0.2},
}


def main(
    policy: Annotated[list[str] | None, typer.Option(help="As for 'vrag eval'; may be repeated.")] = None,
    server: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    method: Annotated[str, typer.Option(help="How a model is asked.")] = NATIVE,
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    judge: Annotated[list[str] | None, typer.Option(help="As for 'vrag eval'; may be repeated.")] = None,
    seeds: SeedsOption = None,
    limit: LimitOption = None,
    out: OutOption = Path("runs/robustness"),
    result: ResultOption = None,
) -> None:
    """Play under every condition and print what each costs."""
    clock = Clock(out)
    chosen_seeds = seeds or [0]
    rows: list[dict[str, Any]] = []
    given = {"corpus": corpus, "questions": questions, "retriever": retriever}
    for name in policy or ["oracle", "retrieve_then_answer", "random"]:
        scripted = name in ("oracle", "random", "retrieve_then_answer")
        chosen = make_policy(name, method=NATIVE if scripted else method, server=None if scripted else server)
        plain: Path | None = None
        for label, noise in CONDITIONS.items():
            options = {**chosen.env_options, **{k: v for k, v in given.items() if v is not None}}
            env = make_env({**options, **({"noise": noise} if noise else {})})
            where = out / slug(chosen.policy.name) / slug(label)
            summary = evaluate_policy(
                chosen.policy,
                env,
                where,
                questions=env.questions[:limit],
                seeds=chosen_seeds,
                judges=judge or ["rule"],
                retriever=retriever,
            )
            cells: dict[str, Any] = {
                "accuracy": from_summary(summary, "accuracy"),
                "pages found": from_summary(summary, "shown_recall"),
                "turns": from_summary(summary, "mean_turns"),
                "unanswerable right": "-",
                "orders followed": from_summary(summary, "followed_injections"),
                "accuracy lost": "-",
            }
            if "Unanswerable" in summary["by_type"]:
                cells["unanswerable right"] = from_summary(summary["by_type"]["Unanswerable"], "accuracy")
            if plain is None:
                plain = where
            else:
                lost = compare(load_run(where), load_run(plain)).differences["accuracy"]
                cells["accuracy lost"] = cell(lost)
            rows.append({"row": f"{chosen.policy.name}: {label}", "cells": cells})
    written = write_result(
        result or out / "robustness.json",
        "robustness",
        title="Robustness against bad retrieval",
        columns=list(rows[0]["cells"]),
        rows=rows,
        seeds=chosen_seeds,
        seconds=clock.seconds(),
        notes=[
            "accuracy lost: against 'as it is', paired by question, 95 % interval",
            "orders followed: '-' where no page of the questions gives one",
        ],
    )
    print(result_markdown(written))


if __name__ == "__main__":
    run(main)
