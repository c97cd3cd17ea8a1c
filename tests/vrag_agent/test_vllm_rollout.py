"""Rollouts from servers that speak vLLM's protocol: exact ids, parity of log-probs, adapters, servers that die."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from conversations import build_policy
from vllm_speaking import BASE, VLLMSpeaking

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Trajectory, collate
from vrag_agent.vllm_rollout import VLLMRollout
from vrag_agent.vllm_server import VLLMServer
from vrag_env.episode import Episode
from vrag_env.errors import ServerError
from vrag_env.json_client import Unanswered
from vrag_env.questions import Question
from vrag_env.views import PixelBudget

SMALL = PixelBudget(min_pixels=4 * 28 * 28, max_pixels=16 * 28 * 28)
Speaking = Callable[[], VLLMSpeaking]


def with_adapter() -> VLMPolicy:
    """A policy with an adapter that changes what it does."""
    policy = build_policy()
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=policy.family.lora_targets)
    policy._adapter[0] = peft.get_peft_model(policy.model, config)
    shake(policy, 1)
    return policy.eval()


def shake(policy: VLMPolicy, seed: int) -> None:
    """Change the adapter, as an update does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Speaking]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running: list[VLLMSpeaking] = []

    def start() -> VLLMSpeaking:
        running.append(VLLMSpeaking(build_policy()))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def rollout(tmp_path: Path) -> Iterator[Callable[..., VLLMRollout]]:
    made: list[VLLMServer] = []

    def make(*servers: VLLMSpeaking, **options: Any) -> VLLMRollout:
        settings = {"backoff": 0.01, "max_retries": 2, **options}
        new = [VLLMServer(server.url, BASE, **settings) for server in servers]
        made.extend(new)
        return VLLMRollout(new, tmp_path / "adapters")

    yield make
    for server in made:
        server.close()


@pytest.fixture
def episodes(make_episode: Callable[..., Episode], tiny_questions: Sequence[Question]) -> Callable[[], list[Episode]]:
    """Fresh episodes; a tiny random policy writes nothing valid, so a wrapper makes searches of what it writes."""

    class Helped(Episode):
        def begin(self, text: str) -> Any:
            turn = len(self.turns)
            helped = (
                "<think></think><search>report</search>" if turn != 1 else "<think></think><bbox>[0, 0, 56, 56]</bbox>"
            )
            return super().begin(helped if turn < 3 else text)

    def make() -> list[Episode]:
        plain = [make_episode(question.question_id, pixels=SMALL) for question in tiny_questions]
        return [Helped(e.question, e.corpus, e.retriever, e.reward, e.config) for e in plain]

    return make


def play(rollout: VLLMRollout, policy: VLMPolicy, episodes: list[Episode], seed: int = 3) -> list[Trajectory]:
    return rollout(policy, episodes, max_tokens=6, generator=torch.Generator().manual_seed(seed), batch_size=3)


def gaps(policy: VLMPolicy, trajectories: list[Trajectory]) -> torch.Tensor:
    """|log-prob of the server - log-prob of the trainer| of every action token."""
    with torch.no_grad():
        scored = policy(collate(trajectories, policy.family)).logprobs
    stored = [value for t in trajectories for action in t.actions for value in action.logprobs]
    return (scored - torch.tensor(stored)).abs()


