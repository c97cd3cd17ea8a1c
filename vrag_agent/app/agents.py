"""Who can play in the web page, by the name that ``vrag eval --policy`` takes."""

from __future__ import annotations

import re
import threading

from vrag_env.chat import ChatClient, conversation
from vrag_env.episode import Episode
from vrag_env.errors import VRAGError
from vrag_env.players import Player, make_player

API = re.compile(r"api:(?P<model>[^@]+)@(?P<url>https?://.+)")
KEY_VARIABLE = "VRAG_API_KEY"


class ChatPlayer:
    """A model behind OpenAI's protocol.

    Args:
        client: Asks it.
    """

    def __init__(self, client: ChatClient) -> None:
        self.client = client

    def act(self, episode: Episode) -> str:
        """Return what the model says next."""
        return self.client.ask(conversation(episode)).text


class LocalPlayer:
    """A transformers model in this process; it plays one turn at a time, whoever asks.

    Every turn is computed from the whole conversation, since a person may have taken over in between.

    Args:
        name: A checkpoint's directory or a model's name.
    """

    def __init__(self, name: str) -> None:
        from vrag_agent.checkpoint import load_policy, read_settings

        self.settings = read_settings(name)
        self.policy = load_policy(name).eval()
        self._lock = threading.Lock()

    def act(self, episode: Episode) -> str:
        """Return what the model writes next, decoded greedily."""
        from vrag_agent.evaluation.local import LocalModel
        from vrag_agent.evaluation.protocol import Conversation
        from vrag_env.episode import Block, Image, Text

        talk = Conversation(episode.instructions if self.policy.system is None else self.policy.system)
        talk.user(Text(f"Question: {episode.question.text}"))
        for turn in episode.turns:
            blocks: list[Block] = [Image(episode.image(view), view) for view in turn.views]
            talk.assistant(turn.text)
            talk.user(*blocks, *([Text(turn.message)] if turn.message else []))
        model = LocalModel(self.policy, "local", max_tokens=self.settings.get("max_tokens", 512))
        with self._lock:
            return model.reply([talk], [0])[0].text


def make_agent(spec: str) -> Player:
    """Make an agent of its name.

    Args:
        spec: ``oracle``, ``random``, ``retrieve_then_answer``, a checkpoint's directory, a model's name, or
            ``api:MODEL@URL`` for a model behind OpenAI's protocol.

    Raises:
        VRAGError: If there is no such agent, or it can not be loaded.
    """
    match = API.fullmatch(spec)
    if match is not None:
        return ChatPlayer(ChatClient(match["url"], match["model"], api_key_variable=KEY_VARIABLE))
    if spec.startswith("api:"):
        raise VRAGError(
            f"expected api:MODEL@URL, such as api:Qwen/Qwen2.5-VL-7B-Instruct@http://localhost:8000/v1, got {spec!r}"
        )
    if "/" in spec or spec.startswith("."):
        return LocalPlayer(spec)
    return make_player(spec)
