"""The pictures of the page: an episode in a frame of its own, pages with their text boxes, thumbnails."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image as PILImage
from PIL import ImageDraw

from vrag_env.corpus import Corpus
from vrag_env.replay.document import text
from vrag_env.views import FULL_PAGE, PixelBudget, cut

THUMBNAIL = PixelBudget(min_pixels=28 * 28, max_pixels=420 * 420)
SHOWN = PixelBudget(min_pixels=28 * 28, max_pixels=1_600_000)


def frame(html: str, title: str) -> str:
    """Put a page of :mod:`vrag_env.replay` into a frame that can reach nothing: no origin, no request, no top."""
    inside = escape(html, quote=True)
    return f'<iframe class="episode" sandbox="allow-scripts" title="{text(title, 200)}" srcdoc="{inside}"></iframe>'


def status(words: str, bad: bool = False) -> str:
    """A line that says what happened; read out by screen readers."""
    return f'<p role="status" class="{"status bad" if bad else "status"}">{text(words, 1_000)}</p>'


def thumbnail(corpus: Corpus, page_id: str) -> PILImage.Image:
    """A small picture of a page."""
    image = corpus.image(page_id)
    return cut(image, FULL_PAGE, THUMBNAIL.fit(*image.size))


def page_with_boxes(corpus: Corpus, page_id: str, boxes: bool) -> PILImage.Image:
    """A page, with the boxes of the words of its text layer if asked for."""
    image = corpus.image(page_id)
    shown = cut(image, FULL_PAGE, SHOWN.fit(*image.size))
    if boxes:
        draw = ImageDraw.Draw(shown)
        for word in corpus.page(page_id).words:
            x0, y0, x1, y1 = word.box
            corners = (x0 * shown.width, y0 * shown.height, x1 * shown.width, y1 * shown.height)
            draw.rectangle(corners, outline="#d0251b", width=1)
    return shown


def data_url(image: PILImage.Image) -> str:
    """A picture as a URL that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85, method=3)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
