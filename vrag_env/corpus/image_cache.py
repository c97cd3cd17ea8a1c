"""ImageCache: pictures used last, within a number of bytes, for all threads of a process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Picture = TypeVar("Picture")


class ImageCache(Generic[Picture]):
    """Keeps the pictures used last, of whatever type.

    They are shared by all callers: a picture that is handed out must not be drawn on.

    Args:
        limit: Most bytes of all pictures together; the newest one stays even if it is larger.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._images: OrderedDict[Hashable, tuple[Picture, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Picture | None:
        """Return a picture, or ``None`` if it is not here."""
        with self._lock:
            found = self._images.get(key)
            if found is None:
                return None
            self._images.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, image: Picture, size: int) -> None:
        """Keep a picture of so many bytes; where the key is known already, the picture that is here stays."""
        with self._lock:
            if key in self._images:
                return
            self._images[key] = (image, size)
            self._bytes += size
            while self._bytes > self._limit and len(self._images) > 1:
                self._bytes -= self._images.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._images.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)
