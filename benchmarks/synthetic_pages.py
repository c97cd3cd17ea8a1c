"""Generated page embeddings with the statistics of real ones: what the speed benchmarks search in.

No model is needed to measure a search engine, but random vectors would flatter or punish it: pages of a real
late-interaction model are not random. A page here is a raster of patches that is cut into 30 to 60 smooth
regions; a few regions and the margins are background, nearly the same vector over and over and the same in the
whole corpus; the vectors of the prompt around the image are the same on all pages; pages of one document share
its topics, and documents share topics of the corpus. All vectors have unit length and the precision of bfloat16
(ColQwen2 runs in it), kept as float16.

==========================================  ==============  =====================================
statistic                                   real (ColQwen2) here (``tests/benchmarks`` checks it)
==========================================  ==============  =====================================
vectors of 128 dimensions per page          about 700       about 700
mean cosine of two vectors of one page      0.4 to 0.5      0.4 to 0.5
regions of near-duplicate vectors per page  30 to 60        30 to 60
==========================================  ==============  =====================================

Every page follows from ``(seed, number)`` alone, so that any process can make any page again.

Example:
    >>> pages = SyntheticPages(seed=0)
    >>> pages.page(7).shape[1]
    128
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["PAGES_PER_DOCUMENT", "QUERY_VECTORS", "QueryKind", "SyntheticPages"]

Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]
QueryKind = Literal["easy", "hard"]

PAGES_PER_DOCUMENT = 20
QUERY_VECTORS = 25

_TOPICS = 500  # of the whole corpus
_TOPICS_PER_DOCUMENT = 6
_BACKGROUNDS = 24  # looks of empty paper in the whole corpus
_PROMPT = 14  # vectors of the chat template around the image, the same on all pages
_QUERY_PADDING = 10  # vectors of a query's prefix and padding, the same in all hard queries

# Shares of a content vector's squared length: what all pages have in common, the document, the page, the topic
# of the region, and the region alone. They were chosen for the mean cosine of the table above.
_SHARES = np.sqrt(np.array([0.36, 0.08, 0.06, 0.25, 0.25], dtype=np.float32))
_CONTENT_SHARE = 0.80  # of a patch's squared length that is its region's centre
_BACKGROUND_SHARE = 0.97
_ALONG_ROW = 0.6  # how much of a patch's deviation is its left neighbour's


class SyntheticPages:
    """A corpus of generated pages and queries.

    Args:
        seed: Another seed is another corpus.
        dim: Dimensions of a vector.
    """

    def __init__(self, seed: int = 0, dim: int = 128) -> None:
        self.seed = seed
        self.dim = dim
        rng = self._rng(0)
        self._common = _unit(rng.standard_normal(dim, dtype=np.float32))
        self._topics = _unit(rng.standard_normal((_TOPICS, dim), dtype=np.float32))
        own = _unit(rng.standard_normal((_BACKGROUNDS + _PROMPT + _QUERY_PADDING, dim), dtype=np.float32))
        shared = _unit(0.65 * self._common + 0.76 * own)
        self._backgrounds, self._prompt, self._padding = np.split(shared, [_BACKGROUNDS, _BACKGROUNDS + _PROMPT])

    def page_id(self, number: int) -> str:
        """Name of a page; the order of the names is that of the numbers, up to ten million pages."""
        return f"{self.document(number)}_{number % PAGES_PER_DOCUMENT + 1:02d}"

    def document(self, number: int) -> str:
        """Name of the document of a page."""
        return f"doc{number // PAGES_PER_DOCUMENT:06d}"

    def page(self, number: int) -> Float16:
        """Make one page.

        Args:
            number: 0-based number of the page.

        Returns:
            Unit vectors ``(about 700, dim)`` in raster order, the prompt's around them.
        """
        rng, centres, background, _ = self._drawn(number)
        rows, columns = self._raster(rng)
        region = _layout(rng, rows, columns, background)
        noise = rng.standard_normal((rows, columns, self.dim), dtype=np.float32)
        for column in range(1, columns):  # keeps the variance of white noise
            noise[:, column] *= np.sqrt(1 - _ALONG_ROW**2, dtype=np.float32)
            noise[:, column] += _ALONG_ROW * noise[:, column - 1]
        share = np.where(background, _BACKGROUND_SHARE, _CONTENT_SHARE).astype(np.float32)
        patches = _mix(centres[region], noise.reshape(-1, self.dim), share[region])
        prompt = _mix(self._prompt, rng.standard_normal(self._prompt.shape, dtype=np.float32), np.float32(0.98))
        return _bfloat16(np.concatenate([prompt[:4], patches, prompt[4:]]))

    def centres(self, number: int) -> Float32:
        """Centres of a page's regions ``(30 to 60, dim)``, unit length, background included: an ideal pooling."""
        return self._drawn(number)[1]

    def pooled(self, number: int, count: int = 16) -> Float16:
        """Make a page's pooled vectors without making the page, twenty times as fast.

        What an ideal pooling finds: one vector for all background, and the means of content regions that have a
        topic in common.

        Args:
            number: 0-based number of the page.
            count: How many, at least 2 and at most 16.

        Returns:
            Unit vectors ``(count, dim)``.
        """
        _, centres, background, topic = self._drawn(number)
        content = np.argsort(np.where(background, -1, topic), kind="stable")[int(background.sum()) :]
        groups = np.linspace(0, len(content), count, dtype=np.int64)[:-1]
        means = _unit(np.add.reduceat(centres[content], groups, axis=0))
        return np.concatenate([_unit(centres[background].sum(axis=0, keepdims=True)), means]).astype(np.float16)

    def batches(self, count: int, size: int = 128, start: int = 0) -> Iterator[list[Float16]]:
        """Yield pages ``start`` to ``start + count`` in lists of at most ``size``, without keeping them."""
        for low in range(start, start + count, size):
            yield [self.page(number) for number in range(low, min(low + size, start + count))]

    def queries(self, kind: QueryKind, count: int, pages: int) -> tuple[list[Float32], list[int]]:
        """Make queries, each about one page.

        Args:
            kind: ``easy``: all 25 vectors lie near content vectors of the page (cosine about 0.85). ``hard``:
                15 vectors lie farther from them (cosine about 0.6) and 10 are the same in all queries, as the
                prefix and the padding of a real query are.
            count: Number of queries.
            pages: The page of each is one of the first ``pages``.

        Returns:
            One array ``(25, dim)`` of unit vectors per query, and the number of its page.
        """
        targets = self._rng(2, kind == "hard", pages).integers(0, pages, count).tolist()
        return [self._query(kind, index, target) for index, target in enumerate(targets)], targets

    def _query(self, kind: QueryKind, index: int, target: int) -> Float32:
        rng = self._rng(3, kind == "hard", index)
        page = self.page(target).astype(np.float32)
        content = np.flatnonzero((page @ self._backgrounds.T).max(axis=1) < 0.9)
        near = QUERY_VECTORS if kind == "easy" else QUERY_VECTORS - _QUERY_PADDING
        picked = page[np.sort(rng.choice(content, near, replace=len(content) < near))]
        share = np.float32(0.72 if kind == "easy" else 0.36)
        query = _mix(picked, rng.standard_normal(picked.shape, dtype=np.float32), share)
        if kind == "hard":
            padding = rng.standard_normal(self._padding.shape, dtype=np.float32)
            query = np.concatenate([query, _mix(self._padding, padding, np.float32(0.9))])
        return query

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, *map(int, key)]))

    def _raster(self, rng: np.random.Generator) -> tuple[int, int]:
        vectors = rng.normal(700 - _PROMPT, 30)
        rows = int(rng.integers(22, 33))
        return rows, round(vectors / rows)

    def _drawn(self, number: int) -> tuple[np.random.Generator, Float32, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Generator of the page's remaining randomness; centre, whether background, and topic of each region."""
        document = self._rng(1, 0, number // PAGES_PER_DOCUMENT)
        topics = document.integers(0, _TOPICS, _TOPICS_PER_DOCUMENT)
        look = int(document.integers(0, _BACKGROUNDS))
        of_document = _unit(document.standard_normal(self.dim, dtype=np.float32))

        rng = self._rng(1, 1, number)
        count = int(rng.integers(30, 61))
        background = np.arange(count) < max(2, round(0.2 * count))
        topic = rng.choice(topics, count)
        of_page = _unit(rng.standard_normal(self.dim, dtype=np.float32))
        own = _unit(rng.standard_normal((count, self.dim), dtype=np.float32))
        parts = (self._common, of_document, of_page, self._topics[topic], own)
        content = _unit(sum(share * part for share, part in zip(_SHARES, parts, strict=True)))
        looks = np.where(rng.random(count) < 0.7, look, rng.integers(0, _BACKGROUNDS, count))
        empty = _unit(self._backgrounds[looks] + 0.1 * own)
        return rng, np.where(background[:, None], empty, content), background, topic


def _layout(
    rng: np.random.Generator, rows: int, columns: int, background: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Cut a raster into regions around random points, with background at its edge; regions ``(rows * columns,)``."""
    points = rng.random((len(background), 2)) * (rows, columns)
    down, across = np.mgrid[0:rows, 0:columns]
    distance = (down.reshape(-1, 1) - points[:, 0]) ** 2 + (across.reshape(-1, 1) - points[:, 1]) ** 2
    region: npt.NDArray[np.int64] = np.argmin(distance, axis=1).reshape(rows, columns)
    region[0] = region[-1] = 0  # region 0 is background
    region[:, 0] = region[:, -1] = 0
    return region.reshape(-1)


def _unit(vectors: Float32) -> Float32:
    lengths: Float32 = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))
    return vectors / lengths[..., None]


def _mix(vectors: Float32, noise: Float32, share: Float32 | np.float32) -> Float32:
    """Add noise to unit vectors so that ``share`` of the squared length is left to them; unit length again."""
    scale = np.sqrt((1 - share) / np.float32(vectors.shape[1]))
    return _unit(np.sqrt(share)[..., None] * vectors + scale[..., None] * noise)


def _bfloat16(vectors: Float32) -> Float16:
    """Round to bfloat16 (nearest, ties to even) and store as float16, which holds it but for the tiniest values."""
    bits = np.ascontiguousarray(vectors).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float16)
