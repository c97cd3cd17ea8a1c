"""Advantages: how good each step was, as pure tensor functions, one per published estimator.

With a critic: :func:`gae` over turns (the default of :class:`vrag_agent.ppo.PPO`) or over tokens (with
:func:`token_rewards`), and :func:`bilevel_gae`. A step is a turn or a token: the recursion is the same. Steps that
the mask leaves out (padding, observation tokens) are jumped over, not treated as steps with a value of their own.

Without a critic, from the returns of whole episodes: :func:`grpo`, :func:`dr_grpo`, :func:`rloo` and
:func:`reinforce`. The first three compare the episodes of one question with each other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Total = Callable[[torch.Tensor], torch.Tensor]
"""Sums a tensor over all processes of a run; see :class:`vrag_agent.parallel.Parallel`."""


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


def token_rewards(rewards: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Put the reward of each turn on the turn's last action token.

    Args:
        rewards: ``(K,)`` rewards of the turns of one episode.
        lengths: ``(K,)`` action tokens of each turn, all positive.

    Returns:
        ``(N,)`` with ``N`` the sum of ``lengths``; zero on all other tokens.
    """
    placed = rewards.new_zeros(int(lengths.sum()))
    placed[lengths.cumsum(0) - 1] = rewards
    return placed


def bilevel_gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
    turn_gamma: float = 1.0,
    turn_lam: float = 0.95,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bi-level GAE of one episode (VAGEN, arXiv 2510.16907): first over turns, then over the tokens of each turn.

    The first pass is :func:`gae` over turns with the values before each turn's first token. Its return, advantage
    plus value, becomes the reward of the turn's last token, and the second pass is :func:`gae` inside each turn,
    which ends there. With one turn this is token-level GAE, with one token per turn and equal dials turn-level GAE.

    Args:
        rewards: ``(K,)`` rewards of the turns.
        values: ``(N,)`` values before each action token.
        lengths: ``(K,)`` action tokens of each turn, all positive.
        gamma: Discount per token inside a turn.
        lam: Decay of the trace inside a turn.
        turn_gamma: Discount per turn.
        turn_lam: Decay of the trace over turns.

    Returns:
        Advantages and returns, both ``(N,)``.
    """
    starts = lengths.cumsum(0) - lengths
    turns = torch.ones_like(rewards)[None]
    _, returns = gae(rewards[None], values[starts][None], turns, turn_gamma, turn_lam)
    pad = torch.nn.utils.rnn.pad_sequence
    inner = list(values.split(lengths.tolist()))
    mask = pad([torch.ones_like(row) for row in inner], batch_first=True)
    placed = torch.zeros_like(mask)
    placed[torch.arange(len(lengths), device=placed.device), lengths - 1] = returns[0]
    advantages, targets = gae(placed, pad(inner, batch_first=True), mask, gamma, lam)
    return advantages[mask.bool()], targets[mask.bool()]


def grpo(returns: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """Group-relative advantages: distance from the group's mean in (unbiased) standard deviations.

    DeepSeekMath (arXiv 2402.03300). ``eps`` is verl's; TRL has 1e-4.

    Args:
        returns: ``(G, n)`` returns of ``n > 1`` episodes of each of ``G`` questions.
        eps: Added to the standard deviation.

    Returns:
        ``(G, n)``; zero where all returns of a group are equal.
    """
    return dr_grpo(returns) / (returns.std(dim=1, keepdim=True) + eps)


def dr_grpo(returns: torch.Tensor) -> torch.Tensor:
    """Group-relative advantages that are not scaled, so that easy and hard questions weigh the same.

    Dr. GRPO (arXiv 2503.20783). Takes and returns ``(G, n)`` with ``n > 1``.
    """
    _check_groups(returns)
    return returns - returns.mean(dim=1, keepdim=True)


def rloo(returns: torch.Tensor) -> torch.Tensor:
    """Distance from the mean of the *other* episodes of the group, which is an unbiased baseline.

    RLOO (arXiv 2402.14740). Takes and returns ``(G, n)`` with ``n > 1``; ``n / (n - 1)`` times :func:`dr_grpo`.
    """
    _check_groups(returns)
    others = (returns.sum(dim=1, keepdim=True) - returns) / (returns.shape[1] - 1)
    return returns - others


def reinforce(returns: torch.Tensor, total: Total | None = None) -> torch.Tensor:
    """Batch-normalised REINFORCE: distance from the batch's mean in standard deviations; needs no groups.

    REINFORCE++ (arXiv 2501.03262). Takes and returns any shape; see :func:`whiten` for ``total``.
    """
    return whiten(returns, torch.ones_like(returns), total=total)


def _check_groups(returns: torch.Tensor) -> None:
    if returns.dim() != 2 or returns.shape[1] < 2:
        raise ValueError(f"returns must be (groups, episodes > 1), got {tuple(returns.shape)}")


def whiten(
    x: torch.Tensor,
    mask: torch.Tensor,
    eps: float = 1e-8,
    total: Total | None = None,
) -> torch.Tensor:
    """Shift and scale to mean 0 and (unbiased) variance 1 over the unmasked entries; 0 elsewhere.

    With fewer than two entries nothing can be normalised and the input is returned, masked.

    Args:
        x: Any shape.
        mask: The same shape, true where an entry counts.
        eps: Added to the standard deviation.
        total: Sums over all processes, so that all entries of the run are normalised together.
    """
    mask = mask.bool()
    total = total or _identity
    chosen = x.masked_select(mask)
    count, sum_ = total(torch.stack([chosen.new_tensor(float(chosen.numel())), chosen.sum()]))
    if count < 2:
        return x * mask
    mean = sum_ / count
    variance = total((chosen - mean).square().sum()) / (count - 1)
    return torch.where(mask, (x - mean) / (variance.sqrt() + eps), torch.zeros_like(x))


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """Share of the returns' variance that the values explain; 1 is perfect, 0 is a constant guess.

    Returns:
        ``1 - Var(returns - values) / Var(returns)``; NaN where the returns do not vary (as in SB3).
    """
    variance = returns.var(correction=0)
    if variance == 0:
        return float("nan")
    return float(1 - (returns - values).var(correction=0) / variance)
