"""HFSampler: samples the turns of many conversations, each at its own pace, with a cache that spans the turns.

A conversation is extended by segments; only new tokens and new images go through the model. Conversations are
independent of each other: one that has finished its action can be extended, or leave and make room for another,
while the others go on, and each draws from its own generator, so that what it writes does not depend on which
others are there (up to the rounding of the kernels, which differ with the size of a batch). The last sampled token
of a turn is not in the cache yet: it is fed first when the next segment comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from vrag_agent.attention import Span
from vrag_agent.kv_cache import SlotCache
from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import ImageInput, Segment, check_images


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
class _Conversation:
    """Every id so far, the images, how much the cache holds, and the action that is being written."""

    slot: int
    generator: torch.Generator | None
    ids: list[int] = field(default_factory=list)
    grids: list[tuple[int, int, int]] = field(default_factory=list)
    fed: int = 0
    position: int = 0
    limit: int = 0
    action: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)


class HFSampler:
    """Samples from a policy with a cache that lives as long as the sampler.

    Args:
        policy: The policy; must not be updated while the sampler is in use.
        rows: Most conversations at the same time.
    """

    def __init__(self, policy: VLMPolicy, rows: int) -> None:
        self.policy = policy
        self.family = policy.family
        self._free = list(range(rows - 1, -1, -1))
        self._open: dict[int, _Conversation] = {}
        self._running: dict[int, _Conversation] = {}
        self._finished: dict[int, Sampled] = {}
        self._cache = SlotCache(rows, policy.model.config.get_text_config().num_hidden_layers)
        self._next = 0

    def __len__(self) -> int:
        """Conversations that are open."""
        return len(self._open)

    @property
    def room(self) -> int:
        """Conversations that can be opened now."""
        return len(self._free)

    def open(self, generator: torch.Generator | None = None) -> int:
        """Begin a conversation.

        Args:
            generator: Its source of randomness, used by nobody else; ``None`` for greedy decoding.

        Returns:
            Its number.

        Raises:
            ValueError: If there is no room.
        """
        if not self._free:
            raise ValueError(f"all {self._cache.slots} rows are taken: close a conversation first")
        number = self._next
        self._next += 1
        self._open[number] = _Conversation(self._free.pop(), generator)
        return number

    def close(self, number: int) -> None:
        """End a conversation and free its row."""
        self._free.append(self._open.pop(number).slot)
        self._running.pop(number, None)
        self._finished.pop(number, None)

    @torch.no_grad()
    def extend(self, segments: Mapping[int, Segment], max_tokens: int) -> None:
        """Append a segment to each of some conversations and begin their next actions.

        Args:
            segments: One prompt or observation per conversation, by its number.
            max_tokens: Most tokens of an action.

        Raises:
            ValueError: If a conversation is not open or still writes its action, if ``max_tokens`` is below 1, or
                if the image tokens of a segment are not those of its images; nothing is appended then.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        for number, segment in segments.items():
            if number not in self._open or number in self._running or number in self._finished:
                raise ValueError(f"conversation {number} is not waiting for a segment")
            check_images(segment, self.family.image_token_id)
        ids: list[int] = []
        positions: list[torch.Tensor] = []
        images: list[ImageInput] = []
        spans: list[Span] = []
        begun = [self._open[number] for number in segments]
        for conversation, segment in zip(begun, segments.values(), strict=True):
            conversation.ids += segment.token_ids
            conversation.grids += [image.grid_thw for image in segment.images]
            new = conversation.ids[conversation.fed :]
            spans.append(Span(len(ids), len(ids) + len(new), conversation.slot, conversation.fed))
            placed = self.family.positions(conversation.ids, conversation.grids)[:, conversation.fed :]
            ids += new
            positions.append(placed)
            images += segment.images
            conversation.fed = len(conversation.ids)
            conversation.position = int(placed[-1, -1])
            conversation.limit = max_tokens
            conversation.action, conversation.logprobs = [], []
            if conversation.generator is not None:
                # All numbers of an action at once: as many, whatever the length of the action will be.
                draws = torch.rand(max_tokens, generator=conversation.generator, dtype=torch.float64)
                conversation.draws = draws.tolist()
        if not begun:
            return
        device = self.policy.device
        self._cache.write_spans(spans, device)
        hidden = self.policy.hidden(
            torch.tensor([ids], device=device),
            torch.cat(positions, dim=1)[:, None].to(device),
            images,
            spans=spans,
            cache=self._cache,
        )[0]
        last = hidden[[span.end - 1 for span in spans]]
        self._running.update((number, self._open[number]) for number in segments)
        self._write(dict(zip(segments, begun, strict=True)), self.policy.log_distribution(last))

    @torch.no_grad()
    def run(self, enough: int = 1) -> dict[int, Sampled]:
        """Sample until some conversations have finished their actions.

        Args:
            enough: Return when so many have; fewer where no more are running.

        Returns:
            The finished actions by number of conversation, in the order in which they were opened.
        """
        while self._running and len(self._finished) < enough:
            self._write(self._running, self._step())
        done = dict(sorted(self._finished.items()))
        self._finished.clear()
        return done

    def _step(self) -> torch.Tensor:
        """Feed the last token of every running conversation; return ``(running, vocabulary)`` log-probs.

        All rows of the cache take part, so that no part of it is copied; those that do not run write into the first
        column that they do not use, and nobody reads what comes out.
        """
        device = self.policy.device
        slots = self._cache.slots
        columns, ids, positions = [0] * slots, [self.family.pad_id] * slots, [0] * slots
        for conversation in self._open.values():
            columns[conversation.slot] = conversation.fed
        for conversation in self._running.values():
            conversation.position += 1  # a sampled token is text: one step after the token before it
            conversation.fed += 1
            ids[conversation.slot] = conversation.ids[-1]
            positions[conversation.slot] = conversation.position
        at = torch.tensor(columns, device=device)
        width = max(columns) + 1
        self._cache.write_column(at, width)
        mask = torch.arange(width, device=device) <= at[:, None]  # (slots, width)
        # Row 0 counts tokens where a family has several rows, and is read by nothing but the making of masks.
        placed = torch.tensor(positions, device=device).expand(self.family.position_rows, -1)[..., None]
        hidden = self.policy.hidden(
            torch.tensor(ids, device=device)[:, None], placed, [], mask=mask[:, None, None], cache=self._cache
        )
        return self.policy.log_distribution(hidden[[c.slot for c in self._running.values()], -1])

    def _write(self, conversations: Mapping[int, _Conversation], logp: torch.Tensor) -> None:
        """Append a token to each conversation; ``logp`` is ``(conversations, vocabulary)`` in their order."""
        tokens = self._choose(list(conversations.values()), logp)
        chosen = logp.gather(-1, tokens[:, None]).squeeze(-1)
        for (number, conversation), token, value in zip(
            list(conversations.items()), tokens.tolist(), chosen.tolist(), strict=True
        ):
            conversation.ids.append(token)
            conversation.action.append(token)
            conversation.logprobs.append(value)
            if token == self.family.stop_id or len(conversation.action) == conversation.limit:
                del self._running[number]
                self._finished[number] = Sampled(tuple(conversation.action), tuple(conversation.logprobs))

    def _choose(self, conversations: list[_Conversation], logp: torch.Tensor) -> torch.Tensor:
        """Draw from each distribution with the next number of the conversation's own generator."""
        if all(conversation.generator is None for conversation in conversations):
            return logp.argmax(-1)
        draws = [c.draws[len(c.action)] if c.generator is not None else 0.0 for c in conversations]
        cumulative = logp.to(torch.float64).exp().cumsum(-1)
        total = cumulative[:, -1:]
        # The first token whose cumulative probability is above the draw: one of probability zero is never that.
        draw = torch.tensor(draws, dtype=torch.float64, device=logp.device)[:, None] * total
        draw = draw.minimum(torch.nextafter(total, torch.zeros_like(total)))
        tokens = torch.searchsorted(cumulative, draw, right=True).squeeze(-1)
        greedy = torch.tensor([c.generator is None for c in conversations], device=logp.device)
        return torch.where(greedy, logp.argmax(-1), tokens)

    def trim(self) -> None:
        """Give up the free rows: no more conversations will come than are open."""
        kept = list(self._open.values())
        self._cache.keep([conversation.slot for conversation in kept])
        for slot, conversation in enumerate(kept):
            conversation.slot = slot
        self._free = []
