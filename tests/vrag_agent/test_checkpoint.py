"""Checkpoints: what is loaded is, bit for bit, what was saved; anything else is refused by name."""

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch
from conversations import build_policy, perturb

from vrag_agent.checkpoint import (
    ADAPTER,
    SETTINGS,
    CheckpointError,
    load_policy,
    read_settings,
    save_checkpoint,
)
from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Trajectory, collate

ENV_OPTIONS = {"max_turns": 3, "min_pixels": 3136, "max_pixels": 50176}


def outputs(policy: VLMPolicy, trajectories: list[Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        out = policy(collate(trajectories, policy.family, policy.device))
    return out.logprobs, out.values


def with_a_critic(policy: VLMPolicy) -> VLMPolicy:
    """Fill the value head, which begins at zero."""
    with torch.no_grad():
        policy.value_head.linear.weight.copy_(torch.linspace(-1, 1, 64)[None])
        policy.value_head.linear.bias.fill_(0.25)
        policy.value_head.norm.weight.copy_(torch.linspace(0.5, 1.5, 64))
    return policy


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[VLMPolicy, Path]:
    """A policy unlike any fresh one, and where it was saved."""
    policy = with_a_critic(perturb(build_policy(seed=3)))
    policy.system, policy.temperature, policy.version = "Look closely.", 0.7, 12
    return policy, save_checkpoint(policy, tmp_path_factory.mktemp("saved") / "checkpoint", ENV_OPTIONS)


def test_round_trip_is_bit_equal(saved: tuple[VLMPolicy, Path], sampled: list[Trajectory]) -> None:
    policy, directory = saved
    loaded = load_policy(directory)
    before, after = policy.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys() and "value_head.linear.weight" in before
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (loaded.system, loaded.temperature, loaded.version) == ("Look closely.", 0.7, 12)
    assert loaded.adapter is None and not loaded.training
    assert loaded.family.encode("the page is abcd") == policy.family.encode("the page is abcd")
    assert loaded.family.forbidden_ids == policy.family.forbidden_ids
    for a, b in zip(outputs(policy, sampled), outputs(loaded, sampled), strict=True):
        assert torch.equal(a, b)
    fresh = outputs(build_policy(seed=3), sampled)
    assert not torch.allclose(fresh[0], outputs(loaded, sampled)[0])  # so the comparison above can fail
    assert outputs(loaded, sampled)[1].abs().min() > 0


def test_settings(saved: tuple[VLMPolicy, Path]) -> None:
    settings = read_settings(saved[1])
    assert settings["format"] == "vrag-checkpoint/1"
    assert settings["family"] == "qwen2_5_vl"
    assert settings["env"] == ENV_OPTIONS
    assert "base" not in settings


def test_vision_is_frozen_unless_asked_for(saved: tuple[VLMPolicy, Path]) -> None:
    frozen, free = load_policy(saved[1]), load_policy(saved[1], freeze_vision=False)
    assert not any(p.requires_grad for p in frozen.model.model.visual.parameters())
    assert all(p.requires_grad for p in frozen.model.model.language_model.parameters())
    assert all(p.requires_grad for p in free.model.model.visual.parameters())


def test_plain_transformers_loads_the_folder(saved: tuple[VLMPolicy, Path], sampled: list[Trajectory]) -> None:
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    policy, directory = saved
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(directory)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the page"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=[text], images=[Image.new("RGB", (112, 84), "green")], return_tensors="pt")
    assert int((inputs["input_ids"] == policy.family.image_token_id).sum()) == 4 * 3
    with torch.no_grad():
        logits = model(**inputs).logits
        mine = policy.model(**inputs).logits
    assert torch.equal(logits, mine)


@pytest.fixture(scope="module")
def adapted(saved: tuple[VLMPolicy, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[VLMPolicy, Path]:
    """A policy with a trained-looking adapter on the saved one, and where it was saved."""
    torch.manual_seed(0)
    policy = with_a_critic(load_policy(saved[1], lora_rank=2))
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    policy.version = 13
    return policy, save_checkpoint(policy, tmp_path_factory.mktemp("adapted") / "checkpoint")


def test_adapter_round_trip(
    saved: tuple[VLMPolicy, Path], adapted: tuple[VLMPolicy, Path], sampled: list[Trajectory]
) -> None:
    policy, directory = adapted
    assert not list(directory.glob("model*.safetensors"))  # the adapter and not a second copy of the model
    loaded = load_policy(directory)
    for a, b in zip(outputs(policy, sampled), outputs(loaded, sampled), strict=True):
        assert torch.equal(a, b)
    assert loaded.version == 13
    base = outputs(load_policy(saved[1]), sampled)[0]
    assert not torch.allclose(outputs(loaded, sampled)[0], base, atol=1e-3)
    with loaded.adapter_disabled():
        torch.testing.assert_close(outputs(loaded, sampled)[0], base)
    trained = {name for name, p in loaded.model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)


def test_a_full_checkpoint_replaces_one_with_an_adapter(
    saved: tuple[VLMPolicy, Path], adapted: tuple[VLMPolicy, Path], sampled: list[Trajectory], tmp_path: Path
) -> None:
    save_checkpoint(adapted[0], tmp_path / "run")
    assert (tmp_path / "run" / ADAPTER).is_file()
    save_checkpoint(saved[0], tmp_path / "run")
    loaded = load_policy(tmp_path / "run")
    assert loaded.adapter is None
    assert torch.equal(outputs(loaded, sampled)[0], outputs(saved[0], sampled)[0])


def test_no_settings_is_a_plain_model(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == {}
    assert read_settings(tmp_path / "missing") == {}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"env": 3}', "\x00"])
def test_damaged_settings_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / SETTINGS).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=SETTINGS):
        load_policy(tmp_path)


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(CheckpointError, match="there is no model at") as caught:
        load_policy(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(CheckpointError, match="there is no model at"):
        load_policy(tmp_path / "missing")


def test_another_family(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is a llama model; the families known are qwen2_5_vl"):
        load_policy(tmp_path)


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "value_head.safetensors"])
def test_a_part_is_damaged(saved: tuple[VLMPolicy, Path], tmp_path: Path, lost: str) -> None:
    copytree(saved[1], tmp_path / "run")
    (tmp_path / "run" / lost).write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="missing or damaged") as caught:
        load_policy(tmp_path / "run")
    assert str(tmp_path / "run") in str(caught.value)


def test_an_adapter_is_damaged(adapted: tuple[VLMPolicy, Path], tmp_path: Path) -> None:
    copytree(adapted[1], tmp_path / "run")
    (tmp_path / "run" / "adapter_model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_policy(tmp_path / "run")


def test_a_value_head_of_another_model(saved: tuple[VLMPolicy, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    copytree(saved[1], tmp_path / "run")
    save_file({"linear.weight": torch.zeros(1, 32)}, tmp_path / "run" / "value_head.safetensors")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_policy(tmp_path / "run")
