"""Losses and advantages against TRL, run here, and against verl, whose numbers are stored with their origin.

Both run on one fixture of four sequences with holes where an environment wrote; ours run on its action tokens only.
The loss is that of a real trainer, with its weights, so that the aggregation is compared, too.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vrag_agent.advantages import dr_grpo, gae, grpo, reinforce, rloo, whiten
from vrag_agent.config import GRPOConfig
from vrag_agent.grpo import GRPO
from vrag_agent.losses import kl
from vrag_agent.policy import PolicyOutput, VLMPolicy
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.episode import Episode

STORED = json.loads((Path(__file__).parent / "goldens" / "verl_0_9_1.json").read_text(encoding="utf-8"))
GOLDEN = STORED["outputs"]
FIXTURE = {name: torch.tensor(value, dtype=torch.float64) for name, value in STORED["inputs"].items()}
MASK = FIXTURE["mask"].bool()
WHOLE = FIXTURE["sequence_advantages"][:, None].expand(MASK.shape)


def no_episodes(count: int) -> Sequence[Episode]:
    raise AssertionError("these tests bring their own numbers")


def turns_of(row: torch.Tensor) -> list[int]:
    """Action tokens of each turn: the runs of ones."""
    lengths, before = [], False
    for here in row.tolist():
        if here:
            lengths[-1:] = [lengths[-1] + 1] if before else [*lengths[-1:], 1]
        before = here
    return lengths


def ours(policy: VLMPolicy, advantages: torch.Tensor, **options: Any) -> tuple[float, torch.Tensor]:
    """Loss, and gradient by the log-probs, ``(B, T)``, of a trainer on the fixture."""
    defaults = {"n_episodes": 4, "minibatch_size": 4, "group_size": 2, "kl_coef": 0.0, "constant_length": 16}
    trainer = GRPO(policy, no_episodes, GRPOConfig(**(defaults | options)))
    lengths = [turns_of(row) for row in MASK]
    trajectories = [
        Trajectory((Segment("prompt", (1,)), *(Segment("action", (2,) * n) for n in turns))) for turns in lengths
    ]
    batch = SimpleNamespace(
        rows=MASK.nonzero()[:, 0],
        turns=torch.tensor([turn for turns in lengths for turn, n in enumerate(turns) for _ in range(n)]),
        decision_rows=torch.tensor([row for row, turns in enumerate(lengths) for _ in turns]),
    )
    logprobs = FIXTURE["logprobs"].clone().requires_grad_()
    nothing = torch.zeros(int(MASK.sum()))
    loss, _ = trainer.policy_loss(
        batch,
        PolicyOutput(logprobs[MASK], nothing, nothing, nothing),
        FIXTURE["old"][MASK],
        FIXTURE["ref"][MASK],
        advantages[MASK],
        trainer.weigh(trajectories, range(4), lambda index: True),
        range(4),
    )
    loss.backward()
    return loss.item(), logprobs.grad


VERL = {
    "vanilla/token-mean": (FIXTURE["advantages"], {}),
    "vanilla/seq-mean-token-mean": (FIXTURE["advantages"], {"aggregation": "sequence_mean"}),
    "vanilla/seq-mean-token-sum-norm": (
        FIXTURE["advantages"],
        {"aggregation": "constant", "constant_length": 11},  # the length of the fixture
    ),
    "cispo/token-mean": (FIXTURE["advantages"], {"loss": "cispo"}),
    "gspo/seq-mean-token-mean": (
        WHOLE,
        {"ratio_level": "sequence", "aggregation": "sequence_mean"}
        | {"clip_low": 0.05, "clip_high": 0.06, "dual_clip": None},
    ),
}


@pytest.mark.parametrize("name", VERL)
def test_losses_equal_verl(name: str, shared_policy: VLMPolicy) -> None:
    advantages, options = VERL[name]
    loss, gradient = ours(shared_policy, advantages, **options)
    expected = torch.tensor(GOLDEN[name]["grad"], dtype=torch.float64)
    # verl divides by counts plus 1e-8 where a sequence is averaged
    assert loss == pytest.approx(GOLDEN[name]["loss"], rel=1e-7)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-8)
    assert expected.abs().max() > 0.01


def test_the_fixture_reaches_every_branch() -> None:
    """Both clips for both signs, and the dual clip; otherwise equality would say little."""
    ratio = (FIXTURE["logprobs"] - FIXTURE["old"]).exp()[MASK]
    advantages = FIXTURE["advantages"][MASK]
    for outside in (ratio < 0.8, ratio > 1.28):
        assert (outside & (advantages > 0)).any() and (outside & (advantages < 0)).any()
    assert ((ratio > 3) & (advantages < 0)).any()


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl_estimates_equal_verl(kind: str) -> None:
    got = kl(FIXTURE["logprobs"], FIXTURE["ref"], kind)
    torch.testing.assert_close(got, torch.tensor(GOLDEN[f"kl/{kind}"], dtype=torch.float64), rtol=0, atol=1e-12)


def test_gae_over_observations_equals_verl() -> None:
    golden = GOLDEN["gae"]
    advantages, returns = gae(FIXTURE["rewards"], FIXTURE["values"], MASK, golden["gamma"], golden["lam"])
    expected = torch.tensor(golden["advantages"], dtype=torch.float64)
    torch.testing.assert_close(whiten(advantages, MASK)[MASK], expected[MASK], rtol=0, atol=1e-7)  # verl whitens
    torch.testing.assert_close(
        returns[MASK], torch.tensor(golden["returns"], dtype=torch.float64)[MASK], rtol=0, atol=1e-12
    )
    naive, _ = gae(FIXTURE["rewards"], FIXTURE["values"], torch.ones_like(MASK), golden["gamma"], golden["lam"])
    assert (whiten(naive, MASK) - expected)[MASK].abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "estimator"), [("grpo", grpo), ("dr_grpo", dr_grpo), ("rloo", rloo), ("reinforce", reinforce)]
)
def test_group_advantages_equal_verl(name: str, estimator: Any) -> None:
    got = estimator(FIXTURE["returns"].view(2, 4)).flatten()
    # REINFORCE++ whitens over all tokens, three of each sequence there: its unbiased variance divides by 23, not by 7
    scale = ((8 - 1) / 8 * 24 / 23) ** 0.5 if name == "reinforce" else 1.0
    torch.testing.assert_close(got, torch.tensor(GOLDEN[name], dtype=torch.float64) * scale, rtol=0, atol=1e-7)


# ---------------------------------------------------------------------- TRL, as installed

trl_runs = pytest.mark.skipif(sys.version_info < (3, 11), reason="TRL 1.16 needs Python 3.11")


def trls(loss_type: str, advantages: torch.Tensor, **options: Any) -> tuple[float, torch.Tensor]:
    """Loss, and gradient by the log-probs, of TRL's own ``GRPOTrainer._compute_loss`` on the fixture."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    logprobs = FIXTURE["logprobs"].clone().requires_grad_()
    values = {
        "loss_type": loss_type,
        "importance_sampling_level": "token",
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "beta": 0.0,
        "delta": None,
        "use_bias_correction_kl": False,
    } | options
    args = SimpleNamespace(
        delta=values["delta"], use_bias_correction_kl=values["use_bias_correction_kl"], steps_per_generation=1
    )
    trainer = SimpleNamespace(
        **values,
        args=args,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=16,
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, torch.zeros_like(logprobs), None),
    )
    rows = len(MASK)
    inputs = {
        "prompt_ids": torch.ones(rows, 1, dtype=torch.long),
        "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
        "completion_ids": torch.ones_like(MASK, dtype=torch.long),
        "completion_mask": torch.ones_like(MASK, dtype=torch.long),
        "tool_mask": MASK.long(),
        "advantages": advantages,
        "old_per_token_logps": FIXTURE["old"],
        "ref_per_token_logps": FIXTURE["ref"],
        "num_items_in_batch": MASK.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    loss.backward()
    return loss.item(), logprobs.grad


KL = {"kl_coef": 0.1}
TRL = {
    "dapo": ("dapo", {}, {}),
    "grpo": ("grpo", {}, {"aggregation": "sequence_mean"}),
    "dr_grpo": ("dr_grpo", {}, {"aggregation": "constant"}),
    "cispo": ("cispo", {"epsilon_high": 5.0}, {"loss": "cispo"}),
    "k3": ("dapo", {"beta": 0.1}, KL | {"kl_estimator": "k3"}),
    "k3_ratio": ("dapo", {"beta": 0.1, "use_bias_correction_kl": True}, KL | {"kl_estimator": "k3_ratio"}),
}


@trl_runs
@pytest.mark.parametrize("name", TRL)
def test_losses_equal_trl(name: str, shared_policy: VLMPolicy) -> None:
    loss_type, theirs, mine = TRL[name]
    expected, expected_gradient = trls(loss_type, FIXTURE["advantages"], **theirs)
    loss, gradient = ours(shared_policy, FIXTURE["advantages"], **({"dual_clip": None} | mine))
    assert loss == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)
    assert expected_gradient.abs().max() > 0.01


@trl_runs
def test_sequence_ratio_equals_trl(shared_policy: VLMPolicy) -> None:
    theirs = {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.06}
    expected, expected_gradient = trls("grpo", FIXTURE["sequence_advantages"], **theirs)
    options = {"clip_low": 0.05, "clip_high": 0.06, "dual_clip": None, "aggregation": "sequence_mean"}
    loss, gradient = ours(shared_policy, WHOLE, ratio_level="sequence", **options)
    assert loss == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)
    # with one turn per sequence the turn is the sequence; here there are more, and it is not
    by_turn, _ = ours(shared_policy, WHOLE, ratio_level="turn", **options)
    assert abs(by_turn - loss) > 1e-4
