"""Table 3 of VRAG-RL: invalid actions and finished episodes, imitation against imitation and RL.

What it reproduces: the share of actions that can not be executed and the share of questions that end with an
answer, before and after RL. Here an action is a turn, and the rate is over all turns; the paper does not say what
its rate is over.

Small run, on two cores, from the agents of table2_ablation.py (which are trained if they are not there: about half
an hour for a seed):

    python benchmarks/table3_behaviour.py --out runs/tiny --seed 0 --seed 1

``--iterations 2 --limit 20`` finishes in minutes. Full run: ``vrag eval`` of both checkpoints on the same
questions, whose summary.json holds both rates with intervals, and ``vrag compare`` of the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from _agents import evaluate_agents
from _tables import Clock, LimitOption, OutOption, ResultOption, SeedsOption, paper, result_markdown, run, write_result


def main(
    out: OutOption = Path("runs/tiny"),
    seeds: SeedsOption = None,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of PPO.")] = 12,
    limit: LimitOption = None,
    result: ResultOption = None,
) -> None:
    """Evaluate the imitation and the agent that went on with PPO."""
    chosen = seeds or [0]
    clock = Clock(out / "table3")
    found = evaluate_agents(out, chosen, iterations, ["rag_crop"], limit)
    published = {row["row"]: row for row in paper("table3")["rows"]}
    rows: list[dict[str, Any]] = []
    for name, label in (("sft", "SFT"), ("rag_crop", "SFT + RL")):
        rows.append(
            {
                "row": label,
                "cells": {
                    "paper: invalid (%)": published[label]["invalid_rate"],
                    "paper: finished (%)": published[label]["finish_rate"],
                    "7B, measured": None,
                    "tiny: invalid": found.pooled(name, "invalid_rate"),
                    "tiny: finished": found.pooled(name, "finish_rate"),
                    "tiny: accuracy": found.pooled(name, "accuracy"),
                    "tiny: invalid by seed": found.by_seed(name, "invalid_rate"),
                },
            }
        )
    written = write_result(
        result or out / "table3.json",
        "table3_behaviour",
        title="Behaviour before and after RL",
        columns=list(rows[0]["cells"]),
        rows=rows,
        seeds=chosen,
        seconds=clock.seconds(),
        notes=[
            found.hypothesis("RL lowers the invalid rate", "sft", "rag_crop", "invalid_rate", lower=True),
            found.hypothesis("RL raises the finish rate", "sft", "rag_crop", "finish_rate"),
            found.hypothesis("RL raises accuracy", "sft", "rag_crop", "accuracy"),
            found.how,
        ],
    )
    print(result_markdown(written))


if __name__ == "__main__":
    run(main)
