"""Log-probability and entropy of tokens from logits, in the memory of one chunk.

The logits of a real vocabulary are the largest tensors of training: 4,000 action tokens of Qwen2.5-VL are 2.4 GB in
float32, and the usual chain of operations keeps four of that size for the backward pass. Here one is kept, and where
there are many tokens none: the language head runs chunk by chunk, and again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 1 << 28
"""Largest tensor of logits."""


class _LogprobEntropy(torch.autograd.Function):
    """``log softmax(logits)[ids]`` and the entropy of ``softmax(logits)``; minus infinity has probability zero."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logp = torch.log_softmax(logits, dim=-1)
        entropy = torch.special.entr(logp.exp()).sum(-1)
        ctx.save_for_backward(logp, ids, entropy)
        return logp.gather(-1, ids[:, None]).squeeze(-1), entropy

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        by_logprob, by_entropy = gradients
        logp, ids, entropy = ctx.saved_tensors
        p = logp.exp()
        # d logp[id] / d logits = onehot - p;  d entropy / d logits = -p (logp + entropy), and 0 where p is 0
        surprise = logp.masked_fill(p == 0, 0.0).add_(entropy[:, None])
        gradient = p.mul_(surprise.mul_(-by_entropy[:, None]).sub_(by_logprob[:, None]))
        gradient.scatter_add_(-1, ids[:, None], by_logprob[:, None])
        return gradient, None


def logprobs_and_entropy(
    logits: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, ids: torch.Tensor, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score tokens.

    Args:
        logits: Maps ``(n, hidden_size)`` to ``(n, vocabulary)`` in float32 or better, minus infinity for tokens
            that are never sampled.
        hidden: ``(N, hidden_size)``.
        ids: ``(N,)``.
        vocabulary: Its size.

    Returns:
        Log-probabilities and entropies, ``(N,)`` each.
    """

    def score(hidden: torch.Tensor, ids: torch.Tensor) -> Any:
        return _LogprobEntropy.apply(logits(hidden), ids)

    size = max(1, CHUNK_BYTES // (4 * vocabulary))
    if len(ids) <= size:
        return score(hidden, ids)
    parts = []
    for chunk, chosen in zip(hidden.split(size), ids.split(size), strict=True):
        if torch.is_grad_enabled():
            parts.append(checkpoint(score, chunk, chosen, use_reentrant=False))
        else:
            parts.append(score(chunk, chosen))
    first, second = zip(*parts, strict=True)
    return torch.cat(first), torch.cat(second)
