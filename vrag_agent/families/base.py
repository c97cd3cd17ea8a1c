"""Family: what differs between model families, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from vrag_agent.trajectory import Segment
from vrag_env.episode import Block


class Family(Protocol):
    """Prompt and observation as token ids, positions, and the ids that matter.

    Attributes:
        name: The ``model_type`` of the family's transformers configuration.
        box_frame: The frame in which the family writes boxes (``"pixel"`` or ``"1000"``).
        pixel_multiple: Side of one visual token in pixels; shown images must be multiples of it.
        position_rows: Rows of ``position_ids``.
        pad_id: Id that fills up a batch; never attended to.
        stop_id: Id that ends an action.
        image_token_id: Id that stands for one visual token.
        vocab_size: Ids that the tokenizer knows; a model may have more rows, which are never sampled.
        forbidden_ids: Ids that must never be sampled; their logits are minus infinity in sampling and training.
        lora_targets: Regular expression of the modules that get an adapter.
    """

    name: str
    box_frame: str
    pixel_multiple: int
    position_rows: int
    pad_id: int
    stop_id: int
    image_token_id: int
    vocab_size: int
    forbidden_ids: tuple[int, ...]
    lora_targets: str

    def prompt(self, system: str, blocks: Sequence[Block]) -> Segment:
        """Write the beginning of a conversation, up to where the policy's first action begins."""
        ...

    def observation(self, blocks: Sequence[Block], action_ids: Sequence[int]) -> Segment:
        """Write what comes back after an action, up to where the next action begins.

        Args:
            blocks: What the environment returned.
            action_ids: The action before; if it was cut before the stop id, the stop id is written here,
                where it is not trained on.
        """
        ...

    def positions(self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """Compute explicit positions, ``(position_rows, tokens)``, of one unpadded sequence."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of an action, without the stop id; for parsing only, never encoded again."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of plain text; special tokens in it stay plain text."""
        ...

    def save_pretrained(self, directory: str | Path) -> None:
        """Write tokenizer and processor so that transformers loads them."""
        ...
