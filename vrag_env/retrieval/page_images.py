"""Pictures of pages on request: a region, a size and a file format, each checked before work is done."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

from vrag_env.corpus.records import Box
from vrag_env.corpus.store import Corpus
from vrag_env.views import FULL_PAGE, cut

MAX_PIXELS = 2**24
"""Most pixels of an answer, 16.8 million; larger regions are reduced to it."""
MAX_SIDE = 16_384
"""Longest side of an answer, in pixels."""
MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png"}
_PARAMETERS = ("box", "max_pixels", "width", "height", "format", "v")
_JPEG_QUALITY = 90


class BadImageRequest(ValueError):
    """A parameter is wrong; the message begins with its name."""


@dataclass(frozen=True)
class ImageRequest:
    """A region of a page, the size to show it at, and a file format.

    Attributes:
        page_id: The page.
        box: The region, normalised ``(x0, y0, x1, y1)``.
        size: ``(width, height)`` of the answer in pixels.
        format: A key of :data:`MEDIA_TYPES`.
    """

    page_id: str
    box: Box
    size: tuple[int, int]
    format: str

    @classmethod
    def parse(
        cls, page_id: str, page_size: tuple[int, int], parameters: Mapping[str, str], format: str
    ) -> ImageRequest:
        """Read the parameters of a URL.

        Args:
            page_id: The page.
            page_size: ``(width, height)`` of its stored picture in pixels.
            parameters: ``box`` (``x0,y0,x1,y1`` in 0 to 1; by default the page), and either ``max_pixels``
                (never enlarges) or ``width`` and ``height`` (one alone keeps the shape); ``format``.
            format: What to use if the parameters name none.

        Raises:
            BadImageRequest: If a parameter is unknown, malformed or out of range.
        """
        for name in parameters:
            if name not in _PARAMETERS:
                raise BadImageRequest(f"{name}: no such parameter; known are {', '.join(_PARAMETERS)}")
        box = _box(parameters["box"], page_size) if "box" in parameters else FULL_PAGE
        region = ((box[2] - box[0]) * page_size[0], (box[3] - box[1]) * page_size[1])
        format = parameters.get("format", format)
        if format not in MEDIA_TYPES:
            raise BadImageRequest(f"format: expected one of {', '.join(MEDIA_TYPES)}")
        return cls(page_id, box, _size(parameters, region), format)

    def etag(self, content_hash: str) -> str:
        """Return the entity tag of the answer, from the hash of the page's source."""
        key = repr((content_hash, self.page_id, self.box, self.size, self.format))
        return f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"'

    def render(self, corpus: Corpus) -> bytes:
        """Cut, scale and encode.

        Raises:
            CorpusError: If the page's picture is damaged.
        """
        image = corpus.image(self.page_id)
        if self.box != FULL_PAGE or self.size != image.size:
            image = cut(image, self.box, self.size)
        buffer = io.BytesIO()
        if self.format == "png":
            image.save(buffer, "PNG", compress_level=1)
        else:
            image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()


def _box(text: str, page_size: tuple[int, int]) -> Box:
    expected = "box: expected x0,y0,x1,y1 with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1"
    parts = text[:200].split(",")
    try:
        x0, y0, x1, y1 = (float(part) for part in parts)
    except ValueError as error:
        raise BadImageRequest(expected) from error
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):  # false for NaN, too
        raise BadImageRequest(expected)
    if (x1 - x0) * page_size[0] < 1 or (y1 - y0) * page_size[1] < 1:
        raise BadImageRequest("box: the region is smaller than one pixel of the page")
    return (x0, y0, x1, y1)


def _size(parameters: Mapping[str, str], region: tuple[float, float]) -> tuple[int, int]:
    """Choose the size of the answer for a region of this many stored pixels."""
    width, height = region
    if "width" in parameters or "height" in parameters:
        if "max_pixels" in parameters:
            raise BadImageRequest("max_pixels: not together with width or height")
        given_width = _whole(parameters, "width", MAX_SIDE)
        given_height = _whole(parameters, "height", MAX_SIDE)
        if given_width is None and given_height is not None:
            given_width = max(1, round(given_height * width / height))
        if given_height is None and given_width is not None:
            given_height = max(1, round(given_width * height / width))
        assert given_width is not None and given_height is not None
        if max(given_width, given_height) > MAX_SIDE or given_width * given_height > MAX_PIXELS:
            name = "width" if "width" in parameters else "height"
            raise BadImageRequest(
                f"{name}: the image would have {given_width} x {given_height} pixels; at most {MAX_PIXELS} pixels and "
                f"{MAX_SIDE} a side are served"
            )
        return given_width, given_height
    most = _whole(parameters, "max_pixels", MAX_PIXELS) or MAX_PIXELS
    scale = min(1.0, math.sqrt(most / (width * height)), MAX_SIDE / max(width, height))
    # The small number makes up for rounding where the product is exactly the most.
    w, h = max(1, math.floor(width * scale + 1e-9)), max(1, math.floor(height * scale + 1e-9))
    return (w, min(h, most)) if w == 1 else (min(w, most), h) if h == 1 else (w, h)


def _whole(parameters: Mapping[str, str], name: str, most: int) -> int | None:
    """Read a whole number from 1 to ``most``; ``None`` if it is not given."""
    text = parameters.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and 1 <= int(text) <= most):
        raise BadImageRequest(f"{name}: expected a whole number from 1 to {most}")
    return int(text)
