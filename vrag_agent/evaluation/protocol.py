"""What a policy is to the engine: a script per episode that yields turns to take and conversations to answer.

A script is a generator that reads from top to bottom. It yields :class:`Turn` to act in the environment, which
gives it back the :class:`~vrag_env.episode.StepResult`, and :class:`Ask` to have a model continue a
conversation, which gives it back the text. The engine runs many scripts side by side and answers the same kind of
request together: one retrieval call, one call of the model.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vrag_env.episode import Block, Episode, EpisodeConfig, StepResult, Text
from vrag_env.players import make_player


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: ``"user"`` or ``"assistant"``.
        blocks: What it holds, in order; an assistant's message is one text.
    """

    role: str
    blocks: tuple[Block, ...]


@dataclass(eq=False)
class Conversation:
    """A conversation with a model; it only grows.

    Attributes:
        system: The system text; empty for none.
        messages: User and assistant in turn; the last one is the user's when the model is asked.
    """

    system: str = ""
    messages: list[Message] = field(default_factory=list)

    def user(self, *blocks: Block | str) -> Conversation:
        """Add a message of the user and return the conversation."""
        self.messages.append(Message("user", tuple(Text(b) if isinstance(b, str) else b for b in blocks)))
        return self

    def assistant(self, text: str) -> Conversation:
        """Add a message of the model and return the conversation."""
        self.messages.append(Message("assistant", (Text(text),)))
        return self


@dataclass(frozen=True)
class Turn:
    """A turn to take in the environment, in the grammar of :mod:`vrag_env.actions`."""

    text: str


@dataclass(frozen=True)
class Ask:
    """A conversation that a model is to continue; the engine adds the reply to it."""

    conversation: Conversation


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
        text: The text; empty where the model gave none.
        prompt_tokens: Tokens read; ``None`` where it is not known.
        completion_tokens: Tokens written; ``None`` where it is not known.
        fault: Why there is no text, in words; empty if there is one.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    fault: str = ""


Request = Turn | Ask
Script = Generator[Request, Any, None]


class Model(Protocol):
    """A language model that continues conversations.

    Attributes:
        refills: Whether conversations may join and leave at any time. If not, the engine plays fixed groups of
            episodes, so that what is sampled depends on the group alone and a killed run can be repeated.
    """

    refills: bool

    def reply(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[Reply]:
        """Continue conversations.

        Args:
            conversations: Each ends with a message of the user.
            seeds: One per conversation, for sampling; depends on seed, question and number of the call only.
        """
        ...

    def close(self) -> None:
        """Let go of connections and memory; it can still be used and then takes new ones."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """What a result depends on: name, temperature, longest reply. No address, no key, no path."""
        ...


class Policy(Protocol):
    """Plays episodes.

    Attributes:
        name: A short name for tables and files.
    """

    name: str

    @property
    def model(self) -> Model | None:
        """The model that its scripts ask; ``None`` if they ask none."""
        ...

    @property
    def sees_images(self) -> bool:
        """Whether it looks at pictures; they are not drawn for one that does not."""
        ...

    @property
    def crops(self) -> bool:
        """Whether the action of cutting out a region exists for it."""
        ...

    def rules(self, config: EpisodeConfig) -> EpisodeConfig:
        """Return the rules that it plays by, made from those of the environment."""
        ...

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Return the script of one episode, which runs until the episode has ended."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """What a result depends on besides the environment; can be written as JSON."""
        ...


class ScriptedPolicy:
    """A scripted player as a policy.

    Args:
        name: ``oracle``, ``random`` or ``retrieve_then_answer``.
        label: What tables call it; by default its name.
    """

    model = None
    sees_images = False
    crops = True

    def __init__(self, name: str, label: str = "") -> None:
        make_player(name)  # an unknown name is reported now
        self.player, self.name = name, label or name

    def rules(self, config: EpisodeConfig) -> EpisodeConfig:
        """Play by the environment's rules."""
        return config

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Let the player act until the end."""
        player = make_player(self.player, seed)
        while True:
            yield Turn(player.act(episode))

    def settings(self) -> Mapping[str, Any]:
        """Its name says it all."""
        return {"policy": self.name}
