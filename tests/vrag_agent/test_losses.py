"""Losses: numbers worked out by hand, exact expectations on a small distribution, and no infinities."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_agent.losses import MAX_LOG_RATIO, cispo, kl, log_ratios, ppo_clip, trajectory_weight

DOUBLE = torch.float64


def test_every_branch_of_the_clip_by_hand() -> None:
    # Clip range [0.8, 1.3]; loss = -min(ratio * A, clipped * A).
    ratios = [1.0, 1.5, 1.5, 0.5, 0.5, 1.25]
    advantages = [2.0, 2.0, -2.0, 2.0, -2.0, 2.0]
    expected = [-2.0, -2.6, 3.0, -1.0, 1.6, -2.5]
    logprobs = torch.tensor(ratios, dtype=DOUBLE).log()
    loss = ppo_clip(logprobs, torch.zeros(6, dtype=DOUBLE), torch.tensor(advantages, dtype=DOUBLE), 0.2, 0.3)
    assert loss.tolist() == pytest.approx(expected, abs=1e-12)


def test_clipped_tokens_have_no_gradient() -> None:
    logprobs = torch.tensor([1.5, 1.25, 0.5, 0.5]).log().requires_grad_()
    ppo_clip(logprobs, torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, 1.0]), 0.2, 0.3).sum().backward()
    # The derivative of -ratio * A is itself; the first and third stand outside, on the flat side.
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.0, -1.25, 0.0, -0.5]))


def test_dual_clip_by_hand() -> None:
    # Ratio 5, A = -2: plain loss 10, bounded at 3 * 2 = 6. Positive advantages and ratios below 3 stay.
    logprobs = torch.tensor([5.0, 2.0, 5.0]).log().requires_grad_()
    advantages = torch.tensor([-2.0, -2.0, 2.0])
    loss = ppo_clip(logprobs, torch.zeros(3), advantages, 0.2, 0.2, dual_clip=3.0)
    torch.testing.assert_close(loss.detach(), torch.tensor([6.0, 4.0, -2.4]))
    loss.sum().backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.0, 4.0, 0.0]))
    unbounded = ppo_clip(logprobs.detach(), torch.zeros(3), advantages, 0.2, 0.2)
    assert unbounded[0].item() == pytest.approx(10.0)


def test_a_dual_clip_that_would_bound_the_unchanged_policy_is_an_error() -> None:
    with pytest.raises(ValueError, match="dual_clip must be above 1"):
        ppo_clip(torch.zeros(1), torch.zeros(1), torch.zeros(1), dual_clip=1.0)


def test_at_ratio_one_it_is_the_policy_gradient() -> None:
    torch.manual_seed(0)
    advantages = torch.randn(9, dtype=DOUBLE)
    logprobs = torch.randn(9, dtype=DOUBLE).requires_grad_()
    loss = ppo_clip(logprobs, logprobs.detach(), advantages, 0.2, 0.28, 3.0).mean()
    loss.backward()
    assert loss.item() == pytest.approx(-advantages.mean().item(), abs=1e-12)
    torch.testing.assert_close(logprobs.grad, -advantages / 9)


def test_equals_the_formula_of_stable_baselines3() -> None:
    torch.manual_seed(0)
    old, advantages = torch.randn(500, dtype=DOUBLE), torch.randn(500, dtype=DOUBLE)
    logprobs = old + 0.3 * torch.randn(500, dtype=DOUBLE)
    # stable_baselines3.ppo.PPO.train: the mean of the smaller of two surrogates, one symmetric range.
    ratio = torch.exp(logprobs - old)
    surrogates = torch.stack([advantages * ratio, advantages * torch.clamp(ratio, 0.8, 1.2)])
    expected = -surrogates.amin(0).mean()
    torch.testing.assert_close(ppo_clip(logprobs, old, advantages, 0.2, 0.2).mean(), expected)
    assert ((ratio - 1).abs() > 0.2).float().mean() > 0.2  # the comparison reaches the clipped branch


def test_a_higher_upper_clip_moves_the_upper_bound_only() -> None:
    logprobs = torch.tensor([1.25, 0.75]).log()
    advantages = torch.tensor([1.0, -1.0])
    symmetric = ppo_clip(logprobs, torch.zeros(2), advantages, 0.2, 0.2)
    higher = ppo_clip(logprobs, torch.zeros(2), advantages, 0.2, 0.28)
    torch.testing.assert_close(symmetric, torch.tensor([-1.2, 0.8]))
    torch.testing.assert_close(higher, torch.tensor([-1.25, 0.8]))


@settings(deadline=None, max_examples=100)
@given(st.floats(-1e4, 1e4), st.sampled_from([-1e3, -1.0, 0.0, 1.0, 1e3]), st.sampled_from([None, 3.0]))
def test_no_log_ratio_makes_an_infinity(log_ratio: float, advantage: float, dual_clip: float | None) -> None:
    logprobs = torch.tensor([log_ratio], requires_grad=True)
    loss = ppo_clip(logprobs, torch.zeros(1), torch.tensor([advantage]), dual_clip=dual_clip)
    loss.sum().backward()
    assert loss.isfinite().all() and logprobs.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize("log_ratio", [-1e30, -500.0, -89.0, 0.0, 89.0, 500.0, 1e30, -math.inf])
def test_no_log_ratio_makes_an_infinite_kl(kind: str, log_ratio: float) -> None:
    logprobs = torch.tensor([log_ratio], requires_grad=True)
    value = kl(logprobs, torch.zeros(1), kind)
    value.sum().backward()
    assert value.isfinite().all() and logprobs.grad.isfinite().all()


def exact() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two distributions over five symbols (as logits and log-probs) and the exact divergence."""
    logits = torch.tensor([0.3, -1.0, 0.7, 0.0, 1.1], dtype=DOUBLE, requires_grad=True)
    reference = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=DOUBLE).log()
    p = logits.log_softmax(-1)
    return logits, reference, (p.exp() * (p - reference)).sum()


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(kind: str) -> None:
    logits, reference, divergence = exact()
    p = logits.log_softmax(-1)
    expectation = (p.exp() * kl(p, reference, kind)).sum()
    assert expectation.item() == pytest.approx(divergence.item(), abs=1e-14)
    assert divergence.item() > 0.05


