"""Losses of policy optimisation as pure tensor functions over flat action tokens."""

from __future__ import annotations

import torch

MAX_LOG_RATIO = 20.0
"""Log-differences are clamped to this before ``exp``, so that no infinity meets a zero in the gradient."""


def ppo_clip(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
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

    Returns:
        ``(N,)`` losses.

    Raises:
        ValueError: If ``dual_clip`` is not above 1.
    """
    if dual_clip is not None and dual_clip <= 1:
        raise ValueError(f"dual_clip must be above 1, got {dual_clip}: it would bound the unchanged policy")
    ratio = (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    return loss


def kl(logprobs: torch.Tensor, ref_logprobs: torch.Tensor, kind: str = "k1") -> torch.Tensor:
    """Estimate of the KL divergence from a reference at each sampled token (Schulman, "Approximating KL", 2020).

    Args:
        logprobs: ``(N,)`` under the policy that the tokens were sampled from.
        ref_logprobs: ``(N,)`` under the reference.
        kind: ``k1`` = log-ratio (unbiased; belongs into the reward, as a loss its expected gradient is zero),
            ``k2`` = half its square, ``k3`` = ``exp(-log-ratio) - 1 + log-ratio`` (unbiased, never negative).

    Returns:
        ``(N,)`` estimates in nats.
    """
    log_ratio = (logprobs - ref_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return 0.5 * log_ratio.square()
    if kind == "k3":
        return torch.expm1(-log_ratio) + log_ratio
    raise ValueError(f"kind must be k1, k2 or k3, got {kind!r}")
