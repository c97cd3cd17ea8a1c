"""One module per model family: everything that the rest of the package must know of a model."""

from vrag_agent.families.base import Family
from vrag_agent.families.qwen2_5_vl import Qwen2_5VL

FAMILIES: dict[str, type[Qwen2_5VL]] = {Qwen2_5VL.name: Qwen2_5VL}

__all__ = ["FAMILIES", "Family", "Qwen2_5VL"]
