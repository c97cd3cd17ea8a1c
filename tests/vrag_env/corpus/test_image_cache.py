from __future__ import annotations

from PIL import Image

from vrag_env.corpus.image_cache import ImageCache


def square(side: int) -> Image.Image:
    return Image.new("RGB", (side, side))


def test_the_pictures_used_last_stay() -> None:
    cache = ImageCache(3 * 10 * 10 * 4)  # PIL keeps 4 bytes for a pixel of RGB
    first = square(10)
    for name in "abc":
        cache.put(name, first if name == "a" else square(10))
    assert cache.get("a") is first
    cache.put("a", square(10))
    assert cache.get("a") is first  # callers that have it and those to come share one
    cache.put("d", square(10))
    assert cache.get("b") is None and cache.get("a") is first and len(cache) == 3
    cache.put("large", square(100))
    assert len(cache) == 1 and cache.get("large") is not None
    cache.put("e", square(10))
    assert cache.get("large") is None and cache.get("e") is not None
    cache.clear()
    assert len(cache) == 0 and cache.get("e") is None
