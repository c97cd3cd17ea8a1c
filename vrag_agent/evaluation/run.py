"""One run, from an environment to its files: play, judge, add up, write. ``vrag eval`` and every script call this."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrag_agent.evaluate import describe_corpus, direct_retrieval, question_types, versions, write_json
from vrag_agent.evaluation.engine import Setting, play_all
from vrag_agent.evaluation.journal import Journal
from vrag_agent.evaluation.judging import judge_all
from vrag_agent.evaluation.protocol import Policy
from vrag_agent.evaluation.report import markdown
from vrag_agent.evaluation.summary import Types, summarize_run
from vrag_env.env import VRAGEnv
from vrag_env.episode import Episode
from vrag_env.questions import Question
from vrag_env.replay import EpisodeRecord, corpus_images, record_html
from vrag_env.rewards import Judge, make_judge

SUMMARY, TABLE, REPLAY = "summary.json", "table.md", "replay.html"


def evaluate_policy(
    policy: Policy,
    env: VRAGEnv,
    out: Path,
    *,
    questions: Sequence[Question] | None = None,
    seeds: Sequence[int] = (0,),
    judges: Mapping[str, Judge] | Sequence[str] = ("rule",),
    batch_size: int = 64,
    fresh: bool = False,
    retriever: str = "",
    types: Types = question_types,
    progress: bool = True,
) -> dict[str, Any]:
    """Play, judge and add up; what an earlier, killed or smaller run has left in the directory is used.

    Args:
        policy: Who plays.
        env: Corpus, retriever, reward and rules.
        out: Directory of the run: ``run.json`` (what it depends on), ``episodes.jsonl``, ``verdicts.jsonl``,
            ``summary.json``, ``table.md``, ``replay.html`` (the first episode).
        questions: What is asked; by default all of the environment.
        seeds: Each plays all questions once.
        judges: Judges by name, or names of judges; the first one decides about ``accuracy``.
        batch_size: Episodes played at the same time.
        fresh: Throw away what is there.
        retriever: What the retriever is called; a run is only gone on with by the same one.
        types: The types by which numbers are split.
        progress: Show progress bars.

    Returns:
        The summary.

    Raises:
        VRAGError: If the directory holds another run, or a server or judge fails.
    """
    asked = list(env.questions if questions is None else questions)
    named = judges if isinstance(judges, Mapping) else {name: make_judge(name) for name in judges}
    setting = Setting(env.corpus, env.retriever, env.reward, env.config)
    settings = run_settings(policy, env, retriever)
    with Journal(out, settings, fresh=fresh) as journal:
        keys = [(seed, question.question_id) for seed in seeds for question in asked]
        bar = tqdm(desc=policy.name, total=len(keys), unit="episode", dynamic_ncols=True, disable=not progress)
        with bar:
            done = [journal.rows[key] for key in keys if key in journal.rows]
            counts = [len(done), sum(bool(row["is_success"]) for row in done)]
            bar.update(len(done))

            def after(episode: Episode) -> None:
                counts[0] += 1
                counts[1] += episode.is_success
                bar.set_postfix_str(f"right {counts[1] / counts[0]:.3f}", refresh=False)
                bar.update()

            try:
                play_all(policy, setting, asked, journal, seeds=seeds, batch_size=batch_size, progress=after)
            finally:
                if policy.model is not None:
                    policy.model.close()
        judge_all(journal, keys, named)
        found = summarize_run(journal, asked, seeds, list(named), types=types)
        first = EpisodeRecord.from_json(journal.rows[keys[0]])
    tail = {name: found.pop(name) for name in ("by_type", "judges", "agreement", "wrong")}
    summary = {
        "policy": policy.name,
        **found,
        "retrieval": direct_retrieval(env.retriever, asked),
        "by_type": tail["by_type"],
        "judges": tail["judges"],
        "agreement": tail["agreement"],
        "wrong": tail["wrong"],
        "corpus": describe_corpus(env.corpus),
        "settings": settings,
        "seed": seeds[0],
        "seeds": list(seeds),
        "versions": versions(),
    }
    summary["retrieval_by_type"] = {
        name: direct_retrieval(env.retriever, [question for question in asked if name in types(question)])
        for name in summary["by_type"]
    }
    write_json(out / SUMMARY, summary)
    (out / TABLE).write_text(markdown([summary]), encoding="utf-8")
    page = record_html(first, corpus_images(env.corpus), f"{policy.name}: {first.question.question_id}")
    (out / REPLAY).write_text(page, encoding="utf-8")
    return summary


def run_settings(policy: Policy, env: VRAGEnv, retriever: str = "") -> dict[str, Any]:
    """Return what the episodes of a run depend on, apart from questions and seeds; nothing of where files lie."""
    return {
        "policy": dict(policy.settings()),
        "corpus": env.corpus.fingerprint,
        "retriever": _public(retriever) or type(env.retriever).__name__,
        "reward": {"weights": env.reward.weights, "gate": env.reward.gate, "shaping": env.reward.shaping},
        "rules": _plain(asdict(policy.rules(env.config))),
    }


def _public(retriever: str) -> str:
    """Return the name of a retriever; of a directory or an address only a hash, which tells it from others."""
    named = "/" not in retriever and "\\" not in retriever
    return retriever if named else f"by {hashlib.sha256(retriever.encode()).hexdigest()[:12]}"


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return json.loads(json.dumps(value))


def slug(name: str) -> str:
    """Return a name as that of a directory; names that look alike stay apart."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "policy"
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
