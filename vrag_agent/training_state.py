"""Training state: everything that a killed run needs to go on with the same next step, bit for bit on a CPU.

A checkpoint of a run is a policy's folder (see :mod:`vrag_agent.checkpoint`) with two more files: ``trainer.json``
holds counters, and ``trainer.safetensors`` the optimizers and the states of all random number generators. Nothing is
pickled. A checkpoint gets its name only when it is complete, and an older one is deleted only after that, so that
a kill at any moment leaves a whole one.

    checkpoints/000020/            model or adapter, processor, value head, vrag.json
    checkpoints/000020/trainer.json, trainer.safetensors
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vrag_agent.checkpoint import CheckpointError, save_checkpoint
from vrag_agent.policy import VLMPolicy

FORMAT = "vrag-training/1"
COUNTERS, TENSORS = "trainer.json", "trainer.safetensors"


def save_training(
    directory: Path,
    policy: VLMPolicy,
    optimizers: Mapping[str, torch.optim.Optimizer],
    state: Mapping[str, Any],
    *,
    env_options: Mapping[str, Any],
    max_tokens: int,
) -> Path:
    """Write a checkpoint of a run, whole or not at all.

    Args:
        directory: Must not exist.
        policy: The policy.
        optimizers: By name.
        state: Numbers, texts, lists, mappings and tensors.
        env_options: See :func:`~vrag_agent.checkpoint.save_checkpoint`.
        max_tokens: The same.

    Returns:
        The directory.
    """
    from safetensors.torch import save_file

    written = directory.with_name(directory.name + ".part")
    save_checkpoint(policy, written, env_options, max_tokens)
    tensors: dict[str, torch.Tensor] = {}
    plain = {
        "format": FORMAT,
        "state": _split(dict(state), "state", tensors),
        "optimizers": {
            name: _split(optimizer.state_dict(), f"optimizer.{name}", tensors) for name, optimizer in optimizers.items()
        },
        "torch_rng": _split({"state": torch.get_rng_state()}, "torch_rng", tensors),
    }
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, written / TENSORS)
    (written / COUNTERS).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    _to_disk(written)
    written.rename(directory)
    return directory


def load_training(directory: Path, optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Any]:
    """Load the optimizers and the random state of a checkpoint; the policy is loaded beside, by ``load_policy``.

    Args:
        directory: What :func:`save_training` wrote.
        optimizers: Loaded in place.

    Returns:
        The state that was saved.

    Raises:
        CheckpointError: If a file is missing or damaged, or belongs to another kind of run.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        plain = json.loads((directory / COUNTERS).read_text(encoding="utf-8"))
        tensors = load_file(directory / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{directory} is not a checkpoint of a run, or is damaged ({error})") from error
    if plain.get("format") != FORMAT or plain["optimizers"].keys() != optimizers.keys():
        raise CheckpointError(f"{directory} was written by another version or another algorithm")
    for name, optimizer in optimizers.items():
        saved = _join(plain["optimizers"][name], tensors)
        # JSON has only texts for keys; parameters are numbered.
        saved["state"] = {int(index): values for index, values in saved["state"].items()}
        optimizer.load_state_dict(saved)
    torch.set_rng_state(_join(plain["torch_rng"], tensors)["state"])
    return dict(_join(plain["state"], tensors))


def save_reference(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the weights of the reference, which never change, once; whole or not at all."""
    from safetensors.torch import save_file

    temporary = path.with_name(path.name + ".part")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, temporary)
    temporary.replace(path)


def load_reference(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Read the weights of the reference into tensors.

    Raises:
        CheckpointError: If the file is missing, damaged, or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the reference of the run, {path}, is missing or damaged ({error})") from error
    if saved.keys() != weights.keys():
        raise CheckpointError(f"the reference of the run, {path}, belongs to another model")
    for name, tensor in weights.items():
        tensor.copy_(saved[name])


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = (run / "checkpoints").glob("*") if (run / "checkpoints").is_dir() else ()
    return sorted(path for path in found if path.name.isdigit() and (path / COUNTERS).is_file())


def tidy(run: Path, keep: set[str]) -> None:
    """Delete the checkpoints that are not named, and what a kill has left half written."""
    for path in (run / "checkpoints").glob("*"):
        if path.name not in keep:
            shutil.rmtree(path)


def _split(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move tensors out of nested data; a reference stands in their place."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {str(key): _split(inner, f"{name}.{key}", tensors) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_split(inner, f"{name}.{index}", tensors) for index, inner in enumerate(value)]
    return value


def _join(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Put the tensors back."""
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _join(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list):
        return [_join(inner, tensors) for inner in value]
    return value


def _to_disk(directory: Path) -> None:
    """Wait until the files are on the disk, so that not even a power cut leaves a name without its content."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
