"""ImageCache: pictures used last, within a number of bytes, for all threads of a process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from PIL import Image


class ImageCache:
    """Keeps the pictures used last.

    They are shared by all callers: a picture that is handed out must not be drawn on.

    Args:
        limit: Most bytes of all pictures together; the newest one stays even if it is larger.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._images: OrderedDict[Hashable, Image.Image] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Image.Image | None:
        """Return a picture, or ``None`` if it is not here."""
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
            return image

    def put(self, key: Hashable, image: Image.Image) -> None:
        """Keep a picture; where the key is known already, the picture that is here stays."""
        with self._lock:
            if key in self._images:
                return
            self._images[key] = image
            self._bytes += _bytes_of(image)
            while self._bytes > self._limit and len(self._images) > 1:
                self._bytes -= _bytes_of(self._images.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._images.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)


def _bytes_of(image: Image.Image) -> int:
    return image.width * image.height * (4 if image.mode == "RGB" else len(image.getbands()))  # PIL pads RGB to 4
