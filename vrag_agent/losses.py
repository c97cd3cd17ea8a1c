"""Losses of policy optimisation as pure tensor functions over flat action tokens, before aggregation.

The ratio of new to old policy has a level: each token's own, or, with ``pool``, the geometric mean over the turn or
the sequence that a token belongs to. :func:`trajectory_weight` says what a token counts for in the sum.
"""

from __future__ import annotations

import torch

MAX_LOG_RATIO = 20.0
"""Log-differences are clamped to this before ``exp``, so that no infinity meets a zero in the gradient."""


def log_ratios(logprobs: torch.Tensor, old_logprobs: torch.Tensor, pool: torch.Tensor | None = None) -> torch.Tensor:
    """Logarithm of the importance ratio of each token.

    Args:
        logprobs: ``(N,)`` log-probs under the policy being trained.
        old_logprobs: ``(N,)`` log-probs under the policy that sampled, without gradient.
        pool: ``(N,)`` number of the turn or sequence of each token, counted from 0: the value is then the mean
            over it (GSPO, arXiv 2507.18071). Each token keeps the gradient of its own log-prob (eq. 14 there),
            which for equal advantages and weights sums to the gradient of the mean.

    Returns:
        ``(N,)``.
    """
    log_ratio = logprobs - old_logprobs
    if pool is None:
        return log_ratio
    with torch.no_grad():
        size = int(pool.max()) + 1 if pool.numel() else 0
        sums = log_ratio.new_zeros(size).index_add(0, pool, log_ratio)
        counts = log_ratio.new_zeros(size).index_add(0, pool, torch.ones_like(log_ratio))
        pooled = (sums / counts)[pool]
    return pooled + logprobs - logprobs.detach()


def ppo_clip(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    pool: torch.Tensor | None = None,
) -> torch.Tensor:
    """Clipped surrogate loss of each token (Schulman et al., arXiv 1707.06347, eq. 7), before aggregation.

    Args:
        logprobs: ``(N,)`` log-probs under the policy being trained.
        old_logprobs: ``(N,)`` log-probs under the policy that sampled, without gradient.
        advantages: ``(N,)``.
        clip_low: The ratio is clipped from below at ``1 - clip_low``.
        clip_high: And from above at ``1 + clip_high``; larger than ``clip_low`` keeps rare tokens alive (DAPO,
            arXiv 2503.14476).
        dual_clip: For negative advantages the loss is at most ``-dual_clip * advantage`` (arXiv 1912.09729);
            ``None`` leaves it unbounded.
        pool: See :func:`log_ratios`.

    Returns:
        ``(N,)`` losses.

    Raises:
        ValueError: If ``dual_clip`` is not above 1.
    """
    if dual_clip is not None and dual_clip <= 1:
        raise ValueError(f"dual_clip must be above 1, got {dual_clip}: it would bound the unchanged policy")
    ratio = log_ratios(logprobs, old_logprobs, pool).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    return loss


def cispo(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    ceiling: float = 5.0,
    pool: torch.Tensor | None = None,
) -> torch.Tensor:
    """REINFORCE with a truncated importance weight (CISPO, MiniMax-M1, arXiv 2506.13585), before aggregation.

    No token's gradient is ever dropped, which keeps rare tokens alive.

    Args:
        logprobs: ``(N,)`` log-probs under the policy being trained.
        old_logprobs: ``(N,)`` log-probs under the policy that sampled, without gradient.
        advantages: ``(N,)``.
        ceiling: The weight is at most this; 5 in ScaleRL (arXiv 2510.13786).
        pool: See :func:`log_ratios`.

    Returns:
        ``(N,)`` losses.
    """
    weight = log_ratios(logprobs, old_logprobs, pool).detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return -weight.clamp(max=ceiling) * advantages * logprobs


def kl(
    logprobs: torch.Tensor,
    ref_logprobs: torch.Tensor,
    kind: str = "k1",
    old_logprobs: torch.Tensor | None = None,
) -> torch.Tensor:
    """Estimate of the KL divergence from a reference at each sampled token (Schulman, "Approximating KL", 2020).

    Args:
        logprobs: ``(N,)`` under the policy that the tokens were sampled from.
        ref_logprobs: ``(N,)`` under the reference.
        kind: ``k1`` = log-ratio (unbiased; belongs into the reward, as a loss its expected gradient is zero),
            ``k2`` = half its square (as a loss its expected gradient is that of the KL), ``k3`` =
            ``exp(-log-ratio) - 1 + log-ratio`` (unbiased, never negative; as a loss its gradient is biased),
            ``k3_ratio`` = ``k3`` times the ratio to the sampling policy, whose gradient is unbiased again
            (DeepSeek-V3.2, arXiv 2512.02556; the default of TRL).
        old_logprobs: ``(N,)`` under the policy that sampled, without gradient; needed by ``k3_ratio`` only.

    Returns:
        ``(N,)`` estimates in nats.

    Raises:
        ValueError: If the kind is not known, or ``k3_ratio`` has no ``old_logprobs``.
    """
    log_ratio = (logprobs - ref_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return 0.5 * log_ratio.square()
    if kind == "k3":
        return torch.expm1(-log_ratio) + log_ratio
    if kind == "k3_ratio":
        if old_logprobs is None:
            raise ValueError("k3_ratio needs the log-probs of the policy that sampled")
        ratio = (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        return ratio * (torch.expm1(-log_ratio) + log_ratio)
    raise ValueError(f"kind must be k1, k2, k3 or k3_ratio, got {kind!r}")


AGGREGATIONS = ("token_mean", "sequence_mean", "constant")
"""The ways to sum up a batch that :func:`trajectory_weight` knows."""


def trajectory_weight(how: str, length: int, tokens: float, trajectories: float, constant_length: int = 1024) -> float:
    """Weight of each token of a trajectory in the loss of a batch; the loss is the weighted sum over tokens.

    Args:
        how: ``token_mean`` = every token of the batch weighs the same (DAPO, arXiv 2503.14476),
            ``sequence_mean`` = every trajectory weighs the same, so tokens of long ones weigh less (GRPO),
            ``constant`` = tokens divided by a constant, so that length has no influence (Dr. GRPO).
        length: Action tokens of this trajectory.
        tokens: Action tokens of the whole batch, over all micro-batches and processes.
        trajectories: Trajectories of the whole batch.
        constant_length: The constant, in tokens per trajectory.

    Raises:
        ValueError: If ``how`` is not known.
    """
    if how == "token_mean":
        return 1 / max(tokens, 1)
    if how == "sequence_mean":
        return 1 / (max(length, 1) * max(trajectories, 1))
    if how == "constant":
        return 1 / (constant_length * max(trajectories, 1))
    raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {how!r}")


def importance_weights(trainer: torch.Tensor, sampler: torch.Tensor, cap: float) -> torch.Tensor:
    """Truncated importance sampling: what a token counts for that another implementation has sampled.

    The ratio corrects the expectation for the gap between the sampler's and the trainer's probabilities; truncation
    bounds its variance (Ionides 2008; for rollouts, https://fengyao.notion.site/off-policy-rl).

    Args:
        trainer: ``(N,)`` log-probs of the trainer before the update.
        sampler: ``(N,)`` log-probs of the sampler.
        cap: Largest weight.

    Returns:
        ``(N,)`` weights from 0 to ``cap``, without gradient.
    """
    # Bounded before exp: a difference of 100 nats must not become infinity times zero.
    return (trainer - sampler).detach().clamp(-20.0, 20.0).exp().clamp(max=cap)
