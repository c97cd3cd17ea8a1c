"""The client of a chat model against a real server; faults of the HTTP level are in ``rewards/test_api_judge.py``."""

from __future__ import annotations

import base64
import io
import json
import pickle
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from chat_server import ChatServer, Reply
from PIL import Image as PILImage

from vrag_env.chat import ChatClient, ChatReply, conversation, image_part
from vrag_env.episode import Episode, Image
from vrag_env.errors import ServerError
from vrag_env.json_client import JSONClient, Unanswered, Usage


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VRAG_TEST_KEY", raising=False)
    running = ChatServer()
    yield running
    running.close()


@pytest.fixture
def client(server: ChatServer) -> Iterator[ChatClient]:
    made = ChatClient(server.url, "m", api_key_variable="VRAG_TEST_KEY", backoff=0.01, max_retries=2)
    yield made
    made.close()


HELLO = [{"role": "user", "content": "Hello"}]


def test_a_reply_and_what_it_cost(server: ChatServer, client: ChatClient) -> None:
    server.replies(Reply("Hi."), Reply("Hi th", finish="length"))
    assert client.ask(HELLO) == ChatReply("Hi.", False, 100, 7)
    assert client.ask(HELLO, parameters={"seed": 5, "temperature": 1.0}).cut_off
    first, second = server.bodies
    assert first == {
        "path": "/v1/chat/completions",
        "model": "m",
        "messages": HELLO,
        "temperature": 0,
        "max_tokens": 1024,
    }
    assert (second["seed"], second["temperature"]) == (5, 1.0)
    assert client.usage == Usage(requests=2, retries=0, prompt_tokens=200, completion_tokens=14)
    assert client.usage.cost(2.0, 10.0) == pytest.approx(200 * 2e-6 + 14 * 10e-6)


def test_tries_are_counted_and_end(server: ChatServer, client: ChatClient) -> None:
    server.replies(Reply(status=503, body=b"busy"), Reply(body=b'{"choices": ['), Reply())
    assert client.ask(HELLO).text == "Hello."
    assert (client.usage.requests, client.usage.retries) == (3, 2)
    server.replies(Reply(status=503, body=b"busy"))
    with pytest.raises(Unanswered, match=r"503 'busy' \(3 tries\)") as caught:
        client.ask(HELLO)
    assert (caught.value.status, caught.value.tries) == (503, 3)


def test_a_set_stop_sends_nothing(server: ChatServer, client: ChatClient) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unanswered):
        client.ask(HELLO, stop)
    assert server.bodies == []


def test_a_wrong_address_is_an_error_of_the_asked_class_and_stops_the_others(
    server: ChatServer, client: ChatClient
) -> None:
    server.replies(Reply(status=404, body=b"no such model"))
    stop = threading.Event()
    with pytest.raises(ServerError, match="no such model"):
        client.ask(HELLO, stop)
    assert stop.is_set()


def test_any_path_and_any_reading(server: ChatServer) -> None:
    root = JSONClient(server.url.removesuffix("/v1"), "key", api_key_variable="VRAG_TEST_KEY", max_body_bytes=100)
    server.replies(Reply(body=b"Success"))
    assert root.post("/v1/load_lora_adapter", {"lora_name": "a"}, bytes.decode) == "Success"
    assert server.bodies[0] == {"path": "/v1/load_lora_adapter", "lora_name": "a"}
    assert server.headers[0]["Authorization"] == "Bearer key"
    again: JSONClient = pickle.loads(pickle.dumps(root))
    again.post("/x", {}, bytes.decode)
    assert "Authorization" not in server.headers[1]  # a pickle holds no key
    root.close()
    again.close()


def test_an_episode_as_a_conversation(make_episode: Callable[..., Episode]) -> None:
    episode = make_episode("amber-revenue")
    search = "<think>I look.</think><search>Amber Falcon revenue ambrosia</search>"
    shown = [block for block in episode.step_text(search).blocks if isinstance(block, Image)]
    episode.step_text("no action")
    messages = conversation(episode)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == episode.instructions
    assert messages[1]["content"] == [{"type": "text", "text": f"Question: {episode.question.text}"}]
    assert (messages[2]["content"], messages[4]["content"]) == (search, "no action")
    picture, size = messages[3]["content"]
    assert size == {"type": "text", "text": "Image 1: 728 x 532."}
    assert picture == image_part(shown[0].image)
    sent = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(PILImage.open(io.BytesIO(sent))), np.asarray(shown[0].image))
    [refused] = messages[5]["content"]
    assert refused["text"].startswith("Invalid turn:")


def test_a_conversation_holds_no_gold(make_episode: Callable[..., Episode]) -> None:
    episode = make_episode("north-sum")
    episode.step_text("<think>I look.</think><search>badminton</search>")
    written = json.dumps([*conversation(episode, system="Play."), episode.turns[0].message])
    assert episode.question.answer not in written
    assert not any(page in written for page in episode.question.gold_pages)
    assert conversation(episode, system="")[0]["role"] == "user"


def test_an_answer_ends_the_conversation(make_episode: Callable[..., Episode]) -> None:
    episode = make_episode()
    episode.step_text("<think>I know.</think><answer>42.5</answer>")
    assert conversation(episode)[-1] == {"role": "assistant", "content": "<think>I know.</think><answer>42.5</answer>"}
