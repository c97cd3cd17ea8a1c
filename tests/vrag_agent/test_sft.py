"""SFT: only action tokens are learnt, a few demonstrations by heart, with the schedule as stated."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from conversations import build_policy, converse, scripts

from vrag_agent.policy import VLMPolicy
from vrag_agent.sft import SFT
from vrag_agent.trajectory import Trajectory, collate

ANSWERS = ("the page", "search", "abc", "what colour", "answer abcd", "ab", "think", "page?")


def demonstrations(policy: VLMPolicy) -> list[Trajectory]:
    """The scripted conversations with fixed texts as actions, as a player would have written them."""
    family = policy.family
    words = iter(ANSWERS * 4)
    out = []
    for script in scripts():
        segments = [family.prompt("", script[0])]
        for turn in range(len(script)):
            if turn:
                segments.append(family.observation(script[turn], segments[-1].token_ids))
            ids = (*family.encode(next(words)), family.stop_id)
            segments.append(replace(converse(policy, [script[:1]])[0].actions[0], token_ids=ids, logprobs=()))
        out.append(Trajectory(tuple(segments)))
    return out


def tokens(trajectories: list[Trajectory]) -> int:
    return sum(len(action.token_ids) for t in trajectories for action in t.actions)


def test_a_few_demonstrations_are_learnt_by_heart() -> None:
    policy = build_policy(initializer_range=0.05)
    wanted = demonstrations(policy)[:4]
    losses = SFT(policy, batch_size=4, learning_rate=5e-3).learn(wanted, epochs=60)
    assert losses[0] > 3 and losses[-1] < 0.05
    longest = max(len(action.token_ids) for t in wanted for action in t.actions)
    got = converse(policy, scripts()[:4], max_tokens=longest)
    assert [t.token_ids for t in got] == [t.token_ids for t in wanted]
    assert not policy.training


def test_the_loss_is_the_mean_over_action_tokens_by_hand() -> None:
    policy = build_policy()
    wanted = demonstrations(policy)
    with torch.no_grad():
        expected = -policy(collate(wanted, policy.family)).logprobs.mean().item()
    assert SFT(policy, batch_size=5, learning_rate=0.0).learn(wanted, epochs=1) == pytest.approx([expected], abs=1e-4)


def test_only_positions_before_action_tokens_get_a_gradient() -> None:
    """The gradient at the head's input is zero wherever the next token is not the policy's own."""
    policy = build_policy()
    wanted = demonstrations(policy)[:2]
    kept: list[torch.Tensor] = []

    def keep(module: object, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = policy.model.model.language_model.norm.register_forward_hook(keep)
    SFT(policy, batch_size=2, learning_rate=0.0).learn(wanted, epochs=1)
    handle.remove()
    batch = collate(wanted, policy.family)
    trained = torch.zeros(batch.input_ids.numel(), dtype=torch.bool)
    trained[batch.places(batch.rows, batch.columns - 1)] = True
    size = kept[0].grad.abs().sum(-1).flatten()
    assert (size[trained] > 0).all() and (size[~trained] == 0).all()
    assert int(trained.sum()) == tokens(wanted)


def test_the_gradient_does_not_depend_on_the_micro_batch() -> None:
    policy = build_policy()
    wanted = demonstrations(policy)
    losses, gradients = [], []
    for size in (5, 1):
        sft = SFT(policy, batch_size=5, microbatch_size=size, learning_rate=0.0, max_grad_norm=1e9)
        losses += sft.learn(wanted, epochs=1)
        gradients.append(torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-5


def test_the_critic_is_left_alone() -> None:
    policy = build_policy()
    before = [p.clone() for p in policy.value_head.parameters()]
    SFT(policy, learning_rate=1e-2, weight_decay=0.1).learn(demonstrations(policy), epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.value_head.parameters(), strict=True))


def test_the_learning_rate_rises_and_falls_as_stated() -> None:
    """Ten steps with a fifth of warm-up: 1/2, 1, then half a cosine over the other eight; and again."""
    policy = build_policy()
    wanted = demonstrations(policy)[:2]
    sft = SFT(policy, batch_size=1, learning_rate=1e-4, warmup=0.2)
    expected = [0.5, 1.0] + [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    for _ in range(2):
        rates: list[float] = []
        hook = sft.optimizer.register_step_pre_hook(
            lambda optimizer, *_, rates=rates: rates.append(optimizer.param_groups[0]["lr"])
        )
        sft.learn(wanted, epochs=5)
        hook.remove()
        assert rates == pytest.approx([1e-4 * share for share in expected])


def test_the_callback_sees_every_step_and_seeds_repeat() -> None:
    def run(seed: int) -> tuple[list[tuple[int, float]], list[float]]:
        policy = build_policy()
        seen: list[tuple[int, float]] = []
        sft = SFT(policy, batch_size=2, learning_rate=1e-3, seed=seed)
        return seen, sft.learn(demonstrations(policy), epochs=2, callback=lambda *step: seen.append(step))

    seen, losses = run(0)
    assert seen == list(enumerate(losses, start=1)) and len(losses) == 2 * 3
    assert run(0)[1] == losses != run(1)[1]


def test_no_demonstrations_are_an_error(shared_policy: VLMPolicy) -> None:
    with pytest.raises(ValueError, match="no demonstrations"):
        SFT(shared_policy).learn([])


def test_a_token_that_can_not_be_written_stops_the_run_and_changes_nothing() -> None:
    policy = build_policy()
    wanted = demonstrations(policy)
    segments = list(wanted[0].segments)
    start = policy.family.tokenizer.convert_tokens_to_ids("<|im_start|>")
    segments[1] = replace(segments[1], token_ids=(start,))
    before = [p.clone() for p in policy.parameters()]
    with pytest.raises(FloatingPointError, match="must never write"):
        SFT(policy, learning_rate=1e-2).learn([replace(wanted[0], segments=tuple(segments))])
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5])
def test_a_killed_run_goes_on_with_the_same_steps(killed_after: int) -> None:
    """Weights, optimizer and state of step k, in new objects: the steps after it are those of the whole run."""

    class Killed(Exception):
        pass

    def start(policy: VLMPolicy) -> SFT:
        return SFT(policy, batch_size=2, learning_rate=1e-3, warmup=0.2, seed=3)

    policy = build_policy()
    wanted = demonstrations(policy)  # five: steps of 2, 2 and 1
    whole = start(policy).learn(wanted, epochs=2)
    saved: dict[str, object] = {}

    def save(step: int, loss: float) -> None:
        if step == killed_after:
            saved.update(copy.deepcopy({"state": sft.state(), "optimizer": sft.optimizer.state_dict()}))
            saved["weights"] = {name: tensor.clone() for name, tensor in first.state_dict().items()}
            raise Killed

    first = build_policy()
    sft = start(first)
    with pytest.raises(Killed):
        sft.learn(wanted, epochs=2, callback=save)
    second = build_policy(seed=9)
    second.load_state_dict(saved["weights"])
    resumed = start(second)
    resumed.optimizer.load_state_dict(saved["optimizer"])
    resumed.load_state(saved["state"])
    steps: list[int] = []
    assert resumed.learn(wanted, epochs=2, callback=lambda step, loss: steps.append(step)) == whole[killed_after:]
    assert steps == list(range(killed_after + 1, 7))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), second.parameters(), strict=True))


def test_forward_passes_are_limited_by_tokens_and_the_gradient_is_the_same() -> None:
    policy = build_policy()
    wanted = demonstrations(policy)
    lengths = sorted((len(t.token_ids) for t in wanted), reverse=True)
    limit = lengths[0] + lengths[-1]
    passes = SFT(policy, microbatch_tokens=limit)._microbatches(wanted)
    assert sorted((len(t.token_ids) for one in passes for t in one), reverse=True) == lengths
    assert 1 < len(passes) < len(wanted)
    assert all(sum(len(t.token_ids) for t in one) <= limit for one in passes)
    assert len(SFT(policy, microbatch_tokens=1)._microbatches(wanted)) == len(wanted)
    losses, norms = [], []
    for tokens in (None, limit, 1):
        sft = SFT(policy, batch_size=5, microbatch_tokens=tokens, learning_rate=0.0)
        losses += sft.learn(wanted, epochs=1)
        norms.append(sft.grad_norm)
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-4) and norms == pytest.approx([norms[0]] * 3, rel=1e-4)


def test_evaluation_is_the_mean_over_action_tokens_and_teaches_nothing() -> None:
    policy = build_policy()
    wanted = demonstrations(policy)
    before = [p.clone() for p in policy.parameters()]
    with torch.no_grad():
        expected = -policy(collate(wanted, policy.family)).logprobs.mean().item()
    for size in (1, 5):
        assert SFT(policy, microbatch_size=size).evaluate(wanted) == pytest.approx(expected, abs=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    assert all(p.grad is None for p in policy.parameters())
    with pytest.raises(ValueError, match="evaluate on"):
        SFT(policy).evaluate([])
