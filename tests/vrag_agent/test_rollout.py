"""collect: plays real episodes; what it keeps is what was shown, what was sampled and what it earned."""

from collections.abc import Callable
from typing import Any

import codeword
import pytest
import torch
from conversations import build_policy

from vrag_agent.parity import check_rollout
from vrag_agent.policy import VLMPolicy
from vrag_agent.rollout import collect
from vrag_agent.trajectory import Trajectory
from vrag_env.episode import Block, Episode, Image, StepResult, Text
from vrag_env.rewards import Reward
from vrag_env.views import PixelBudget

SMALL = PixelBudget(min_pixels=4 * 28 * 28, max_pixels=16 * 28 * 28)


class Interactive(Episode):
    """An episode whose every second turn is a search, whatever the policy says: images without training."""

    def begin(self, text: str) -> Any:
        written = "<think></think><search>report</search>" if len(self.turns) % 2 == 0 else text
        search = super().begin(written)
        self._pending_text = text
        return search


@pytest.fixture
def documents(make_episode: Callable[..., Episode]) -> Callable[[int], list[Episode]]:
    """Return fresh episodes on the small corpus, of 1 to 3 turns and a last one."""
    names = ("amber-revenue", "cobalt-staff", "ivory-origin", "north-sum", "olive-price")

    def make(count: int) -> list[Episode]:
        episodes = []
        for index in range(count):
            reward = Reward({"retrieval": 0.5, "answer": 0.5}, shaping=0.25)  # pays and takes in many turns
            base = make_episode(names[index % 5], reward, pixels=SMALL, max_turns=1 + index % 3)
            episodes.append(Interactive(base.question, base.corpus, base.retriever, base.reward, base.config))
        return episodes

    return make


def play(policy: VLMPolicy, episodes: list[Episode], seed: int | None = 0, **options: Any) -> list[Trajectory]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return collect(policy, episodes, max_tokens=5, generator=generator, **options)


def test_documents_are_played_to_the_end_and_pass_parity(
    shared_policy: VLMPolicy, documents: Callable[[int], list[Episode]]
) -> None:
    episodes = documents(6)
    trajectories = play(shared_policy, episodes)
    report = check_rollout(trajectories, shared_policy, 1e-3)
    assert report.tokens > 6
    for episode, trajectory in zip(episodes, trajectories, strict=True):
        assert episode.done and trajectory.truncated and not episode.state.terminated
        assert trajectory.question_id == episode.question.question_id
        assert [turn.text for turn in episode.turns] == [
            shared_policy.family.decode(action.token_ids) for action in trajectory.actions
        ]
        assert trajectory.rewards == [turn.reward for turn in episode.turns]
        kinds = [segment.kind for segment in trajectory.segments]
        assert kinds == ["prompt", *["action", "observation"] * (len(episode.turns) - 1), "action"]
        sizes = [(image.grid_thw[2] * 14, image.grid_thw[1] * 14) for image in trajectory.images]
        assert sizes == [view.size for turn in episode.turns[:-1] for view in turn.views]
        assert "blocks" not in trajectory.info and trajectory.info["turn"] == len(episode.turns)
    assert sum(len(trajectory.images) for trajectory in trajectories) >= 6
    assert any(reward != 0 for trajectory in trajectories for reward in trajectory.rewards[:-1])


def test_each_trajectory_holds_the_images_of_its_own_episode(
    shared_policy: VLMPolicy, documents: Callable[[int], list[Episode]]
) -> None:
    episodes = documents(6)
    for episode, trajectory in zip(episodes, play(shared_policy, episodes), strict=True):
        shown = [view for turn in episode.turns[:-1] for view in turn.views]
        assert len(shown) == len(trajectory.images) > 0
        for view, kept in zip(shown, trajectory.images, strict=True):
            expected = shared_policy.family.prompt("", [Image(episode.image(view), view)]).images[0]
            assert torch.equal(kept.pixel_values, expected.pixel_values)


def test_the_prompt_is_the_question_after_the_instructions(
    shared_policy: VLMPolicy, documents: Callable[[int], list[Episode]]
) -> None:
    family = shared_policy.family
    episodes = documents(1)
    asked = [Text(f"Question: {episodes[0].question.text}")]
    assert play(shared_policy, episodes)[0].segments[0] == family.prompt("", asked)
    taught = VLMPolicy(shared_policy.model, family)  # no system text of its own: the environment's
    episodes = documents(1)
    assert play(taught, episodes)[0].segments[0] == family.prompt(episodes[0].instructions, asked)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_greedy_play_does_not_depend_on_the_batch(
    shared_policy: VLMPolicy, documents: Callable[[int], list[Episode]], batch_size: int
) -> None:
    expected = play(shared_policy, documents(6), seed=None)
    got = play(shared_policy, documents(6), seed=None, batch_size=batch_size)
    assert [t.token_ids for t in got] == [t.token_ids for t in expected]
    assert [t.question_id for t in got] == [t.question_id for t in expected]


