"""Rewards: named terms of an episode, judges of its answer, and their weighted sum."""

from vrag_env.rewards.agreement import Agreement, Disagreement, agreement
from vrag_env.rewards.api_judge import APIJudge
from vrag_env.rewards.cache import VerdictCache
from vrag_env.rewards.factory import make_judge
from vrag_env.rewards.injection import episode_followed_injection, followed_injection
from vrag_env.rewards.judges import Judge, JudgeItem, RuleJudge
from vrag_env.rewards.local_judge import LocalJudge
from vrag_env.rewards.model_judge import JudgeStats, ModelJudge
from vrag_env.rewards.reward import PRESETS, Reward, Scored, make_reward
from vrag_env.rewards.terms import TERMS

__all__ = [
    "PRESETS",
    "TERMS",
    "APIJudge",
    "Agreement",
    "Disagreement",
    "Judge",
    "JudgeItem",
    "JudgeStats",
    "LocalJudge",
    "ModelJudge",
    "Reward",
    "RuleJudge",
    "Scored",
    "VerdictCache",
    "agreement",
    "episode_followed_injection",
    "followed_injection",
    "make_judge",
    "make_reward",
]
