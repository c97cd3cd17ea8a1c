"""Segment and Trajectory: the exact token ids of one episode, who wrote each, and the images in between.

Token in, token out: action ids are kept as they were sampled and are never made again from text. A trajectory
is a prompt segment, then action and observation segments in turn; observations carry their images together with
the span of image tokens that each one fills. :func:`collate` turns trajectories into the tensors of one forward
pass and checks, image by image, that tokens and features agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vrag_agent.families.base import Family

KINDS = ("prompt", "action", "observation")


@dataclass(frozen=True)
class ImageInput:
    """One image inside a segment.

    Attributes:
        pixel_values: What the family's image processor makes of it: ``(patches, patch_dim)`` or ``(tiles, 3, side,
            side)``; shared between all segments that show the same image, never written to.
        grid_thw: Patches in time, height and width; tiles and their sides where a family cuts images into tiles.
        start: Index of the first image token in the segment.
        length: Number of image tokens.
        key: Hash of the pixels.
        runs: Where there is more than one run of image tokens, with labels between them: for each its distance from
            ``start``, and its length.
    """

    pixel_values: torch.Tensor
    grid_thw: tuple[int, int, int]
    start: int
    length: int
    key: str
    runs: tuple[tuple[int, int], ...] = ()

    @property
    def places(self) -> list[int]:
        """Index of each image token in the segment."""
        runs = self.runs or ((0, self.length),)
        return [self.start + i for first, length in runs for i in range(first, first + length)]


@dataclass(frozen=True)
class Segment:
    """A run of tokens from one author.

    Attributes:
        kind: ``prompt``, ``action`` (sampled by the policy) or ``observation``.
        token_ids: The ids, exactly as fed to or sampled from the model.
        logprobs: Log-probability of each id when it was sampled; empty unless ``kind`` is ``action``.
        images: Images in the order of their tokens.
        reward: Reward of the step that an action led to.
        policy_version: Number of updates the policy had seen when it wrote an action.
        state_key: The environment's key of the state in which an action was taken.
    """

    kind: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    images: tuple[ImageInput, ...] = ()
    reward: float = 0.0
    policy_version: int = 0
    state_key: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        if self.kind != "action" and (self.logprobs or self.reward):
            raise ValueError(f"only an action has log-probs and a reward, this is a {self.kind}")
        if self.kind == "action" and self.images:
            raise ValueError("an action holds no images")
        if self.logprobs and len(self.logprobs) != len(self.token_ids):
            raise ValueError(f"{len(self.token_ids)} tokens but {len(self.logprobs)} log-probs")


@dataclass(frozen=True)
class Trajectory:
    """One episode as the model saw and wrote it.

    Attributes:
        segments: In order; the first is the prompt, the last is usually an action.
        question_id: What was asked.
        info: The last ``info`` of the environment (reward terms, success, ...).
        truncated: Whether the episode ended without an answer.
    """

    segments: tuple[Segment, ...]
    question_id: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    truncated: bool = False

    @property
    def token_ids(self) -> list[int]:
        """All ids in order."""
        return [token for segment in self.segments for token in segment.token_ids]

    @property
    def actions(self) -> list[Segment]:
        """The action segments in order; one per turn."""
        return [segment for segment in self.segments if segment.kind == "action"]

    @property
    def rewards(self) -> list[float]:
        """The reward of each turn."""
        return [segment.reward for segment in self.actions]

    @property
    def images(self) -> list[ImageInput]:
        """All images in order."""
        return [image for segment in self.segments for image in segment.images]


@dataclass(frozen=True)
class Batch:
    """The tensors of one forward pass over trajectories: one behind the other in one row, or one per row.

    With packing ``B`` is 1 and ``T`` the number of all tokens; without it ``B`` is the number of trajectories and
    ``T`` the length of the longest. Results do not depend on which.

    Attributes:
        input_ids: ``(B, T)``, padded on the right where there is padding.
        position_ids: ``(rows, B, T)`` explicit positions, as the family needs them; each trajectory begins at 0.
        lengths: Tokens of each trajectory.
        packed: Whether all trajectories stand in one row.
        images: All images in the order of their tokens.
        rows: ``(N,)`` trajectory of each action token.
        columns: ``(N,)`` index of each action token in its trajectory.
        turns: ``(N,)`` turn that each action token belongs to.
        decision_rows: ``(M,)`` trajectory of each turn.
        decision_columns: ``(M,)`` last token before each turn's first action token: what the critic reads.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    lengths: tuple[int, ...]
    packed: bool
    images: tuple[ImageInput, ...]
    rows: torch.Tensor
    columns: torch.Tensor
    turns: torch.Tensor
    decision_rows: torch.Tensor
    decision_columns: torch.Tensor

    def places(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Index in the flattened batch, ``(B * T)``, of tokens given by trajectory and index in it."""
        if self.packed:
            ends = torch.tensor(self.lengths, device=rows.device).cumsum(0)
            return ends[rows] - torch.tensor(self.lengths, device=rows.device)[rows] + columns
        return rows * self.input_ids.shape[1] + columns

    @property
    def action_ids(self) -> torch.Tensor:
        """Ids of the action tokens, ``(N,)``."""
        return self.input_ids.flatten()[self.places(self.rows, self.columns)]

    @property
    def attention_mask(self) -> torch.Tensor:
        """``(B, T)``, true where a token is."""
        if self.packed:
            return torch.ones_like(self.input_ids, dtype=torch.bool)
        lengths = torch.tensor(self.lengths, device=self.input_ids.device)
        return torch.arange(self.input_ids.shape[1], device=lengths.device) < lengths[:, None]


def collate(
    trajectories: Sequence[Trajectory],
    family: Family,
    device: torch.device | str = "cpu",
    packed: bool = True,
) -> Batch:
    """Make the tensors of one forward pass.

    Args:
        trajectories: At least one.
        family: Knows positions, padding and the image token.
        device: Where the tensors go.
        packed: Put all trajectories into one row, without padding.

    Raises:
        ValueError: If there is no trajectory, if one begins with an action, or if the image tokens of a segment
            are not exactly those of its images.
    """
    if not trajectories:
        raise ValueError("a batch needs at least one trajectory, got none")
    sequences, positions = [], []
    rows: list[int] = []
    columns: list[int] = []
    turns: list[int] = []
    decisions: list[tuple[int, int]] = []
    for row, trajectory in enumerate(trajectories):
        for segment in trajectory.segments:
            check_images(segment, family.image_token_id)
        ids = trajectory.token_ids
        sequences.append(torch.tensor(ids))
        positions.append(family.positions(ids, [image.grid_thw for image in trajectory.images]))
        start, turn = 0, 0
        for segment in trajectory.segments:
            end = start + len(segment.token_ids)
            if segment.kind == "action":
                if start == 0:
                    raise ValueError("a trajectory begins with a prompt, not with an action")
                rows += [row] * (end - start)
                columns += range(start, end)
                turns += [turn] * (end - start)
                decisions.append((row, start - 1))
                turn += 1
            start = end
    if packed:
        input_ids, position_ids = torch.cat(sequences)[None], torch.cat(positions, dim=1)[:, None]
    else:
        width = max(len(ids) for ids in sequences)
        input_ids = torch.full((len(sequences), width), family.pad_id, dtype=torch.long)
        position_ids = torch.zeros((family.position_rows, len(sequences), width), dtype=torch.long)
        for row, (sequence, position) in enumerate(zip(sequences, positions, strict=True)):
            input_ids[row, : len(sequence)] = sequence
            position_ids[:, row, : len(sequence)] = position
    return Batch(
        input_ids=input_ids.to(device),
        position_ids=position_ids.to(device),
        lengths=tuple(len(sequence) for sequence in sequences),
        packed=packed,
        images=tuple(image for trajectory in trajectories for image in trajectory.images),
        rows=torch.tensor(rows, dtype=torch.long, device=device),
        columns=torch.tensor(columns, dtype=torch.long, device=device),
        turns=torch.tensor(turns, dtype=torch.long, device=device),
        decision_rows=torch.tensor([row for row, _ in decisions], dtype=torch.long, device=device),
        decision_columns=torch.tensor([column for _, column in decisions], dtype=torch.long, device=device),
    )


def check_images(segment: Segment, image_token_id: int) -> None:
    """Check that the image tokens of a segment are exactly the spans of its images.

    Raises:
        ValueError: If they are not; training on such a segment would show the model the wrong pixels.
    """
    found = [i for i, token in enumerate(segment.token_ids) if token == image_token_id]
    expected = [i for image in segment.images for i in image.places]
    if found != expected:
        raise ValueError(
            f"the {segment.kind} segment has {len(found)} image tokens, but its {len(segment.images)} images "
            f"fill {len(expected)} (or stand at other places): tokens and pixels are out of step"
        )
