"""From what a user writes to a policy: a scripted player, a checkpoint, a model's name, here or behind a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrag_agent.evaluation.journal import EvaluationError
from vrag_agent.evaluation.protocol import Model, Policy, ScriptedPolicy
from vrag_env.errors import VRAGError, missing_extra
from vrag_env.players import PLAYERS

NATIVE = "native"


@dataclass(frozen=True)
class Chosen:
    """A policy, and how it wants to be shown things.

    Attributes:
        policy: The policy.
        env_options: Options of the environment that it is used to; what the user gives wins.
    """

    policy: Policy
    env_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what it was trained with.

    Attributes:
        model: The model.
        label: Its name in tables.
        system: System text of a checkpoint; ``None`` for the environment's.
        env_options: See :class:`Chosen`.
    """

    model: Model
    label: str
    system: str | None = None
    env_options: Mapping[str, Any] = field(default_factory=dict)


def methods() -> tuple[str, ...]:
    """Names of the methods that a model can be asked by."""
    from vrag_agent.evaluation.methods import METHODS

    return (NATIVE, *METHODS)


def load_model(
    name: str, server: str | None = None, *, max_tokens: int | None = None, temperature: float = 0.0
) -> LoadedModel:
    """Load a model.

    Args:
        name: A checkpoint's directory, or a model's full name, such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        server: Address of an OpenAI-compatible server that has it; ``None`` loads it here.
        max_tokens: Most tokens of a reply; by default what a checkpoint is used to, or 512.
        temperature: 0 for the likeliest reply.

    Raises:
        VRAGError: If the name can not be that of a model, or it can not be loaded.
        DependencyError: If an extra is not installed.
    """
    if server is not None:
        from vrag_agent.evaluation.server import ServerModel

        behind = ServerModel(server, name, max_tokens=max_tokens or 512, temperature=temperature)
        return LoadedModel(behind, Path(name).name)
    if "/" not in name and not Path(name).exists():  # no model of the families known has such a name
        raise VRAGError(
            f"unknown policy {name!r}: expected one of {', '.join(PLAYERS)}, the directory of a checkpoint, "
            "or the full name of a model on the hub, such as 'Qwen/Qwen2.5-VL-3B-Instruct'"
        )
    try:
        from vrag_agent.checkpoint import load_policy, read_settings
        from vrag_agent.evaluation.local import LocalModel
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "agent") from error
    settings = read_settings(name)
    policy = load_policy(name)
    model = LocalModel(
        policy,
        Path(name).name,
        max_tokens=max_tokens or settings.get("max_tokens", 512),
        temperature=temperature,
    )
    options = {
        "box_frame": policy.family.box_frame,
        "pixel_multiple": policy.family.pixel_multiple,
        **settings.get("env", {}),
    }
    return LoadedModel(model, Path(name).name, policy.system, options)


def make_policy(
    name: str,
    *,
    method: str = NATIVE,
    pages: str = "image",
    top_k: int | None = None,
    server: str | None = None,
    max_tokens: int | None = None,
    temperature: float = 0.0,
) -> Chosen:
    """Make a policy from names.

    Args:
        name: A scripted player, a checkpoint's directory, or a model's name.
        method: How a model is asked: one of :func:`methods`.
        pages: ``"image"`` or ``"text"``.
        top_k: Pages per search, for the methods that choose it.
        server: See :func:`load_model`, as for the next two.
        max_tokens: See there.
        temperature: See there.

    Raises:
        VRAGError: If a name is unknown, or the parts do not fit.
    """
    if name in PLAYERS:
        if server is not None or method != NATIVE:
            raise EvaluationError(f"{name} is a scripted player: --method and --server are for models")
        return Chosen(ScriptedPolicy(name))
    if method not in methods():
        raise EvaluationError(f"unknown method {method!r}: choose one of {', '.join(methods())}")
    return with_method(load_model(name, server, max_tokens=max_tokens, temperature=temperature), method, pages, top_k)


def with_method(loaded: LoadedModel, method: str, pages: str = "image", top_k: int | None = None) -> Chosen:
    """Ask a loaded model by a method."""
    from vrag_agent.evaluation.methods import METHODS, TOP_K, Native

    if method == NATIVE:
        if pages != "image":
            raise EvaluationError("the method native shows pages as images: choose another one for text")
        return Chosen(Native(loaded.model, system=loaded.system, label=loaded.label), loaded.env_options)
    policy = METHODS[method](loaded.model, pages=pages, top_k=top_k or TOP_K)
    policy.name = f"{loaded.label}:{policy.name}"
    return Chosen(policy, loaded.env_options)
