"""Parity: recompute what was sampled and report the gap between sampler and trainer.

The most common silent fault of reinforcement learning on vision-language models is a trainer that scores other
tokens, other pixels or other positions than the sampler saw. It shows as a gap between the log-probs stored at
sampling time and those of a full forward pass over the stored ids and pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Trajectory, collate


class ParityError(RuntimeError):
    """Sampler and trainer disagree: training on these trajectories would follow a wrong gradient."""


@dataclass(frozen=True)
class ParityReport:
    """The gap over all action tokens.

    Attributes:
        tokens: Number of action tokens compared.
        max_gap: Largest absolute difference of log-probs, in nats.
        mean_gap: Mean absolute difference.
    """

    tokens: int
    max_gap: float
    mean_gap: float


@torch.no_grad()
def check_rollout(
    trajectories: Sequence[Trajectory],
    policy: VLMPolicy,
    tolerance: float = 1e-3,
    batch_size: int = 16,
) -> ParityReport:
    """Recompute the log-probs of sampled tokens by full forward passes and compare.

    Args:
        trajectories: As :func:`vrag_agent.rollout.collect` made them.
        policy: The policy that sampled them, not updated since.
        tolerance: Largest gap allowed, in nats: 1e-4 to 1e-3 in float32, 5e-2 in bfloat16.
        batch_size: Trajectories per forward pass.

    Raises:
        ParityError: If the gap is larger than ``tolerance`` at any token.
        ValueError: If there is nothing to compare: no actions, or actions without log-probs.
    """
    if not all(len(a.logprobs) == len(a.token_ids) > 0 for t in trajectories for a in t.actions):
        raise ValueError("an action has no log-probs: only what a policy sampled can be compared with it")
    if not any(trajectory.actions for trajectory in trajectories):
        raise ValueError("there are no actions to compare")
    was_training = policy.training
    policy.eval()
    gaps = []
    try:
        for start in range(0, len(trajectories), batch_size):
            chunk = trajectories[start : start + batch_size]
            out = policy(collate(chunk, policy.family, policy.device))
            stored = [p for trajectory in chunk for action in trajectory.actions for p in action.logprobs]
            gaps.append((out.logprobs.double().cpu() - torch.tensor(stored, dtype=torch.float64)).abs())
    finally:
        policy.train(was_training)
    gap = torch.cat(gaps)
    report = ParityReport(gap.numel(), float(gap.max()), float(gap.mean()))
    if not report.max_gap <= tolerance:
        raise ParityError(
            f"the log-probs of {report.tokens} sampled tokens differ from a full forward pass by up to "
            f"{report.max_gap:.2e} nats (mean {report.mean_gap:.2e}, allowed {tolerance:.0e}): sampler and "
            "trainer do not see the same tokens, pixels or positions"
        )
    return report
