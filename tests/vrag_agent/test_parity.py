"""check_rollout: silent on what was sampled, and loud on every way in which a trainer can go wrong."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conversations import build_policy, converse, perturb, picture, scripts
from test_policy import swap_pixels

from vrag_agent.parity import ParityError, check_rollout
from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.episode import Text


def test_what_was_sampled_passes(shared_policy: VLMPolicy, sampled: list[Trajectory]) -> None:
    report = check_rollout(sampled, shared_policy, tolerance=1e-4)
    assert report.tokens == sum(len(a.token_ids) for t in sampled for a in t.actions)
    assert 0 <= report.mean_gap <= report.max_gap <= 1e-4


@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_batch_size_does_not_matter(shared_policy: VLMPolicy, sampled: list[Trajectory], size: int) -> None:
    assert check_rollout(sampled, shared_policy, 1e-4, batch_size=size).max_gap < 1e-4


def test_images_swapped_between_trajectories(shared_policy: VLMPolicy) -> None:
    script = [[Text("what colour is the page?")], [picture(1), Text("the page")]]
    other = [[Text("what colour is the page?")], [picture(2), Text("the page")]]
    pair = converse(shared_policy, [script, other], generator=torch.Generator().manual_seed(0))
    check_rollout(pair, shared_policy)
    with pytest.raises(ParityError, match="do not see the same tokens, pixels or positions"):
        check_rollout(swap_pixels(*pair), shared_policy)


def test_one_dimensional_positions(
    shared_policy: VLMPolicy, sampled: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    flat: Callable[..., torch.Tensor] = lambda ids, grids: torch.arange(len(ids)).expand(4, -1)  # noqa: E731
    monkeypatch.setattr(shared_policy.family, "positions", flat)
    with pytest.raises(ParityError):
        check_rollout(sampled, shared_policy)


def test_positions_that_forget_the_images_are_still_right_without_images(
    shared_policy: VLMPolicy, sampled: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    flat: Callable[..., torch.Tensor] = lambda ids, grids: torch.arange(len(ids)).expand(4, -1)  # noqa: E731
    monkeypatch.setattr(shared_policy.family, "positions", flat)
    blind = [trajectory for trajectory in sampled if not trajectory.images]
    assert len(blind) == 1 and check_rollout(blind, shared_policy).max_gap < 1e-4


def shifted(trajectory: Trajectory, by: int) -> Trajectory:
    """Move the first action by one token."""
    prompt, action, observation, *rest = trajectory.segments
    ids = prompt.token_ids + action.token_ids + observation.token_ids
    start = len(prompt.token_ids) + by
    end = start + len(action.token_ids)
    images = tuple(replace(image, start=image.start - by) for image in observation.images)
    parts = (
        replace(prompt, token_ids=ids[:start]),
        replace(action, token_ids=ids[start:end]),
        replace(observation, token_ids=ids[end:], images=images),
    )
    return replace(trajectory, segments=(*parts, *rest))


@pytest.mark.parametrize("by", [-1, 1])
def test_an_action_mask_shifted_by_one(shared_policy: VLMPolicy, sampled: list[Trajectory], by: int) -> None:
    moved = [shifted(trajectory, by) for trajectory in sampled]
    for a, b in zip(moved, sampled, strict=True):
        assert a.token_ids == b.token_ids  # the tokens are the same; only who wrote them is wrong
    with pytest.raises(ParityError):
        check_rollout(moved, shared_policy)


def test_a_temperature_forgotten_in_training(shared_policy: VLMPolicy) -> None:
    warm = VLMPolicy(shared_policy.model, shared_policy.family, system="", temperature=1.5)
    trajectories = converse(warm, scripts(), generator=torch.Generator().manual_seed(0))
    check_rollout(trajectories, warm)
    with pytest.raises(ParityError):
        check_rollout(trajectories, shared_policy)


def test_dropout_left_on(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = build_policy()
    for layer in policy.model.model.language_model.layers:
        layer.self_attn.attention_dropout = 0.3
    trajectories = converse(policy, scripts(), generator=torch.Generator().manual_seed(0))
    policy.train()
    check_rollout(trajectories, policy)  # it switches dropout off, and back on
    assert policy.training
    monkeypatch.setattr(policy, "eval", policy.train)
    torch.manual_seed(0)
    with pytest.raises(ParityError):
        check_rollout(trajectories, policy)


def test_an_update_in_between(sampled: list[Trajectory]) -> None:
    policy = build_policy()
    check_rollout(sampled, policy, 1e-4)
    with pytest.raises(ParityError):
        check_rollout(sampled, perturb(policy, 0.01))


def spelled_out(policy: VLMPolicy) -> list[Trajectory]:
    """Sample from "a", "b" and "ab": most actions are not how the tokenizer would write their text."""
    family = policy.family
    pieces = [family.encode(text) for text in ("a", "b", "ab")]
    assert [len(piece) for piece in pieces] == [1, 1, 1]
    policy.forbidden[:] = True
    policy.forbidden[[piece[0] for piece in pieces]] = False
    return converse(policy, scripts(), max_tokens=6, generator=torch.Generator().manual_seed(0))


def test_ids_that_are_not_canonical_are_kept_as_sampled() -> None:
    policy = build_policy()
    trajectories = spelled_out(policy)
    actions = [action for trajectory in trajectories for action in trajectory.actions]
    drifting = [a for a in actions if policy.family.encode(policy.family.decode(a.token_ids)) != a.token_ids]
    assert len(drifting) >= 5
    assert check_rollout(trajectories, policy, 1e-4).tokens == 6 * len(actions)


def test_retokenised_actions() -> None:
    """Ids made again from text: another number of log-probs, or the wrong log-probs."""
    policy = build_policy()
    trajectories = spelled_out(policy)

    def again(segment: Segment, logprobs: bool) -> Segment:
        ids = policy.family.encode(policy.family.decode(segment.token_ids))
        return replace(segment, token_ids=ids, logprobs=segment.logprobs[: len(ids)] if logprobs else segment.logprobs)

    with pytest.raises(ValueError, match="tokens but 6 log-probs"):
        [again(action, logprobs=False) for t in trajectories for action in t.actions]
    retokenised = [
        replace(t, segments=tuple(again(s, True) if s.kind == "action" else s for s in t.segments))
        for t in trajectories
    ]
    with pytest.raises(ParityError):
        check_rollout(retokenised, policy)


def test_demonstrations_can_not_be_compared(shared_policy: VLMPolicy, sampled: list[Trajectory]) -> None:
    silent = tuple(replace(s, logprobs=()) for s in sampled[0].segments)
    with pytest.raises(ValueError, match="only what a policy sampled"):
        check_rollout([sampled[1], replace(sampled[0], segments=silent)], shared_policy)
    for nothing in ([], [replace(sampled[0], segments=sampled[0].segments[:1])]):
        with pytest.raises(ValueError, match="no actions to compare"):
            check_rollout(nothing, shared_policy)


def test_log_probs_that_are_not_numbers(shared_policy: VLMPolicy, sampled: list[Trajectory]) -> None:
    segments = list(sampled[0].segments)
    segments[1] = replace(segments[1], logprobs=(float("nan"),) * len(segments[1].token_ids))
    with pytest.raises(ParityError):
        check_rollout([replace(sampled[0], segments=tuple(segments))], shared_policy)
