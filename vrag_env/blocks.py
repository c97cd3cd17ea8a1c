"""Blocks: the pieces of text and the images that a policy sees, in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image as PILImage

from vrag_env.pictures import Pixels
from vrag_env.views import View


@dataclass(frozen=True)
class Text:
    """A piece of text for the policy.

    Attributes:
        text: What it reads; untrusted where it quotes a question.
    """

    text: str


@dataclass(frozen=True, init=False, eq=False)
class Image:
    """An image for the policy.

    Attributes:
        pixels: RGB, ``uint8 (height, width, 3)`` of exactly ``view.size``; read only.
        view: What it shows.
    """

    pixels: Pixels
    view: View

    def __init__(self, image: Pixels | PILImage.Image, view: View) -> None:
        object.__setattr__(self, "pixels", np.asarray(image))
        object.__setattr__(self, "view", view)

    @cached_property
    def image(self) -> PILImage.Image:
        """The same as a PIL image, made when it is first asked for; it is this block's own."""
        return PILImage.fromarray(self.pixels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.view == self.view and np.array_equal(other.pixels, self.pixels)


Block = Text | Image
