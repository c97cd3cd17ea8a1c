"""Runs that a figure is drawn from: those that the user names, or the scripted players, played now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vrag_agent.commands import make_env
from vrag_agent.evaluation.compare import Finished, load_run
from vrag_agent.evaluation.protocol import ScriptedPolicy
from vrag_agent.evaluation.run import evaluate_policy
from vrag_env.env import VRAGEnv
from vrag_env.players import PLAYERS

RunsOption = Annotated[
    list[Path] | None, typer.Option("--run", help="--out of a 'vrag eval'; may be repeated. Default: scripted players.")
]
CorpusOption = Annotated[Path | None, typer.Option(help="The corpus of the runs. Default: the built-in world.")]
QuestionsOption = Annotated[Path | None, typer.Option(help="The questions of the runs.")]
RetrieverOption = Annotated[str, typer.Option(help="As for 'vrag eval'.")]


def open_env(corpus: Path | None, questions: Path | None, retriever: str) -> VRAGEnv:
    """Open a corpus with its questions."""
    given: Mapping[str, Any] = {"corpus": corpus, "questions": questions, "retriever": retriever}
    return make_env({name: value for name, value in given.items() if value is not None})


def runs_or_players(
    runs: Sequence[Path] | None, env: VRAGEnv, out: Path, limit: int | None, batch_size: int = 64
) -> dict[str, Finished]:
    """Read the runs, or play the scripted players."""
    if not runs:
        for name in PLAYERS:
            evaluate_policy(
                ScriptedPolicy(name), env, out / name, questions=env.questions[:limit], batch_size=batch_size
            )
        runs = [out / name for name in PLAYERS]
    found = {path: load_run(path) for path in runs}
    names = [run.name for run in found.values()]
    return {run.name if names.count(run.name) == 1 else path.name: run for path, run in found.items()}
