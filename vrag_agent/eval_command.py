"""What ``vrag eval`` and ``vrag compare`` do, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vrag_agent.commands import make_env
from vrag_agent.evaluate import write_json
from vrag_agent.evaluation.compare import Comparison, compare, load_run
from vrag_agent.evaluation.journal import EvaluationError
from vrag_agent.evaluation.policies import NATIVE, make_policy
from vrag_agent.evaluation.report import markdown, plot_accuracy, text_table
from vrag_agent.evaluation.run import SUMMARY, TABLE, evaluate_policy, slug

PLOT = "accuracy.png"


def run_evaluation(
    policy: str | Sequence[str],
    out: Path,
    env_options: Mapping[str, Any],
    limit: int | None = None,
    max_tokens: int | None = None,
    batch_size: int = 32,
    seed: int | Sequence[int] = 0,
    *,
    method: str = NATIVE,
    pages: str = "image",
    top_k: int | None = None,
    server: str | None = None,
    temperature: float = 0.0,
    judges: Sequence[str] = ("rule",),
    fresh: bool = False,
) -> dict[str, Any]:
    """Play all questions with one policy or several, and write what came out.

    Args:
        policy: Scripted players, checkpoints' directories, or models' names.
        out: Directory of the results; with several policies, each has a directory of its own inside.
        env_options: Keyword arguments of the environment; a checkpoint's own fill in what is not given.
        limit: Only the first questions.
        max_tokens: Most tokens of one reply of a model; by default what a checkpoint is used to, or 512.
        batch_size: Episodes played at the same time.
        seed: Each plays all questions once.
        method: How a model is asked.
        pages: ``"image"`` or ``"text"``.
        top_k: Pages per search, for the methods that choose it.
        server: Address of an OpenAI-compatible server; ``None`` loads models here.
        temperature: 0 for the likeliest reply.
        judges: Names of judges; the first one decides about accuracy.
        fresh: Throw away what an earlier run has left in ``out``.

    Returns:
        The summary of the policy; of several, ``{"runs": {name: summary}}``.
    """
    names = [policy] if isinstance(policy, str) else list(policy)
    seeds = [seed] if isinstance(seed, int) else list(seed)
    for what, given in (("--policy", names), ("--seed", seeds), ("--judge", list(judges))):
        if not given or len(set(given)) < len(given):
            raise EvaluationError(f"{what}: expected each value once, got {given}")
    summaries: dict[str, dict[str, Any]] = {}
    for name in names:
        chosen = make_policy(
            name,
            method=method if name not in _players() else NATIVE,
            pages=pages,
            top_k=top_k,
            server=None if name in _players() else server,
            max_tokens=max_tokens,
            temperature=temperature,
        )
        env = make_env({**chosen.env_options, **env_options})
        directory = out if len(names) == 1 else out / slug(name)
        summary = evaluate_policy(
            chosen.policy,
            env,
            directory,
            questions=env.questions[:limit],
            seeds=seeds,
            judges=judges,
            batch_size=batch_size,
            fresh=fresh,
            retriever=str(env_options.get("retriever", "lexical")),
        )
        label = summary["policy"] if summary["policy"] not in summaries else name
        summaries[label] = {**summary, "policy": label}
        print(text_table(summary))
        print(f"{directory / SUMMARY}, {TABLE}, episodes.jsonl, verdicts.jsonl, replay.html")
    runs = list(summaries.values())
    if len(runs) > 1:
        (out / TABLE).write_text(markdown(runs), encoding="utf-8")
        write_json(out / SUMMARY, {"runs": summaries})
        print(f"{out / TABLE}, {SUMMARY}: all of them side by side")
    if find_spec("matplotlib") is not None:
        plot_accuracy(out / PLOT, runs)
    else:
        print(f'{PLOT} needs matplotlib: pip install "vrag-gym[agent]"')
    return runs[0] if len(runs) == 1 else {"runs": summaries}


def _players() -> tuple[str, ...]:
    from vrag_env.players import PLAYERS

    return PLAYERS


def run_comparison(first: Path, second: Path, judge: str | None = None) -> Comparison:
    """Compare two runs and print what came out.

    Args:
        first: Directory of a run.
        second: Directory of another one.
        judge: Name of the judge; by default the first that both have.
    """
    runs = [load_run(first), load_run(second)]
    if runs[0].name == runs[1].name:
        runs = [replace(run, name=f"{run.name} ({path.name})") for run, path in zip(runs, (first, second), strict=True)]
    found = compare(runs[0], runs[1], judge)
    print(found)
    return found
