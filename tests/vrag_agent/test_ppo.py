"""PPO: which tokens are trained, by how much, and every alarm that must stop a run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import codeword
import pytest
import torch
from conversations import build_policy, converse, perturb, picture, scripts

from vrag_agent.alarms import AlarmError, AlarmWarning
from vrag_agent.config import PPOConfig
from vrag_agent.parity import ParityError
from vrag_agent.policy import VLMPolicy
from vrag_agent.ppo import PPO
from vrag_agent.reference import Reference
from vrag_agent.trajectory import Trajectory, collate
from vrag_env.episode import Episode, Text

HUGE = 1e9


def no_episodes(count: int) -> Sequence[Episode]:
    raise AssertionError("these tests bring their own trajectories")


def trainer(policy: VLMPolicy, **options: Any) -> PPO:
    """One full-batch step that leaves its gradient and moves nothing, on the five scripted conversations."""
    defaults = {"n_episodes": 5, "minibatch_size": 5, "microbatch_size": 5, "n_epochs": 1, "kl_coef": 0.0}
    defaults["parity"] = "off"  # some of these tests train on what another policy has sampled
    still = {"max_grad_norm": HUGE, "learning_rate": 0.0, "value_learning_rate": 0.0}
    reference = options.pop("reference", None)
    return PPO(policy, no_episodes, PPOConfig(**(defaults | still | options)), reference=reference)


def gradient(policy: VLMPolicy) -> torch.Tensor:
    """The gradient that the last step left."""
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def played(policy: VLMPolicy, seed: int = 7) -> list[Trajectory]:
    return converse(policy, scripts(), generator=torch.Generator().manual_seed(seed))


def talkative(policy: VLMPolicy) -> VLMPolicy:
    """Give the value head weights, so that values and advantages differ from turn to turn."""
    torch.nn.init.normal_(policy.value_head.linear.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return policy


@pytest.mark.parametrize("size", [1, 2])
def test_the_gradient_does_not_depend_on_the_micro_batch(size: int) -> None:
    policy = talkative(build_policy())
    trajectories = played(policy)
    metrics, gradients = [], []
    for microbatch_size in (5, size):
        metrics.append(trainer(policy, microbatch_size=microbatch_size).train(trajectories))
        gradients.append((gradient(policy), policy.value_head.linear.weight.grad.clone()))
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() / a.norm() < 1e-5
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4, nan_ok=True)
    assert metrics[0]["train/grad_norm"] > 0.01


def test_the_order_of_trajectories_does_not_matter() -> None:
    policy = talkative(build_policy())
    trajectories = played(policy)
    scored, gradients = [], []
    for order in (trajectories, trajectories[::-1]):
        ppo = trainer(policy)
        scored.append(ppo.score(order))
        ppo.train(order)
        gradients.append(gradient(policy))
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-5
    for name in ("logprobs", "advantages", "returns", "values"):
        forward, backward = (getattr(s, name) for s in scored)
        for a, b in zip(forward, backward[::-1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_first_step_is_the_policy_gradient_by_hand() -> None:
    """At ratio 1 the gradient is that of -mean(advantage * log-prob) over the action tokens of the batch."""
    policy = talkative(build_policy())
    trajectories = played(policy)
    ppo = trainer(policy)
    scored = ppo.score(trajectories)
    metrics = ppo.train(trajectories)
    got = gradient(policy)
    policy.zero_grad(set_to_none=True)
    advantages = torch.cat(scored.advantages)
    (-(policy(collate(trajectories, policy.family)).logprobs * advantages).mean()).backward()
    assert (got - gradient(policy)).norm() / got.norm() < 1e-5
    assert metrics["train/policy_gradient_loss"] == pytest.approx(-advantages.mean().item(), abs=1e-6)
    errors = torch.cat(scored.values) - torch.cat(scored.returns)
    assert metrics["train/value_loss"] == pytest.approx(errors.square().mean().item(), rel=1e-5)
    with torch.no_grad():
        entropy = policy(collate(trajectories, policy.family)).entropy.mean().item()
    assert metrics["train/entropy"] == pytest.approx(entropy, rel=1e-4)
    assert metrics["train/approx_kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["train/clip_fraction"] == 0


def test_without_advantage_there_is_no_gradient() -> None:
    policy = build_policy()
    trajectories = [
        replace(t, segments=tuple(replace(s, reward=0.0) if s.kind == "action" else s for s in t.segments))
        for t in played(policy)
    ]
    metrics = trainer(policy).train(trajectories)
    assert gradient(policy).abs().max() == 0
    assert metrics["train/policy_gradient_loss"] == 0 == metrics["train/value_loss"]


def test_turn_advantages_reach_exactly_the_tokens_of_their_turn() -> None:
    """By hand for zero values with gamma 0.5 and lambda 1: discounted sums of rewards to the end."""
    policy = build_policy()
    trajectories = played(policy)
    ppo = trainer(policy, gamma=0.5, lam=1.0, normalize_advantages=False)
    scored = ppo.score(trajectories)
    for index, trajectory in enumerate(trajectories):
        to_come, expected, returns = 0.0, [], []
        for action in reversed(trajectory.actions):
            to_come = action.reward + 0.5 * to_come
            expected = [to_come] * len(action.token_ids) + expected
            returns.insert(0, to_come)
        assert scored.advantages[index].tolist() == pytest.approx(expected)
        assert scored.returns[index].tolist() == pytest.approx(returns)


def test_advantages_are_whitened_over_action_tokens() -> None:
    policy = talkative(build_policy())
    flat = torch.cat(trainer(policy).score(played(policy)).advantages)
    assert flat.mean().item() == pytest.approx(0, abs=1e-6) and flat.std().item() == pytest.approx(1, abs=1e-5)


def test_critic_and_actor_have_a_lambda_each() -> None:
    policy = talkative(build_policy())
    trajectories = played(policy)
    options = {"normalize_advantages": False, "gamma": 1.0}
    scored = trainer(policy, lam=0.0, value_lam=1.0, **options).score(trajectories)
    for index, trajectory in enumerate(trajectories):
        values, rewards = scored.values[index].tolist(), trajectory.rewards
        assert scored.returns[index].tolist() == pytest.approx(
            [sum(rewards[turn:]) for turn in range(len(rewards))], abs=1e-5
        )
        errors = [r + after - v for r, v, after in zip(rewards, values, [*values[1:], 0.0], strict=True)]
        expected = [e for e, a in zip(errors, trajectory.actions, strict=True) for _ in a.token_ids]
        assert scored.advantages[index].tolist() == pytest.approx(expected, abs=1e-5)


def test_more_observation_does_not_change_what_is_trained() -> None:
    policy = build_policy()
    script = [[Text("?")], [Text("the page")], [Text("abc")]]
    longer = [[Text("?")], [Text("the page"), picture(1), Text("is abcd " * 9)], [Text("abc")]]
    results = []
    for conversation in (script, longer):
        trajectory = converse(policy, [conversation])[0]
        fixed = converse(policy, [script])[0].actions
        segments = list(trajectory.segments)
        segments[1::2] = fixed  # the same actions in both
        trajectory = replace(trajectory, segments=tuple(segments))
        options = {"n_episodes": 1, "minibatch_size": 1, "normalize_advantages": False}
        batch = collate([trajectory], policy.family)
        metrics = trainer(policy, **options).train([trajectory])
        results.append((batch.action_ids.tolist(), batch.turns.tolist(), metrics["train/policy_gradient_loss"]))
    assert results[0][:2] == results[1][:2]
    assert results[0][2] == pytest.approx(results[1][2], abs=1e-6) and abs(results[0][2]) > 0.05


def test_the_kl_is_taken_off_the_reward_of_its_turn() -> None:
    policy, reference = build_policy(), perturb(build_policy(), 0.02)
    trajectories = played(policy)
    ppo = trainer(policy, kl_coef=0.1, reference=Reference(reference), normalize_advantages=False)
    scored = ppo.score(trajectories)
    total, tokens = 0.0, 0
    for index, trajectory in enumerate(trajectories):
        batch = collate([trajectory], policy.family)
        with torch.no_grad():
            k1 = policy(batch).logprobs - reference(batch).logprobs
        rewards = [
            reward - 0.1 * k1[batch.turns == turn].sum().item() for turn, reward in enumerate(trajectory.rewards)
        ]
        expected = [sum(rewards[turn:]) for turn in range(len(rewards))]
        assert scored.returns[index].tolist() == pytest.approx(expected, abs=1e-4)
        total, tokens = total + k1.sum().item(), tokens + k1.numel()
    assert scored.ref_kl == pytest.approx(total / tokens, abs=1e-4)
    assert abs(scored.ref_kl) > 0.01


def test_the_reference_is_the_policy_as_it_was() -> None:
    policy = build_policy()
    trajectories = played(policy)
    ppo = trainer(policy, kl_coef=0.1, learning_rate=1e-2)
    batch = collate(trajectories, policy.family)
    assert ppo.reference is not None
    before = ppo.reference.logprobs(batch)
    assert torch.equal(before, policy(batch).logprobs)
    assert ppo.score(trajectories).ref_kl == 0
    ppo.train(trajectories)
    trained = policy(batch).logprobs.detach()
    assert torch.equal(ppo.reference.logprobs(batch), before)
    assert torch.equal(policy(batch).logprobs, trained) and (trained - before).abs().max() > 0.01  # swapped back
    assert abs(ppo.score(trajectories).ref_kl) > 0.01
    assert trainer(policy).reference is None  # no coefficient, no copy


def test_the_reference_of_an_adapter_is_the_base() -> None:
    peft = pytest.importorskip("peft", reason="trains adapters with it")
    base = build_policy()
    trajectories = played(base)
    model = build_policy().model
    config = peft.LoraConfig(r=4, target_modules=base.family.lora_targets)
    policy = VLMPolicy(model, base.family, system="", adapter=peft.get_peft_model(model, config)).eval()
    ppo = trainer(policy, kl_coef=0.1, learning_rate=1e-3)
    assert isinstance(ppo.reference, Reference) and not ppo.reference.weights  # nothing is copied
    batch = collate(trajectories, base.family)
    assert torch.equal(ppo.reference.logprobs(batch), base(batch).logprobs)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter += 0.05
        expected = (policy(batch).logprobs - base(batch).logprobs).mean().item()
    assert ppo.score(trajectories).ref_kl == pytest.approx(expected, abs=1e-4) and abs(expected) > 1e-3
    # After a cold start the reference is the adapter as it was, not the base.
    later = trainer(policy, kl_coef=0.1)
    assert later.score(trajectories).ref_kl == 0 and set(later.reference.weights) == {
        name for name, parameter in policy.named_parameters() if "lora_" in name
    }
    frozen = {n: p.clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    ppo.train(trajectories)
    after = dict(policy.model.named_parameters())
    assert frozen and all(torch.equal(value, after[name]) for name, value in frozen.items())


def test_while_the_critic_warms_up_the_backbone_stands_still() -> None:
    policy = build_policy()
    trajectories = played(policy)
    ppo = trainer(policy, critic_warmup=1, learning_rate=1e-2, value_learning_rate=1e-2, kl_coef=0.1)
    before = [p.clone() for p in policy.model.parameters()]
    metrics = ppo.train(trajectories)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))
    assert all(p.grad is None for p in policy.model.parameters())
    assert policy.value_head.linear.weight.abs().max() > 0
    assert policy.version == 0 and "train/grad_norm" not in metrics
    ppo.iteration = 1
    ppo.train(trajectories)
    assert not all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))
    assert policy.version == 1


def test_the_critic_learns_the_returns() -> None:
    policy = build_policy()
    trajectories = played(policy)
    ppo = trainer(policy, critic_warmup=100, value_learning_rate=3e-2, n_epochs=60)
    first, *_, last = [ppo.train(trajectories) for _ in range(3)]
    assert math.isclose(first["train/explained_variance"], 0.0, abs_tol=1e-6)
    assert last["train/explained_variance"] > 0.9


def test_a_policy_that_changes_between_scoring_and_training_stops_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = build_policy()
    trajectories = played(policy)
    ppo = trainer(policy)
    score: Callable[[Sequence[Trajectory]], Any] = ppo.score

    def score_and_change(batch: Sequence[Trajectory]) -> Any:
        scored = score(batch)
        perturb(policy, 0.01)
        return scored

    monkeypatch.setattr(ppo, "score", score_and_change)  # stands for any fault between the two
    with pytest.raises(ParityError, match="first ratios of an iteration differ from 1"):
        ppo.train(trajectories)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_in_training_does_not_disturb_the_ratio(checkpointing: bool) -> None:
    policy = build_policy()
    layers = policy.model.model.language_model.layers
    for layer in layers:
        layer.self_attn.attention_dropout = 0.5
        layer.mlp.act_fn = torch.nn.Sequential(layer.mlp.act_fn, torch.nn.Dropout(0.5))
    if checkpointing:
        policy.model.gradient_checkpointing_enable()
    trajectories = played(policy)
    policy.train()
    trainer(policy).train(trajectories)


def test_gradient_checkpointing_recomputes_layers_and_gives_the_same_gradient() -> None:
    calls, gradients = [], []
    trajectories = played(build_policy())
    for checkpointing in (False, True):
        policy = build_policy()
        if checkpointing:
            policy.model.gradient_checkpointing_enable()
        count = [0]
        first = policy.model.model.language_model.layers[0]
        first.mlp.register_forward_pre_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        trainer(policy).train(trajectories)
        calls.append(count[0])
        gradients.append(gradient(policy))
    assert calls == [2, 3]  # scoring and training; and once more in the backward pass
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-5


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_stops_the_run_and_changes_nothing(reward: float, warmup: int) -> None:
    policy = build_policy()
    trajectories = played(policy)
    segments = list(trajectories[0].segments)
    segments[1] = replace(segments[1], reward=reward)
    trajectories[0] = replace(trajectories[0], segments=tuple(segments))
    before = [p.clone() for p in policy.parameters()]
    ppo = trainer(policy, learning_rate=1e-2, value_learning_rate=1e-2, critic_warmup=warmup)
    with pytest.raises(FloatingPointError, match="updated nothing"):
        ppo.train(trajectories)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_a_sampler_that_saw_other_pixels_stops_the_run_before_anything_is_trained() -> None:
    policy = build_policy()
    trajectories = played(policy)
    metrics = trainer(policy, parity="stop").train(trajectories)
    assert metrics["train/sampler_gap"] < metrics["train/sampler_gap_max"] < 1e-3
    seen = trajectories[0].segments[2]
    other = replace(seen.images[0], pixel_values=seen.images[0].pixel_values.flip(0))
    segments = list(trajectories[0].segments)
    segments[2] = replace(seen, images=(other, *seen.images[1:]))
    wrong = [replace(trajectories[0], segments=tuple(segments)), *trajectories[1:]]
    before = [p.clone() for p in policy.parameters()]
    with pytest.raises(AlarmError, match="sampler_gap"):
        trainer(policy, parity="stop", learning_rate=1e-2).train(wrong)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    with pytest.warns(AlarmWarning, match="sampler_gap"):
        trainer(policy, parity="warn").train(wrong)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_that_is_shifted_by_one_stops_the_run(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutation: tokens are scored one place beside the one that they were sampled at."""
    policy = build_policy()
    trajectories = played(policy)

    def shifted(batch: Any) -> Any:
        beside = torch.minimum(batch.columns + shift, torch.tensor(batch.lengths)[batch.rows] - 1)
        return VLMPolicy.forward(policy, replace(batch, columns=beside))

    monkeypatch.setattr(policy, "forward", shifted)
    with pytest.raises(AlarmError, match="sampler_gap"):
        trainer(policy, parity="stop").train(trajectories)


