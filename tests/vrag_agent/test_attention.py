"""Attention over spans: each run of tokens sees itself and its own past, and nothing of its neighbours."""

from types import SimpleNamespace

import pytest
import torch

from vrag_agent.attention import Span, packed_spans, span_attention
from vrag_agent.kv_cache import SlotCache

HEADS, GROUPS, WIDTH = 4, 2, 8
MODULE = SimpleNamespace(num_key_value_groups=GROUPS, is_causal=True)


def tensors(tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of one row."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((1, HEADS, tokens, WIDTH), (1, HEADS // GROUPS, tokens, WIDTH), (1, HEADS // GROUPS, tokens, WIDTH))
    query, key, value = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return query, key, value


def by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Softmax attention with a mask, ``(1, T, heads, width)``."""
    key, value = (x.repeat_interleave(GROUPS, dim=1) for x in (key, value))
    scores = (query @ key.transpose(-1, -2) / WIDTH**0.5).masked_fill(~allowed, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def test_spans_are_laid_end_to_end() -> None:
    assert packed_spans([3, 1, 2]) == (Span(0, 3), Span(3, 4), Span(4, 6))


def test_packed_sequences_are_block_diagonal() -> None:
    lengths = [3, 1, 5]
    query, key, value = tensors(9)
    allowed = torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()
    out, _ = span_attention(MODULE, query, key, value, None, spans=packed_spans(lengths))
    torch.testing.assert_close(out, by_hand(query, key, value, allowed), rtol=0, atol=1e-12)


def test_a_cache_of_slots_gives_each_sequence_its_own_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sequences in other slots than their order, in two parts each, then one token each."""
    monkeypatch.setattr("vrag_agent.kv_cache.GROWTH", 1)
    cache = SlotCache(3, 1)
    whole = {2: tensors(7, 1), 0: tensors(6, 2)}  # by slot
    parts = {2: [(0, 4), (4, 6)], 0: [(0, 2), (2, 5)]}
    for number in (0, 1):
        spans, rows, start = [], [], 0
        for slot in (2, 0):
            first, last = parts[slot][number]
            spans.append(Span(start, start + last - first, slot, first))
            rows.append([x[:, :, first:last] for x in whole[slot]])
            start += last - first
        query, key, value = (torch.cat(x, dim=2) for x in zip(*rows, strict=True))
        cache.write_spans(spans, query.device)
        keys, values = cache.update(key, value, 0)
        out, _ = span_attention(MODULE, query, keys, values, None, spans=spans)
        for span, slot in zip(spans, (2, 0), strict=True):
            first, last = parts[slot][number]
            n = whole[slot][0].shape[2]
            expected = by_hand(*whole[slot], torch.ones(n, n, dtype=torch.bool).tril())[:, first:last]
            torch.testing.assert_close(out[:, span.start : span.end], expected, rtol=0, atol=1e-12)
    columns = torch.tensor([5, 0, 6])  # slot 1 is empty: its column is written and never read
    step = [whole[0][i][:, :, 5:6] for i in range(3)], tensors(1, 3), [whole[2][i][:, :, 6:7] for i in range(3)]
    query, key, value = (torch.cat([part[i] for part in step]) for i in range(3))
    cache.write_column(columns, 7)
    keys, values = cache.update(key, value, 0)
    assert keys.shape == (3, HEADS // GROUPS, 7, WIDTH)
    mask = (torch.arange(7) <= columns[:, None])[:, None, None]
    out, _ = span_attention(MODULE, query, keys, values, mask)
    for slot in (0, 2):
        n = whole[slot][0].shape[2]
        expected = by_hand(*whole[slot], torch.ones(n, n, dtype=torch.bool).tril())[:, -1]
        torch.testing.assert_close(out[slot], expected[0][None], rtol=0, atol=1e-12)
    cache.keep([2])
    assert cache.slots == 1
    cache.write_column(torch.tensor([6]), 7)
    assert torch.equal(cache.update(key[2:], value[2:], 0)[0], keys[2:])
