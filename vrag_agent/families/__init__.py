"""One module per model family: everything that the rest of the package must know of a model."""

from vrag_agent.families.base import Family, Features
from vrag_agent.families.qwen2_5_vl import Qwen2_5VL
from vrag_agent.families.qwen3_vl import Qwen3VL
from vrag_agent.families.smolvlm import Idefics3, SmolVLM

FAMILIES: dict[str, type[Family]] = {family.name: family for family in (Qwen2_5VL, Qwen3VL, SmolVLM, Idefics3)}

__all__ = ["FAMILIES", "Family", "Features", "Idefics3", "Qwen2_5VL", "Qwen3VL", "SmolVLM"]
