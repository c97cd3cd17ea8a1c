"""VLMPolicy: padding and batching do not matter, pixels do, and the critic does not touch the backbone."""

from dataclasses import replace

import pytest
import torch
from conversations import build_policy, converse, scripts

from vrag_agent.families import Qwen2_5VL
from vrag_agent.policy import PolicyOutput, ValueHead, VLMPolicy
from vrag_agent.trajectory import Batch, Trajectory, collate


@torch.no_grad()
def score(policy: VLMPolicy, trajectories: list[Trajectory]) -> PolicyOutput:
    return policy(collate(trajectories, policy.family))


@pytest.fixture(scope="module")
def exact() -> tuple[VLMPolicy, list[Trajectory]]:
    """A policy in float64 whose value head says something, and what it sampled."""
    policy = build_policy().double()
    torch.nn.init.normal_(policy.value_head.linear.weight, generator=torch.Generator().manual_seed(0))
    return policy, converse(policy, scripts(), generator=torch.Generator().manual_seed(7))


def pixels(batch: Batch) -> dict[str, torch.Tensor]:
    """The images as the arguments of the model's own forward pass."""
    if not batch.images:
        return {}
    return {
        "pixel_values": torch.cat([image.pixel_values for image in batch.images]),
        "image_grid_thw": torch.tensor([image.grid_thw for image in batch.images]),
    }


def padded(batch: Batch, extra: int, pad_id: int) -> Batch:
    """The same batch with more padding on the right."""
    fill = torch.nn.functional.pad
    return replace(
        batch,
        input_ids=fill(batch.input_ids, (0, extra), value=pad_id),
        position_ids=fill(batch.position_ids, (0, extra)),
    )


