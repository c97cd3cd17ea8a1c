"""From the episodes of a run to its numbers: overall and per type of question, each with its count and interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vrag_agent.evaluate import question_types
from vrag_agent.evaluation.intervals import Estimate, ratio
from vrag_agent.evaluation.journal import Journal, Key, Row
from vrag_agent.evaluation.judging import agreement_record, agreements, right
from vrag_agent.evaluation.measures import METRICS, Metric
from vrag_env.questions import Question

Types = Callable[[Question], Iterable[str]]


def summarize_run(
    journal: Journal,
    questions: Sequence[Question],
    seeds: Sequence[int],
    judges: Sequence[str],
    *,
    types: Types = question_types,
) -> dict[str, Any]:
    """Add up the episodes of a run.

    Args:
        journal: The run; it holds every question with every seed.
        questions: The questions.
        seeds: The seeds.
        judges: Names of the judges; the first one decides about ``accuracy`` and ``wrong``.
        types: The types of a question; one question may count under several.

    Returns:
        The numbers of :data:`~vrag_agent.evaluation.measures.METRICS` that apply; ``questions`` and ``episodes``
        (how many), ``intervals`` (95 %, by number), ``counts`` (questions behind each number, where not all),
        ``by_type`` (the same for each type), ``judges`` (accuracy by each), ``agreement`` (between every two),
        ``wrong`` (ids of questions that were not judged right with every seed).
    """
    groups: dict[str, list[Question]] = {}
    for question in questions:
        for name in types(question):
            groups.setdefault(name, []).append(question)
    first = judges[0]
    keys = [(seed, question.question_id) for seed in seeds for question in questions]
    summary = _numbers(journal, questions, seeds, first, intervals=set(METRICS))
    summary["by_type"] = {
        name: _numbers(journal, group, seeds, first, intervals={"accuracy"}) for name, group in sorted(groups.items())
    }
    summary["judges"] = {
        name: {
            **_estimate_record(estimate(journal, questions, seeds, METRICS["accuracy"], name)),
            "unjudged": sum(right(journal, name, key) is None for key in keys),
        }
        for name in judges
    }
    summary["agreement"] = [agreement_record(found) for found in agreements(journal, keys, judges)]
    summary["wrong"] = [
        question.question_id
        for question in questions
        if any(right(journal, first, (seed, question.question_id)) != 1.0 for seed in seeds)
    ]
    return summary


def _numbers(
    journal: Journal, questions: Sequence[Question], seeds: Sequence[int], judge: str, intervals: set[str]
) -> dict[str, Any]:
    found = {
        name: estimate(journal, questions, seeds, metric, judge, interval=name in intervals)
        for name, metric in METRICS.items()
    }
    known = {name: value for name, value in found.items() if value.value is not None}
    return {
        "questions": len(questions),
        "episodes": len(questions) * len(seeds),
        # What applies to no question is left out, but for the numbers that every table has.
        **{name: value.value for name, value in found.items() if value.value is not None or name == "retrieval_ndcg"},
        "intervals": {name: [value.low, value.high] for name, value in known.items() if value.low is not None},
        "counts": {name: value.questions for name, value in known.items() if value.questions != len(questions)},
    }


def _estimate_record(found: Estimate) -> dict[str, Any]:
    return {"accuracy": found.value, "interval": [found.low, found.high], "questions": found.questions}


def estimate(
    journal: Journal,
    questions: Sequence[Question],
    seeds: Sequence[int],
    metric: Metric,
    judge: str,
    *,
    interval: bool = True,
) -> Estimate:
    """Estimate one number over questions; the seeds of a question count together."""
    tops, bottoms = [], []
    for question in questions:
        pairs = [_pair(journal, (seed, question.question_id), metric, judge) for seed in seeds]
        tops.append(sum(top for top, _ in pairs))
        bottoms.append(sum(bottom for _, bottom in pairs))
    return ratio(tops, bottoms, interval=interval)


def _pair(journal: Journal, key: Key, metric: Metric, judge: str) -> tuple[float, float]:
    """Return what one episode adds to numerator and denominator."""
    top = right(journal, judge, key) if metric.numerator == "right" else _measure(journal.rows[key], metric.numerator)
    if top is None:
        return 0.0, 0.0
    if metric.denominator is None:
        return top, 1.0
    bottom = _measure(journal.rows[key], metric.denominator)
    return (0.0, 0.0) if bottom is None else (top, bottom)


def _measure(row: Row, name: str) -> float | None:
    measures: Mapping[str, float | None] = row["measures"]
    return measures.get(name)
