"""Every family: what is sampled with the cache is what a full forward pass says, however the batch is made up."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conversations import build_policy, converse, picture, scripts, tokenizer
from test_policy import swap_pixels

from vrag_agent import tiny
from vrag_agent.checkpoint import load_policy, save_checkpoint
from vrag_agent.families import FAMILIES, SmolVLM
from vrag_agent.parity import ParityError, check_rollout
from vrag_agent.policy import PolicyOutput, VLMPolicy
from vrag_agent.trajectory import Trajectory, collate
from vrag_env.episode import Text
from vrag_env.views import PixelBudget

every_family = pytest.mark.parametrize("family", sorted(FAMILIES))
NAMES = ("logprobs", "entropy", "values", "token_values")
tiled = pytest.mark.parametrize("family", ["idefics3", "smolvlm"])


@functools.cache
def played(family: str) -> tuple[VLMPolicy, list[Trajectory]]:
    """A policy in float64 whose value head says something, and what it sampled; read only."""
    policy = build_policy(family=family).double()
    torch.nn.init.normal_(policy.value_head.linear.weight, generator=torch.Generator().manual_seed(0))
    return policy, converse(policy, scripts(policy.family.pixel_multiple), generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def score(policy: VLMPolicy, trajectories: list[Trajectory], packed: bool = True) -> PolicyOutput:
    return policy(collate(trajectories, policy.family, packed=packed))


def close(a: PolicyOutput, b: PolicyOutput) -> None:
    for name in NAMES:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-10)


@every_family
def test_cached_sampling_equals_a_full_forward_pass(family: str) -> None:
    policy, trajectories = played(family)
    assert check_rollout(trajectories, policy, 1e-10).tokens > 30
    single = build_policy(family=family)
    again = converse(single, scripts(single.family.pixel_multiple), generator=torch.Generator().manual_seed(7))
    assert check_rollout(again, single, 1e-4).tokens > 30


@every_family
def test_packed_padded_alone_and_in_another_order_are_the_same(family: str) -> None:
    policy, trajectories = played(family)
    packed = score(policy, trajectories)
    close(packed, score(policy, trajectories, packed=False))
    alone = [score(policy, [trajectory]) for trajectory in trajectories]
    for order in (alone, [score(policy, trajectories[::-1])]):
        parts = {name: torch.cat([getattr(out, name) for out in order]) for name in NAMES}
        if order is not alone:
            counts = [sum(len(a.token_ids) for a in t.actions) for t in trajectories]
            turns = [len(t.actions) for t in trajectories]
            parts = {
                name: torch.cat(part.split((turns if name == "values" else counts)[::-1])[::-1])
                for name, part in parts.items()
            }
        close(packed, PolicyOutput(**parts))


@every_family
def test_packed_gradients_are_those_of_trajectories_alone(family: str) -> None:
    policy, trajectories = played(family)
    gradients = []
    for batches in ([trajectories], [[trajectory] for trajectory in trajectories]):
        policy.zero_grad()
        for batch in batches:
            out = policy(collate(batch, policy.family))
            (out.logprobs.sum() + 0.3 * out.entropy.sum()).backward()
        gradients.append({n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None})
    policy.zero_grad()
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        # Norms and rotations compute in float32 whatever the model is in.
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-5, atol=1e-5 * float(gradient.abs().max()))


@every_family
def test_swapped_images_change_what_follows_and_nothing_before(family: str) -> None:
    policy = played(family)[0]
    wide = scripts(policy.family.pixel_multiple)[0][1]
    other = scripts(policy.family.pixel_multiple)[2][1]  # an image of the same size
    pair = converse(policy, [[[Text("see")], wide], [[Text("see")], other]], generator=torch.Generator().manual_seed(1))
    check_rollout(pair, policy, 1e-10)
    swapped = swap_pixels(*pair)
    with pytest.raises(ParityError):
        check_rollout(swapped, policy, 1e-3)
    moved = (score(policy, pair).logprobs - score(policy, swapped).logprobs).abs()
    batch = collate(pair, policy.family)
    assert moved[batch.turns == 0].max() == 0
    assert min(moved[(batch.turns == 1) & (batch.rows == row)].max() for row in (0, 1)) > 0.05


@every_family
def test_wrong_positions_fail(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One-dimensional positions where a family has more; positions that begin again in the middle where not."""
    policy, trajectories = played(family)
    rows = policy.family.position_rows
    middle: Callable[..., torch.Tensor] = lambda ids, grids: (torch.arange(len(ids)) % 20).expand(rows, -1)  # noqa: E731
    flat: Callable[..., torch.Tensor] = lambda ids, grids: torch.arange(len(ids)).expand(rows, -1)  # noqa: E731
    monkeypatch.setattr(policy.family, "positions", middle if rows == 1 else flat)
    with pytest.raises(ParityError):
        check_rollout(trajectories, policy, 1e-3)


