"""Family: what differs between model families, and nothing else.

A family writes prompts and observations as token ids, says at which positions they stand, prepares images as the
family's own processor does, and knows by which names a transformers model of it keeps its parts. Text from
questions, pages and the environment is encoded with special tokens switched off, so that ``<|im_end|>`` in a
document is seven characters of text and no end of a turn.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image as PILImage
from torch import nn

from vrag_agent.trajectory import ImageInput, Segment
from vrag_env.episode import Block

CACHE_BYTES = 1 << 30
"""Pixel values of recently shown images kept in memory, so that a page shown in many episodes is prepared once."""

Features = tuple[torch.Tensor, ...]
"""What the vision tower makes of one image: ``(image tokens, hidden)`` for the input of the language model, then,
where a family has them, as many for the output of its first layers."""


class Family(ABC):
    """Prompt and observation as token ids, positions, pixels, and the ids that matter.

    Args:
        tokenizer: The family's tokenizer.
        image_processor: The family's image processor; its own resizing is not used, since the environment shows
            images in sizes that the processor would leave as they are.

    Attributes:
        name: The ``model_type`` of the family's transformers configuration.
        box_frame: The frame in which the family writes boxes (``"pixel"`` or ``"1000"``).
        pixel_multiple: Shown images must have sides that are multiples of this many pixels.
        position_rows: Rows of ``position_ids``.
        pad_id: Id that fills up a batch; never attended to.
        stop_id: Id that ends an action.
        image_token_id: Id that stands for one visual token.
        vocab_size: Ids that the tokenizer knows; a model may have more rows, which are never sampled.
        forbidden_ids: Ids that must never be sampled; their logits are minus infinity in sampling and training.
        lora_targets: Regular expression of the modules that get an adapter.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    box_frame: ClassVar[str]
    position_rows: ClassVar[int]
    lora_targets: ClassVar[str]
    pixel_multiple: int
    pad_id: int
    stop_id: int
    image_token_id: int

    def __init__(self, tokenizer: Any, image_processor: Any) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.vocab_size = len(tokenizer)
        self._pixels: OrderedDict[str, tuple[torch.Tensor, tuple[int, int, int]]] = OrderedDict()
        self._bytes = 0

    @classmethod
    def of(cls, config: Any, tokenizer: Any, image_processor: Any) -> Family:
        """Build the family of a model with this configuration."""
        return cls(tokenizer, image_processor)

    @property
    def forbidden_ids(self) -> tuple[int, ...]:
        """All special tokens but the stop id."""
        specials = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return tuple(sorted(specials - {self.stop_id}))

    def _special(self, token: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(token)
        if index is None or (index == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token):
            raise ValueError(f"the tokenizer has no {token}: it is not of the {self.title} family")
        return int(index)

    # --- text ---

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of plain text; special tokens in it stay plain text."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of an action, without the stop id; for parsing only, never encoded again."""
        ids = list(token_ids)
        if ids and ids[-1] == self.stop_id:
            ids.pop()
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def action(self, text: str) -> tuple[int, ...]:
        """Ids of an action that someone else wrote, as the family's chat template places it; with the stop id."""
        return (*self.encode(text), self.stop_id)

    @abstractmethod
    def prompt(self, system: str, blocks: Sequence[Block]) -> Segment:
        """Write the beginning of a conversation, up to where the policy's first action begins.

        Args:
            system: System text; empty for none.
            blocks: What the environment shows first.
        """

    @abstractmethod
    def observation(self, blocks: Sequence[Block], action_ids: Sequence[int]) -> Segment:
        """Write what comes back after an action, up to where the next action begins.

        Args:
            blocks: What the environment returned.
            action_ids: The action before; if it was cut before the stop id, the stop id is written here,
                where it is not trained on.
        """

    @abstractmethod
    def positions(self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """Compute explicit positions, ``(position_rows, tokens)``, of one unpadded sequence.

        Args:
            token_ids: The sequence.
            grids: ``grid_thw`` of its images, in order.
        """

    # --- images ---

    @abstractmethod
    def prepare(self, image: PILImage.Image) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Return pixel values and grid of an image, as the family's processor makes them."""

    def _image(self, image: PILImage.Image) -> tuple[torch.Tensor, tuple[int, int, int], str]:
        """Prepare an image once; return its pixel values, its grid and its key."""
        if image.width % self.pixel_multiple or image.height % self.pixel_multiple:
            raise ValueError(
                f"an image of {image.width} x {image.height} pixels does not divide into visual tokens: "
                f"set the environment's pixel_multiple to {self.pixel_multiple}"
            )
        key = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()[:32]
        if key not in self._pixels:
            self._pixels[key] = self.prepare(image)
            self._bytes += self._pixels[key][0].nbytes
            while self._bytes > CACHE_BYTES and len(self._pixels) > 1:
                _, (old, _) = self._pixels.popitem(last=False)
                self._bytes -= old.nbytes
        self._pixels.move_to_end(key)
        return (*self._pixels[key], key)

    # --- the model ---

    @abstractmethod
    def language_model(self, model: Any) -> nn.Module:
        """Return the language model, without its head."""

    @abstractmethod
    def vision_modules(self, model: Any) -> list[nn.Module]:
        """Return the modules that turn pixels into features."""

    @abstractmethod
    def features(self, model: Any, images: Sequence[ImageInput]) -> list[Features]:
        """Run the vision tower over images, all at once.

        Args:
            model: A model of the family.
            images: At least one.
        """

    def language_inputs(
        self, position_ids: torch.Tensor, image_mask: torch.Tensor, features: Sequence[Features]
    ) -> dict[str, Any]:
        """Keyword arguments of the language model beside embeddings, mask and cache.

        Args:
            position_ids: ``(position_rows, B, T)``.
            image_mask: ``(B, T)``, true at image tokens.
            features: Of the images in the order of their tokens.
        """
        return {"position_ids": position_ids}

    @abstractmethod
    def save_pretrained(self, directory: str | Path) -> None:
        """Write tokenizer and processor so that transformers loads them."""