def test_padding_does_not_matter(exact: tuple[VLMPolicy, list[Trajectory]]) -> None:
    policy, trajectories = exact
    batch = collate(trajectories, policy.family, packed=False)
    with torch.no_grad():
        a, b = policy(batch), policy(padded(batch, 9, policy.family.pad_id))
    for name in ("logprobs", "entropy", "values"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_micro_batch_does_not_matter(exact: tuple[VLMPolicy, list[Trajectory]], size: int) -> None:
    policy, trajectories = exact
    whole = score(policy, trajectories)
    parts = [score(policy, trajectories[start : start + size]) for start in range(0, len(trajectories), size)]
    for name in ("logprobs", "entropy", "values"):
        got = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(got, getattr(whole, name), rtol=0, atol=1e-10)


def test_the_order_of_trajectories_does_not_matter(exact: tuple[VLMPolicy, list[Trajectory]]) -> None:
    policy, trajectories = exact
    sizes = [sum(len(action.token_ids) for action in trajectory.actions) for trajectory in trajectories]
    forward = score(policy, trajectories).logprobs.split(sizes)
    backward = score(policy, trajectories[::-1]).logprobs.split(sizes[::-1])
    for a, b in zip(forward, backward[::-1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def swap_pixels(a: Trajectory, b: Trajectory) -> list[Trajectory]:
    """Exchange the pixels of the first image of two trajectories; the images have the same size."""
    out = []
    for own, other in ((a, b), (b, a)):
        index = next(i for i, segment in enumerate(own.segments) if segment.images)
        old, new = own.segments[index].images[0], other.images[0]
        assert old.grid_thw == new.grid_thw
        moved = replace(old, pixel_values=new.pixel_values, key=new.key)
        segment = replace(own.segments[index], images=(moved, *own.segments[index].images[1:]))
        out.append(replace(own, segments=(*own.segments[:index], segment, *own.segments[index + 1 :])))
    return out


def test_the_policy_sees_its_images(shared_policy: VLMPolicy) -> None:
    """Swapping two images changes the log-probs after them, and none before them."""
    one, two = scripts()[0][:2], scripts()[0][:2]
    one[1], two[1] = scripts()[2][1], scripts()[0][1]  # two images of the same size, in the second turn
    pair = converse(shared_policy, [one, two], generator=torch.Generator().manual_seed(1))
    before, after = score(shared_policy, pair), score(shared_policy, swap_pixels(*pair))
    batch = collate(pair, shared_policy.family)
    moved = (before.logprobs - after.logprobs).abs()
    assert moved[batch.turns == 0].max() == 0
    for row in (0, 1):
        assert moved[(batch.turns == 1) & (batch.rows == row)].max() > 0.05


def test_log_probs_by_hand(shared_policy: VLMPolicy, sampled: list[Trajectory]) -> None:
    """Against the model's own forward pass with its logits at every position."""
    family = shared_policy.family
    batch = collate(sampled, family)
    out = score(shared_policy, sampled)
    token, trajectory_turn = 0, 0
    for row, trajectory in enumerate(sampled):
        alone = collate([trajectory], family)
        with torch.no_grad():
            logits = shared_policy.model(
                input_ids=alone.input_ids,
                position_ids=alone.position_ids,
                **pixels(alone),
            ).logits[0]
        logits[:, list(family.forbidden_ids)] = -torch.inf
        position = 0
        for segment in trajectory.segments:
            for identity in segment.token_ids:
                if segment.kind == "action":
                    p = logits[position - 1].softmax(-1)
                    assert out.logprobs[token].item() == pytest.approx(float(p[identity].log()), abs=1e-4)
                    entropy = -float((p[p > 0] * p[p > 0].log()).sum())
                    assert out.entropy[token].item() == pytest.approx(entropy, abs=1e-3)
                    assert batch.rows[token] == row
                    token += 1
                position += 1
            trajectory_turn += segment.kind == "action"
    assert token == len(out.logprobs) and trajectory_turn == len(out.values)


def test_entropy_by_hand() -> None:
    """With equal logits over four allowed tokens the entropy is log 4 and each log-prob is -log 4."""
    policy = build_policy()
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
    policy.forbidden[:] = True
    policy.forbidden[[5, 6, 7, 8]] = False
    trajectories = converse(policy, scripts(), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
    out = score(policy, trajectories)
    torch.testing.assert_close(out.entropy, torch.full_like(out.entropy, 4.0).log())
    torch.testing.assert_close(out.logprobs, torch.full_like(out.logprobs, 0.25).log())


def test_the_temperature_is_applied_to_the_logits(shared_policy: VLMPolicy) -> None:
    policy = VLMPolicy(shared_policy.model, shared_policy.family, system="", temperature=2.5)
    hidden = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = shared_policy.model.lm_head(hidden)
        warm = policy.log_distribution(hidden)
    expected = (logits / 2.5).masked_fill(policy.forbidden, -torch.inf).log_softmax(-1)
    torch.testing.assert_close(warm, expected)
    assert not torch.allclose(warm.exp(), shared_policy.log_distribution(hidden).exp(), atol=1e-2)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        VLMPolicy(shared_policy.model, shared_policy.family, temperature=0)


def test_forbidden_tokens_have_no_probability_and_no_gradient() -> None:
    policy = build_policy()
    hidden = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logp = policy.log_distribution(hidden)
    assert (logp[:, list(policy.family.forbidden_ids)] == -torch.inf).all()
    torch.testing.assert_close(logp.exp().sum(-1), torch.ones(2))
    logp[:, 5].sum().backward()
    assert hidden.grad.isfinite().all()


def test_the_first_values_are_zero_and_the_critic_leaves_the_backbone_alone(
    sampled: list[Trajectory],
) -> None:
    policy = build_policy()
    out = policy(collate(sampled, policy.family))
    assert out.values.tolist() == [0.0] * len(out.values)
    torch.nn.init.normal_(policy.value_head.linear.weight)
    policy(collate(sampled, policy.family)).values.square().sum().backward()
    assert all(p.grad is None for p in policy.model.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.value_head.linear.parameters())


def test_the_value_head_computes_in_float32() -> None:
    head = ValueHead(8)
    torch.nn.init.normal_(head.linear.weight)
    value = head(torch.randn(3, 8, dtype=torch.bfloat16))
    assert value.dtype == torch.float32 and value.shape == (3,)


def test_values_are_read_before_the_action(exact: tuple[VLMPolicy, list[Trajectory]]) -> None:
    """Another last action does not change any value."""
    policy, trajectories = exact
    other = [
        replace(t, segments=(*t.segments[:-1], replace(t.segments[-1], token_ids=(5, 6), logprobs=())))
        for t in trajectories
    ]
    torch.testing.assert_close(score(policy, other).values, score(policy, trajectories).values, rtol=0, atol=1e-10)
    assert score(policy, trajectories).values.std() > 0.1


def test_without_an_adapter_nothing_can_be_switched_off(shared_policy: VLMPolicy) -> None:
    with pytest.raises(ValueError, match="no adapter"), shared_policy.adapter_disabled():
        pass


def test_the_adapter_switched_off_is_the_base_model(sampled: list[Trajectory]) -> None:
    peft = pytest.importorskip("peft", reason="trains adapters with it")
    base = build_policy()
    before = score(base, sampled).logprobs
    model = build_policy().model
    config = peft.LoraConfig(r=4, target_modules=Qwen2_5VL.lora_targets, init_lora_weights=False)
    adapter = peft.get_peft_model(model, config)
    policy = VLMPolicy(model, base.family, system="", adapter=adapter).eval()
    assert (score(policy, sampled).logprobs - before).abs().max() > 1e-2
    with policy.adapter_disabled():
        assert torch.equal(score(policy, sampled).logprobs, before)
    assert (score(policy, sampled).logprobs - before).abs().max() > 1e-2
    trained = [name for name, parameter in policy.model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name and "visual" not in name for name in trained)
