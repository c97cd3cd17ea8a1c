"""A transformers model in this process, for the engine: any family that can be trained, with or without an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vrag_agent.evaluation.protocol import Conversation, Reply
from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import HFSampler
from vrag_agent.trajectory import Segment
from vrag_env.episode import Image


@dataclass(eq=False)
class _Known:
    """A conversation that the sampler holds: its number there, how many messages, the last reply, all its tokens."""

    conversation: Conversation
    number: int
    messages: int
    ids: tuple[int, ...]
    tokens: int


class LocalModel:
    """A model that samples with a key-value cache as long as conversations go on where they left off.

    A conversation that continues one of the call before is only extended, by the exact ids that were sampled. Any
    other one is written from the beginning, replies included. Each draws from a generator of its own.

    Args:
        policy: The model; put into evaluation mode.
        name: Its name in results.
        max_tokens: Most tokens of a reply.
        temperature: 0 for the likeliest reply.
    """

    # Kernels round differently for other sizes of a batch: fixed groups give the same replies after a kill.
    refills = False

    def __init__(self, policy: VLMPolicy, name: str, *, max_tokens: int = 512, temperature: float = 0.0) -> None:
        self.policy, self.name = policy.eval(), name
        self.max_tokens, self.temperature = max_tokens, temperature
        if temperature > 0:
            policy.temperature = temperature
        self._sampler: HFSampler | None = None
        self._known: dict[int, _Known] = {}

    def settings(self) -> Mapping[str, Any]:
        """Name, longest reply and temperature."""
        return {"name": self.name, "max_tokens": self.max_tokens, "temperature": self.temperature}

    def close(self) -> None:
        """Forget all conversations, and free their cache."""
        self._sampler, self._known = None, {}

    def reply(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[Reply]:
        """Continue conversations; see :class:`vrag_agent.evaluation.protocol.Model`."""
        sampler = self._room_for(conversations)
        family = self.policy.family
        segments: dict[int, Segment] = {}
        for conversation, seed in zip(conversations, seeds, strict=True):
            known = self._known.get(id(conversation))
            if known is None:
                generator = torch.Generator().manual_seed(seed) if self.temperature > 0 else None
                known = _Known(conversation, sampler.open(generator), 0, (), 0)
                self._known[id(conversation)] = known
                segment = self._written(conversation)
            else:
                segment = family.observation(conversation.messages[-1].blocks, known.ids)
            known.tokens += len(segment.token_ids)
            segments[known.number] = segment
        sampler.extend(segments, self.max_tokens)
        sampled = sampler.run(len(segments))
        replies = []
        for conversation in conversations:
            known = self._known[id(conversation)]
            ids = sampled[known.number].token_ids
            replies.append(Reply(family.decode(ids), known.tokens, len(ids)))
            known.messages, known.ids, known.tokens = len(conversation.messages) + 1, ids, known.tokens + len(ids)
        return replies

    def _room_for(self, conversations: Sequence[Conversation]) -> HFSampler:
        """Return a sampler with room, which holds no conversation but those of this call that have gone on."""
        going_on = {
            id(conversation)
            for conversation in conversations
            if (known := self._known.get(id(conversation))) is not None
            and len(conversation.messages) == known.messages + 1
        }
        rows = 0 if self._sampler is None else len(self._sampler) + self._sampler.room
        if self._sampler is None or rows < len(conversations):
            self._sampler, self._known = HFSampler(self.policy, len(conversations)), {}
            return self._sampler
        for key in self._known.keys() - going_on:
            self._sampler.close(self._known.pop(key).number)
        if len(going_on) == len(conversations) and 2 * len(conversations) <= rows:
            self._sampler.trim()  # empty rows are computed, too
        return self._sampler

    def _written(self, conversation: Conversation) -> Segment:
        """Write a whole conversation as one segment that ends where the reply begins."""
        family = self.policy.family
        first, *others = conversation.messages
        merged = family.prompt(conversation.system, first.blocks)
        for said, heard in zip(others[::2], others[1::2], strict=True):
            text = "".join(block.text for block in said.blocks if not isinstance(block, Image))
            action = family.action(text)
            merged = _joined(merged, action, family.observation(heard.blocks, action))
        return merged


def _joined(first: Segment, action: tuple[int, ...], second: Segment) -> Segment:
    shift = len(first.token_ids) + len(action)
    moved = tuple(replace(image, start=image.start + shift) for image in second.images)
    return Segment("prompt", (*first.token_ids, *action, *second.token_ids), images=(*first.images, *moved))
