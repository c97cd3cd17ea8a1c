"""The spaces of the text face: any Unicode text, the turns an agent writes, and images of many sizes.

Gymnasium's ``Text`` lists its characters one by one and its ``Box`` has one fixed shape; questions come in
every script, and pages in every shape, so both are widened here. Such spaces are batched by Gymnasium as
tuples; with ``AsyncVectorEnv`` they need ``shared_memory=False``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.spaces import Space

from vrag_env.actions import Answer, Crop, Search, format_turn

_SAMPLE_CHARS = 48
_ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,:;!?%$-_/()[]<>éßøщ中の🙂"


def _no_mask(mask: Any, probability: Any) -> None:
    if mask is not None or probability is not None:
        raise ValueError("this space has no masked sampling: call sample() without mask and probability")


class UnicodeText(Space[str]):
    """Any text up to a length.

    Args:
        max_length: Most characters, at least 0; the empty text is a member.
        seed: Seed of :meth:`sample`.

    Raises:
        ValueError: If ``max_length`` is negative.

    Example:
        >>> "Wie hoch war der Umsatz? 营业额" in UnicodeText(100)
        True
    """

    def __init__(self, max_length: int, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 0:
            raise ValueError(f"max_length must be at least 0, got {max_length}")
        self.max_length = int(max_length)
        super().__init__(shape=None, dtype=str, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw a short text; members are far too many for a uniform draw to be of use."""
        _no_mask(mask, probability)
        length = int(self.np_random.integers(0, min(self.max_length, _SAMPLE_CHARS) + 1))
        picks = self.np_random.integers(0, len(_ALPHABET), size=length)
        return "".join(_ALPHABET[pick] for pick in picks)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is text of at most ``max_length`` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    @property
    def is_np_flattenable(self) -> bool:
        """Always false: texts have no fixed length."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and type(other) is type(self) and other.max_length == self.max_length


class TurnText(UnicodeText):
    """The turns that an agent writes: any text is a member, well-formed turns are what is sampled.

    A turn that does not fit the grammar is a legal action with a known result (it costs a turn), so the space
    does not exclude it. Three samples of four follow the grammar of :mod:`vrag_env.actions`, which makes a
    random agent search, crop and answer; the fourth is noise.

    Args:
        max_length: Most characters.
        seed: Seed of :meth:`sample`.
    """

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw a turn; see the class."""
        _no_mask(mask, probability)
        kind = int(self.np_random.integers(0, 4))
        if kind == 0:
            return super().sample()
        words = " ".join(f"w{number}" for number in self.np_random.integers(0, 1000, size=3))
        if kind == 1:
            return format_turn(words, Search(words))
        if kind == 2:
            return format_turn(words, Answer(words))
        x1, y1, width, height = (int(value) for value in self.np_random.integers(1, 400, size=4))
        return format_turn(words, Crop((x1, y1, x1 + width, y1 + height)))


class ImageSpace(Space[np.ndarray]):
    """RGB images of any shape up to a number of pixels.

    A member is a ``uint8`` array of shape ``(height, width, 3)``. ``(0, 0, 3)`` is a member and stands for
    "nothing seen yet".

    Args:
        max_pixels: Most pixels, ``height * width``; at least 1.
        seed: Seed of :meth:`sample`.

    Raises:
        ValueError: If ``max_pixels`` is under 1.

    Example:
        >>> np.zeros((20, 30, 3), np.uint8) in ImageSpace(600)
        True
    """

    def __init__(self, max_pixels: int, seed: int | np.random.Generator | None = None) -> None:
        if max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {max_pixels}")
        self.max_pixels = int(max_pixels)
        super().__init__(shape=None, dtype=np.uint8, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> np.ndarray:
        """Draw an image of noise whose sides are at most the square root of ``max_pixels``."""
        _no_mask(mask, probability)
        height, width = self.np_random.integers(1, math.isqrt(self.max_pixels) + 1, size=2)
        return self.np_random.integers(0, 256, size=(height, width, 3), dtype=np.uint8)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a ``uint8`` array ``(height, width, 3)`` of at most ``max_pixels`` pixels."""
        return (
            isinstance(x, np.ndarray)
            and x.dtype == np.uint8
            and x.ndim == 3
            and x.shape[2] == 3
            and x.shape[0] * x.shape[1] <= self.max_pixels
        )

    @property
    def is_np_flattenable(self) -> bool:
        """Always false: images have no fixed shape."""
        return False

    def to_jsonable(self, sample_n: Iterable[np.ndarray]) -> list[dict[str, Any]]:
        """Write images as shapes and base64 of their bytes."""
        return [
            {
                "shape": list(image.shape),
                "data": base64.b64encode(image.tobytes()).decode("ascii"),
            }
            for image in sample_n
        ]

    def from_jsonable(self, sample_n: list[Any]) -> list[np.ndarray]:
        """Read what :meth:`to_jsonable` wrote."""
        return [
            np.frombuffer(base64.b64decode(item["data"]), np.uint8).reshape(item["shape"]).copy() for item in sample_n
        ]

    def __repr__(self) -> str:
        return f"ImageSpace({self.max_pixels})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageSpace) and other.max_pixels == self.max_pixels
