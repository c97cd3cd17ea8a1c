"""Qwen3-VL: the turns and positions of Qwen2.5-VL, visual tokens of 32 x 32 pixels, boxes from 0 to 1000.

The vision tower gives, beside the features that stand in the place of the image tokens, features of some of its
middle layers, which are added to the output of the first layers of the language model (DeepStack, arXiv
2406.04334). Its rotary positions are the same numbers as those of Qwen2.5-VL; only the model weaves them
differently. The family is that of the instruct models: the template of the thinking models opens the action with
``<think>``, which this package leaves to the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vrag_agent.families.base import Features
from vrag_agent.families.qwen2_5_vl import Qwen2_5VL
from vrag_agent.trajectory import ImageInput


class Qwen3VL(Qwen2_5VL):
    """The Qwen3-VL family; see :class:`vrag_agent.families.base.Family` for the attributes.

    Args:
        tokenizer: A Qwen2 tokenizer with the Qwen special tokens.
        image_processor: The family's image processor, with patches of 16 pixels.
    """

    name = "qwen3_vl"
    title = "Qwen3-VL"
    box_frame = "1000"

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the family's processor, which holds tokenizer, image processor and chat template."""
        from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor

        self._save(directory, Qwen3VLProcessor, Qwen3VLVideoProcessor)

    def features(self, model: Any, images: Sequence[ImageInput]) -> list[Features]:
        """Return the features of the input and of each deep layer per image."""
        out = self._encode(model, images)
        return list(zip(out.pooler_output, *out.deepstack_features, strict=True))

    def language_inputs(
        self, position_ids: torch.Tensor, image_mask: torch.Tensor, features: Sequence[Features]
    ) -> dict[str, Any]:
        """Positions, and where there are images the deep features with the places of the image tokens."""
        inputs: dict[str, Any] = {"position_ids": position_ids}
        if features:
            inputs["visual_pos_masks"] = image_mask
            inputs["deepstack_visual_embeds"] = [torch.cat(layer) for layer in list(zip(*features, strict=True))[1:]]
        return inputs
