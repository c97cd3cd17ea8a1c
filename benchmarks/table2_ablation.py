"""Table 2 of VRAG-RL: reward x action space, with Qwen2.5-VL-7B there and with tiny agents here.

What it reproduces: "vanilla" against "RAG-specific" reward, with search alone and with search and crop. The paper
does not define its vanilla reward; here it is the answer alone (preset ``outcome``), and the RAG-specific one is
preset ``paper``.

Small run, on two cores (about half an hour for a seed, one imitation and four times PPO; agents are kept, so that a
second script or a second start finds them):

    python benchmarks/table2_ablation.py --out runs/tiny --seed 0 --seed 1

``--iterations 2 --limit 20`` finishes in minutes. Full run, on 8 GPUs with 80 GB, with the benchmarks imported to
runs/bench (``vrag import``): train the four agents from one cold start, then evaluate each on the same questions:

    vrag train --model runs/sft/checkpoint --reward outcome --corpus runs/bench ... --out runs/vanilla
    vrag train --model runs/sft/checkpoint --reward paper   --corpus runs/bench ... --out runs/rag_specific
    vrag eval --policy runs/vanilla/checkpoint --corpus runs/bench --questions ... --out runs/eval_vanilla
    vrag compare runs/eval_vanilla runs/eval_rag_specific

What it leaves out: the paper's models and data, which nobody has released. Its cells stay "not measured" until
somebody runs the commands above. A tiny agent on generated boards tests the shape of the claim, not its size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from _agents import ARMS, evaluate_agents
from _tables import Clock, LimitOption, OutOption, ResultOption, SeedsOption, paper, result_markdown, run, write_result

NAMES = {
    "vanilla_search": "vanilla, search",
    "vanilla_crop": "vanilla, search + crop",
    "rag_search": "RAG-specific, search",
    "rag_crop": "RAG-specific, search + crop",
}


def main(
    out: OutOption = Path("runs/tiny"),
    seeds: SeedsOption = None,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of PPO of each agent.")] = 12,
    limit: LimitOption = None,
    result: ResultOption = None,
) -> None:
    """Train four tiny agents per seed and evaluate them on held-out documents."""
    chosen = seeds or [0]
    clock = Clock(out / "table2")
    found = evaluate_agents(out, chosen, iterations, list(ARMS), limit)
    published = {row["row"]: row["accuracy"] for row in paper("table2")["rows"]}
    rows = [
        {
            "row": label,
            "cells": {
                "paper, 7B (%)": published[label],
                "7B, measured": None,
                "tiny: accuracy": found.pooled(name, "accuracy"),
                "tiny: NDCG of pages": found.pooled(name, "retrieval_ndcg"),
                "tiny: crops": found.pooled(name, "crops"),
                "tiny: by seed": found.by_seed(name, "accuracy"),
            },
        }
        for name, label in NAMES.items()
    ]
    rows.append({"row": "imitation alone", "cells": {**dict.fromkeys(("paper, 7B (%)",), "-"), **found.row("sft")}})
    notes = [
        found.hypothesis("the crop action helps when evidence is small", "rag_search", "rag_crop", "accuracy"),
        found.hypothesis("the same with the vanilla reward", "vanilla_search", "vanilla_crop", "accuracy"),
        found.hypothesis("the retrieval term improves queries", "vanilla_crop", "rag_crop", "retrieval_ndcg"),
        found.hypothesis("the RAG-specific reward raises accuracy", "vanilla_crop", "rag_crop", "accuracy"),
        found.how,
    ]
    written = write_result(
        result or out / "table2.json",
        "table2_ablation",
        title="Reward x action space",
        columns=list(rows[0]["cells"]),
        rows=rows,
        seeds=chosen,
        seconds=clock.seconds(),
        notes=notes,
    )
    print(result_markdown(written))


if __name__ == "__main__":
    run(main)
