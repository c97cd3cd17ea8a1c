"""Truncated importance sampling: weights by hand, and what they do to the losses of PPO and GRPO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from conversations import build_policy, converse, scripts

from vrag_agent.config import ConfigError, GRPOConfig, PPOConfig
from vrag_agent.grpo import GRPO
from vrag_agent.losses import importance_weights
from vrag_agent.policy import VLMPolicy
from vrag_agent.ppo import PPO
from vrag_agent.trajectory import Trajectory
from vrag_env.episode import Episode


def no_episodes(count: int) -> Sequence[Episode]:
    raise AssertionError("these tests bring their own trajectories")


def test_the_weights_by_hand() -> None:
    trainer = torch.tensor([math.log(0.5), math.log(0.1), math.log(0.9), 0.0, -200.0], requires_grad=True)
    sampler = torch.tensor([math.log(0.25), math.log(0.2), math.log(0.1), -200.0, 0.0])
    weights = importance_weights(trainer, sampler, cap=2.0)
    assert weights.tolist() == pytest.approx([2.0, 0.5, 2.0, 2.0, 0.0], abs=1e-6) and not weights.requires_grad


@pytest.fixture(scope="module")
def played() -> list[Trajectory]:
    """Two groups whose sampler was right, and then said twice and half of the trainer's probability in turn."""
    found = converse(build_policy(), [scripts()[i] for i in (0, 0, 1, 1)], generator=torch.Generator().manual_seed(3))
    return [skewed(trajectory, (1.0,)) for trajectory in found]


def skewed(trajectory: Trajectory, factors: Sequence[float]) -> Trajectory:
    """Let the sampler's log-probs be off by these factors, token by token, again and again."""
    segments = []
    for segment in trajectory.segments:
        off = [p - math.log(factors[i % len(factors)]) for i, p in enumerate(segment.logprobs)]
        segments.append(replace(segment, logprobs=tuple(off)))
    return replace(trajectory, segments=tuple(segments))


def make(policy: VLMPolicy, algorithm: str, cap: float) -> PPO | GRPO:
    common = {"n_episodes": 4, "minibatch_size": 4, "n_epochs": 1, "learning_rate": 0.0, "max_grad_norm": 1e9}
    common |= {"kl_coef": 0.0, "importance_cap": cap, "parity": "off"}
    if algorithm == "ppo":
        return PPO(policy, no_episodes, PPOConfig(**common))  # type: ignore[arg-type]  # a mixed dict
    return GRPO(policy, no_episodes, GRPOConfig(**common, group_size=2))  # type: ignore[arg-type]  # a mixed dict


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_advantages_are_weighed_token_by_token(played: list[Trajectory], algorithm: str) -> None:
    policy = build_policy()
    plain = make(policy, algorithm, 0.0).score(played)
    same = make(policy, algorithm, 2.0).score(played)
    for a, b in zip(plain.advantages, same.advantages, strict=True):
        torch.testing.assert_close(a.expand_as(b), b, rtol=1e-3, atol=1e-5)  # the sampler was right
    # The trainer finds a token twice, half and ten times as likely as the sampler did.
    off = make(policy, algorithm, 3.0).score([skewed(t, (2.0, 0.5, 10.0)) for t in played])
    for trajectory, a, b in zip(played, plain.advantages, off.advantages, strict=True):
        expected = [(2.0, 0.5, 3.0)[i % 3] for action in trajectory.actions for i in range(len(action.token_ids))]
        torch.testing.assert_close(a * torch.tensor(expected), b, rtol=1e-3, atol=1e-5)


def test_demonstrations_have_no_sampler(played: list[Trajectory]) -> None:
    bare = [
        replace(t, segments=tuple(replace(s, logprobs=()) if s.kind == "action" else s for s in t.segments))
        for t in played
    ]
    with pytest.raises(ConfigError, match="log-probs of the sampler"):
        make(build_policy(), "ppo", 2.0).score(bare)
    with pytest.raises(ConfigError, match="importance_cap"):
        PPOConfig(importance_cap=-1.0)
