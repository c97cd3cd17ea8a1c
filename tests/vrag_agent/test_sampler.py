"""HFSampler: what it samples with its cache, turn by turn, is what one full forward pass says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from conversations import build_policy, converse, picture, scripts

from vrag_agent.attention import packed_spans
from vrag_agent.parity import check_rollout
from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import HFSampler, Sampled
from vrag_agent.trajectory import Segment, Trajectory, collate
from vrag_env.episode import Text


def written(trajectories: Sequence[Trajectory]) -> list[list[tuple[int, ...]]]:
    return [[action.token_ids for action in trajectory.actions] for trajectory in trajectories]


def act(sampler: HFSampler, segments: dict[int, Segment], max_tokens: int) -> dict[int, tuple[int, ...]]:
    """Extend conversations and wait for all of their actions."""
    sampler.extend(segments, max_tokens)
    return {number: action.token_ids for number, action in sampler.run(len(segments)).items()}


def many(policy: VLMPolicy, prompt: Segment, count: int, max_tokens: int, greedy: bool = False) -> list[Sampled]:
    """Sample one action after the same prompt in many conversations."""
    sampler = HFSampler(policy, count)
    seeds = [None if greedy else torch.Generator().manual_seed(i) for i in range(count)]
    sampler.extend({sampler.open(generator): prompt for generator in seeds}, max_tokens)
    return list(sampler.run(count).values())


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
    policy.temperature = 50.0  # stop now and then
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


def test_conversations_come_and_go_while_others_write(shared_policy: VLMPolicy) -> None:
    """Two rows, three conversations; one leaves, its row is taken, and the rest moves together."""
    family = shared_policy.family
    prompts = [family.prompt("", script[0]) for script in scripts()[:3]]
    observation = [picture(9), Text("the page")]
    expected = []
    for seed, prompt in enumerate(prompts):
        sampler = HFSampler(shared_policy, 1)
        number = sampler.open(torch.Generator().manual_seed(seed))
        first = act(sampler, {number: prompt}, 3)[number]
        second = act(sampler, {number: family.observation(observation, first)}, 3)[number]
        expected.append((first, second))
    sampler = HFSampler(shared_policy, 2)
    zero, one = (sampler.open(torch.Generator().manual_seed(seed)) for seed in (0, 1))
    with pytest.raises(ValueError, match="all 2 rows are taken"):
        sampler.open()
    first = act(sampler, {zero: prompts[0], one: prompts[1]}, 3)
    assert sampler.room == 0 and len(sampler) == 2
    sampler.close(zero)
    two = sampler.open(torch.Generator().manual_seed(2))
    first |= act(sampler, {two: prompts[2]}, 3)
    second = act(sampler, {one: family.observation(observation, first[one])}, 3)
    assert (first[one], second[one]) == expected[1] and first[zero] == expected[0][0]
    sampler.close(one)
    sampler.trim()
    assert sampler.room == 0 and len(sampler) == 1
    second |= act(sampler, {two: family.observation(observation, first[two])}, 3)
    assert (first[two], second[two]) == expected[2]


def test_what_a_conversation_draws_does_not_depend_on_the_others() -> None:
    """In float64, where the rounding of other batch sizes can not tip a draw."""
    policy = build_policy().double()
    prompt = policy.family.prompt("", [Text("the page is ab"), picture(1)])

    def draw(others: int) -> tuple[int, ...]:
        sampler = HFSampler(policy, 1 + others)
        numbers = [sampler.open(torch.Generator().manual_seed(100 + i)) for i in range(others)]
        mine = sampler.open(torch.Generator().manual_seed(5))
        return act(sampler, dict.fromkeys([*numbers, mine], prompt), 12)[mine]

    assert draw(0) == draw(3) == draw(7)


def test_greedy_takes_the_most_likely_token(shared_policy: VLMPolicy) -> None:
    trajectories = converse(shared_policy, scripts())
    assert written(trajectories) == written(converse(shared_policy, scripts()))
    batch = collate(trajectories, shared_policy.family)
    with torch.no_grad():
        hidden = shared_policy.hidden(
            batch.input_ids, batch.position_ids, batch.images, spans=packed_spans(batch.lengths)
        )[0]
        places = batch.places(batch.rows, batch.columns - 1)
        best = shared_policy.log_distribution(hidden[places]).argmax(-1)
    assert torch.equal(best, batch.action_ids)


def test_seeds_repeat_and_differ(shared_policy: VLMPolicy) -> None:
    runs = [
        written(converse(shared_policy, scripts(), generator=torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_forbidden_tokens_are_never_sampled() -> None:
    policy = build_policy(initializer_range=0.02)  # nearly uniform: every token has its chance
    family = policy.family
    actions = many(policy, family.prompt("", [Text("x")]), 64, 12)
    ids = {token for action in actions for token in action.token_ids}
    assert len(ids) > 150  # of about 300
    assert not ids & set(family.forbidden_ids)


def test_tokens_are_drawn_by_their_probability() -> None:
    policy = build_policy(initializer_range=0.05)
    policy.forbidden[:] = True
    policy.forbidden[[5, 6, 7]] = False
    prompt = policy.family.prompt("", [Text("x")])
    actions = many(policy, prompt, 600, 1)
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
    actions = many(policy, policy.family.prompt("", [Text("x")]), 16, 8)
    assert max(token for action in actions for token in action.token_ids) < known


def test_wrong_segments_are_errors_and_append_nothing(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    good = family.prompt("", [picture(1)])
    broken = replace(good, images=())
    sampler = HFSampler(shared_policy, 2)
    zero, one = sampler.open(), sampler.open()
    with pytest.raises(ValueError, match="conversation 2 is not waiting for a segment"):
        sampler.extend({zero: good, 2: good}, 2)
    with pytest.raises(ValueError, match="out of step"):
        sampler.extend({zero: good, one: broken}, 2)
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        sampler.extend({zero: good, one: good}, 0)
    assert sampler.run() == {}
    alone = many(shared_policy, good, 1, 2, greedy=True)[0].token_ids
    assert act(sampler, {zero: good, one: good}, 2) == {zero: alone, one: alone}
    sampler.extend({zero: good}, 4)
    with pytest.raises(ValueError, match=f"conversation {zero} is not waiting"):
        sampler.extend({zero: good}, 2)


def test_the_cache_grows_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """With buffers that grow by one column at a time, what is sampled is the same."""
    policy = build_policy().double()
    expected = converse(policy, scripts(), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("vrag_agent.kv_cache.GROWTH", 1)
    assert written(converse(policy, scripts(), generator=torch.Generator().manual_seed(0))) == written(expected)
