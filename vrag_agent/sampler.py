"""HFSampler: samples turns for many conversations at once and keeps the key-value cache between the turns.

A conversation is extended by segments; only new tokens and new images go through the model. The cache has one
column per fed token; conversations of different length leave holes, which the attention mask closes, and every
token carries explicit positions, so that holes do not count. The last sampled token of a turn is not in the
cache yet: it is fed first when the next segment comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Segment, check_images


@dataclass(frozen=True)
class Sampled:
    """One sampled action.

    Attributes:
        token_ids: As sampled; ends with the stop id unless it was cut.
        logprobs: Log-probability of each when it was sampled.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass
class _Row:
    """One conversation: every id so far, the grids of its images, what the cache holds and where it ends."""

    ids: list[int]
    grids: list[tuple[int, int, int]]
    fed: int
    last: torch.Tensor


class HFSampler:
    """Samples from a policy with a cache that lives as long as the sampler.

    Args:
        policy: The policy; must not be updated while the sampler is in use.
        rows: Number of conversations.
        generator: Source of randomness; ``None`` for greedy decoding.
    """

    def __init__(self, policy: VLMPolicy, rows: int, generator: torch.Generator | None = None) -> None:
        self.policy = policy
        self.family = policy.family
        self.generator = generator
        self._rows = [_Row([], [], 0, torch.empty(0)) for _ in range(rows)]
        self._cache = DynamicCache(config=policy.model.config)
        self._mask = torch.zeros((rows, 0), dtype=torch.long, device=policy.device)

    def __len__(self) -> int:
        return len(self._rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all conversations but these; they are numbered from 0 again, in the order given."""
        index = torch.tensor(rows, dtype=torch.long, device=self.policy.device)
        self._rows = [self._rows[row] for row in rows]
        self._mask = self._mask[index]
        self._cache.batch_select_indices(index)

    @torch.no_grad()
    def sample(self, segments: Sequence[Segment], max_tokens: int) -> list[Sampled]:
        """Append one segment to each conversation and sample an action for each.

        Args:
            segments: One prompt or observation per conversation.
            max_tokens: Most tokens of an action.

        Returns:
            One action per conversation, in the same order.

        Raises:
            ValueError: If there is not one segment per conversation, if ``max_tokens`` is below 1, or if the
                image tokens of a segment are not those of its images; nothing is appended then.
        """
        if len(segments) != len(self._rows):
            raise ValueError(f"{len(self._rows)} conversations, but {len(segments)} segments")
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        for segment in segments:
            check_images(segment, self.family.image_token_id)
        for row, segment in zip(self._rows, segments, strict=True):
            row.ids += segment.token_ids
            row.grids += [image.grid_thw for image in segment.images]
        logp = self._feed(segments)
        count = len(self._rows)
        ids: list[list[int]] = [[] for _ in range(count)]
        logprobs: list[list[float]] = [[] for _ in range(count)]
        running = torch.ones(count, dtype=torch.bool)
        for step in range(max_tokens):
            token = self._choose(logp)
            chosen = logp.gather(-1, token[:, None]).squeeze(-1)
            for place, (index, value) in enumerate(zip(token.tolist(), chosen.tolist(), strict=True)):
                if running[place]:
                    ids[place].append(index)
                    logprobs[place].append(value)
                    self._rows[place].ids.append(index)
                    running[place] = index != self.family.stop_id
            if not running.any() or step + 1 == max_tokens:
                break
            logp = self._feed(None, running)
        return [Sampled(tuple(i), tuple(v)) for i, v in zip(ids, logprobs, strict=True)]

    def _choose(self, logp: torch.Tensor) -> torch.Tensor:
        if self.generator is None:
            return logp.argmax(-1)
        probabilities = logp.exp().cpu()
        return torch.multinomial(probabilities, 1, generator=self.generator).squeeze(-1).to(logp.device)

    def _feed(self, segments: Sequence[Segment] | None, running: torch.Tensor | None = None) -> torch.Tensor:
        """Run what the cache does not hold yet; return the next token's log-probs, ``(rows, vocabulary)``."""
        family, device = self.family, self.policy.device
        live = [True] * len(self._rows) if running is None else running.tolist()
        new = [row.ids[row.fed :] if alive else [] for row, alive in zip(self._rows, live, strict=True)]
        width = max(len(ids) for ids in new)
        size = (len(new), width)
        input_ids = torch.full(size, family.pad_id, dtype=torch.long)
        mask = torch.zeros(size, dtype=torch.long)
        positions = torch.zeros((family.position_rows, *size), dtype=torch.long)
        for index, (row, ids) in enumerate(zip(self._rows, new, strict=True)):
            if ids:  # on the right, so that the last column holds the last token of every row
                input_ids[index, width - len(ids) :] = torch.tensor(ids)
                mask[index, width - len(ids) :] = 1
                if segments is None:  # one sampled token: text, one step after the token before it
                    row.last = row.last + 1
                    positions[:, index, -1] = row.last
                else:
                    positions[:, index, width - len(ids) :] = self._positions(row)
                    row.last = positions[:, index, -1]
                row.fed = len(row.ids)
        self._mask = torch.cat([self._mask, mask.to(device)], dim=1)
        images = [image for segment in segments or () for image in segment.images]
        hidden = self.policy.model.model(
            input_ids=input_ids.to(device),
            attention_mask=self._mask,
            position_ids=positions.to(device),
            past_key_values=self._cache,
            pixel_values=torch.cat([i.pixel_values for i in images]).to(device) if images else None,
            image_grid_thw=torch.tensor([i.grid_thw for i in images]).to(device) if images else None,
            use_cache=True,
        ).last_hidden_state
        return self.policy.log_distribution(hidden[:, -1])

    def _positions(self, row: _Row) -> torch.Tensor:
        """Positions of the ids that the cache does not hold yet."""
        return self.family.positions(row.ids, row.grids)[:, row.fed :]
