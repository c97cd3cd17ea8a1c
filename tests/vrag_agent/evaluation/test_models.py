"""The models of the engine: a real tiny one here, and a real HTTP server."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import ChatServer
from chat_server import Reply as ServerReply
from PIL import Image as PILImage

from vrag_agent import tiny
from vrag_agent.commands import make_env
from vrag_agent.evaluation.journal import EPISODES, EvaluationError, read_lines
from vrag_agent.evaluation.local import LocalModel
from vrag_agent.evaluation.methods import Native, SearchR1, VanillaRAG
from vrag_agent.evaluation.protocol import Conversation
from vrag_agent.evaluation.run import evaluate_policy
from vrag_agent.evaluation.server import API_KEY_VARIABLE, ServerModel
from vrag_agent.policy import VLMPolicy
from vrag_agent.rollout import collect, episodes_of
from vrag_agent.trajectory import check_images
from vrag_env.env import VRAGEnv
from vrag_env.episode import Image
from vrag_env.views import FULL_PAGE, View


@pytest.fixture
def env(tiny_corpus: Any, tiny_questions: Any) -> VRAGEnv:
    options = {"max_turns": 2, "min_pixels": 3136, "max_pixels": 12544}
    return make_env({"corpus": tiny_corpus, "questions": list(tiny_questions), **options})


@pytest.fixture(scope="module")
def policy() -> VLMPolicy:
    torch.set_num_threads(1)
    texts = ["user assistant Question: <think>I look.</think><search>report</search><answer>42.5</answer>"] * 3
    return tiny.build_policy(texts, vocab_size=400, hidden_size=32, vision_hidden_size=32, initializer_range=0.2)


def picture(view_id: int, colour: str = "white") -> Image:
    return Image(PILImage.new("RGB", (56, 56), colour), View(view_id, "p", FULL_PAGE, None, (56, 56)))


# ---------------------------------------------------------------------- local


def test_native_plays_as_a_rollout_does(policy: VLMPolicy, env: VRAGEnv, tmp_path: Path) -> None:
    evaluate_policy(
        Native(LocalModel(policy, "tiny", max_tokens=12), system=policy.system), env, tmp_path, progress=False
    )
    episodes = episodes_of(env, env.questions)
    collect(policy, episodes, max_tokens=12)
    played = {row["question_id"]: [turn["text"] for turn in row["turns"]] for row in read_lines(tmp_path / EPISODES)}
    assert played == {e.question.question_id: [turn.text for turn in e.turns] for e in episodes}


def test_a_conversation_written_from_the_beginning(policy: VLMPolicy) -> None:
    family = policy.family
    talk = Conversation("s").user("Question: x", picture(1)).assistant("<think>I look.</think>")
    talk.user(picture(2, "red"), "more")
    written = LocalModel(policy, "a", max_tokens=1)._written(talk)
    first = family.prompt("s", talk.messages[0].blocks)
    action = (*family.encode("<think>I look.</think>"), family.stop_id)
    then = family.observation(talk.messages[2].blocks, action)
    assert written.token_ids == (*first.token_ids, *action, *then.token_ids)
    check_images(written, family.image_token_id)  # both images stand where their tokens are
    starts = [image.start for image in written.images]
    assert starts == [first.images[0].start, len(first.token_ids) + len(action) + then.images[0].start]


def test_conversations_come_and_go(policy: VLMPolicy) -> None:
    model = LocalModel(policy, "a", max_tokens=6)
    talks = [Conversation("s").user(f"Question: {n}", picture(1)) for n in range(4)]
    for talk, reply in zip(talks, model.reply(talks, [0] * 4), strict=True):
        talk.assistant(reply.text).user("more")
    some = model.reply([talks[2], talks[0]], [0, 0])  # fewer, in another order
    alone = LocalModel(policy, "b", max_tokens=6)
    first = Conversation("s").user("Question: 2", picture(1))
    first.assistant(alone.reply([first], [0])[0].text).user("more")
    assert alone.reply([first], [0])[0].text == some[0].text
    new = [Conversation("s").user(f"Question: {n}", picture(1)) for n in range(6)]  # more than there was room for
    assert len(model.reply(new, [0] * 6)) == 6


def test_sampling_depends_on_the_seed_alone(policy: VLMPolicy) -> None:
    def say(seeds: list[int]) -> list[str]:
        model = LocalModel(policy, "a", max_tokens=12, temperature=1.0)
        return [r.text for r in model.reply([Conversation("s").user("Question: x") for _ in seeds], seeds)]

    first, second, third = say([1, 2, 1])
    assert first == third != second
    assert say([2, 1]) == [second, first]


# ---------------------------------------------------------------------- server


@pytest.fixture
def server() -> Iterator[ChatServer]:
    running = ChatServer()
    yield running
    running.close()


def test_a_server_sees_the_very_pixels(server: ChatServer, env: VRAGEnv, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "secret-key")
    server.replies(ServerReply("<answer>42.5</answer>"))
    model = ServerModel(server.url, "some/model", max_tokens=64)
    summary = evaluate_policy(VanillaRAG(model, top_k=2), env, tmp_path, progress=False, questions=env.questions[:1])
    assert summary["accuracy"] == 1.0
    assert (summary["prompt_tokens"], summary["completion_tokens"], summary["model_calls"]) == (100, 7, 1)
    [body] = server.bodies
    assert body["model"] == "some/model" and body["temperature"] == 0 and "seed" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    urls = [part["image_url"]["url"] for part in body["messages"][1]["content"] if part["type"] == "image_url"]
    assert len(urls) == 2
    [row] = read_lines(tmp_path / EPISODES)
    sent = PILImage.open(io.BytesIO(base64.b64decode(urls[0].partition(",")[2])))
    assert list(sent.size) == row["turns"][0]["views"][0]["size"]
    assert "secret-key" not in (tmp_path / "run.json").read_text(encoding="utf-8") + json.dumps(summary)
    assert server.url not in (tmp_path / "run.json").read_text(encoding="utf-8")


def test_a_refused_conversation_costs_one_turn(server: ChatServer, env: VRAGEnv, tmp_path: Path) -> None:
    search = ServerReply("<think>a</think><search>ambrosia</search>")
    server.replies(search, ServerReply(status=400, body=b"too long"), ServerReply("<think>a</think><answer>1</answer>"))
    policy = SearchR1(ServerModel(server.url, "m"))
    summary = evaluate_policy(policy, env, tmp_path, progress=False, questions=env.questions[:1])
    assert (summary["failed_calls"], summary["invalid_rate"], summary["finish_rate"]) == (1.0, 1 / 3, 1.0)


def test_a_dead_server_ends_the_run_and_what_was_played_is_kept(
    server: ChatServer, env: VRAGEnv, tmp_path: Path
) -> None:
    policy = VanillaRAG(ServerModel(server.url, "m"))
    policy.model.client.max_retries = 0  # type: ignore[attr-defined]  # no wait in a test
    server.script = lambda number, body: ServerReply("310") if number < 2 else ServerReply(status=500)
    with pytest.raises(EvaluationError, match="start again"):
        evaluate_policy(policy, env, tmp_path, progress=False, batch_size=1)
    assert len(list(read_lines(tmp_path / EPISODES))) == 2
    server.script = lambda number, body: ServerReply("310")
    assert evaluate_policy(policy, env, tmp_path, progress=False)["questions"] == 5


def test_a_wrong_key_is_an_error_at_once(server: ChatServer, env: VRAGEnv, tmp_path: Path) -> None:
    server.replies(ServerReply(status=401, body=b"no"))
    with pytest.raises(EvaluationError, match=API_KEY_VARIABLE):
        evaluate_policy(VanillaRAG(ServerModel(server.url, "m")), env, tmp_path, progress=False)
    assert len(server.bodies) <= 5
