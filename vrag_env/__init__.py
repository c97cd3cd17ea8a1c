"""VRAG-Gym: question answering over visually rich documents as a Gymnasium environment.

>>> import gymnasium as gym, vrag_env
>>> env = gym.make("VRAG-v0")  # doctest: +SKIP

Importing this package registers ``VRAG-v0``, ``VRAG-Discrete-v0`` and ``VRAG-MultiDiscrete-v0``, and imports
neither torch nor LanceDB; the public names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from vrag_env.actions import Answer, Crop, Invalid, Search
    from vrag_env.corpus import Corpus
    from vrag_env.discrete import DiscreteVRAGEnv, MultiDiscreteVRAGEnv
    from vrag_env.env import VRAGEnv
    from vrag_env.episode import Episode, EpisodeConfig, StepResult, step_many
    from vrag_env.questions import Question, load_questions
    from vrag_env.rewards import Reward
    from vrag_env.vector import VRAGVectorEnv

__version__ = "0.1.0"

_HOME = {
    "Answer": "actions",
    "Corpus": "corpus",
    "Crop": "actions",
    "DiscreteVRAGEnv": "discrete",
    "Episode": "episode",
    "EpisodeConfig": "episode",
    "Invalid": "actions",
    "MultiDiscreteVRAGEnv": "discrete",
    "Question": "questions",
    "Reward": "rewards",
    "Search": "actions",
    "StepResult": "episode",
    "VRAGEnv": "env",
    "VRAGVectorEnv": "vector",
    "load_questions": "questions",
    "step_many": "episode",
}

__all__ = [
    "Answer",
    "Corpus",
    "Crop",
    "DiscreteVRAGEnv",
    "Episode",
    "EpisodeConfig",
    "Invalid",
    "MultiDiscreteVRAGEnv",
    "Question",
    "Reward",
    "Search",
    "StepResult",
    "VRAGEnv",
    "VRAGVectorEnv",
    "__version__",
    "load_questions",
    "step_many",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


# Entry points as text, so that the specification of an environment can be written as JSON.
gymnasium.register(
    id="VRAG-v0",
    entry_point="vrag_env.env:VRAGEnv",
    vector_entry_point="vrag_env.vector:VRAGVectorEnv",
)
gymnasium.register(id="VRAG-Discrete-v0", entry_point="vrag_env.discrete:DiscreteVRAGEnv")
gymnasium.register(id="VRAG-MultiDiscrete-v0", entry_point="vrag_env.discrete:MultiDiscreteVRAGEnv")
