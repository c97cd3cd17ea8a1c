"""Metrics of finished episodes: one set of numbers for scripted players, policies and rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from vrag_env.actions import Invalid
from vrag_env.episode import Episode
from vrag_env.retrieval.metrics import ndcg_at_k


def summarize(episodes: Sequence[Episode]) -> dict[str, float]:
    """Summarize finished episodes.

    Args:
        episodes: At least one, all ended.

    Returns:
        ``accuracy`` (share judged right), ``mean_reward``, ``retrieval_ndcg`` (NDCG of the pages shown, over the
        questions that have gold pages; NaN if none has), ``invalid_rate`` (invalid turns per turn),
        ``finish_rate`` (share that ended with an answer) and ``mean_turns``.
    """
    if not episodes:
        raise ValueError("there are no episodes to summarize")
    turns = [turn for episode in episodes for turn in episode.turns]
    ndcg = [
        ndcg_at_k(episode.pages_shown, episode.question.gold_pages)
        for episode in episodes
        if episode.question.gold_pages
    ]
    return {
        "accuracy": fmean(float(episode.is_success) for episode in episodes),
        "mean_reward": fmean(sum(turn.reward for turn in episode.turns) for episode in episodes),
        "retrieval_ndcg": fmean(ndcg) if ndcg else float("nan"),
        "invalid_rate": sum(isinstance(turn.action, Invalid) for turn in turns) / len(turns),
        "finish_rate": fmean(float(episode.state.terminated) for episode in episodes),
        "mean_turns": len(turns) / len(episodes),
    }