@every_family
def test_a_dropped_image_is_an_error(family: str) -> None:
    policy, trajectories = played(family)
    segments = list(trajectories[0].segments)
    at = next(i for i, segment in enumerate(segments) if segment.images)
    segments[at] = replace(segments[at], images=())
    with pytest.raises(ValueError, match="out of step"):
        collate([replace(trajectories[0], segments=tuple(segments))], policy.family)
    batch = collate(trajectories, policy.family)
    with pytest.raises(ValueError, match="image tokens, but the images have"):
        policy(replace(batch, images=batch.images[1:]))


@every_family
def test_cut_empty_and_garbled_actions_are_trained_as_they_were_sampled(family: str) -> None:
    policy = build_policy(family=family).double()
    stop = policy.family.stop_id
    policy.forbidden[:] = True
    policy.forbidden[[stop, *policy.family.encode("abc"), policy.family.encode("\n")[0]]] = False
    script = scripts(policy.family.pixel_multiple)
    trajectories = converse(policy, script * 3, max_tokens=5, generator=torch.Generator().manual_seed(3))
    actions = [action.token_ids for trajectory in trajectories for action in trajectory.actions]
    assert any(ids == (stop,) for ids in actions) and any(ids[-1] != stop for ids in actions)
    assert any(len(ids) > len(set(ids)) for ids in actions)
    check_rollout(trajectories, policy, 1e-10)
    batch = collate(trajectories, policy.family)
    assert batch.action_ids.tolist() == [token for ids in actions for token in ids]
    for trajectory in trajectories:
        for action, observation in zip(trajectory.segments[1::2], trajectory.segments[2::2], strict=False):
            assert (observation.token_ids[0] == stop) == (action.token_ids[-1] != stop)


