"""Rewards: named terms of an episode, judges of its answer, and their weighted sum."""

from vrag_env.rewards.judges import Judge, JudgeItem, RuleJudge
from vrag_env.rewards.reward import PRESETS, Reward, Scored, make_reward
from vrag_env.rewards.terms import TERMS

__all__ = ["PRESETS", "TERMS", "Judge", "JudgeItem", "Reward", "RuleJudge", "Scored", "make_reward"]
