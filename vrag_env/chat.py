"""ChatClient: a model behind OpenAI's chat completions (vLLM, SGLang, llama.cpp, Ollama, hosted APIs).

:func:`conversation` writes an episode as messages for such a model, images included.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrag_env.errors import ServerError, VRAGError
from vrag_env.json_client import JSONClient

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from vrag_env.episode import Episode

Message = dict[str, Any]
"""``{"role": ..., "content": text or list of parts}``."""

_PATH = "/chat/completions"
_RESERVED = ("model", "messages", "stream", "n")


@dataclass(frozen=True)
class ChatReply:
    """One reply of a model.

    Attributes:
        text: What it wrote; empty if it refused, called a tool, or used all its tokens on a hidden thought.
        cut_off: Whether it came to the end of its tokens.
        prompt_tokens: Tokens that it read, if the server tells; else 0.
        completion_tokens: Tokens that it wrote, if the server tells; else 0.
    """

    text: str
    cut_off: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatClient(JSONClient):
    """Asks one model for one reply at a time; :class:`~vrag_env.json_client.JSONClient` says how it is sent.

    Args:
        base_url: Address up to before ``/chat/completions``, such as ``"http://localhost:8000/v1"``.
        model: The model's name there.
        api_key: See :class:`~vrag_env.json_client.JSONClient`.
        max_tokens: Most tokens of a reply; a model that thinks first needs more.
        parameters: Further fields of the request, which replace the defaults ``temperature=0`` and
            ``max_tokens``; ``None`` as a value leaves a field out.
        error: See :class:`~vrag_env.json_client.JSONClient`.
        options: The other arguments of :class:`~vrag_env.json_client.JSONClient`.

    Raises:
        DependencyError: If httpx is not installed (extra ``serve``).
        VRAGError: Of class ``error``, if an argument does not fit.

    Example:
        >>> client = ChatClient("http://localhost:8000/v1", "Qwen/Qwen2.5-VL-7B-Instruct")  # doctest: +SKIP
        >>> client.ask([{"role": "user", "content": "Hello"}]).text  # doctest: +SKIP
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        api_key_variable: str,
        max_tokens: int = 1024,
        parameters: Mapping[str, Any] | None = None,
        error: type[VRAGError] = ServerError,
        **options: Any,
    ) -> None:
        super().__init__(base_url, api_key, api_key_variable=api_key_variable, error=error, **options)
        if not isinstance(model, str) or not model.strip():
            raise error(f"the name of a model is needed, got {model!r}")
        self.base_url = self.base_url.removesuffix(_PATH)
        self.model = model
        wrong = sorted(set(parameters or {}) & set(_RESERVED))
        if wrong:
            raise error(f"parameters can not hold {', '.join(wrong)}: they are set for every request")
        fields = {"temperature": 0, "max_tokens": max_tokens, **(parameters or {})}
        self.parameters = {name: value for name, value in fields.items() if value is not None}
        try:
            json.dumps(self.parameters)
        except (TypeError, ValueError) as fault:
            raise error(f"parameters must be something that JSON can hold: {fault}") from fault

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, {self.model!r})"

    def ask(
        self,
        messages: Sequence[Message],
        stop: threading.Event | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> ChatReply:
        """Ask for one reply; its tokens are added to :attr:`usage`.

        Args:
            messages: The conversation so far.
            stop: See :meth:`~vrag_env.json_client.JSONClient.post`.
            parameters: Fields of this request alone, such as a seed.

        Raises:
            Unanswered: If there is no usable reply after all tries.
            VRAGError: Of the client's class ``error``, if key, address or model are wrong.
        """
        body = {"model": self.model, "messages": list(messages), **self.parameters, **(parameters or {})}
        reply = self.post(_PATH, body, _read, "a chat completion", stop)
        self._count(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        return reply


def _read(body: bytes) -> ChatReply:
    """Take the text out of a reply, and its tokens."""
    reply = json.loads(body)
    choice = reply["choices"][0]
    content, cut_off = choice["message"]["content"], choice.get("finish_reason") == "length"
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    tokens = [counts.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (count if type(count) is int and count >= 0 else 0 for count in tokens)
    return ChatReply(content if isinstance(content, str) else "", cut_off, read, written)


def text_part(text: str) -> dict[str, Any]:
    """Write a text as a part of a message."""
    return {"type": "text", "text": text}


def image_part(image: PILImage.Image) -> dict[str, Any]:
    """Write an image as a part of a message: a PNG, so that the model is sent the very pixels, in a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def conversation(episode: Episode, system: str | None = None) -> list[Message]:
    """Write what has happened in an episode as a conversation that ends where the next action begins.

    The agent's own words are the assistant's turns as it wrote them; pages, crops and messages of the
    environment are the user's. Nothing of the question but its text is in it.

    Args:
        episode: A started episode.
        system: The system text; by default the instructions of the environment.
    """
    messages: list[Message] = []
    text = episode.instructions if system is None else system
    if text:
        messages.append({"role": "system", "content": text})
    messages.append({"role": "user", "content": [text_part(f"Question: {episode.question.text}")]})
    for turn in episode.turns:
        messages.append({"role": "assistant", "content": turn.text})
        parts = [image_part(episode.image(view)) for view in turn.views]
        parts += [text_part(turn.message)] if turn.message else []
        if parts:  # none after an answer
            messages.append({"role": "user", "content": parts})
    return messages
