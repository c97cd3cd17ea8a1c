"""Attention over sequences that stand one behind the other in one row, each seeing only itself.

Transformers calls the attention of a model by name; ``vrag_sdpa`` is its ``sdpa`` with one addition. Where a
forward pass says which :class:`Span` each run of tokens is, every span attends to its own past and to nothing else,
one call of the kernel per span: no padding, no mask of the size of the whole row, and a cost that grows with the
sum of the squared lengths, not with the square of their sum. Where it says nothing, it is ``sdpa`` as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "vrag_sdpa"


@dataclass(frozen=True)
class Span:
    """A run of tokens of one sequence in the row.

    Attributes:
        start: Its first token.
        end: One past its last.
        slot: Where the cache holds the sequence; ``None`` without a cache.
        past: Tokens of the sequence that the cache held before.
    """

    start: int
    end: int
    slot: int | None = None
    past: int = 0


def packed_spans(lengths: Sequence[int]) -> tuple[Span, ...]:
    """Return the spans of sequences of these lengths, one behind the other."""
    spans, start = [], 0
    for length in lengths:
        spans.append(Span(start, start + length))
        start += length
    return tuple(spans)


def span_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    spans: Sequence[Span] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the form that transformers calls.

    Args:
        module: The attention layer.
        query: ``(B, heads, T, dim)``; with spans ``B`` is 1.
        key: ``(B, key-value heads, T, dim)``, or the whole cache, ``(slots, key-value heads, columns, dim)``.
        value: As ``key``.
        attention_mask: Used where there are no spans.
        dropout: Probability.
        scaling: Of the scores.
        spans: Cover the row from end to end.
        **kwargs: Handed on.

    Returns:
        ``(B, T, heads, dim)``, and ``None`` in the place of the weights.
    """
    if spans is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    outputs = []
    for span in spans:
        if span.slot is None:
            keys, values = key[:, :, span.start : span.end], value[:, :, span.start : span.end]
        else:
            known = span.past + span.end - span.start
            keys, values = key[span.slot : span.slot + 1, :, :known], value[span.slot : span.slot + 1, :, :known]
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, span.start : span.end],
                keys,
                values,
                attn_mask=_continued(span, query.device) if span.past else None,
                dropout_p=dropout,
                is_causal=not span.past,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _continued(span: Span, device: torch.device) -> torch.Tensor:
    """Causal mask of new tokens that follow ``past`` old ones, ``(new, past + new)``."""
    new = span.end - span.start
    return torch.ones((new, span.past + new), dtype=torch.bool, device=device).tril(span.past)


AttentionInterface.register(NAME, span_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)

NO_MASK = torch.zeros((1, 1, 1, 1))
"""A mask that transformers hands on as it is, without building one; spans say what it would say."""
