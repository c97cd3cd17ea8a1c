"""Any number of judges on the same rollouts: every answer is judged once by each, in batches, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from vrag_agent.evaluation.journal import Journal, Key
from vrag_env.rewards import Judge
from vrag_env.rewards.agreement import Agreement, compare, scores_of
from vrag_env.rewards.judges import SUCCESS_THRESHOLD, JudgeItem

BATCH = 256


def judge_all(
    journal: Journal, keys: Sequence[Key], judges: Mapping[str, Judge], progress: Callable[[int], None] | None = None
) -> None:
    """Let every judge judge the answers on which it has not said anything yet.

    An episode without an answer is wrong and is not judged. An answer on which a model gives no verdict stays
    without one, and is asked about again when the run is started again.

    Args:
        journal: Where the episodes are and the verdicts go.
        keys: The episodes.
        judges: The judges by name.
        progress: Called with the number of answers that have just been judged.
    """
    for name, judge in judges.items():
        due = [key for key in keys if answer_of(journal, key) is not None and not journal.judged(name, key)]
        for start in range(0, len(due), BATCH):
            batch = due[start : start + BATCH]
            for key, score in zip(batch, scores_of(judge, [item_of(journal, key) for key in batch]), strict=True):
                journal.add_verdict(name, key, score)
            if progress is not None:
                progress(len(batch))


def answer_of(journal: Journal, key: Key) -> str | None:
    """Return the answer of an episode."""
    answer: str | None = journal.rows[key]["answer"]
    return answer


def item_of(journal: Journal, key: Key) -> JudgeItem:
    """Return what a judge is given of an episode with an answer."""
    row = journal.rows[key]
    question = row["question"]
    references = (question["answer"], *question["answer_variants"])
    return JudgeItem(question["text"], row["answer"], references, question["answer_format"])


def right(journal: Journal, judge: str, key: Key) -> float | None:
    """Return 1 if an episode is right, 0 if it is wrong or has no answer, ``None`` without a verdict."""
    if answer_of(journal, key) is None:
        return 0.0
    score = journal.verdict(judge, key)
    return None if score is None else float(score >= SUCCESS_THRESHOLD)


def agreements(journal: Journal, keys: Sequence[Key], judges: Sequence[str]) -> list[Agreement]:
    """Compare every two judges on the answers that were given."""
    answered = [key for key in keys if answer_of(journal, key) is not None]
    items = [item_of(journal, key) for key in answered]
    scores = {name: [journal.verdict(name, key) for key in answered] for name in judges}
    return [compare(items, scores[a], scores[b], a, b) for a, b in combinations(judges, 2)]


def agreement_record(found: Agreement) -> dict[str, Any]:
    """Return an agreement as plain data."""
    return {
        "judges": [found.judge_a, found.judge_b],
        "answers": found.items,
        "unjudged": found.unjudged,
        "agreement": found.agreement,
        "kappa": found.kappa,
        "both_right": found.both_right,
        "only_first": found.only_a,
        "only_second": found.only_b,
        "both_wrong": found.both_wrong,
    }