@pytest.mark.slow
def test_the_servers_log_probs_are_the_trainers_and_follow_its_updates(
    speaking: Speaking, rollout: Callable[..., VLLMRollout], episodes: Callable[[], list[Episode]]
) -> None:
    server, policy = speaking(), with_adapter()
    player = rollout(server)
    trajectories = play(player, policy, episodes())
    assert len(trajectories) == 5 and all(len(t.images) >= 3 for t in trajectories)
    assert float(gaps(policy, trajectories).max()) < 1e-4
    # What was trained is what was sampled, segment by segment, and the sampler was sent the very ids.
    sent = [body["token_ids"] for body in server.asked("/inference/v1/generate")]
    for trajectory in trajectories:
        ids, length = trajectory.token_ids, len(trajectory.actions[-1].token_ids)
        assert ids[: len(ids) - length] in sent
    assert {a.policy_version for t in trajectories for a in t.actions} == {0}
    # After an update the gap would be large, were the adapter not sent again.
    shake(policy, 2)
    assert float(gaps(policy, play(player, policy, episodes())).max()) > 0.01  # the same version: nothing is sent
    policy.version = 1
    assert float(gaps(policy, play(player, policy, episodes())).max()) < 1e-4
    assert list(server.adapters) == ["vrag-v1"]
    assert [path.name for path in player.directory.iterdir()] == ["vrag-v1"]
    kinds = [path for path, _ in server.requests if "adapter" in path or "reset" in path]
    once = ["/v1/load_lora_adapter", "/reset_prefix_cache", "/reset_encoder_cache"]
    assert kinds == [*once, once[0], "/v1/unload_lora_adapter", *once[1:]]


def test_an_image_is_rendered_once_and_placed_where_its_tokens_are(
    speaking: Speaking, rollout: Callable[..., VLLMRollout], episodes: Callable[[], list[Episode]]
) -> None:
    server, policy = speaking(), with_adapter()
    trajectories = play(rollout(server), policy, episodes()[:2])
    keys = {image.key for t in trajectories for image in t.images}
    assert len(server.asked("/v1/chat/completions/render")) == len(keys)
    family = policy.family
    for body in server.asked("/inference/v1/generate"):
        places = body["features"]["mm_placeholders"]["image"]
        covered = [index for p in places for index in range(p["offset"], p["offset"] + p["length"])]
        assert covered == [i for i, token in enumerate(body["token_ids"]) if token == family.image_token_id]
        sampling = body["sampling_params"]
        assert (sampling["top_p"], sampling["top_k"], sampling["temperature"]) == (1.0, 0, 1.0)
        assert set(map(int, sampling["logit_bias"])) == set(family.forbidden_ids)
    text_only = server.asked("/v1/completions")
    assert len(text_only) == 2 and all(body["return_token_ids"] for body in text_only)


def test_the_same_seed_plays_the_same_and_greedy_needs_none(
    speaking: Speaking, rollout: Callable[..., VLLMRollout], episodes: Callable[[], list[Episode]]
) -> None:
    policy, player = with_adapter(), rollout(speaking())
    first, again, other = (play(player, policy, episodes()[:2], seed) for seed in (3, 3, 4))
    assert [t.token_ids for t in first] == [t.token_ids for t in again] != [t.token_ids for t in other]
    greedy = [player(policy, episodes()[:1], max_tokens=4)[0].token_ids for _ in range(2)]
    assert greedy[0] == greedy[1]


def test_a_server_that_dies_in_the_middle_is_replaced_by_the_others(
    speaking: Speaking, rollout: Callable[..., VLLMRollout], episodes: Callable[[], list[Episode]]
) -> None:
    dying, living, policy = speaking(), speaking(), with_adapter()
    generated = 0

    def fault(number: int, path: str, body: dict[str, Any]) -> int | None:
        nonlocal generated
        generated += path in ("/v1/completions", "/inference/v1/generate")
        return 0 if generated > 3 else None  # torn down in the middle of the third turn or so, and for good

    dying.fault = fault
    player = rollout(dying, living)
    trajectories = play(player, policy, episodes())
    assert len(trajectories) == 5 and generated > 3
    assert float(gaps(policy, trajectories).max()) < 1e-4
    before = len(dying.requests)
    play(player, policy, episodes()[:1])
    assert len(dying.requests) == before  # left alone until the next update
    dying.fault = lambda number, path, body: None
    policy.version = 1
    play(player, policy, episodes())
    assert len(dying.asked("/inference/v1/generate")) > 3  # it takes part again


