r"""The scripted players on documents of your own: plain retrieval and a reader without a model. Not in the paper.

What it measures: oracle, random play and retrieve-then-answer, with every retriever that is named, by accuracy,
token F1, recall of the pages shown, and turns; and each retriever alone, with the questions as queries. It is the
floor and the ceiling between which an agent moves. What it leaves out: models.

    vrag index my_pdfs --corpus runs/my_corpus --encoder minilm
    python benchmarks/players.py --corpus runs/my_corpus --questions my_questions.json --retriever lexical \
        --retriever hybrid

Seconds for some dozens of questions on two cores; ``--limit`` takes the first ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from _runs import open_env
from _tables import Clock, LimitOption, OutOption, ResultOption, from_summary, result_markdown, run, write_result

from vrag_agent.evaluation.protocol import ScriptedPolicy
from vrag_agent.evaluation.run import evaluate_policy, slug
from vrag_env.players import PLAYERS

COLUMNS = {
    "accuracy": "accuracy",
    "token F1": "token_f1",
    "recall of the pages": "shown_recall",
    "IoU of crops": "region_iou",
    "turns": "mean_turns",
}


def main(
    corpus: Annotated[Path | None, typer.Option(help="A corpus. Default: the built-in world.")] = None,
    questions: Annotated[Path | None, typer.Option(help="Its questions.")] = None,
    retriever: Annotated[list[str] | None, typer.Option(help="As for 'vrag eval'; may be repeated.")] = None,
    limit: LimitOption = None,
    out: OutOption = Path("runs/players"),
    result: ResultOption = None,
) -> None:
    """Play with every retriever and print the numbers."""
    clock = Clock(out)
    rows: list[dict[str, Any]] = []
    notes = []
    for number, name in enumerate(retriever or ["lexical"], 1):
        env = open_env(corpus, questions, name)
        label = name if "/" not in name else f"retriever {number}"
        for player in PLAYERS:
            where = out / slug(name) / player
            summary = evaluate_policy(
                ScriptedPolicy(player), env, where, questions=env.questions[:limit], retriever=name
            )
            cells = {column: from_summary(summary, metric) for column, metric in COLUMNS.items()}
            rows.append({"row": f"{player}, {label}", "cells": cells})
        direct = ", ".join(f"{key} {value:.3f}" for key, value in summary["retrieval"].items() if key != "questions")
        notes.append(f"{label} with the questions as queries: {direct}")
        if number == 1:
            notes.append(f"{summary['questions']} questions, {len(env.corpus)} pages")
    written = write_result(
        result or out / "players.json",
        "players",
        title="Scripted players",
        columns=list(COLUMNS),
        rows=rows,
        seeds=[0],
        seconds=clock.seconds(),
        notes=notes,
    )
    print(result_markdown(written))


if __name__ == "__main__":
    run(main)
