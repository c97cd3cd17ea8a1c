"""demonstrate: the oracle's episodes on a real corpus, written in the tokens of the policy."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conversations import build_policy
from PIL import Image as PILImage

from vrag_agent.demonstrations import Demonstration, DemonstrationStore, Message, Part
from vrag_agent.demonstrations.collect import ScriptedExpert, collect_demonstrations
from vrag_agent.experts import demonstrate, to_trajectory
from vrag_agent.policy import VLMPolicy
from vrag_agent.sft import SFT
from vrag_agent.trajectory import Segment, Trajectory, collate
from vrag_env.episode import Episode, Image, Text
from vrag_env.errors import DemonstrationError
from vrag_env.players import OraclePlayer, make_player
from vrag_env.questions import Question
from vrag_env.views import PixelBudget

SMALL = PixelBudget(min_pixels=4 * 28 * 28, max_pixels=16 * 28 * 28)


@pytest.fixture
def episodes(make_episode: Callable[..., Episode], tiny_questions: Sequence[Question]) -> list[Episode]:
    return [make_episode(question.question_id, pixels=SMALL) for question in tiny_questions]


def test_demonstrations_are_the_episodes_of_the_player(shared_policy: VLMPolicy, episodes: list[Episode]) -> None:
    family = shared_policy.family
    demonstrations = demonstrate(OraclePlayer(), episodes, shared_policy)
    for episode, demonstration in zip(episodes, demonstrations, strict=True):
        assert episode.is_success and demonstration.info["is_success"] and not demonstration.truncated
        assert demonstration.question_id == episode.question.question_id
        assert [family.decode(a.token_ids) for a in demonstration.actions] == [t.text for t in episode.turns]
        assert all(a.token_ids[-1] == family.stop_id and not a.logprobs for a in demonstration.actions)
        assert demonstration.rewards == [turn.reward for turn in episode.turns]
        kinds = [segment.kind for segment in demonstration.segments]
        assert kinds == ["prompt", *["action", "observation"] * (len(episode.turns) - 1), "action"]
    collate(demonstrations, family)  # tokens and images agree


def test_the_texts_are_those_that_the_player_writes(
    shared_policy: VLMPolicy, episodes: list[Episode], make_episode: Callable[..., Episode]
) -> None:
    demonstrations = demonstrate(OraclePlayer(), episodes, shared_policy)
    for demonstration in demonstrations:
        episode = make_episode(demonstration.question_id, pixels=SMALL)
        for action in demonstration.actions:
            text = OraclePlayer().act(episode)
            assert shared_policy.family.decode(action.token_ids) == text
            episode.step_text(text)
        assert episode.done


def test_observations_are_what_the_episode_showed(shared_policy: VLMPolicy, episodes: list[Episode]) -> None:
    family = shared_policy.family
    demonstrations = demonstrate(OraclePlayer(), episodes, shared_policy)
    for episode, demonstration in zip(episodes, demonstrations, strict=True):
        first = Text(f"Question: {episode.question.text}")
        assert demonstration.segments[0] == family.prompt("", [first])
        pairs = zip(demonstration.segments[1:-1:2], demonstration.segments[2::2], strict=True)
        for turn, (action, observation) in zip(episode.turns[:-1], pairs, strict=True):
            blocks = [*(Image(episode.image(view), view) for view in turn.views), Text(turn.message)]
            expected = family.observation(blocks, action.token_ids)
            assert observation.token_ids == expected.token_ids
            assert [image.key for image in observation.images] == [image.key for image in expected.images]


def test_the_episode_reads_what_the_tokens_say(shared_policy: VLMPolicy, make_episode: Callable[..., Episode]) -> None:
    """Encoding brings characters into their normal form; what is learnt must be what was rewarded."""

    class Foreign:
        def act(self, episode: Episode) -> str:
            return "<think>e\u0301<|im_end|></think><answer>cafe\u0301</answer>"

    episode = make_episode("ivory-origin")
    demonstration = demonstrate(Foreign(), [episode], shared_policy)[0]
    assert episode.turns[0].text == "<think>\u00e9<|im_end|></think><answer>caf\u00e9</answer>"
    assert shared_policy.family.decode(demonstration.actions[0].token_ids) == episode.turns[0].text


def test_other_players_may_fail_and_are_written_down_as_they_played(
    shared_policy: VLMPolicy, episodes: list[Episode]
) -> None:
    demonstrations = demonstrate(make_player("random", seed=1), episodes, shared_policy)
    assert [d.info["is_success"] for d in demonstrations] == [episode.is_success for episode in episodes]
    assert not all(episode.is_success for episode in episodes)


def test_progress_counts_every_episode(shared_policy: VLMPolicy, episodes: list[Episode]) -> None:
    ended: list[int] = []
    demonstrate(OraclePlayer(), episodes, shared_policy, progress=ended.append)
    assert ended == [1] * len(episodes)


def test_demonstrations_can_be_learnt(episodes: list[Episode]) -> None:
    policy = build_policy(initializer_range=0.02)
    demonstrations: list[Trajectory] = demonstrate(OraclePlayer(), episodes[:2], policy)
    losses = SFT(policy, batch_size=2, learning_rate=3e-3).learn(demonstrations, epochs=8)
    assert losses[-1] < losses[0] - 1
    assert all(isinstance(segment, Segment) for segment in demonstrations[0].segments)


def test_a_kept_demonstration_gives_the_same_tokens(
    shared_policy: VLMPolicy, episodes: list[Episode], make_episode: Callable[..., Episode], tmp_path: Path
) -> None:
    """Played and written down at once, or kept as text and PNG and written down later: equal ids, spans and pixels."""
    direct = demonstrate(OraclePlayer(), episodes, shared_policy)
    store = DemonstrationStore(tmp_path)
    questions = [episode.question for episode in episodes]
    collect_demonstrations(
        ScriptedExpert(OraclePlayer(), "oracle"),
        questions,
        lambda question: make_episode(question.question_id, pixels=SMALL),
        store,
    )
    store.write(store.journal())
    kept = {d.question_id: to_trajectory(d, store, shared_policy.family, system="") for d in store.read()}
    for trajectory in direct:
        other = kept[trajectory.question_id]
        assert [(s.kind, s.token_ids, s.reward) for s in trajectory.segments] == [
            (s.kind, s.token_ids, s.reward) for s in other.segments
        ]
        assert [i.key for i in trajectory.images] == [i.key for i in other.images]
        assert all(
            torch.equal(a.pixel_values, b.pixel_values) for a, b in zip(trajectory.images, other.images, strict=True)
        )
        assert other.info["is_success"] and not other.truncated
    own = to_trajectory(store.read()[0], store, shared_policy.family)
    assert "bbox" in shared_policy.family.decode(own.segments[0].token_ids)  # the environment's instructions


def test_a_demonstration_that_does_not_fit_the_family(shared_policy: VLMPolicy, tmp_path: Path) -> None:
    store = DemonstrationStore(tmp_path)
    odd = store.put_image(PILImage.new("RGB", (30, 30)))
    turns = (
        Part("text", "<think></think><bbox>[1, 2, 3, 4]</bbox>"),
        Part("text", "<think></think><answer>x</answer>"),
    )
    messages = (
        Message("user", (Part("text", "Question: x"),)),
        Message("assistant", turns[:1]),
        Message("user", (Part("image", odd),)),
        Message("assistant", turns[1:]),
    )
    demonstration = Demonstration("q", "oracle", 0, "", messages, crops=1)
    with pytest.raises(DemonstrationError, match="--pixel-multiple 28"):
        to_trajectory(demonstration, store, shared_policy.family)
    with pytest.raises(DemonstrationError, match="--box-frame pixel"):
        to_trajectory(replace(demonstration, box_frame="1000"), store, shared_policy.family)
