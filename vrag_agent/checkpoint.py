"""Checkpoints: a plain Hugging Face folder, plus the value head and what the policy was trained with.

``DIRECTORY/`` holds the model (safetensors), tokenizer and processor as transformers writes them, loadable by
transformers alone; an adapter instead of the model where one was trained; ``value_head.safetensors``; and
``vrag.json`` with the conversation's system text, the temperature, and the options of the environment, so
that an evaluation shows the policy images of the size that it knows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vrag_agent.families import FAMILIES
from vrag_agent.policy import VLMPolicy
from vrag_env.errors import VRAGError, missing_extra

SETTINGS = "vrag.json"
VALUE_HEAD = "value_head.safetensors"
ADAPTER = "adapter_config.json"
"""The file by which a folder is known to hold an adapter (as PEFT and transformers know it)."""


class CheckpointError(VRAGError):
    """A model or checkpoint can not be loaded."""


def save_checkpoint(
    policy: VLMPolicy,
    directory: str | Path,
    env_options: Mapping[str, Any] | None = None,
    max_tokens: int = 512,
) -> Path:
    """Write a policy.

    Args:
        policy: The policy.
        directory: Made if it does not exist; an older checkpoint in it is replaced as a whole.
        env_options: Keyword arguments of the environment that the policy is used to (pixels, turns, box
            frame).
        max_tokens: Most tokens of one action that the policy is used to.

    Returns:
        The directory.

    Raises:
        CheckpointError: If an adapter's model has no name to load it by.
    """
    from safetensors.torch import save_file

    directory = Path(directory)
    settings: dict[str, Any] = {
        "format": "vrag-checkpoint/1",
        "family": policy.family.name,
        "system": policy.system,
        "temperature": policy.temperature,
        "policy_version": policy.version,
        "env": dict(env_options or {}),
        "max_tokens": max_tokens,
    }
    base = policy.model.config.name_or_path
    if policy.adapter is not None:
        if not base:
            raise CheckpointError(
                "an adapter needs the model that it belongs to: load the model from a directory first"
            )
        settings["base"] = str(Path(base).resolve()) if Path(base).is_dir() else base
    # Written beside its place, so that a kill leaves the old checkpoint or the new one, never half of each.
    written = directory.with_name(directory.name + ".part")
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    if policy.adapter is None:
        policy.model.save_pretrained(written)
    else:
        policy.adapter.save_pretrained(written)
    policy.family.save_pretrained(written)
    head = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.value_head.state_dict().items()}
    save_file(head, written / VALUE_HEAD)
    (written / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    written.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
    return directory


def read_settings(directory: str | Path) -> dict[str, Any]:
    """Read ``vrag.json`` of a checkpoint; empty if the directory has none (a plain model).

    Raises:
        CheckpointError: If the file is not what :func:`save_checkpoint` writes.
    """
    path = Path(directory) / SETTINGS
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can not be read ({error}): save the checkpoint again") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("env", {}), dict):
        raise CheckpointError(f"{path} is not the settings file of a checkpoint: save the checkpoint again")
    return settings


def load_policy(
    source: str | Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    lora_rank: int = 0,
    freeze_vision: bool = True,
    gradient_checkpointing: bool = False,
) -> VLMPolicy:
    """Load a policy from a checkpoint, a local model or a model hub.

    Args:
        source: A directory, or a name such as ``Qwen/Qwen2.5-VL-3B-Instruct``.
        device: Where to; by default a GPU where there is one.
        dtype: Of the weights; by default bfloat16 on a GPU that computes in it, and float32 elsewhere.
        lora_rank: Rank of a new adapter on the language model; 0 trains the model itself.
        freeze_vision: Leave the vision tower as it is.
        gradient_checkpointing: Save memory in training for about a third more computing.

    Raises:
        CheckpointError: If nothing is there, it is damaged, or it is of a family that is not known.
        DependencyError: If the extra ``agent`` is not installed.
    """
    try:
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
    except ImportError as error:
        raise missing_extra("transformers", "agent") from error

    settings = read_settings(source)
    base = settings.get("base", str(source))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype is None:
        half = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if half else torch.float32
    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"there is no model at {base!r}: expected a directory that a run has written, or the name of a "
            f"model on the hub ({error})"
        ) from error
    if config.model_type not in FAMILIES:
        raise CheckpointError(f"{base!r} is a {config.model_type} model; the families known are {', '.join(FAMILIES)}")
    with _readable(source):
        model = AutoModelForImageTextToText.from_pretrained(base, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(str(source) if settings else base)
        image_processor = AutoImageProcessor.from_pretrained(str(source) if settings else base)
    model = model.to(device)
    family = FAMILIES[config.model_type].of(model.config, tokenizer, image_processor)
    if freeze_vision:
        for module in family.vision_modules(model):
            module.requires_grad_(False)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    adapter = None
    if (Path(source) / ADAPTER).is_file() and lora_rank:
        raise CheckpointError(f"{str(source)!r} holds an adapter already, which is trained on: ask for no new one")
    if (Path(source) / ADAPTER).is_file() or lora_rank:
        adapter = _adapter(model, Path(source), lora_rank, family.lora_targets)
    policy = VLMPolicy(
        model,
        family,
        system=settings.get("system"),
        temperature=settings.get("temperature", 1.0),
        adapter=adapter,
    )
    policy.version = settings.get("policy_version", 0)
    if (Path(source) / VALUE_HEAD).is_file():
        from safetensors.torch import load_file

        with _readable(source):
            policy.value_head.load_state_dict(load_file(Path(source) / VALUE_HEAD, device=device))
    return policy.eval()


@contextmanager
def _readable(source: str | Path) -> Iterator[None]:
    """Name the checkpoint whose files can not be read."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"a file of the model in {str(source)!r} is missing or damaged: save it again ({error})"
        ) from error


def _adapter(model: Any, saved: Path, rank: int, targets: str) -> Any:
    """Put a saved or a new adapter into a model; its layers go into the model itself."""
    try:
        import peft
    except ImportError as error:
        raise missing_extra("peft", "agent") from error
    if (saved / ADAPTER).is_file():
        with _readable(saved):
            return peft.PeftModel.from_pretrained(model, str(saved), is_trainable=True)
    # Dropout would make an unchanged policy's ratios differ from 1.
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets)
    return peft.get_peft_model(model, config)
