"""Evaluation: many episodes, one summary. Works for scripted players without importing torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from vrag_agent.metrics import summarize
from vrag_env.corpus import Corpus
from vrag_env.episode import Episode, step_many
from vrag_env.players import Player
from vrag_env.questions import Question
from vrag_env.replay import episode_to_record
from vrag_env.retrieval import Retriever
from vrag_env.retrieval.metrics import mrr_at_k, ndcg_at_k, recall_at_k

PACKAGES = ("vrag-gym", "gymnasium", "lancedb", "numpy", "torch", "transformers")


def play(
    player: Player,
    episodes: Sequence[Episode],
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Let a scripted player play episodes to their end, many at a time.

    Args:
        player: Who plays.
        episodes: Fresh episodes; they hold the full record afterwards.
        batch_size: Episodes that share one retrieval call.
        progress: Called with the number of episodes that have just ended.
    """
    for start in range(0, len(episodes), batch_size):
        live = list(episodes[start : start + batch_size])
        for episode in live:
            episode.start()
        while live:
            step_many(live, [player.act(episode) for episode in live])
            still = [episode for episode in live if not episode.done]
            if progress is not None:
                progress(len(live) - len(still))
            live = still


def evaluation(episodes: Sequence[Episode], keys: Callable[[Question], Iterable[str]] | None = None) -> dict[str, Any]:
    """Summarize finished episodes, as a whole and by type.

    Args:
        episodes: Finished episodes.
        keys: The types of a question; by default its source types and its query type.

    Returns:
        The metrics of :func:`vrag_agent.metrics.summarize`, ``questions`` (their number), ``by_type`` (the
        same for each type) and ``wrong`` (ids of the questions that were not judged right).
    """
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        for key in (keys or question_types)(episode.question):
            groups.setdefault(key, []).append(episode)
    return {
        "questions": len(episodes),
        **summarize(episodes),
        "by_type": {key: {"questions": len(group), **summarize(group)} for key, group in sorted(groups.items())},
        "wrong": [episode.question.question_id for episode in episodes if not episode.is_success],
    }


def question_types(question: Question) -> list[str]:
    """Return the types under which a question counts: what carries the answer, its hops, whether it has one."""
    sources = [part.strip() for part in question.source_type.split(",") if part.strip()]
    kinds = [question.query_type] if question.query_type else []
    return [*sources, *kinds, *([] if question.answerable else ["Unanswerable"])]


def direct_retrieval(retriever: Retriever, questions: Sequence[Question]) -> dict[str, float]:
    """Measure a retriever with the questions themselves as queries.

    Args:
        retriever: What is measured.
        questions: Those without gold pages are left out.

    Returns:
        ``recall@1``, ``recall@5``, ``recall@10`` (share of the gold pages found), ``mrr@10``, ``ndcg@10``,
        each a mean over the questions, and their number ``questions``; empty if none has gold pages.
    """
    asked = [question for question in questions if question.gold_pages]
    if not asked:
        return {}
    by_scope: dict[tuple[str, ...] | None, list[Question]] = {}
    for question in asked:
        by_scope.setdefault(question.scope, []).append(question)
    pairs = []
    for scope, group in by_scope.items():
        found = retriever.search([question.text for question in group], 10, scope)
        pairs += [([hit.page_id for hit in hits], q.gold_pages) for hits, q in zip(found, group, strict=True)]
    sums = {f"recall@{k}": sum(recall_at_k(r, g, k) for r, g in pairs) for k in (1, 5, 10)}
    sums["mrr@10"] = sum(mrr_at_k(r, g, 10) for r, g in pairs)
    sums["ndcg@10"] = sum(ndcg_at_k(r, g, 10) for r, g in pairs)
    return {"questions": len(asked), **{name: total / len(asked) for name, total in sums.items()}}


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on, as far as they are installed."""
    found = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    return {name: found[name] for name in PACKAGES if name in found}


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """What a summary says of the corpus: its size and its fingerprint, not where it lies."""
    return {
        "documents": len(corpus.doc_ids()),
        "pages": len(corpus.page_ids()),
        "fingerprint": corpus.fingerprint,
    }


def to_json(value: Any, indent: int | None = None) -> str:
    """Write a value as JSON; NaN, which JSON does not have, becomes null."""
    return json.dumps(_without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(to_json(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """Write the record of every episode, one JSON object a line."""
    write_records(path, map(episode_to_record, episodes))


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records of episodes, one JSON object a line; the file is whole or not there."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(to_json(record) + "\n")
    temporary.replace(path)
