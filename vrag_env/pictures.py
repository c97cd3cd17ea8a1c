"""The pictures of views: drawn once where they come back, and in several threads where a step needs many.

There is one rule by which a view becomes a picture, :func:`vrag_env.views.cut`, and everything that shows views
(the environments, rendering, replays) comes here or applies it. What is kept here changes no pixel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from vrag_env.corpus import Corpus
from vrag_env.views import FULL_PAGE, View, cut

MAX_THREADS = 8
"""Most threads that draw; no more than there are cores. PIL decodes and resizes without holding Python's lock."""

Pixels = npt.NDArray[np.uint8]
_POOLS: dict[int, ThreadPoolExecutor] = {}  # by process: the threads of a pool do not survive a fork


def pixels(corpus: Corpus, view: View) -> Pixels:
    """Draw a view: cut from the stored page at full resolution, resized to the view's size.

    Whole pages are kept with the corpus as they are shown, since the same ones come back in many episodes; crops
    hardly ever do.

    Args:
        corpus: Where the page is.
        view: What to show.

    Returns:
        RGB, ``uint8 (height, width, 3)`` of exactly ``view.size``; read only, since others may hold it too.
    """
    if view.box != FULL_PAGE:
        return _cut(corpus, view)
    key = (view.page_id, view.size)
    kept = corpus.shown.get(key)
    if kept is None:
        kept = _cut(corpus, view)
        corpus.shown.put(key, kept, kept.nbytes)
    return kept


def draw(corpus: Corpus, view: View) -> PILImage.Image:
    """Return the same as a picture of the caller's own."""
    return PILImage.fromarray(pixels(corpus, view))


def draw_all(jobs: Sequence[Callable[[], Pixels]]) -> list[Pixels]:
    """Draw several pictures at once.

    Args:
        jobs: Each draws one picture, on its own.

    Returns:
        The pictures in the same order.
    """
    if len(jobs) < 2:
        return [job() for job in jobs]
    return list(_pool().map(lambda job: job(), jobs))


def _cut(corpus: Corpus, view: View) -> Pixels:
    return np.asarray(cut(corpus.image(view.page_id), view.box, view.size))  # of PIL's bytes: not writeable


def _pool() -> ThreadPoolExecutor:
    process = os.getpid()
    if process not in _POOLS:
        threads = min(os.cpu_count() or 1, MAX_THREADS)
        _POOLS[process] = ThreadPoolExecutor(threads, thread_name_prefix="vrag-draw")
    return _POOLS[process]
