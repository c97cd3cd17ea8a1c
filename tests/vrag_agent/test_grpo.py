"""GRPO: what is compared with what, what is left out, and that it learns what PPO learns."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import codeword
import pytest
import torch
from conversations import build_policy, converse, scripts

from vrag_agent.config import ConfigError, GRPOConfig, PPOConfig
from vrag_agent.grpo import GRPO
from vrag_agent.policy import VLMPolicy
from vrag_agent.ppo import PPO
from vrag_agent.trainer import copies
from vrag_agent.trajectory import Trajectory, collate
from vrag_env.episode import Episode

HUGE = 1e9


def no_episodes(count: int) -> Sequence[Episode]:
    raise AssertionError("these tests bring their own trajectories")


def trainer(policy: VLMPolicy, **options: Any) -> GRPO:
    """One full-batch step that leaves its gradient and moves nothing, on three groups of two."""
    defaults = {"n_episodes": 6, "minibatch_size": 6, "microbatch_size": 6, "group_size": 2, "n_epochs": 1}
    still = {"max_grad_norm": HUGE, "learning_rate": 0.0, "kl_coef": 0.0}
    return GRPO(policy, no_episodes, GRPOConfig(**(defaults | still | options)))


def with_return(trajectory: Trajectory, value: float) -> Trajectory:
    """Put all reward on the last action."""
    segments = [replace(s, reward=0.0) if s.kind == "action" else s for s in trajectory.segments]
    last = max(i for i, s in enumerate(segments) if s.kind == "action")
    segments[last] = replace(segments[last], reward=value)
    return replace(trajectory, segments=tuple(segments))


@pytest.fixture(scope="module")
def policy() -> VLMPolicy:
    return build_policy()


@pytest.fixture(scope="module")
def played(policy: VLMPolicy) -> list[Trajectory]:
    """Three groups: returns 0 and 2, 1 and 1, 3 and 0.5."""
    conversations = [scripts()[i] for i in (0, 0, 1, 1, 3, 3)]
    trajectories = converse(policy, conversations, generator=torch.Generator().manual_seed(3))
    return [with_return(t, r) for t, r in zip(trajectories, (0.0, 2.0, 1.0, 1.0, 3.0, 0.5), strict=True)]


def gradient(trained: GRPO | PPO) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in trained.policy.model.parameters() if p.grad is not None])


def step(
    policy: VLMPolicy, trajectories: Sequence[Trajectory], **options: Any
) -> tuple[dict[str, float], torch.Tensor]:
    grpo = trainer(policy, **options)
    metrics = grpo.train(trajectories)
    return metrics, gradient(grpo)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).norm() / a.norm() < 1e-5)


def test_one_step_scores_in_its_own_pass(
    policy: VLMPolicy, played: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a second step or a KL, gradient and metrics are those of two passes, from half of the passes."""
    passes: list[int] = []
    handle = policy.model.model.language_model.register_forward_hook(lambda *_: passes.append(1))
    ours, ours_gradient = step(policy, played, microbatch_size=2)
    assert len(passes) == 2  # the group without a difference is not even looked at
    monkeypatch.setattr(GRPO, "one_pass", lambda self, count: False)
    theirs, theirs_gradient = step(policy, played, microbatch_size=2)
    handle.remove()
    assert len(passes) == 2 + 3 + 2
    assert close(ours_gradient, theirs_gradient)
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"train/sampler_gap", "train/sampler_gap_max"}:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6)
    assert 0 < ours["train/sampler_gap"] < 1e-4


@pytest.mark.parametrize("options", [{"n_epochs": 2}, {"minibatch_size": 2}, {"kl_coef": 0.1}])
def test_several_steps_or_a_kl_are_scored_beforehand(policy: VLMPolicy, options: dict[str, Any]) -> None:
    assert trainer(policy).one_pass(6) and not trainer(policy, **options).one_pass(6)


def test_every_token_has_the_advantage_of_its_episode(policy: VLMPolicy, played: list[Trajectory]) -> None:
    scored = trainer(policy, advantage="dr_grpo").score(played)
    expected = [-1.0, 1.0, 0.0, 0.0, 1.25, -1.25]
    for trajectory, row, value in zip(played, scored.advantages, expected, strict=True):
        assert len(row) == sum(len(a.token_ids) for a in trajectory.actions)
        assert row.tolist() == pytest.approx([value] * len(row))
    assert scored.flat == [False, False, True, True, False, False]
    assert scored.metrics["train/zero_variance_groups"] == pytest.approx(1 / 3)