def test_seeds_repeat() -> None:
    policy = codeword.build_policy(initializer_range=0.1)
    runs = [
        collect(policy, codeword.episodes(True)(8), max_tokens=2, generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    ]
    ids = [[trajectory.token_ids for trajectory in run] for run in runs]
    assert ids[0] == ids[1] != ids[2]


def test_noise_is_drawn_anew_in_every_rollout(
    shared_policy: VLMPolicy, documents: Callable[[int], list[Episode]]
) -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = documents(3), documents(3)
    for episodes in (first, second):
        collect(shared_policy, episodes, max_tokens=2, generator=generator)
    assert len({episode.state.noise_seed for episode in (*first, *second)}) == 6


def test_segments_carry_state_version_and_reward() -> None:
    policy = codeword.build_policy(initializer_range=0.1)
    policy.version = 3
    episodes = codeword.episodes(True)(16)
    trajectories = collect(policy, episodes, max_tokens=1, generator=torch.Generator().manual_seed(0))
    for episode, trajectory in zip(episodes, trajectories, strict=True):
        assert [action.policy_version for action in trajectory.actions] == [3, 3]
        assert trajectory.rewards == [0.0, float(episode.turns[1].text == episode.question.answer)]
        assert not trajectory.truncated
        start = codeword.CodewordEpisode(episode.question.answer, True, 0)
        start.question = episode.question
        assert trajectory.actions[0].state_key == start.state_key
        assert trajectory.info["is_success"] == episode.is_success
    assert 0 < sum(sum(t.rewards) for t in trajectories) < 16


def test_cut_actions_are_closed_by_the_environment() -> None:
    policy = codeword.build_policy(initializer_range=0.1)
    policy.forbidden[policy.family.stop_id] = True  # no action can end by itself
    trajectories = collect(policy, codeword.episodes(False)(3), max_tokens=3)
    for trajectory in trajectories:
        assert [len(action.token_ids) for action in trajectory.actions] == [3, 3]
        assert trajectory.segments[2].token_ids[0] == policy.family.stop_id
        assert policy.family.stop_id not in trajectory.actions[0].token_ids


def test_ids_that_are_not_canonical_survive() -> None:
    """The trajectory keeps the ids as sampled; the episode reads their text."""
    policy = build_policy()
    family = policy.family
    pieces = [family.encode(text)[0] for text in ("a", "b", "ab")]
    policy.forbidden[:] = True
    policy.forbidden[pieces] = False
    episodes = codeword.episodes(False)(8)
    trajectories = collect(policy, episodes, max_tokens=4, generator=torch.Generator().manual_seed(0))
    drifting = 0
    for episode, trajectory in zip(episodes, trajectories, strict=True):
        for turn, action in zip(episode.turns, trajectory.actions, strict=True):
            assert turn.text == family.decode(action.token_ids)
            assert set(action.token_ids) <= set(pieces) and len(action.token_ids) == 4
            drifting += family.encode(turn.text) != action.token_ids
    assert drifting >= 4
    check_rollout(trajectories, policy, 1e-4)


def test_what_the_policy_sees_can_be_changed() -> None:
    policy = codeword.build_policy(initializer_range=0.1)

    def blind(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(block for block in blocks if isinstance(block, Text))

    with_images = collect(policy, codeword.episodes(True)(4), max_tokens=1)
    without = collect(policy, codeword.episodes(True)(4), max_tokens=1, see=blind)
    assert [len(t.images) for t in with_images] == [1] * 4
    assert [len(t.images) for t in without] == [0] * 4


def test_progress_counts_every_episode(shared_policy: VLMPolicy, documents: Callable[[int], list[Episode]]) -> None:
    ended: list[int] = []
    play(shared_policy, documents(7), batch_size=3, progress=ended.append)
    assert sum(ended) == 7 and all(count > 0 for count in ended)


def test_the_mode_of_the_policy_is_restored() -> None:
    policy = codeword.build_policy(initializer_range=0.1)
    modes: list[bool] = []
    for training in (True, False):
        policy.train(training)
        collect(
            policy,
            codeword.episodes(False)(2),
            max_tokens=1,
            progress=lambda ended: modes.append(policy.training),
        )
        assert policy.training is training
    assert modes == [False, False]


def test_the_mode_of_the_policy_is_restored_after_an_error() -> None:
    class Broken(codeword.CodewordEpisode):
        def execute(self, hits: Any = ()) -> Any:
            raise OSError("the corpus is gone")

    policy = codeword.build_policy(initializer_range=0.1).train()
    with pytest.raises(OSError, match="the corpus is gone"):
        collect(policy, [Broken("a", False, 0)], max_tokens=1)
    assert policy.training


def test_no_episodes_give_no_trajectories(shared_policy: VLMPolicy) -> None:
    assert collect(shared_policy, [], max_tokens=1) == []
    assert isinstance(codeword.episodes(False)(1)[0].start(), StepResult)