@every_family
def test_frozen_towers_are_asked_once_per_image(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = build_policy(family=family)
    asked: list[int] = []
    encode = policy.family.features
    monkeypatch.setattr(policy.family, "features", lambda m, images: asked.append(len(images)) or encode(m, images))
    unit = policy.family.pixel_multiple
    images = [policy.family.prompt("", [picture(seed, (unit, unit))]).images[0] for seed in (1, 2, 1)]
    open_eyed = policy.features(images)
    assert asked == [2] and len(policy.features) == 0  # a tower that learns is not remembered
    for module in policy.family.vision_modules(policy.model):
        module.requires_grad_(False)
    for _ in range(2):
        frozen = policy.features(images)
    assert asked == [2, 2] and len(policy.features) == 2
    for ours, theirs in zip(open_eyed, frozen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    with torch.no_grad():
        next(policy.family.vision_modules(policy.model)[0].parameters()).add_(0.1)
    changed = policy.features(images)
    assert asked == [2, 2, 2] and not torch.equal(changed[0][0], frozen[0][0])
    one = sum(part.nbytes for part in frozen[0])
    monkeypatch.setattr("vrag_agent.features.CACHE_BYTES", one)
    assert torch.equal(policy.features(images)[1][0], changed[1][0]) and len(policy.features) == 1
    assert [len(features) for features in changed] == [2 if family == "qwen3_vl" else 1] * 3


@every_family
def test_a_checkpoint_of_the_family_is_loaded_and_says_the_same(family: str, tmp_path: Path) -> None:
    """With an adapter on the language model alone; the folder is one that transformers' own loader reads."""
    from transformers import AutoProcessor

    pytest.importorskip("peft", reason="trains adapters with it")
    policy = build_policy(family=family)
    unit = policy.family.pixel_multiple
    trajectories = converse(policy, scripts(unit), generator=torch.Generator().manual_seed(0))
    save_checkpoint(policy, tmp_path / "model")
    again = load_policy(tmp_path / "model", lora_rank=2)
    assert type(again.family) is FAMILIES[family] and again.family.forbidden_ids == policy.family.forbidden_ids
    assert check_rollout(trajectories, again, 1e-4).tokens > 30
    trained = [name for name, parameter in again.model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * 7 and all("lora_" in name and "vision" not in name for name in trained)
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert type(processor).__name__.removesuffix("Processor").lower().replace("_", "") == family.replace("_", "")


@every_family
def test_adapters_go_to_the_language_model_only(family: str) -> None:
    policy = played(family)[0]
    names = [name for name, _ in policy.model.named_modules()]
    hit = [name for name in names if re.fullmatch(policy.family.lora_targets, name)]
    assert len(hit) == 2 * 7 and not [name for name in hit if "vis" in name]


@every_family
def test_only_the_stop_id_of_the_special_tokens_can_be_sampled(family: str) -> None:
    kind = played(family)[0].family
    specials = tiny.SMOL_SPECIAL_TOKENS if isinstance(kind, SmolVLM) else tiny.SPECIAL_TOKENS
    ids = set(kind.tokenizer.convert_tokens_to_ids(list(specials)))
    assert set(kind.forbidden_ids) == ids - {kind.stop_id}
    hostile = kind.encode("".join(specials))
    assert not ids & set(hostile) and kind.decode(hostile) == "".join(specials)


def reference(family: str, longest: int) -> object:
    """The processor of transformers, which resizes by itself."""
    from transformers import (
        Idefics3ImageProcessor,
        Idefics3Processor,
        Qwen2VLImageProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    words = tokenizer(family)
    template = words.chat_template
    if family == "qwen3_vl":
        budget = PixelBudget(16 * 32 * 32, 64 * 32 * 32, 32)
        pixels = Qwen2VLImageProcessor(
            patch_size=16,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            min_pixels=budget.min_pixels,
            max_pixels=budget.max_pixels,
        )
        return Qwen3VLProcessor(pixels, words, Qwen3VLVideoProcessor(), chat_template=template)
    kind = SmolVLMImageProcessor if family == "smolvlm" else Idefics3ImageProcessor
    pixels = kind(size={"longest_edge": longest}, max_image_size={"longest_edge": tiny.SIDE}, resample=1)
    if family == "smolvlm":
        return SmolVLMProcessor(pixels, words, SmolVLMVideoProcessor(), image_seq_len=4, chat_template=template)
    return Idefics3Processor(pixels, words, image_seq_len=4, chat_template=template)


@pytest.mark.parametrize("family", ["qwen3_vl", "idefics3", "smolvlm"])
@pytest.mark.parametrize("shape", [(1000, 700), (300, 900), (640, 640)])
def test_ids_and_pixels_are_those_of_the_processor(family: str, shape: tuple[int, int]) -> None:
    """With its own chat template and its own resizing, on an image of the size that the environment shows."""
    kind = played(family)[0].family
    unit = kind.pixel_multiple
    budget = PixelBudget(16 * unit * unit, 64 * unit * unit, unit) if family == "qwen3_vl" else None
    size = (budget or PixelBudget(unit * unit, 9 * unit * unit, unit)).fit(*shape)
    image = picture(1, size)
    processor = reference(family, max(size))
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "answer"}]},
        {"role": "user", "content": [{"type": "text", "text": "what colour?"}, {"type": "image"}]},
    ]
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
    expected = processor(text=[rendered], images=[[image.image]], return_tensors="pt", add_special_tokens=False)
    prompt = kind.prompt("answer", [Text("what colour?"), image])
    assert list(prompt.token_ids) == expected["input_ids"][0].tolist()
    pixels = expected["pixel_values"] if family == "qwen3_vl" else expected["pixel_values"][0]
    assert torch.equal(prompt.images[0].pixel_values, pixels)