def test_the_first_step_is_the_policy_gradient_by_hand(policy: VLMPolicy, played: list[Trajectory]) -> None:
    metrics, got = step(policy, played, advantage="rloo")
    policy.zero_grad(set_to_none=True)
    trained = [played[i] for i in (0, 1, 4, 5)]
    batch = collate(trained, policy.family)
    advantages = torch.tensor([-2.0, 2.0, 2.5, -2.5])[batch.rows]
    (-(policy(batch).logprobs * advantages).mean()).backward()
    assert close(got, torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]))
    assert metrics["train/policy_gradient_loss"] == pytest.approx(-advantages.mean().item(), abs=1e-6)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("level", ["token", "turn", "sequence"])
def test_the_gradient_depends_neither_on_micro_batches_nor_on_order(
    policy: VLMPolicy, played: list[Trajectory], aggregation: str, level: str
) -> None:
    options = {"aggregation": aggregation, "ratio_level": level, "entropy_coef": 0.01}
    whole, expected = step(policy, played, **options)
    cut, got = step(policy, played, microbatch_size=1, **options)
    assert close(expected, got) and cut == pytest.approx(whole, abs=1e-4)
    _, turned = step(policy, played[::-1], **options)
    assert close(expected, turned)


def test_a_group_without_variance_contributes_nothing(policy: VLMPolicy, played: list[Trajectory]) -> None:
    """Neither to the gradient nor to the counts that the loss is divided by."""
    _, with_it = step(policy, played)
    _, without = step(policy, [played[i] for i in (0, 1, 4, 5)], n_episodes=4, minibatch_size=4)
    assert close(with_it, without)
    _, counted = step(policy, played, skip_zero_variance=False)
    assert not close(with_it, counted) and counted.norm() < with_it.norm()


@pytest.mark.parametrize("option", ["drop_void_turns", "drop_truncated"])
def test_trajectories_that_are_left_out_have_no_gradient(
    policy: VLMPolicy, played: list[Trajectory], option: str
) -> None:
    marked = list(played)
    marked[0] = replace(played[0], info={"void_turns": 1}, truncated=True)
    _, kept = step(policy, marked)
    _, dropped = step(policy, marked, **{option: True})
    assert not close(kept, dropped)
    # By hand: the advantages are those of the whole groups, the mean is over the tokens of those that are left.
    policy.zero_grad(set_to_none=True)
    scored = trainer(policy).score(played)
    batch = collate([played[i] for i in (1, 4, 5)], policy.family)
    advantages = torch.cat([scored.advantages[i] for i in (1, 4, 5)])
    (-(policy(batch).logprobs * advantages).mean()).backward()
    assert close(dropped, torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]))


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_where_all_is_left_out_nothing_moves_and_nothing_is_nan(algorithm: str, played: list[Trajectory]) -> None:
    policy = build_policy()
    marked = [replace(t, info={"void_turns": 1}) for t in played]
    sizes = {"n_episodes": 6, "minibatch_size": 3, "n_epochs": 2, "kl_coef": 0.1, "learning_rate": 1e-2}
    made: GRPO | PPO
    if algorithm == "grpo":
        made = GRPO(policy, no_episodes, GRPOConfig(**sizes, group_size=2, drop_void_turns=True))
    else:
        made = PPO(policy, no_episodes, PPOConfig(**sizes, drop_void_turns=True))
    made.step()  # so that the optimizer has momentum, which must not move anything either
    before = [p.clone() for p in policy.model.parameters()]
    metrics = made.train(marked)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))
    assert all(math.isfinite(value) for value in metrics.values())
    assert "train/entropy" not in metrics and "train/grad_norm" not in metrics


