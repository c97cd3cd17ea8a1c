"""HFSampler: what it samples with its cache, turn by turn, is what one full forward pass says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from conversations import build_policy, converse, picture, scripts

from vrag_agent.parity import check_rollout
from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import HFSampler
from vrag_agent.trajectory import Trajectory, collate
from vrag_env.episode import Text


def written(trajectories: Sequence[Trajectory]) -> list[list[tuple[int, ...]]]:
    return [[action.token_ids for action in trajectory.actions] for trajectory in trajectories]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_cached_sampling_over_turns_equals_a_full_forward_pass(dtype: torch.dtype, tolerance: float) -> None:
    """Four turns, images in the middle, rows of other lengths that leave, and actions cut at four tokens."""
    policy = build_policy().to(dtype)
    trajectories = converse(policy, scripts(), generator=torch.Generator().manual_seed(0))
    report = check_rollout(trajectories, policy, tolerance)
    assert report.tokens == sum(len(a.token_ids) for t in trajectories for a in t.actions) > 40
    cut = [a.token_ids[-1] != policy.family.stop_id for t in trajectories for a in t.actions]
    assert any(cut)


def test_short_actions_between_long_ones_equal_a_full_forward_pass() -> None:
    """Where some rows stop at once and others go on, the holes in the cache do not count."""
    policy = build_policy().double()
    stop = policy.family.stop_id
    policy.forbidden[:] = True
    policy.forbidden[[stop, *policy.family.encode("abc")]] = False
    trajectories = converse(policy, scripts(), max_tokens=6, generator=torch.Generator().manual_seed(3))
    lengths = {len(action.token_ids) for trajectory in trajectories for action in trajectory.actions}
    stopped = [a.token_ids[-1] == stop for t in trajectories for a in t.actions]
    assert len(lengths) > 2 and any(stopped) and not all(stopped)
    assert check_rollout(trajectories, policy, 1e-10).max_gap < 1e-10


def test_an_action_stops_at_the_stop_id_and_nowhere_else(sampled: list[Trajectory], shared_policy: VLMPolicy) -> None:
    for trajectory in sampled:
        for action in trajectory.actions:
            assert 1 <= len(action.token_ids) == len(action.logprobs) <= 4
            assert shared_policy.family.stop_id not in action.token_ids[:-1]
            if len(action.token_ids) < 4:
                assert action.token_ids[-1] == shared_policy.family.stop_id


def test_the_batch_does_not_matter(shared_policy: VLMPolicy) -> None:
    together = converse(shared_policy, scripts())
    alone = [converse(shared_policy, [script])[0] for script in scripts()]
    assert written(together) == written(alone)
    for a, b in zip(together, alone, strict=True):
        ours, theirs = ([p for action in t.actions for p in action.logprobs] for t in (a, b))
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_the_order_of_rows_may_change_when_rows_leave(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    prompts = [family.prompt("", script[0]) for script in scripts()[:3]]
    observation = [picture(9), Text("the page")]
    expected = []
    for prompt in prompts:
        sampler = HFSampler(shared_policy, 1)
        first = sampler.sample([prompt], 3)[0].token_ids
        expected.append((first, sampler.sample([family.observation(observation, first)], 3)[0].token_ids))
    sampler = HFSampler(shared_policy, 3)
    first = [action.token_ids for action in sampler.sample(prompts, 3)]
    sampler.keep([2, 0])
    assert len(sampler) == 2
    second = sampler.sample([family.observation(observation, first[row]) for row in (2, 0)], 3)
    assert [(first[2], second[0].token_ids), (first[0], second[1].token_ids)] == [expected[2], expected[0]]


def test_greedy_takes_the_most_likely_token(shared_policy: VLMPolicy) -> None:
    trajectories = converse(shared_policy, scripts())
    assert written(trajectories) == written(converse(shared_policy, scripts()))
    batch = collate(trajectories, shared_policy.family)
    with torch.no_grad():
        hidden = shared_policy.model.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            pixel_values=batch.pixel_values,
            image_grid_thw=batch.image_grid_thw,
        ).last_hidden_state
        best = shared_policy.log_distribution(hidden[batch.rows, batch.columns - 1]).argmax(-1)
    assert torch.equal(best, batch.action_ids)


def test_seeds_repeat_and_differ(shared_policy: VLMPolicy) -> None:
    runs = [
        written(converse(shared_policy, scripts(), generator=torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_forbidden_tokens_are_never_sampled() -> None:
    policy = build_policy(initializer_range=0.02)  # nearly uniform: every token has its chance
    family = policy.family
    sampler = HFSampler(policy, 64, torch.Generator().manual_seed(0))
    actions = sampler.sample([family.prompt("", [Text("x")])] * 64, 12)
    ids = {token for action in actions for token in action.token_ids}
    assert len(ids) > 150  # of about 300
    assert not ids & set(family.forbidden_ids)


def test_tokens_are_drawn_by_their_probability() -> None:
    policy = build_policy(initializer_range=0.05)
    policy.forbidden[:] = True
    policy.forbidden[[5, 6, 7]] = False
    prompt = policy.family.prompt("", [Text("x")])
    actions = HFSampler(policy, 600, torch.Generator().manual_seed(0)).sample([prompt] * 600, 1)
    counts = {token: sum(a.token_ids == (token,) for a in actions) / 600 for token in (5, 6, 7)}
    chances = {a.token_ids[0]: float(torch.tensor(a.logprobs[0]).exp()) for a in actions}
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-5)
    for token, chance in chances.items():  # within four standard errors
        assert abs(counts[token] - chance) < 4 * (chance * (1 - chance) / 600) ** 0.5


def test_model_rows_that_the_tokenizer_does_not_know_are_never_sampled() -> None:
    from conversations import tokenizer

    from vrag_agent import tiny
    from vrag_agent.families import Qwen2_5VL

    model = tiny.build_model(tokenizer(), hidden_size=32)
    known = len(tokenizer())
    model.resize_token_embeddings(known + 64, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[known:] *= 100
    policy = VLMPolicy(model, Qwen2_5VL(tokenizer(), tiny.build_image_processor()))
    sampler = HFSampler(policy, 16, torch.Generator().manual_seed(0))
    actions = sampler.sample([policy.family.prompt("", [Text("x")])] * 16, 8)
    assert max(token for action in actions for token in action.token_ids) < known


def test_wrong_segments_are_errors_and_append_nothing(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    good = family.prompt("", [picture(1)])
    broken = replace(good, images=())
    sampler = HFSampler(shared_policy, 2)
    with pytest.raises(ValueError, match="2 conversations, but 1 segments"):
        sampler.sample([good], 2)
    with pytest.raises(ValueError, match="out of step"):
        sampler.sample([good, broken], 2)
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        sampler.sample([good, good], 0)
    alone = HFSampler(shared_policy, 2).sample([good, good], 2)
    assert sampler.sample([good, good], 2) == alone
