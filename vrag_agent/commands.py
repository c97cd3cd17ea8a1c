"""The environment that the commands make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from vrag_env.env import VRAGEnv
from vrag_env.errors import VRAGError


def make_env(options: Mapping[str, Any]) -> VRAGEnv:
    """Make ``VRAG-v0`` without wrappers.

    Args:
        options: Keyword arguments of :class:`~vrag_env.env.VRAGEnv`.

    Raises:
        VRAGError: If an option does not fit.
    """
    try:
        env = gym.make("VRAG-v0", disable_env_checker=True, **options).unwrapped
    except VRAGError:
        raise
    except ValueError as error:  # of the rules, such as max_turns=0: here they come from the command line
        raise VRAGError(str(error)) from error
    assert isinstance(env, VRAGEnv)
    return env