@pytest.mark.parametrize("advantage", ["token_gae", "bilevel_gae"])
def test_token_level_advantages_by_hand(advantage: str) -> None:
    """Against the definition, token by token, with the values that the policy gives before each token."""
    policy = talkative(build_policy())
    trajectories = played(policy)
    dials = {"gamma": 0.9, "lam": 0.8, "value_lam": 1.0, "turn_gamma": 0.7, "turn_lam": 0.6}
    ppo = trainer(policy, advantage=advantage, normalize_advantages=False, **dials)
    scored = ppo.score(trajectories)
    with torch.no_grad():
        for trajectory, got, values in zip(trajectories, scored.advantages, scored.values, strict=True):
            batch = collate([trajectory], policy.family)
            out = policy(batch)
            v = out.token_values.tolist()
            assert values.tolist() == pytest.approx(v, abs=1e-5)
            first = [batch.turns.tolist().index(turn) for turn in range(len(trajectory.actions))]
            assert [v[i] for i in first] == pytest.approx(out.values.tolist(), abs=1e-6)
            last = [i - 1 for i in first[1:]] + [len(v) - 1]
            rewards = dict(zip(last, trajectory.rewards, strict=True))
            if advantage == "bilevel_gae":
                after, step = 0.0, 0.0
                for turn in reversed(range(len(first))):
                    start = v[first[turn]]
                    step = trajectory.rewards[turn] + 0.7 * after - start + 0.7 * 0.6 * step
                    rewards[last[turn]], after = step + start, start
            expected, after, step = [], 0.0, 0.0
            for i in reversed(range(len(v))):
                if advantage == "bilevel_gae" and i in last:
                    after, step = 0.0, 0.0
                step = rewards.get(i, 0.0) + 0.9 * after - v[i] + 0.9 * 0.8 * step
                after = v[i]
                expected.insert(0, step)
            assert got.tolist() == pytest.approx(expected, abs=1e-4)
    metrics = ppo.train(trajectories)
    assert math.isfinite(metrics["train/value_loss"])