def expected_gradient(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Expected gradient of an estimate used as a loss on sampled symbols, and the exact one."""
    logits, reference, divergence = exact()
    (truth,) = torch.autograd.grad(divergence, logits, retain_graph=True)
    p = logits.log_softmax(-1)
    (gradient,) = torch.autograd.grad((p.detach().exp() * kl(p, reference, kind)).sum(), logits)
    return gradient, truth


def test_expected_gradients_as_losses() -> None:
    k1, truth = expected_gradient("k1")
    torch.testing.assert_close(k1, torch.zeros_like(k1), rtol=0, atol=1e-14)  # why k1 goes into the reward
    k2, truth = expected_gradient("k2")
    torch.testing.assert_close(k2, truth, rtol=0, atol=1e-14)
    k3, truth = expected_gradient("k3")
    assert (k3 - truth).abs().max() > 0.01  # k3 as a loss is biased: a known fact, not a fault of this code


def test_k2_and_k3_by_hand() -> None:
    logprobs = torch.tensor([2.0, 0.0, -1.0], dtype=DOUBLE)
    reference = torch.tensor([0.0, 0.0, 0.0], dtype=DOUBLE)
    assert kl(logprobs, reference, "k2").tolist() == [2.0, 0.0, 0.5]
    expected = [math.exp(-2) - 1 + 2, 0.0, math.e - 1 - 1]
    assert kl(logprobs, reference, "k3").tolist() == pytest.approx(expected, abs=1e-14)


@settings(deadline=None, max_examples=100)
@given(st.floats(-60, 60))
def test_k3_is_never_negative(log_ratio: float) -> None:
    value = kl(torch.tensor([log_ratio], dtype=DOUBLE), torch.zeros(1, dtype=DOUBLE), "k3")
    assert value.item() >= -1e-16
    clamped = max(-MAX_LOG_RATIO, min(MAX_LOG_RATIO, log_ratio))
    assert value.item() == pytest.approx(math.exp(-clamped) - 1 + clamped, rel=1e-9, abs=1e-12)


def test_an_unknown_estimate_is_an_error() -> None:
    with pytest.raises(ValueError, match="k1, k2, k3 or k3_ratio"):
        kl(torch.zeros(1), torch.zeros(1), "k4")


def test_k3_ratio_has_the_gradient_of_the_kl() -> None:
    """Sampled from the old policy, which is the current one at the moment of the gradient."""
    logits, reference, divergence = exact()
    (truth,) = torch.autograd.grad(divergence, logits, retain_graph=True)
    p = logits.log_softmax(-1)
    old = p.detach()
    loss = (old.exp() * kl(p, reference, "k3_ratio", old)).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, truth, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="k3_ratio needs"):
        kl(p, reference, "k3_ratio")


def test_cispo_by_hand() -> None:
    # Ratios 8 and 0.5 with a ceiling of 5: weights 5 and 0.5, constant for the gradient.
    logprobs = torch.tensor([8.0, 0.5], dtype=DOUBLE).log().requires_grad_()
    loss = cispo(logprobs, torch.zeros(2, dtype=DOUBLE), torch.tensor([2.0, -3.0], dtype=DOUBLE))
    assert loss.tolist() == pytest.approx([-5 * 2 * math.log(8), 0.5 * 3 * math.log(0.5)])
    loss.sum().backward()
    assert logprobs.grad.tolist() == pytest.approx([-10.0, 1.5])


def test_pooled_ratios_by_hand() -> None:
    # Sequence 0 has log-ratios 1 and 3, sequence 1 has -2: means 2, 2 and -2; each token keeps its own gradient.
    logprobs = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    pooled = log_ratios(logprobs, torch.zeros(3), torch.tensor([0, 1, 0]))
    assert pooled.tolist() == [2, -2, 2]
    (pooled * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert logprobs.grad.tolist() == [1, 10, 100]
    nothing = torch.zeros(0)
    assert log_ratios(nothing, nothing, torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_a_sequence_whose_mean_ratio_is_outside_is_clipped_as_a_whole() -> None:
    logprobs = torch.tensor([0.5, 0.1, 0.0], requires_grad=True)
    pool = torch.tensor([0, 0, 1])
    ppo_clip(logprobs, torch.zeros(3), torch.ones(3), 0.2, 0.2, pool=pool).sum().backward()
    assert logprobs.grad.tolist() == [0, 0, -1]  # by token, the second one would not be clipped


def test_weights_of_a_batch_by_hand() -> None:
    # Two trajectories of 2 and 6 tokens.
    weights = {how: [trajectory_weight(how, n, 8, 2, 10) for n in (2, 6)] for how in ("token_mean", "sequence_mean")}
    assert weights == {"token_mean": [1 / 8, 1 / 8], "sequence_mean": [1 / 4, 1 / 12]}
    assert trajectory_weight("constant", 6, 8, 2, 10) == 1 / 20
    assert math.isfinite(trajectory_weight("sequence_mean", 0, 0, 0))
    with pytest.raises(ValueError, match="token_mean, sequence_mean, constant"):
        trajectory_weight("mean", 1, 1, 1)
