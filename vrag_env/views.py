"""View: a page or a crop as the policy saw it, with its lineage in page coordinates.

Every box that an agent writes is in the frame of the image that it saw last. It is mapped through the view's
own box to the page, so that a crop of a crop reads the right region whatever the sizes on screen. Images are
resized to sides that are multiples of the vision patch, inside a pixel budget, by the rule of the image
processor of Qwen2-VL (``smart_resize``); such an image passes through that processor unchanged, so the pixel
frame that an agent's box refers to is the frame that the model sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from vrag_env.corpus.records import Box

MIN_CROP_PIXELS = 8
"""A crop must cover at least this many pixels of the stored page on each side."""
MAX_ASPECT = 100.0
"""Longest allowed ratio of a view's sides."""

FULL_PAGE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class PixelBudget:
    """How large a shown image may be.

    Attributes:
        min_pixels: Fewest pixels of a shown image; smaller ones are enlarged. VRAG-RL: 256 * 28 * 28.
        max_pixels: Most pixels of a shown image; larger ones are reduced. VRAG-RL: 512 * 28 * 28.
        multiple: Both sides are multiples of this, the size of one visual token (28 for Qwen2.5-VL).
    """

    min_pixels: int = 256 * 28 * 28
    max_pixels: int = 512 * 28 * 28
    multiple: int = 28

    def __post_init__(self) -> None:
        if self.multiple < 1 or self.min_pixels < 1:
            raise ValueError(f"min_pixels and multiple must be positive, got {self}")
        if self.max_pixels < max(self.min_pixels, self.multiple**2):
            raise ValueError(f"max_pixels must be at least min_pixels and multiple**2, got {self}")

    def fit(self, width: float, height: float) -> tuple[int, int]:
        """Return the size at which an image of this shape is shown.

        The rule is ``smart_resize`` of Qwen2-VL: round to the multiple, then scale into the budget.

        Args:
            width: Width of the source in any unit.
            height: Height in the same unit.

        Returns:
            ``(width, height)`` in pixels, multiples of :attr:`multiple`.
        """
        m = self.multiple
        w, h = max(m, round(width / m) * m), max(m, round(height / m) * m)
        if w * h > self.max_pixels:
            scale = math.sqrt(width * height / self.max_pixels)
            w = max(m, math.floor(width / scale / m) * m)
            h = max(m, math.floor(height / scale / m) * m)
            # A short side clamped to one token can leave the product over the budget: shorten the long one.
            if w > h:
                w = min(w, self.max_pixels // h // m * m)
            else:
                h = min(h, self.max_pixels // w // m * m)
        elif w * h < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (width * height))
            w = math.ceil(width * scale / m) * m
            h = math.ceil(height * scale / m) * m
            if w * h > self.max_pixels:  # min and max closer together than one row of tokens
                w = max(m, math.floor(width * scale / m) * m)
                h = max(m, min(h, self.max_pixels // w // m * m))
                w = min(w, max(m, self.max_pixels // h // m * m))
        return w, h


@dataclass(frozen=True)
class View:
    """One image that was shown.

    Attributes:
        view_id: 1-based position among the images of the episode.
        page_id: The page it shows.
        box: The region of the page, normalised ``(x0, y0, x1, y1)``.
        parent_id: The view that it was cut from; ``None`` for a page.
        size: ``(width, height)`` in pixels as shown.
    """

    view_id: int
    page_id: str
    box: Box
    parent_id: int | None
    size: tuple[int, int]


def compose(outer: Box, inner: Box) -> Box:
    """Map a box given relative to another box into that box's own frame.

    Args:
        outer: The view's box on the page.
        inner: A box relative to the view, normalised to it.

    Returns:
        The same region on the page.

    >>> compose((0.5, 0.0, 1.0, 0.5), (0.5, 0.5, 1.0, 1.0))
    (0.75, 0.25, 1.0, 0.5)
    """
    x0, y0, x1, y1 = outer
    w, h = x1 - x0, y1 - y0
    return (x0 + inner[0] * w, y0 + inner[1] * h, x0 + inner[2] * w, y0 + inner[3] * h)


def relative_to(outer: Box, box: Box) -> Box:
    """Inverse of :func:`compose`: a box on the page, in the frame of the view that shows ``outer``.

    The result is not clipped: parts outside the view lie below 0 or above 1.
    """
    x0, y0, x1, y1 = outer
    w, h = x1 - x0, y1 - y0
    return ((box[0] - x0) / w, (box[1] - y0) / h, (box[2] - x0) / w, (box[3] - y0) / h)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes in the same frame; 0 if they do not meet.

    >>> iou((0, 0, 2, 1), (1, 0, 3, 1))
    0.3333333333333333
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


class BadBox(ValueError):
    """A box that can not be cut; the message says why, for the policy to read."""


def crop_view(view: View, box: tuple[float, float, float, float], frame: str, page_size: tuple[int, int]) -> Box:
    """Turn the box that an agent wrote into a region of the page.

    Args:
        view: The image that the agent saw last.
        box: ``(x1, y1, x2, y2)`` as written.
        frame: ``"pixel"`` (the view's own pixels) or ``"1000"`` (0 to 1000 on both axes).
        page_size: ``(width, height)`` of the stored page in pixels.

    Returns:
        The region on the page, clipped to the view.

    Raises:
        BadBox: If the box is inverted, lies outside the view, is under :data:`MIN_CROP_PIXELS` stored pixels
            on a side, or has an aspect ratio over :data:`MAX_ASPECT`.
    """
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        raise BadBox("the box is inverted: x1 < x2 and y1 < y2 are needed")
    width, height = view.size if frame == "pixel" else (1000, 1000)
    clipped = (max(x1, 0), max(y1, 0), min(x2, width), min(y2, height))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        raise BadBox(f"the box lies outside the image, which is {width} wide and {height} high")
    inner = (clipped[0] / width, clipped[1] / height, clipped[2] / width, clipped[3] / height)
    region = compose(view.box, inner)
    w, h = (region[2] - region[0]) * page_size[0], (region[3] - region[1]) * page_size[1]
    if w < MIN_CROP_PIXELS or h < MIN_CROP_PIXELS:
        raise BadBox("the box is too small to show anything")
    if max(w / h, h / w) > MAX_ASPECT:
        raise BadBox("the box is too thin to show anything")
    return region


def cut(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """Cut a region from a page at full resolution and resize it.

    Args:
        image: The stored page.
        box: The region, normalised; cut with sub-pixel precision, so that equal boxes give equal pixels.
        size: ``(width, height)`` of the result.

    Returns:
        A new RGB image.
    """
    source = (box[0] * image.width, box[1] * image.height, box[2] * image.width, box[3] * image.height)
    return image.resize(size, Image.Resampling.BICUBIC, box=source)


def to_frame(view: View, box: Box, frame: str) -> tuple[int, int, int, int]:
    """Write a region of the page as an agent would: whole numbers in the view's frame, clipped to it."""
    width, height = view.size if frame == "pixel" else (1000, 1000)
    x0, y0, x1, y1 = relative_to(view.box, box)
    return (
        min(max(math.floor(x0 * width), 0), width - 1),
        min(max(math.floor(y0 * height), 0), height - 1),
        max(min(math.ceil(x1 * width), width), 1),
        max(min(math.ceil(y1 * height), height), 1),
    )
