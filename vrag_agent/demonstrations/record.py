"""Demonstration: one finished episode as a conversation, independent of any model's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vrag_env.errors import DemonstrationError

ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Part:
    """A piece of a message.

    Attributes:
        kind: ``text`` or ``image``.
        value: The text, or the hash of the image in the store.
    """

    kind: str
    value: str

    def __post_init__(self) -> None:
        if self.kind not in ("text", "image"):
            raise ValueError(f"a part is text or image, got {self.kind!r}")


@dataclass(frozen=True)
class Message:
    """What one side said.

    Attributes:
        role: ``user`` (the environment) or ``assistant`` (the expert).
        parts: In order; the assistant writes exactly one text.
    """

    role: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"a role is one of {ROLES}, got {self.role!r}")
        if self.role == "assistant" and [part.kind for part in self.parts] != ["text"]:
            raise ValueError("the assistant writes exactly one text")

    @property
    def text(self) -> str:
        """All its text."""
        return "".join(part.value for part in self.parts if part.kind == "text")

    @property
    def images(self) -> list[str]:
        """Hashes of its images."""
        return [part.value for part in self.parts if part.kind == "image"]


@dataclass(frozen=True)
class Demonstration:
    """One episode of an expert.

    Attributes:
        question_id: What was asked.
        expert: Who played, such as ``oracle`` or ``api:MODEL``.
        attempt: Number of the try at this question, from 0.
        system: The environment's instructions.
        messages: The question, then the expert's turns and what came back, in turn; ends with the expert's last.
        box_frame: Frame of the boxes in the expert's turns, see :class:`vrag_env.episode.EpisodeConfig`.
        rewards: Reward of each turn.
        reward_terms: Terms of the reward at the end.
        is_success: Whether the answer was judged right.
        answered: Whether the episode ended with an answer.
        searches: Number of searches that were executed.
        crops: Number of crops that were executed.
        invalid: Number of invalid turns.
        leak: Whether the expert was shown pages by the gold list.
        rejected: Why it is not to be imitated; empty if it is.
        requests: Requests to models that it took.
        prompt_tokens: Tokens that they read.
        completion_tokens: Tokens that they wrote.
    """

    question_id: str
    expert: str
    attempt: int
    system: str
    messages: tuple[Message, ...]
    box_frame: str = "pixel"
    rewards: tuple[float, ...] = ()
    reward_terms: tuple[tuple[str, float], ...] = ()
    is_success: bool = False
    answered: bool = False
    searches: int = 0
    crops: int = 0
    invalid: int = 0
    leak: bool = False
    rejected: str = ""
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        roles = [message.role for message in self.messages]
        if len(roles) < 2 or roles != ["user", "assistant"] * (len(roles) // 2):
            raise ValueError(f"a demonstration has user and assistant in turn and ends with the assistant, got {roles}")

    @property
    def turns(self) -> int:
        """Number of the expert's turns."""
        return len(self.messages) // 2

    @property
    def images(self) -> list[str]:
        """Hashes of all images in the order in which they were shown."""
        return [image for message in self.messages for image in message.images]

    def to_record(self) -> dict[str, Any]:
        """Return plain data, for JSON and Parquet; :meth:`from_record` reads it back."""
        record = asdict(self)
        record["messages"] = [
            {"role": m.role, "content": [{"type": p.kind, p.kind: p.value} for p in m.parts]} for m in self.messages
        ]
        record["rewards"] = list(self.rewards)
        record["reward_terms"] = [{"name": name, "value": value} for name, value in self.reward_terms]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Demonstration:
        """Read what :meth:`to_record` wrote.

        Raises:
            DemonstrationError: If it is something else.
        """
        try:
            values = {field.name: record[field.name] for field in fields(cls)}
            values["messages"] = tuple(
                Message(m["role"], tuple(Part(p["type"], str(p[p["type"]])) for p in m["content"]))
                for m in record["messages"]
            )
            values["rewards"] = tuple(float(value) for value in record["rewards"])
            values["reward_terms"] = tuple((t["name"], float(t["value"])) for t in record["reward_terms"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise DemonstrationError(
                f"this is no demonstration ({type(error).__name__}: {error}): collect it again with vrag collect"
            ) from error
