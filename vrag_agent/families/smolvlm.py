r"""SmolVLM and Idefics3: an image is a grid of square tiles and, if there are several, itself in one tile's size.

Conversation: ``<bos>System: ...<end_of_utterance>\nUser: ...<end_of_utterance>\nAssistant:`` and then the action,
which begins with a blank and ends with ``<end_of_utterance>``. A tile is a label (``<row_1_col_2>``) and a fixed
number of image tokens; positions are those of plain text. The family's processor enlarges every image to its
longest edge and stretches it to whole tiles; here the environment shows images of whole tiles
(``pixel_multiple``), which that processor would not change, so that its pixel budget says how many tiles a page
gets. SmolVLM2 checkpoints are of the class ``smolvlm``, the first SmolVLM and Idefics3 of the class ``idefics3``.
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


class SmolVLM(Family):
    """The SmolVLM2 family; see :class:`vrag_agent.families.base.Family` for the attributes.

    Args:
        tokenizer: The family's tokenizer.
        image_processor: The family's image processor.
        tokens_per_tile: Image tokens of one tile.
    """

    name = "smolvlm"
    title = "SmolVLM"
    box_frame = "1000"
    position_rows = 1
    lora_targets = r".*text_model.*\.(q|k|v|o|gate|up|down)_proj"

    def __init__(self, tokenizer: Any, image_processor: Any, tokens_per_tile: int) -> None:
        super().__init__(tokenizer, image_processor)
        self.tokens_per_tile = tokens_per_tile
        self.pixel_multiple = int(image_processor.max_image_size["longest_edge"])
        self.stop_id = self._special("<end_of_utterance>")
        self.image_token_id = self._special("<image>")
        self._border = self._special("<fake_token_around_image>")
        self.pad_id = int(tokenizer.pad_token_id)
        self._begin = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]

    @classmethod
    def of(cls, config: Any, tokenizer: Any, image_processor: Any) -> SmolVLM:
        """Build the family; the number of image tokens of a tile follows from the vision tower.

        Raises:
            ValueError: If the processor's tiles are not of the size that the vision tower takes.
        """
        vision = config.vision_config
        side = image_processor.max_image_size["longest_edge"]
        if side != vision.image_size:
            raise ValueError(
                f"the image processor cuts tiles of {side} pixels, but the vision tower takes {vision.image_size}: "
                "load both from one place"
            )
        return cls(tokenizer, image_processor, (vision.image_size // vision.patch_size // config.scale_factor) ** 2)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the family's processor, which holds tokenizer, image processor and chat template."""
        from transformers import SmolVLMProcessor, SmolVLMVideoProcessor

        # The processor asks for the processor of videos; it has no part in what is done here.
        video = SmolVLMVideoProcessor(max_image_size=self.image_processor.max_image_size)
        SmolVLMProcessor(
            image_processor=self.image_processor,
            tokenizer=self.tokenizer,
            video_processor=video,
            image_seq_len=self.tokens_per_tile,
            chat_template=self.tokenizer.chat_template,
        ).save_pretrained(directory)

    def action(self, text: str) -> tuple[int, ...]:
        """Ids of an action that someone else wrote: a blank, the text and the stop id."""
        return (*self.encode(f" {text}"), self.stop_id)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of an action, without the stop id and the template's blank before it."""
        return super().decode(token_ids).removeprefix(" ")

    def prompt(self, system: str, blocks: Sequence[Block]) -> Segment:
        """Write system and first user turn; without a system text there is no system turn."""
        ids = list(self._begin)
        if system:
            ids += [*self.encode(f"System: {system}"), self.stop_id, *self.encode("\n")]
        return self._user_turn("prompt", ids, "", blocks)

    def observation(self, blocks: Sequence[Block], action_ids: Sequence[int]) -> Segment:
        """Close the action's turn and write a user turn."""
        cut = not action_ids or action_ids[-1] != self.stop_id
        return self._user_turn("observation", [self.stop_id] if cut else [], "\n", blocks)

    def _user_turn(self, kind: str, ids: list[int], lead: str, blocks: Sequence[Block]) -> Segment:
        # The text between two special tokens is encoded as a whole, as the tokenizer does it in the template.
        text = f"{lead}User:{' ' if blocks and isinstance(blocks[0], Text) else ''}"
        images: list[ImageInput] = []
        for block in blocks:
            if isinstance(block, Text):
                text += block.text
                continue
            ids += self.encode(text)
            text = ""
            images.append(self._tiles(ids, block.image))
        ids += [*self.encode(text), self.stop_id, *self.encode("\nAssistant:")]
        return Segment(kind, tuple(ids), images=tuple(images))

    def _tiles(self, ids: list[int], image: PILImage.Image) -> ImageInput:
        """Append the tokens of an image: its tiles row by row and then, if it has several, the whole of it."""
        pixel_values, grid, key = self._image(image)
        rows, columns = image.height // self.pixel_multiple, image.width // self.pixel_multiple
        labels = [[f"<row_{row + 1}_col_{column + 1}>" for column in range(columns)] for row in range(rows)]
        if grid[0] == 1:
            labels = []
        runs: list[tuple[int, int]] = []
        for row in labels:
            for label in row:
                self._tile(ids, label, runs)
            # A new line ends each row, and one more the last.
            ids += self.encode("\n\n" if row is labels[-1] else "\n")
        self._tile(ids, "<global-img>", runs)
        ids.append(self._border)
        start, total = runs[0][0], sum(length for _, length in runs)
        relative = tuple((first - start, length) for first, length in runs)
        return ImageInput(pixel_values, grid, start, total, key, relative)

    def _tile(self, ids: list[int], label: str, runs: list[tuple[int, int]]) -> None:
        ids.append(self._border)
        # The label is one special token in some checkpoints and plain text in others.
        ids += self.tokenizer(label, add_special_tokens=False).input_ids
        runs.append((len(ids), self.tokens_per_tile))
        ids += [self.image_token_id] * self.tokens_per_tile

    def prepare(self, image: PILImage.Image) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Return ``(tiles, 3, side, side)``, the whole image last, and ``(tiles, side, side)``."""
        pixels = self.image_processor(images=[image], do_resize=False, return_tensors="pt")["pixel_values"][0]
        return pixels, (len(pixels), self.pixel_multiple, self.pixel_multiple)

    def positions(self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """Count tokens.

        Raises:
            ValueError: If the image tokens do not fill the tiles exactly.
        """
        found = sum(token == self.image_token_id for token in token_ids)
        expected = sum(tiles for tiles, _, _ in grids) * self.tokens_per_tile
        if found != expected:
            raise ValueError(f"{found} image tokens, but the tiles of the images fill {expected}")
        return torch.arange(len(token_ids))[None]

    def language_model(self, model: Any) -> nn.Module:
        """Return ``model.model.text_model``."""
        return model.model.text_model

    def vision_modules(self, model: Any) -> list[nn.Module]:
        """Return vision tower and connector."""
        return [model.model.vision_model, model.model.connector]

    def features(self, model: Any, images: Sequence[ImageInput]) -> list[Features]:
        """Return one ``(image tokens, hidden)`` per image."""
        pixels = torch.cat([image.pixel_values for image in images]).to(model.device)
        out = model.model.get_image_features(pixels[None], return_dict=True)
        features = torch.cat(list(out.pooler_output))
        return [(part,) for part in features.split([image.length for image in images])]

    def language_inputs(
        self, position_ids: torch.Tensor, image_mask: torch.Tensor, features: Sequence[Features]
    ) -> dict[str, Any]:
        """Positions without the leading axis."""
        return {"position_ids": position_ids[0]}


class Idefics3(SmolVLM):
    """The first SmolVLM, and Idefics3."""

    name = "idefics3"
    title = "Idefics3"

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the family's processor, which holds tokenizer, image processor and chat template."""
        from transformers import Idefics3Processor

        Idefics3Processor(
            image_processor=self.image_processor,
            tokenizer=self.tokenizer,
            image_seq_len=self.tokens_per_tile,
            chat_template=self.tokenizer.chat_template,
        ).save_pretrained(directory)