def test_without_a_server_left_the_rollout_ends(
    speaking: Speaking, rollout: Callable[..., VLLMRollout], episodes: Callable[[], list[Episode]]
) -> None:
    server, policy = speaking(), with_adapter()
    server.fault = lambda number, path, body: 503 if path == "/inference/v1/generate" else None
    player = rollout(server)
    with pytest.raises(ServerError, match=r"none of 1 vLLM servers is left.*503.*resume"):
        play(player, policy, episodes()[:2])
    server.fault = lambda number, path, body: 0
    policy.version = 1
    with pytest.raises(ServerError, match="took the adapter"):
        play(player, policy, episodes()[:2])


@pytest.mark.parametrize("faults", [(500, 429), (0, 0)])
def test_passing_faults_do_not_change_what_is_played(
    speaking: Speaking,
    rollout: Callable[..., VLLMRollout],
    episodes: Callable[[], list[Episode]],
    faults: tuple[int, int],
) -> None:
    server, policy = speaking(), with_adapter()
    player = rollout(server)
    expected = play(player, policy, episodes()[:2])
    left = list(faults)
    server.fault = lambda number, path, body: left.pop() if left and "generate" in path else None
    again = play(player, policy, episodes()[:2])
    assert [t.token_ids for t in again] == [t.token_ids for t in expected] and not left


def test_what_a_server_can_not_do_is_said(
    speaking: Speaking, rollout: Callable[..., VLLMRollout], episodes: Callable[[], list[Episode]], tmp_path: Path
) -> None:
    server = speaking()
    with pytest.raises(ServerError, match="lora=32"):
        play(rollout(server), build_policy(), episodes()[:1])
    with pytest.raises(ServerError, match="at least one server"):
        VLLMRollout([], tmp_path)
    server.fault = lambda number, path, body: 400 if path == "/inference/v1/generate" else None
    with pytest.raises(ServerError, match="refused a conversation of"):
        play(rollout(server), with_adapter(), episodes()[:1])
    server.fault = lambda number, path, body: 404 if "adapter" in path else None
    with pytest.raises(ServerError, match="404"):
        play(rollout(server), with_adapter(), episodes()[:1])


@pytest.mark.parametrize(
    "reply",
    [
        {"token_ids": [5, 6], "logprobs": {"content": [{"token": "token_id:5", "logprob": -0.1}]}},
        {"token_ids": [5], "logprobs": {"content": [{"token": "token_id:6", "logprob": -0.1}]}},
        {"token_ids": [5], "logprobs": {"content": [{"token": "token_id:5", "logprob": 0.5}]}},
        {"token_ids": [5], "logprobs": {"content": [{"token": "token_id:5", "logprob": float("nan")}]}},
        {"token_ids": [], "logprobs": {"content": []}},
        {"token_ids": [5], "logprobs": None},
    ],
)
def test_ids_and_log_probs_that_do_not_belong_together_are_refused(reply: dict[str, Any]) -> None:
    from vrag_agent.vllm_server import _read_generated

    with pytest.raises((ValueError, TypeError)):
        _read_generated(json.dumps({"choices": [reply]}).encode())


def test_another_number_of_image_tokens_is_an_error(
    speaking: Speaking, rollout: Callable[..., VLLMRollout], episodes: Callable[[], list[Episode]]
) -> None:
    """A server that resizes images itself would show the model other pixels than the trainer sees."""
    server = speaking()
    prepare = server.policy.family.prepare

    def shrunk(image: Any) -> Any:
        pixels, grid = prepare(image.resize((28, 28)))
        return pixels, grid

    server.policy.family.prepare = shrunk  # type: ignore[method-assign]  # on purpose
    with pytest.raises(ServerError, match="makes 1 tokens of an image"):
        play(rollout(server), with_adapter(), episodes()[:1])


def test_a_client_that_gets_no_answer() -> None:
    server = VLLMServer("http://127.0.0.1:1/v1", "m", max_retries=0)
    assert server.base_url == "http://127.0.0.1:1"
    with pytest.raises(Unanswered):
        server.reset_caches()