def test_the_learning_rate_rises_over_the_first_steps() -> None:
    policy = build_policy()
    ppo = trainer(policy, learning_rate=1e-3, warmup_steps=4)
    trajectories = played(policy)
    rates = []
    for _ in range(5):
        ppo.train(trajectories)
        rates.append(ppo.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3])


def test_a_gradient_that_is_not_finite_stops_the_run_and_changes_nothing() -> None:
    policy = talkative(build_policy())
    trajectories = played(policy)
    policy.model.lm_head.weight.register_hook(lambda grad: grad * math.nan)
    before = [p.clone() for p in policy.parameters()]
    with pytest.raises(FloatingPointError, match="grad_norm is nan"):
        trainer(policy, learning_rate=1e-2).train(trajectories)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_the_gradient_is_scaled_down_to_the_largest_norm_allowed() -> None:
    policy = talkative(build_policy())
    trajectories = played(policy)
    metrics = trainer(policy, max_grad_norm=0.01).train(trajectories)
    assert metrics["train/grad_norm"] > 0.01  # as it was
    assert gradient(policy).norm().item() == pytest.approx(0.01, rel=1e-3)
    head = torch.cat([p.grad.flatten() for p in policy.value_head.parameters()])
    assert head.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_ids_are_trained_as_sampled() -> None:
    """The likelihood of the very ids that were rewarded rises, canonical or not."""
    policy = build_policy()
    pieces = [policy.family.encode(text)[0] for text in ("a", "b", "ab")]
    policy.forbidden[:] = True
    policy.forbidden[pieces] = False
    trajectories = played(policy)
    batch = collate(trajectories, policy.family)
    sampled = [i for t in trajectories for action in t.actions for i in action.token_ids]
    assert batch.action_ids.tolist() == sampled
    ppo = trainer(policy, learning_rate=1e-3, normalize_advantages=False)
    advantages = torch.cat(ppo.score(trajectories).advantages)
    before = policy(batch).logprobs.detach()
    ppo.train(trajectories)
    gain = ((policy(batch).logprobs.detach() - before) * advantages).mean()
    assert gain > 0.01


