"""A model behind an OpenAI-compatible server, for the engine: many requests at once, faults told apart."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vrag_agent.evaluation.journal import EvaluationError
from vrag_agent.evaluation.protocol import Conversation, Reply
from vrag_env.chat import ChatClient, image_part, text_part
from vrag_env.episode import Block, Image
from vrag_env.json_client import Unanswered

API_KEY_VARIABLE = "VRAG_POLICY_API_KEY"
"""Environment variable of the key; a name of its own, so that a key for one server never goes to another."""
_OF_THIS_REQUEST = frozenset({400, 413, 422})
"""What a server answers to a conversation that is too long or that it can not read; the next one may be fine."""


class ServerModel:
    """A model behind a server.

    A conversation that the server refuses (too long for its context, most often) gets an empty reply, which is an
    invalid turn and is counted in ``failed_calls``. A server that does not answer ends the run with an error; what has
    been played is kept, and the same command goes on from there.

    Args:
        url: Address up to before ``/chat/completions``, such as ``"http://localhost:8000/v1"``.
        name: The model's name there.
        max_tokens: Most tokens of a reply.
        temperature: 0 for the likeliest reply; else seeds are sent, which not every server heeds.
        concurrency: Most requests at once.
        timeout: Seconds for one request.
    """

    refills = True

    def __init__(
        self,
        url: str,
        name: str,
        *,
        max_tokens: int = 512,
        temperature: float = 0.0,
        concurrency: int = 32,
        timeout: float = 300.0,
    ) -> None:
        self.name, self.max_tokens, self.temperature = name, max_tokens, temperature
        self.client = ChatClient(
            url,
            name,
            api_key_variable=API_KEY_VARIABLE,
            max_tokens=max_tokens,
            parameters={"temperature": temperature},
            concurrency=concurrency,
            timeout=timeout,
            error=EvaluationError,
        )

    def settings(self) -> Mapping[str, Any]:
        """Name, longest reply and temperature."""
        return {"name": self.name, "max_tokens": self.max_tokens, "temperature": self.temperature}

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def reply(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[Reply]:
        """Continue conversations; see :class:`vrag_agent.evaluation.protocol.Model`.

        Raises:
            EvaluationError: If the server does not answer, or key, address or name are wrong.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(min(self.client.concurrency, len(conversations)), "vrag-model") as pool:
            waiting = [
                pool.submit(self._reply, conversation, seed, stop)
                for conversation, seed in zip(conversations, seeds, strict=True)
            ]
            try:
                return [future.result() for future in waiting]
            except BaseException:
                stop.set()
                for future in waiting:
                    future.cancel()
                raise

    def _reply(self, conversation: Conversation, seed: int, stop: threading.Event) -> Reply:
        parameters = {"seed": seed} if self.temperature > 0 else None
        try:
            found = self.client.ask(messages_of(conversation), stop, parameters)
        except Unanswered as fault:
            if fault.status in _OF_THIS_REQUEST:
                return Reply("", fault=str(fault))
            raise EvaluationError(
                f"{self.client!r} gave no reply: {fault}. What has been played is kept: start again when it answers"
            ) from fault
        fault_text = "" if found.text else "the model wrote nothing"
        # A server that does not tell the tokens reports none, which is not the same as zero.
        return Reply(found.text, found.prompt_tokens or None, found.completion_tokens or None, fault_text)


def messages_of(conversation: Conversation) -> list[dict[str, Any]]:
    """Write a conversation in OpenAI's form; images are PNGs of the very pixels."""
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    for message in conversation.messages:
        if message.role == "assistant":
            messages.append({"role": "assistant", "content": _plain(message.blocks)})
        else:
            messages.append({"role": "user", "content": [_part(block) for block in message.blocks]})
    return messages


def _part(block: Block) -> dict[str, Any]:
    return image_part(block.image) if isinstance(block, Image) else text_part(block.text)


def _plain(blocks: Sequence[Block]) -> str:
    return "".join(block.text for block in blocks if not isinstance(block, Image))
