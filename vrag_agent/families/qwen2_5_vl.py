r"""Qwen2.5-VL: ChatML turns, one visual token per 28 x 28 pixels, three-row rotary positions for images.

Conversation: ``<|im_start|>system\n...<|im_end|>\n<|im_start|>user\n...<|im_end|>\n<|im_start|>assistant\n`` and
then the action, which ends with ``<|im_end|>``. The suffixes are written as ids, segment by segment; nothing is
rendered twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from torch import nn

from vrag_agent.families.base import Family, Features
from vrag_agent.trajectory import ImageInput, Segment
from vrag_env.episode import Block, Text


def mrope_positions(
    token_ids: Sequence[int],
    grids: Sequence[tuple[int, int, int]],
    image_token_id: int,
    merge: int,
) -> torch.Tensor:
    """Positions of one sequence: row 0 counts tokens, rows 1 to 3 are time, height and width.

    Text advances all three by one. An image at position ``p`` gets ``p`` in time and ``p + row``, ``p + column``
    in space; the text after it continues at ``p + max(height, width)`` in visual tokens (Qwen2-VL, arXiv
    2409.12191, section 2.1).

    Args:
        token_ids: The sequence, without padding.
        grids: Patches in time, height and width of each image, in order.
        image_token_id: Id of a visual token.
        merge: Patches per visual token on each side.

    Returns:
        ``(4, tokens)``.

    Raises:
        ValueError: If the image tokens do not fill the grids exactly.
    """
    ids = torch.tensor(token_ids)
    positions = torch.zeros((4, len(ids)), dtype=torch.long)
    positions[0] = torch.arange(len(ids))
    index, position = 0, 0
    image_at = (ids == image_token_id).nonzero().flatten().tolist()
    used = 0
    for time, height, width in grids:
        rows, columns = height // merge, width // merge
        count = time * rows * columns
        if used + count > len(image_at) or image_at[used + count - 1] - image_at[used] != count - 1:
            raise ValueError(f"an image of {count} tokens does not fill a run of image tokens")
        first = image_at[used]
        positions[1:, index:first] = torch.arange(position, position + first - index)
        position += first - index
        grid = torch.stack(torch.meshgrid(torch.arange(time), torch.arange(rows), torch.arange(columns), indexing="ij"))
        positions[1:, first : first + count] = grid.reshape(3, -1) + position
        position += max(rows, columns)
        index = first + count
        used += count
    if used != len(image_at):
        raise ValueError(f"{len(image_at)} image tokens, but the images fill {used}")
    positions[1:, index:] = torch.arange(position, position + len(ids) - index)
    return positions


class Qwen2_5VL(Family):
    """The Qwen2.5-VL family; see :class:`vrag_agent.families.base.Family` for the attributes.

    Args:
        tokenizer: A Qwen2 tokenizer with the Qwen special tokens.
        image_processor: The family's image processor.
    """

    name = "qwen2_5_vl"
    title = "Qwen2.5-VL"
    box_frame = "pixel"
    position_rows = 4
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"

    def __init__(self, tokenizer: Any, image_processor: Any) -> None:
        super().__init__(tokenizer, image_processor)
        self.merge = int(image_processor.merge_size)
        self.pixel_multiple = int(image_processor.patch_size) * self.merge
        self.stop_id = self._special("<|im_end|>")
        self.pad_id = self._special("<|endoftext|>")
        self.image_token_id = self._special("<|image_pad|>")
        self._start = self._special("<|im_start|>")
        self._vision = self._special("<|vision_start|>"), self._special("<|vision_end|>")

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the family's processor, which holds tokenizer, image processor and chat template."""
        from transformers import Qwen2_5_VLProcessor, Qwen2VLVideoProcessor

        self._save(directory, Qwen2_5_VLProcessor, Qwen2VLVideoProcessor)

    def _save(self, directory: str | Path, processor: Any, video_processor: Any) -> None:
        video = video_processor(
            patch_size=self.image_processor.patch_size,
            merge_size=self.image_processor.merge_size,
            temporal_patch_size=self.image_processor.temporal_patch_size,
        )
        processor(
            image_processor=self.image_processor,
            tokenizer=self.tokenizer,
            video_processor=video,
            chat_template=self.tokenizer.chat_template,
        ).save_pretrained(directory)

    def prompt(self, system: str, blocks: Sequence[Block]) -> Segment:
        """Write system and first user turn; without a system text there is no system turn."""
        ids: list[int] = []
        if system:
            ids += [self._start, *self.encode(f"system\n{system}"), self.stop_id, *self.encode("\n")]
        return self._user_turn("prompt", ids, blocks)

    def observation(self, blocks: Sequence[Block], action_ids: Sequence[int]) -> Segment:
        """Close the action's turn and write a user turn."""
        cut = not action_ids or action_ids[-1] != self.stop_id
        ids = [self.stop_id] if cut else []
        return self._user_turn("observation", [*ids, *self.encode("\n")], blocks)

    def _user_turn(self, kind: str, ids: list[int], blocks: Sequence[Block]) -> Segment:
        ids += [self._start, *self.encode("user\n")]
        images: list[ImageInput] = []
        for block in blocks:
            if isinstance(block, Text):
                ids += self.encode(block.text)
                continue
            pixel_values, grid, key = self._image(block.image)
            count = grid[0] * grid[1] * grid[2] // self.merge**2
            ids.append(self._vision[0])
            images.append(ImageInput(pixel_values, grid, len(ids), count, key))
            ids += [self.image_token_id] * count
            ids.append(self._vision[1])
        ids += [self.stop_id, *self.encode("\n"), self._start, *self.encode("assistant\n")]
        return Segment(kind, tuple(ids), images=tuple(images))

    def prepare(self, image: PILImage.Image) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Return ``(patches, patch_dim)`` and the patches in time, height and width."""
        out = self.image_processor(images=[image], do_resize=False, return_tensors="pt")
        time, height, width = out["image_grid_thw"][0].tolist()
        return out["pixel_values"], (time, height, width)

    def positions(self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """See :func:`mrope_positions`."""
        return mrope_positions(token_ids, grids, self.image_token_id, self.merge)

    def language_model(self, model: Any) -> nn.Module:
        """Return ``model.model.language_model``."""
        return model.model.language_model

    def vision_modules(self, model: Any) -> list[nn.Module]:
        """Return the vision tower, which includes the merger."""
        return [model.model.visual]

    def features(self, model: Any, images: Sequence[ImageInput]) -> list[Features]:
        """Return one ``(image tokens, hidden)`` per image."""
        return [(features,) for features in self._encode(model, images).pooler_output]

    def _encode(self, model: Any, images: Sequence[ImageInput]) -> Any:
        device = model.model.visual.device
        return model.model.get_image_features(
            torch.cat([image.pixel_values for image in images]).to(device),
            torch.tensor([image.grid_thw for image in images], device=device),
            return_dict=True,
        )
