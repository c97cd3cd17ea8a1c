"""Advantages: how good each step was, as pure tensor functions.

A step is a turn (the default of :class:`vrag_agent.ppo.PPO`) or a token: the recursion is the same. Steps that
the mask leaves out (padding, observation tokens) are jumped over, not treated as steps with a value of their own.
"""

from __future__ import annotations

import torch


def gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation (Schulman et al., arXiv 1506.02438, eq. 16) over the unmasked steps.

    ``delta_t = r_t + gamma * V_next - V_t`` and ``A_t = delta_t + gamma * lam * A_next``, where *next* is the
    next unmasked step of the same row; after the last one both are zero.

    Args:
        rewards: ``(B, K)``; a reward on a masked step is an error, since it would be lost.
        values: ``(B, K)``; what stands on masked steps is ignored.
        mask: ``(B, K)``, true where a step is.
        gamma: Discount per step.
        lam: Decay of the trace; 1 gives Monte-Carlo returns minus values.

    Returns:
        Advantages and returns (advantage plus value), both ``(B, K)`` and zero on masked steps.

    Raises:
        ValueError: If a masked step has a reward.
    """
    mask = mask.bool()
    if rewards.masked_select(~mask).any():
        raise ValueError("a reward stands on a masked step, where it would be lost")
    advantages = torch.zeros_like(values)
    next_value = torch.zeros_like(values[:, 0])
    next_advantage = torch.zeros_like(values[:, 0])
    for step in range(values.shape[1] - 1, -1, -1):
        here = mask[:, step]
        delta = rewards[:, step] + gamma * next_value - values[:, step]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, step] = torch.where(here, advantage, torch.zeros_like(advantage))
        next_value = torch.where(here, values[:, step], next_value)
        next_advantage = torch.where(here, advantage, next_advantage)
    returns = torch.where(mask, advantages + values, torch.zeros_like(values))
    return advantages, returns


def whiten(x: torch.Tensor, mask: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Shift and scale to mean 0 and (unbiased) variance 1 over the unmasked entries; 0 elsewhere.

    With fewer than two entries nothing can be normalised and the input is returned, masked.
    """
    mask = mask.bool()
    chosen = x.masked_select(mask)
    if chosen.numel() < 2:
        return x * mask
    scale = chosen.std() + eps
    return torch.where(mask, (x - chosen.mean()) / scale, torch.zeros_like(x))


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """Share of the returns' variance that the values explain; 1 is perfect, 0 is a constant guess.

    Returns:
        ``1 - Var(returns - values) / Var(returns)``; NaN where the returns do not vary (as in SB3).
    """
    variance = returns.var(correction=0)
    if variance == 0:
        return float("nan")
    return float(1 - (returns - values).var(correction=0) / variance)
