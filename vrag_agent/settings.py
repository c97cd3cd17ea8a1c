"""Reading and writing of configurations: YAML files, ``name=value`` from the command line, clear errors."""

from __future__ import annotations

import difflib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from vrag_agent.config import ConfigError
from vrag_env.errors import missing_extra

Config = TypeVar("Config")


def make_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Make a configuration from plain values.

    Args:
        kind: One of the dataclasses of :mod:`vrag_agent.config`.
        values: By field; what is left out has its default. Numbers may be strings, as ``1e-6`` is in YAML 1.1.

    Raises:
        ConfigError: If a field is unknown (the nearest names are in the message) or a value does not fit.
    """
    hints = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass, by contract
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
            hint = f": did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(known)}"
            raise ConfigError(f"{kind.__name__} has no {name!r}{hint}")
    return kind(**{name: convert(name, hints[name], value) for name, value in values.items()})


def convert(name: str, hint: Any, value: Any) -> Any:
    """Turn a plain value into the type of a field.

    Args:
        name: The field, for the message.
        hint: Its type: ``bool``, ``int``, ``float``, ``str``, a ``Literal``, or one of them or ``None``.
        value: From YAML, or the text after ``name=``.

    Raises:
        ConfigError: If it does not fit.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("null", "none", "~")):
            return None
        [hint] = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value in choices:
            return value
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}{hint}")
    if hint is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
            return int(value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                pass
    elif hint is str and isinstance(value, str):
        return value
    raise ConfigError(f"{name} must be {_called(hint)}, got {value!r}")


def _called(hint: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[hint]


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """Read ``name=value`` pairs.

    Raises:
        ConfigError: If one has no ``=``.
    """
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"expected name=value, such as learning_rate=2e-5, got {pair!r}")
        values[name.strip().replace("-", "_")] = value.strip()
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML (or JSON) file that holds a mapping.

    Raises:
        ConfigError: If it can not be read or holds something else.
    """
    yaml = _yaml()
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} can not be read as YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold names and values, such as 'learning_rate: 2.0e-5'")
    return value


def write_yaml(path: Path, sections: Mapping[str, Any]) -> None:
    """Write sections of configuration, whole or not at all; dataclasses get a comment per field."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("\n".join(dump(name, value) for name, value in sections.items()), encoding="utf-8")
    temporary.replace(path)


def dump(name: str, value: Any) -> str:
    """Write one section as YAML; a dataclass with its documentation beside the fields."""
    yaml = _yaml()
    if isinstance(value, Mapping):
        return str(yaml.safe_dump({name: dict(value)}, sort_keys=False, allow_unicode=True))
    told = documentation(type(value))
    lines = [f"{name}:"]
    for field, item in asdict(value).items():
        lines.append(f"  # {told.get(field, '')}".rstrip(" #"))
        lines.append(f"  {str(yaml.safe_dump({field: item}, allow_unicode=True)).strip()}")
    return "\n".join(line for line in lines if line) + "\n"


def documentation(kind: type) -> dict[str, str]:
    """The text of each field, as the class docstrings tell it."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        _, _, attributes = text.partition("Attributes:\n")
        for match in re.finditer(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE):
            told[match[1]] = " ".join(match[2].split())
    return told


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise missing_extra("yaml", "agent") from error
    return yaml