@every_family
def test_an_action_stands_where_the_template_puts_it(family: str) -> None:
    """A whole conversation, the image first in the second turn, is what the chat template writes."""
    kind = played(family)[0].family
    unit = kind.pixel_multiple
    action = kind.action("search")
    ids = [*kind.prompt("", [Text("what colour?")]).token_ids, *action]
    ids += kind.observation([picture(2, (unit, unit)), Text("the page")], action).token_ids
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "what colour?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "search"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the page"}]},
    ]
    rendered = kind.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    if isinstance(kind, SmolVLM):
        border = "<fake_token_around_image>"
        rendered = rendered.replace("<image>", f"{border}<global-img>{'<image>' * 4}{border}")
    assert ids == kind.tokenizer(rendered, add_special_tokens=False).input_ids
    assert kind.decode(action) == "search"


def test_qwen3_positions_are_those_of_the_model() -> None:
    policy, trajectories = played("qwen3_vl")
    for trajectory in trajectories:
        ids = torch.tensor([trajectory.token_ids])
        grids = [image.grid_thw for image in trajectory.images]
        expected, _ = policy.model.model.get_rope_index(
            input_ids=ids,
            mm_token_type_ids=(ids == policy.family.image_token_id).int(),
            image_grid_thw=torch.tensor(grids) if grids else None,
            attention_mask=torch.ones_like(ids),
        )
        assert torch.equal(policy.family.positions(trajectory.token_ids, grids)[1:], expected[:, 0])


def test_the_deep_features_of_qwen3_matter() -> None:
    policy, trajectories = played("qwen3_vl")
    whole = score(policy, trajectories).logprobs
    shallow = build_policy(family="qwen3_vl").double()
    for merger in shallow.model.model.visual.deepstack_merger_list:
        torch.nn.init.zeros_(merger.linear_fc2.weight)
        torch.nn.init.zeros_(merger.linear_fc2.bias)
    assert (score(shallow, trajectories).logprobs - whole).abs().max() > 1e-2


@tiled
def test_tiles_by_hand(family: str) -> None:
    """Three by two tiles: six labels, six runs, and the whole image last."""
    kind = played(family)[0].family
    segment = kind.prompt("", [picture(1, (3 * tiny.SIDE, 2 * tiny.SIDE))])
    [image] = segment.images
    assert image.pixel_values.shape == (7, 3, tiny.SIDE, tiny.SIDE)
    assert [length for _, length in image.runs] == [4] * 7 and image.length == 28
    found = [i for i, token in enumerate(segment.token_ids) if token == kind.image_token_id]
    assert image.places == found and image.places[0] == image.start
    assert replace(image, start=image.start + 5).places == [i + 5 for i in found]
    text = kind.tokenizer.decode(list(segment.token_ids))
    assert re.findall(r"<(?:row_\d_col_\d|global-img)>", text) == [
        *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2, 3)),
        "<global-img>",
    ]
    single = kind.prompt("", [picture(1, (tiny.SIDE, tiny.SIDE))]).images[0]
    assert len(single.pixel_values) == 1 and single.length == 4


@tiled
def test_tiles_of_another_size_than_the_model_takes_are_an_error(family: str) -> None:
    policy = played(family)[0]
    other = tiny.build_image_processor(family)
    other.max_image_size = {"longest_edge": 64}
    with pytest.raises(ValueError, match="cuts tiles of 64 pixels, but the vision tower takes 32"):
        FAMILIES[family].of(policy.model.config, tokenizer(family), other)


def test_a_model_with_another_attention_is_an_error() -> None:
    policy = build_policy()
    policy.model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="load it with 'sdpa'"):
        VLMPolicy(policy.model, policy.family)
