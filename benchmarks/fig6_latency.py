"""Figure 6 of VRAG-RL: what agents do and how long they take, per question.

What it reproduces: average numbers of searches, crops and answers, and what the figure leaves out: invalid turns,
calls of the model, tokens and seconds. Seconds are shared out over the episodes that were played at once: for
latency, run ``vrag eval --batch-size 1``. The paper's figure has no numbers; others' for it are in
``paper_results.json``.

Full run: ``vrag eval`` of each agent first, then

    python benchmarks/fig6_latency.py --run runs/vrag --run runs/react --run runs/vanilla

Small run, a minute on two cores: the scripted players, one question at a time.

    python benchmarks/fig6_latency.py --limit 100
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _runs import CorpusOption, QuestionsOption, RetrieverOption, RunsOption, open_env, runs_or_players
from _tables import Clock, LimitOption, OutOption, ResultOption, cell, result_markdown, run, write_result

from vrag_agent.evaluation.compare import Finished
from vrag_agent.evaluation.intervals import ratio

COLUMNS = ("searches", "crops", "finished", "invalid_turns", "turns", "images", "prompt_tokens", "completion_tokens")


def cells_of(finished: Finished) -> dict[str, Any]:
    """Return the means over all episodes; what nobody counted is no number."""
    cells: dict[str, Any] = {}
    for name in (*COLUMNS, "seconds"):
        values = [row["measures"].get(name) for row in finished.rows.values()]
        known = [value for value in values if value is not None]
        cells[name] = cell(ratio(known, [1.0] * len(known)))
    return cells


def main(
    runs: RunsOption = None,
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    limit: LimitOption = None,
    out: OutOption = Path("runs/fig6"),
    result: ResultOption = None,
) -> None:
    """Print actions and time per question."""
    clock = Clock(out)
    if runs:
        found = runs_or_players(runs, None, out, limit)  # type: ignore[arg-type]  # nothing is played
    else:
        found = runs_or_players(None, open_env(corpus, questions, retriever), out, limit, batch_size=1)
    rows = [{"row": name, "cells": cells_of(finished)} for name, finished in found.items()]
    episodes = {name: len(finished.rows) for name, finished in found.items()}
    written = write_result(
        result or out / "fig6.json",
        "fig6_latency",
        title="Actions and time per question",
        columns=[*COLUMNS, "seconds"],
        rows=rows,
        seeds=sorted({seed for finished in found.values() for seed, _ in finished.rows}),
        seconds=clock.seconds(),
        notes=[f"episodes: {', '.join(f'{name} {count}' for name, count in episodes.items())}"],
    )
    print(result_markdown(written))


if __name__ == "__main__":
    run(main)
