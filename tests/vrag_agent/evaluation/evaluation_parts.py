"""What the tests of the evaluation share: a model that answers from a script, and the tiny corpus as a setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vrag_agent.evaluation.protocol import Conversation, Reply
from vrag_env.episode import Image


def text_of(conversation: Conversation) -> str:
    """All texts of a conversation, images as their size in brackets."""
    return "\n".join(
        f"{message.role}: "
        + " ".join(f"[{block.image.size}]" if isinstance(block, Image) else block.text for block in message.blocks)
        for message in conversation.messages
    )


class Told:
    """A model whose replies are a function of the conversation; keeps what it was asked, call by call."""

    def __init__(self, say: Callable[[Conversation], str], refills: bool = True) -> None:
        self.say, self.refills = say, refills
        self.calls: list[list[Conversation]] = []
        self.seeds: list[list[int]] = []

    def settings(self) -> Mapping[str, Any]:
        return {"name": "told"}

    def close(self) -> None:
        pass

    def reply(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[Reply]:
        self.calls.append(list(conversations))
        self.seeds.append(list(seeds))
        return [Reply(self.say(conversation), 10, 2) for conversation in conversations]


def one_after_the_other(*replies: str) -> Callable[[Conversation], str]:
    """Say the replies in turn, each conversation from the first."""
    return lambda talk: replies[min(sum(m.role == "assistant" for m in talk.messages), len(replies) - 1)]
