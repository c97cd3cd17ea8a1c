"""The pictures of a replay: drawn from the corpus, and encoded so that the page stays small."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from PIL import Image as PILImage

from vrag_env.corpus import Corpus
from vrag_env.views import View, cut

Images = Callable[[View], PILImage.Image]
"""Draws a view, as :meth:`vrag_env.episode.Episode.image` does."""

MAX_IMAGE_BYTES = 2_400_000
"""Most bytes of all pictures of a page as encoded, so that the file stays under 5 MB."""
_QUALITY = ((1.0, 82), (1.0, 60), (0.7, 60), (0.5, 55), (0.35, 50), (0.2, 40), (0.1, 30))
"""Scales and WebP qualities to try, best first."""


def corpus_images(corpus: Corpus) -> Images:
    """Draw the views of a record from the corpus that it was played on.

    Args:
        corpus: The corpus; a view of a page that it does not hold raises its ``CorpusError``.
    """
    return lambda view: cut(corpus.image(view.page_id), view.box, view.size)


def encode_views(views: Sequence[View], images: Images, limit: int) -> dict[int, bytes]:
    """Encode every view once, at the best quality at which all of them stay within a limit.

    Args:
        views: The views of one episode, by ``view_id - 1``.
        images: Draws them.
        limit: Most bytes. A parent is shown once more beside each of its crops, so its size counts again.

    Returns:
        WebP files by view id.
    """
    uses = {view.view_id: 1 for view in views}
    for view in views:
        if view.parent_id is not None:
            uses[view.parent_id] += 1
    for scale, quality in _QUALITY:
        encoded: dict[int, bytes] = {}
        room = limit
        for view in views:
            data = _encode(images(view), scale, quality)
            room -= len(data) * uses[view.view_id]
            if room < 0:
                break
            encoded[view.view_id] = data
        if room >= 0:
            return encoded
    blank = _encode(PILImage.new("RGB", (1, 1), "white"), 1.0, 50)
    return dict.fromkeys(uses, blank)


def _encode(image: PILImage.Image, scale: float, quality: int) -> bytes:
    if scale < 1:
        smaller = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(smaller, PILImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()