def test_a_policy_in_float64_can_be_trained() -> None:
    policy = build_policy().double()
    trajectories = played(policy)
    metrics = trainer(policy, kl_coef=0.1, ratio_tolerance=1e-9).train(trajectories)
    assert all(math.isfinite(value) for value in metrics.values())


def test_rounding_in_bfloat16_does_not_stop_the_run() -> None:
    policy = build_policy().to(torch.bfloat16)
    policy.value_head.float()
    trajectories = played(policy)
    metrics = trainer(policy, microbatch_size=2).train(trajectories)
    assert metrics["train/grad_norm"] > 0
    assert trainer(policy).ratio_tolerance == 5e-2 > trainer(build_policy()).ratio_tolerance == 1e-3


def test_seeds_repeat_every_metric() -> None:
    def run(seed: int) -> list[dict[str, float]]:
        policy = codeword.build_policy(0, initializer_range=0.1)
        config = PPOConfig(
            n_episodes=12,
            minibatch_size=4,
            microbatch_size=4,
            max_tokens=2,
            learning_rate=1e-3,
            kl_coef=0.01,
            seed=seed,
        )
        ppo = PPO(policy, codeword.episodes(True, seed=5), config)
        return [
            {name: value for name, value in metrics.items() if not name.startswith("time/") and value == value}
            for metrics in ppo.learn(2)
        ]

    first, again, other = run(1), run(1), run(2)
    assert first == again != other


def test_learn_reports_each_iteration() -> None:
    policy = codeword.build_policy(0, initializer_range=0.1)
    config = PPOConfig(n_episodes=8, minibatch_size=8, max_tokens=2, kl_coef=0.0, n_epochs=1)
    ppo = PPO(policy, codeword.episodes(False), config)
    seen: list[int] = []
    history = ppo.learn(2, callback=lambda number, metrics: seen.append(number))
    assert seen == [1, 2] and len(history) == 2 and policy.version == 2
    assert history[0]["rollout/ep_len_mean"] == 2.0
    assert history[0]["rollout/ep_rew_mean"] == history[0]["rollout/success_rate"]
    assert 1 <= history[0]["rollout/tokens_per_action"] <= 2
    for name in ("train/approx_kl", "train/clip_fraction", "train/explained_variance", "time/rollout"):
        assert name in history[0]


@pytest.mark.parametrize(
    "options", [{"minibatch_size": 6}, {"minibatch_size": 0}, {"n_epochs": 0}, {"microbatch_size": 0}]
)
def test_sizes_that_do_not_fit_are_errors(shared_policy: VLMPolicy, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        trainer(shared_policy, **options)
