"""Metrics of finished episodes: one set of numbers for scripted players, policies and rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from vrag_env.actions import Crop, Invalid, Search
from vrag_env.episode import Episode
from vrag_env.retrieval.metrics import ndcg_at_k

if TYPE_CHECKING:
    from vrag_agent.trajectory import Trajectory


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


def rollout_metrics(episodes: Sequence[Episode], trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Metrics of one rollout, under the names of Stable-Baselines3 where it has one.

    Args:
        episodes: Finished episodes.
        trajectories: What was sampled in them.

    Returns:
        Beside reward, length and success: what tells how they came about, such as searches and crops per episode,
        the length of thoughts, and the share of repeated runs of four tokens.
    """
    summary = summarize(episodes)
    turns = [turn for episode in episodes for turn in episode.turns]
    actions = [action.token_ids for trajectory in trajectories for action in trajectory.actions]
    returns = [sum(turn.reward for turn in episode.turns) for episode in episodes]
    return {
        "rollout/ep_rew_mean": summary["mean_reward"],
        "rollout/ep_rew_std": pstdev(returns),
        "rollout/ep_len_mean": summary["mean_turns"],
        "rollout/success_rate": summary["accuracy"],
        "rollout/retrieval_ndcg": summary["retrieval_ndcg"],
        "rollout/invalid_rate": summary["invalid_rate"],
        "rollout/finish_rate": summary["finish_rate"],
        "rollout/searches": sum(isinstance(turn.action, Search) for turn in turns) / len(episodes),
        "rollout/crops": sum(isinstance(turn.action, Crop) for turn in turns) / len(episodes),
        "rollout/thought_chars": fmean(len(turn.thought) for turn in turns),
        "rollout/tokens_per_action": sum(map(len, actions)) / len(actions),
        "rollout/repetition": fmean(map(repetition, actions)),
    }


def repetition(token_ids: Sequence[int], n: int = 4) -> float:
    """Share of the runs of ``n`` tokens that have stood before; 0 for shorter texts."""
    runs = [tuple(token_ids[i : i + n]) for i in range(len(token_ids) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