def test_the_positive_loss_raises_what_was_right(policy: VLMPolicy, played: list[Trajectory]) -> None:
    """By hand: minus the mean log-prob of the tokens of successful episodes is added."""
    right = [replace(t, info={"is_success": i == 1}) for i, t in enumerate(played)]
    _, plain = step(policy, right)
    _, more = step(policy, right, positive_coef=0.5)
    policy.zero_grad(set_to_none=True)
    (-0.5 * policy(collate([played[1]], policy.family)).logprobs.mean()).backward()
    positive = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])
    assert close(more, plain + positive) and not close(more, plain)


def test_k1_is_taken_off_the_returns(policy: VLMPolicy, played: list[Trajectory]) -> None:
    class Half:
        """A reference under which every token is half a nat less likely."""

        def logprobs(self, batch: Any) -> torch.Tensor:
            with torch.no_grad():
                return policy(batch).logprobs - 0.5

    config = GRPOConfig(
        n_episodes=6, minibatch_size=6, group_size=2, kl_coef=0.1, kl_estimator="k1", advantage="dr_grpo"
    )
    scored = GRPO(policy, no_episodes, config, reference=Half()).score(played)
    lengths = [sum(len(a.token_ids) for a in t.actions) for t in played]
    returns = [sum(t.rewards) - 0.05 * n for t, n in zip(played, lengths, strict=True)]
    expected = [r - (returns[i // 2 * 2] + returns[i // 2 * 2 + 1]) / 2 for i, r in enumerate(returns)]
    assert [row[0].item() for row in scored.advantages] == pytest.approx(expected, abs=1e-5)
    assert scored.metrics["train/ref_kl"] == pytest.approx(0.5, abs=1e-5)


def test_the_kl_in_the_loss_pulls_towards_the_reference(played: list[Trajectory]) -> None:
    """Without advantages the only gradient is that of the KL; at the reference there is none."""
    policy = build_policy()
    level = [with_return(t, 1.0) for t in played]
    options = {"kl_coef": 1.0, "kl_estimator": "k2", "skip_zero_variance": False, "parity": "off"}
    grpo = trainer(policy, **options)
    grpo.train(level)
    assert gradient(grpo).abs().max() < 1e-6
    with torch.no_grad():
        policy.model.lm_head.weight += 0.05
    before = grpo.score(level).metrics["train/ref_kl"]
    grpo.train(level)
    assert gradient(grpo).norm() > 1e-3 and before != 0


def test_groups_are_copies_of_one_question() -> None:
    make = codeword.episodes(False, seed=1)
    grpo = GRPO(
        codeword.build_policy(0), make, GRPOConfig(n_episodes=12, minibatch_size=12, group_size=4, max_tokens=2)
    )
    episodes = grpo.fresh_episodes()
    names = [episode.question.question_id for episode in episodes]
    assert len(set(names)) == 3 and names == [name for name in names[::4] for _ in range(4)]
    trajectories = grpo.rollout(episodes)
    assert [t.question_id for t in trajectories] == names
    assert {len(episode.turns) for episode in episodes} == {2}  # the copies did not play each other's turns
    first, second = copies(make(1), 2)
    first.start()
    first.step_text("a")
    assert len(first.turns) == 1 and not second.start().info["turn"]


@pytest.mark.slow
def test_it_learns_the_codeword() -> None:
    policy = codeword.build_policy(0, initializer_range=0.1)
    config = GRPOConfig(
        n_episodes=128,
        minibatch_size=64,
        microbatch_size=64,
        group_size=8,
        learning_rate=1e-3,
        kl_coef=0.0,
        max_tokens=2,
    )
    grpo = GRPO(policy, codeword.episodes(False, seed=1), config)
    rates: list[float] = []
    while len(rates) < 60 and not (len(rates) > 2 and sum(rates[-3:]) > 2.7):
        rates.append(grpo.learn(1)[0]["rollout/success_rate"])
    assert sum(rates[-3:]) / 3 > 0.9 and rates[0] < 0.35


@pytest.mark.parametrize(
    ("options", "message"),
    [({"group_size": 1}, "at least 2"), ({"group_size": 4}, "multiple of group_size=4")],
)
def test_groups_that_do_not_fit_are_errors(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GRPOConfig(n_episodes=6, minibatch_size=6, **options)


def test_part_of_a_group_is_an_error(policy: VLMPolicy, played: list[Trajectory]) -> None:
    with pytest.raises(ValueError, match="5 trajectories are not whole groups of 2"):
        trainer(policy).score(played[:5])
