"""Advantages: numbers by hand, Stable-Baselines3 on the same data, masked steps that do not count."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_agent.advantages import (
    bilevel_gae,
    dr_grpo,
    explained_variance,
    gae,
    grpo,
    reinforce,
    rloo,
    token_rewards,
    whiten,
)

DOUBLE = torch.float64


def test_gae_by_hand() -> None:
    # gamma 0.5, lambda 0.5. Step 2: 4 - 2 = 2. Step 1: 0 + 0.5 * 2 - 1 + 0.25 * 2 = 0.5.
    # Step 0: 1 + 0.5 * 1 - 3 + 0.25 * 0.5 = -1.375.
    rewards = torch.tensor([[1.0, 0.0, 4.0]])
    values = torch.tensor([[3.0, 1.0, 2.0]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[-1.375, 0.5, 2.0]]
    assert returns.tolist() == [[1.625, 1.5, 4.0]]


def test_masked_steps_are_jumped_over_by_hand() -> None:
    # The same three steps with holes before, between and after: the same numbers there, zero in the holes.
    rewards = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0, 4.0, 0.0]])
    values = torch.tensor([[9.0, 3.0, -8.0, 1.0, 77.0, 2.0, 5.0]])
    mask = torch.tensor([[0, 1, 0, 1, 0, 1, 0]])
    advantages, returns = gae(rewards, values, mask, gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[0, -1.375, 0, 0.5, 0, 2.0, 0]]
    assert returns.tolist() == [[0, 1.625, 0, 1.5, 0, 4.0, 0]]


def test_what_stands_on_masked_steps_does_not_matter_even_if_it_is_not_a_number() -> None:
    torch.manual_seed(0)
    mask = torch.rand(4, 11) < 0.5
    rewards = torch.randn(4, 11, dtype=DOUBLE) * mask
    values = torch.randn(4, 11, dtype=DOUBLE)
    expected = gae(rewards, values, mask, 0.9, 0.8)
    for junk in (1e6, math.nan, math.inf):
        got = gae(rewards, values.masked_fill(~mask, junk), mask, 0.9, 0.8)
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b)


def test_a_recursion_that_treats_holes_as_steps_gives_other_numbers() -> None:
    torch.manual_seed(0)
    mask = torch.rand(4, 11) < 0.5
    rewards, values = torch.randn(4, 11) * mask, torch.randn(4, 11)
    advantages, _ = gae(rewards, values, mask)
    naive, _ = gae(rewards, values, torch.ones(4, 11))
    assert ((advantages - naive) * mask).abs().max() > 0.1


def test_a_reward_on_a_masked_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="masked step"):
        gae(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), torch.tensor([[1, 0]]))


def test_without_discount_and_decay_the_advantage_is_the_outcome_minus_the_value() -> None:
    torch.manual_seed(1)
    rewards, values = torch.randn(3, 6, dtype=DOUBLE), torch.randn(3, 6, dtype=DOUBLE)
    advantages, returns = gae(rewards, values, torch.ones(3, 6), gamma=1.0, lam=1.0)
    to_come = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(returns, to_come)
    torch.testing.assert_close(advantages, to_come - values)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31 - 1), st.floats(0, 1), st.floats(0, 1))
def test_holes_change_nothing(seed: int, gamma: float, lam: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 9, generator=generator) < 0.6
    rewards = torch.randn(1, 9, generator=generator, dtype=DOUBLE) * mask
    values = torch.randn(1, 9, generator=generator, dtype=DOUBLE)
    spread = gae(rewards, values, mask, gamma, lam)
    packed = gae(rewards[mask][None], values[mask][None], torch.ones(1, int(mask.sum())), gamma, lam)
    if mask.any():
        for a, b in zip(spread, packed, strict=True):
            torch.testing.assert_close(a[mask], b[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.7), (0.99, 1.0)])
def test_equals_stable_baselines3(gamma: float, lam: float) -> None:
    pytest.importorskip("stable_baselines3", reason="compares with it")
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    rng = np.random.default_rng(0)
    steps, rows = 7, 3
    box = spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(steps, box, box, gamma=gamma, gae_lambda=lam, n_envs=rows)
    rewards, values = rng.normal(size=(2, steps, rows)).astype(np.float32)
    starts = np.zeros((steps, rows), dtype=bool)
    starts[0] = True
    zero = np.zeros((rows, 1), dtype=np.float32)
    for step in range(steps):
        value = torch.from_numpy(values[step])
        buffer.add(zero, zero, rewards[step], starts[step], value, torch.zeros(rows))
    buffer.compute_returns_and_advantage(torch.full((rows,), 123.0), dones=np.ones(rows))
    advantages, returns = gae(
        torch.from_numpy(rewards.T.copy()),
        torch.from_numpy(values.T.copy()),
        torch.ones(rows, steps),
        gamma,
        lam,
    )
    np.testing.assert_allclose(advantages.numpy(), buffer.advantages.T, atol=1e-5)
    np.testing.assert_allclose(returns.numpy(), buffer.returns.T, atol=1e-5)


def test_whiten_by_hand() -> None:
    # 1, 3, 5 have mean 3 and unbiased standard deviation 2; the masked 100 takes no part.
    x = torch.tensor([1.0, 100.0, 3.0, 5.0], dtype=DOUBLE)
    mask = torch.tensor([1, 0, 1, 1])
    torch.testing.assert_close(whiten(x, mask), torch.tensor([-1.0, 0.0, 0.0, 1.0], dtype=DOUBLE))


def test_whiten_does_not_blow_up_equal_or_lonely_entries() -> None:
    assert whiten(torch.full((4,), 2.5), torch.ones(4)).tolist() == [0, 0, 0, 0]
    assert whiten(torch.tensor([3.0, 9.0]), torch.tensor([1, 0])).tolist() == [3, 0]
    assert whiten(torch.tensor([3.0]), torch.tensor([0])).tolist() == [0]


def test_explained_variance_by_hand() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])  # variance 1.25
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.zeros(4), returns) == 0.0
    # Residuals 0, 0, 0, 1: variance 3/16, so 1 - 0.1875 / 1.25 = 0.85.
    assert explained_variance(torch.tensor([1.0, 2.0, 3.0, 3.0]), returns) == pytest.approx(0.85)
    assert math.isnan(explained_variance(torch.tensor([0.0, 1.0]), torch.ones(2)))


def test_the_reward_of_a_turn_stands_on_its_last_token() -> None:
    placed = token_rewards(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([2, 1, 3]))
    assert placed.tolist() == [0, 1, 0, 0, 0, 5]


def test_bilevel_gae_by_hand() -> None:
    # Two turns of two tokens; values before the tokens 1, 2, 3, 4; rewards 0 and 8; all discounts 0.5, all lambdas 1.
    # Turns: A1 = 8 - 3 = 5; A0 = 0 + 0.5 * 3 - 1 + 0.5 * 5 = 3. Returns 4 and 8 go to the last tokens.
    # Inside turn 0: 4 - 2 = 2; 0.5 * 2 - 1 + 0.5 * 2 = 1. Inside turn 1: 8 - 4 = 4; 0.5 * 4 - 3 + 0.5 * 4 = 1.
    advantages, returns = bilevel_gae(
        torch.tensor([0.0, 8.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2, 2]), 0.5, 1.0, 0.5, 1.0
    )
    assert advantages.tolist() == [1, 2, 1, 4]
    assert returns.tolist() == [2, 4, 4, 8]


def test_bilevel_gae_of_one_turn_is_token_gae() -> None:
    torch.manual_seed(3)
    values = torch.randn(5, dtype=DOUBLE)
    reward = torch.tensor([1.5], dtype=DOUBLE)
    got = bilevel_gae(reward, values, torch.tensor([5]), 0.9, 0.8, 0.7, 0.6)
    placed = token_rewards(reward, torch.tensor([5]))
    expected = gae(placed[None], values[None], torch.ones(1, 5), 0.9, 0.8)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b[0], rtol=0, atol=1e-12)


def test_bilevel_gae_of_turns_of_one_token_is_turn_gae() -> None:
    torch.manual_seed(4)
    rewards, values = torch.randn(2, 4, dtype=DOUBLE)
    got = bilevel_gae(rewards, values, torch.ones(4, dtype=torch.long), 0.1, 0.2, 0.9, 0.8)
    expected = gae(rewards[None], values[None], torch.ones(1, 4), 0.9, 0.8)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b[0], rtol=0, atol=1e-12)


def test_group_advantages_by_hand() -> None:
    # Group 1: returns 0, 0, 3, mean 1, unbiased standard deviation sqrt(3). Group 2: all equal.
    returns = torch.tensor([[0.0, 0.0, 3.0], [2.0, 2.0, 2.0]], dtype=DOUBLE)
    assert dr_grpo(returns).tolist() == [[-1, -1, 2], [0, 0, 0]]
    expected = [x / (math.sqrt(3) + 1e-6) for x in (-1, -1, 2)]
    assert grpo(returns)[0].tolist() == pytest.approx(expected, abs=1e-12) and not grpo(returns)[1].any()
    assert rloo(returns).tolist() == [[-1.5, -1.5, 3], [0, 0, 0]]
    flat = returns.flatten()
    torch.testing.assert_close(reinforce(returns).flatten(), (flat - flat.mean()) / flat.std(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("estimator", [grpo, dr_grpo, rloo])
def test_a_group_of_one_is_an_error(estimator: Any) -> None:
    with pytest.raises(ValueError, match="episodes > 1"):
        estimator(torch.ones(3, 1))


def test_whitening_over_processes_is_whitening_of_all() -> None:
    """Two halves whose sums are exchanged, as processes do, give what one process gives."""
    torch.manual_seed(5)
    x = torch.randn(10, dtype=DOUBLE)
    halves = [x[:3], x[3:]]

    def total(part: int) -> Any:
        calls = iter(
            [
                torch.stack([torch.tensor(10.0, dtype=DOUBLE), x.sum()]),
                (x - x.mean()).square().sum(),
            ]
        )
        return lambda mine: next(calls)

    got = torch.cat([whiten(half, torch.ones_like(half), total=total(i)) for i, half in enumerate(halves)])
    torch.testing.assert_close(got, whiten(x, torch.ones_like(x)), rtol=0, atol=1e-12)
