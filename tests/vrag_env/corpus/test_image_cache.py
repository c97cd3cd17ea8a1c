from __future__ import annotations

from PIL import Image

from vrag_env.corpus.image_cache import ImageCache


def square(side: int) -> Image.Image:
    return Image.new("RGB", (side, side))


def put(cache: ImageCache[Image.Image], name: str, image: Image.Image) -> None:
    cache.put(name, image, 4 * image.width * image.height)


def test_the_pictures_used_last_stay() -> None:
    cache: ImageCache[Image.Image] = ImageCache(3 * 10 * 10 * 4)
    first = square(10)
    for name in "abc":
        put(cache, name, first if name == "a" else square(10))
    assert cache.get("a") is first
    put(cache, "a", square(10))
    assert cache.get("a") is first  # callers that have it and those to come share one
    put(cache, "d", square(10))
    assert cache.get("b") is None and cache.get("a") is first and len(cache) == 3
    put(cache, "large", square(100))
    assert len(cache) == 1 and cache.get("large") is not None
    put(cache, "e", square(10))
    assert cache.get("large") is None and cache.get("e") is not None
    cache.clear()
    assert len(cache) == 0 and cache.get("e") is None
