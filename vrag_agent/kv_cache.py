"""SlotCache: keys and values of many conversations, each in a slot of its own, written in place.

The cache of transformers grows by concatenation: it copies all keys and values at every token, and its rows grow
together. Here each conversation has a row of a buffer and fills it from the left; conversations come, grow and go
on their own, and a token costs the writing of one column.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vrag_agent.attention import Span

GROWTH = 256
"""The buffers grow by at least this many columns, and by half of what they have."""


class SlotCache:
    """What a transformers model calls as its ``past_key_values``.

    Args:
        slots: Conversations at the same time.
        layers: Of the language model.
    """

    def __init__(self, slots: int, layers: int) -> None:
        self.slots = slots
        self.columns = 0
        self._keys: list[torch.Tensor | None] = [None] * layers
        self._values: list[torch.Tensor | None] = [None] * layers
        self._rows = self._at = torch.empty(0, dtype=torch.long)
        self._width: int | None = None

    def write_spans(self, spans: Sequence[Span], device: torch.device) -> None:
        """Announce a pass over new tokens of some conversations, one behind the other in one row."""
        counts = [span.end - span.start for span in spans]
        self._reserve(max(span.past + count for span, count in zip(spans, counts, strict=True)))
        rows = [span.slot for span in spans for _ in range(span.end - span.start)]
        columns = [span.past + i for span, count in zip(spans, counts, strict=True) for i in range(count)]
        self._rows, self._at = torch.tensor(rows, device=device), torch.tensor(columns, device=device)
        self._width = None

    def write_column(self, columns: torch.Tensor, width: int) -> None:
        """Announce a pass over one new token of every conversation.

        Args:
            columns: ``(slots,)`` where the token of each goes.
            width: Columns that are read afterwards.
        """
        self._reserve(width)
        self._rows, self._at = torch.arange(self.slots, device=columns.device), columns
        self._width = width

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the keys and values of a layer as announced; called by the model.

        Args:
            keys: ``(1, heads, T, dim)`` after :meth:`write_spans`, ``(slots, heads, 1, dim)`` after
                :meth:`write_column`.
            values: As ``keys``.
            layer: Which.
            *args: Nothing that matters here.
            **kwargs: Nothing that matters here.

        Returns:
            Keys and values of all slots, ``(slots, heads, columns, dim)``.
        """
        out = []
        for buffers, new in ((self._keys, keys), (self._values, values)):
            buffer = self._grown(buffers[layer], new)
            buffers[layer] = buffer
            flat = new[0].transpose(0, 1) if self._width is None else new[:, :, 0]  # (tokens, heads, dim)
            buffer[self._rows, :, self._at] = flat
            out.append(buffer if self._width is None else buffer[:, :, : self._width])
        return out[0], out[1]

    def keep(self, slots: Sequence[int]) -> None:
        """Keep only these slots, numbered from 0 in the order given."""
        self.slots = len(slots)
        for buffers in (self._keys, self._values):
            for layer, buffer in enumerate(buffers):
                if buffer is not None:
                    buffers[layer] = buffer[torch.tensor(slots, dtype=torch.long, device=buffer.device)]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns of the buffers; part of what transformers expects of a cache."""
        return self.columns

    def _reserve(self, columns: int) -> None:
        if columns > self.columns:
            self.columns = max(columns, self.columns + max(GROWTH, self.columns // 2))

    def _grown(self, buffer: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        if buffer is not None and buffer.shape[2] >= self.columns:
            return buffer
        # Zeros, since masked columns are multiplied by zero and memory as it comes may hold NaN.
        larger = like.new_zeros((self.slots, like.shape[1], self.columns, like.shape[3]))
        if buffer is not None:
            larger[:, :, : buffer.shape[2]] = buffer
        return larger
