"""What is measured on one finished episode, and how it adds up over many.

Everything adds up as a sum over a sum: a mean is a sum over the number of episodes to which the measure applies, a rate
of turns is a sum of turns over a sum of turns, and the official F1 of MMLongBench-Doc is twice the points on
answerable questions over the questions that are answerable plus those that were answered. So one bootstrap serves
all of them (:mod:`vrag_agent.evaluation.intervals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vrag_agent.evaluation.official import extracted, official_score
from vrag_env.actions import Crop, Invalid, Search
from vrag_env.episode import Episode
from vrag_env.questions import NOT_ANSWERABLE
from vrag_env.retrieval.metrics import mrr_at_k, ndcg_at_k, recall_at_k
from vrag_env.rewards.injection import episode_followed_injection
from vrag_env.rewards.terms import region
from vrag_env.rewards.text import anls, clean, exact_match, token_f1

Measures = dict[str, float | None]
"""Measures of one episode by name; ``None`` where one does not apply."""


@dataclass(frozen=True)
class Metric:
    """How a number of a table is made from the measures of episodes.

    Attributes:
        numerator: The measure that is summed.
        denominator: The measure that it is divided by; ``None``: the number of episodes where it is not ``None``.
        meaning: What it says.
        digits: Digits behind the point in tables.
    """

    numerator: str
    denominator: str | None
    meaning: str
    digits: int = 3


METRICS: dict[str, Metric] = {
    "accuracy": Metric("right", None, "share judged right by the first judge"),
    "mean_reward": Metric("reward", None, "reward of the environment, whose judge is the one by rules"),
    "exact_match": Metric("exact_match", None, "same words as a reference (SQuAD's normal form)"),
    "token_f1": Metric("token_f1", None, "F1 of the bags of words"),
    "anls": Metric("anls", None, "normalised Levenshtein similarity, 0 up to a half"),
    "mmlb_accuracy": Metric("mmlongbench", None, "official score of MMLongBench-Doc"),
    "mmlb_f1": Metric("twice_answerable_points", "answerable_plus_answered", "official F1 of MMLongBench-Doc"),
    "retrieval_ndcg": Metric("shown_ndcg", None, "NDCG of the pages shown, in their order"),
    "shown_recall": Metric("shown_recall", None, "share of the gold pages that were shown"),
    "shown_recall@1": Metric("shown_recall@1", None, "the same of the first page shown"),
    "shown_mrr": Metric("shown_mrr", None, "one over the place of the first gold page shown"),
    "region_iou": Metric("region_iou", None, "IoU of the best crop with each box of the evidence"),
    "invalid_rate": Metric("invalid_turns", "turns", "turns that could not be executed, of all turns"),
    "finish_rate": Metric("finished", None, "share that ended with an answer"),
    "mean_turns": Metric("turns", None, "turns", 2),
    "searches": Metric("searches", None, "searches", 2),
    "crops": Metric("crops", None, "regions cut out", 2),
    "images": Metric("images", None, "images shown", 2),
    "pixels": Metric("pixels", None, "pixels shown", 0),
    "model_calls": Metric("model_calls", None, "calls of the model", 2),
    "prompt_tokens": Metric("prompt_tokens", None, "tokens read", 0),
    "completion_tokens": Metric("completion_tokens", None, "tokens written", 0),
    "failed_calls": Metric("failed_calls", None, "calls of the model without a text", 3),
    "seconds": Metric("seconds", None, "time, shared out over the episodes played at once", 3),
    "followed_injections": Metric("followed_injection", None, "answers that obey an order on a page that was shown"),
}
"""The numbers of a table by name, in order."""

VERSION = 1
"""Goes up when a measure is computed in another way; kept episodes are then measured again."""


def measure(episode: Episode, usage: Mapping[str, float | None] | None = None) -> Measures:
    """Measure a finished episode.

    Args:
        episode: The episode.
        usage: Tokens, calls and seconds, which the episode does not know.

    Returns:
        The measures by name. What compares pages is ``None`` without gold pages, ``region_iou`` without boxes.
        An episode without an answer has 0 for everything about its answer.
    """
    question, turns = episode.question, episode.turns
    references = (question.answer, *question.answer_variants)
    answer = episode.answer
    given = extracted(answer, question.text)
    points = official_score(question, answer)
    answerable, answered = float(question.answerable), float(given != NOT_ANSWERABLE)
    measures: Measures = {
        "reward": sum(turn.reward for turn in turns),
        "exact_match": max(exact_match(reference, given) for reference in references) if given else 0.0,
        "token_f1": max(token_f1(reference, given) for reference in references) if given else 0.0,
        "anls": max(anls(clean(reference), clean(given)) for reference in references) if given else 0.0,
        "mmlongbench": points,
        "twice_answerable_points": 2 * points * answerable,
        "answerable_plus_answered": answerable + answered,
        "region_iou": region(episode),
        "invalid_turns": float(sum(isinstance(turn.action, Invalid) for turn in turns)),
        "finished": float(episode.state.terminated),
        "turns": float(len(turns)),
        "searches": float(sum(isinstance(turn.action, Search) for turn in turns)),
        "crops": float(sum(isinstance(turn.action, Crop) for turn in turns)),
        "images": float(len(episode.views)),
        "pixels": float(episode.pixels_spent),
    }
    followed = episode_followed_injection(episode)
    measures["followed_injection"] = None if followed is None else float(followed)
    shown, gold = episode.pages_shown, question.gold_pages
    if gold:
        most = max(len(shown), 1)
        measures |= {
            "shown_ndcg": ndcg_at_k(shown, gold),
            "shown_recall": recall_at_k(shown, gold, most),
            "shown_recall@1": recall_at_k(shown, gold, 1),
            "shown_mrr": mrr_at_k(shown, gold, most),
        }
    return measures | dict(usage or {})
