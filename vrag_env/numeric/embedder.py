"""Embedders: short texts as vectors. The default hashes words and parts of words and needs no model."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vrag_env.corpus.text import STOP_WORDS
from vrag_env.errors import VRAGError
from vrag_env.extractive import words_of
from vrag_env.numeric.cache import LRU

Vectors = npt.NDArray[np.float32]
HASHING = "hashing"
_STOP = frozenset(STOP_WORDS)
_STOP_WEIGHT = 0.1  # not 0, so that a text of stop words alone is no zero vector
_KEPT_WORDS = 16_384


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors."""

    dimensions: int
    """Length of the vectors."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts.

        Args:
            texts: Short texts; an empty one gives the zero vector.

        Returns:
            Rows of length 1, float32 ``(len(texts), dimensions)``; their product is the cosine.
        """
        ...


class HashingEmbedder:
    """Signed feature hashing of words and of the parts of words.

    A word adds itself and its n-grams of characters (3 and 4; 1 and 2 where it is not ASCII, as Chinese is),
    each at the place and with the sign that its CRC-32 gives (Weinberger et al., "Feature hashing for large
    scale multitask learning", ICML 2009). Words are brought to length 1, stop words count a tenth, and their
    sum is brought to length 1. The same on every machine.

    Args:
        dimensions: Length of the vectors, at least 8. The cosine of unrelated texts scatters by about
            ``dimensions ** -0.5``.

    Raises:
        ValueError: If there are fewer than 8 dimensions.

    >>> embedder = HashingEmbedder()
    >>> one, other, third = embedder.embed(["revenue of the North", "North revenues", "a status board"])
    >>> bool(one @ other > 0.6 > one @ third)
    True
    """

    def __init__(self, dimensions: int = 256) -> None:
        if dimensions < 8:
            raise ValueError(f"dimensions must be at least 8, got {dimensions}")
        self.dimensions = dimensions
        self._words: LRU[Vectors] = LRU(_KEPT_WORDS)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; see :meth:`Embedder.embed`."""
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(out, texts, strict=True):
            for word in words_of(text.lower()):
                row += self._vector(word)
        return unit_rows(out)

    def _vector(self, word: str) -> Vectors:
        return self._words.get(word, lambda: self._word(word))

    def _word(self, word: str) -> Vectors:
        marked = f"<{word}>"
        sizes = (3, 4) if word.isascii() else (1, 2)
        grams = [marked[i : i + n] for n in sizes for i in range(len(marked) - n + 1)]
        vector = np.zeros(self.dimensions, np.float32)
        for feature, weight in (("=" + word, 1.0), *((gram, len(grams) ** -0.5) for gram in grams)):
            code = zlib.crc32(feature.encode())
            vector[(code >> 1) % self.dimensions] += weight if code & 1 else -weight
        return unit_rows(vector[None])[0] * np.float32(_STOP_WEIGHT if word in _STOP else 1.0)


class SentenceEmbedder:
    """The vectors of a sentence-transformers model.

    Args:
        model: A ``SentenceTransformer``.
        size: Texts whose vectors are kept.
    """

    def __init__(self, model: Any, size: int = 16_384) -> None:
        self._model = model
        self._kept: LRU[Vectors] = LRU(size)
        self.dimensions = int(self._encode(["page"]).shape[1])

    @classmethod
    def load(cls, name: str) -> SentenceEmbedder:
        """Load a model by an alias (``minilm``, ...), a hub name or a directory.

        Raises:
            VRAGError: If it can not be loaded.
            DependencyError: If the extra ``dense`` is not installed.
        """
        from vrag_env.errors import missing_extra
        from vrag_env.retrieval.sentence import SENTENCE_ALIASES

        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "sentence_transformers", "dense") from error
        source = SENTENCE_ALIASES.get(name.lower(), name)
        try:
            model = SentenceTransformer(source)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise VRAGError(
                f"could not load {source!r} as a sentence-transformers model ({error}): give the name of one, "
                f"or {HASHING!r}, which needs no model"
            ) from error
        return cls(model)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; see :meth:`Embedder.embed`."""
        # Alone, since the same text in another batch would differ in the last bits: same seed, same bytes.
        rows = [self._vector(text) if text.strip() else np.zeros(self.dimensions, np.float32) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimensions), np.float32)

    def _vector(self, text: str) -> Vectors:
        return self._kept.get(text, lambda: self._encode([text])[0])

    def _encode(self, texts: list[str]) -> Vectors:
        vectors = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def make_embedder(spec: str | Embedder) -> Embedder:
    """Build an embedder.

    Args:
        spec: ``"hashing"``, the name or directory of a sentence-transformers model, or an embedder.

    Raises:
        VRAGError: If it is none of these, or the model can not be loaded.
        DependencyError: If the extra ``dense`` is not installed.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Embedder):
            return spec
        raise VRAGError(f"an embedder is a name or an object with dimensions and embed(), got {type(spec).__name__}")
    return HashingEmbedder() if spec == HASHING else SentenceEmbedder.load(spec)


def unit_rows(vectors: Vectors) -> Vectors:
    """Bring every row to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def projection(source: int, target: int) -> Vectors | None:
    """Return a fixed random matrix ``(source, target)`` that shortens vectors; ``None`` if they fit already.

    Gaussian with variance ``1 / target``: products are kept in expectation (Johnson and Lindenstrauss, 1984).
    """
    if source == target:
        return None
    drawn = np.random.default_rng(0).standard_normal((source, target))
    return (drawn / np.sqrt(target)).astype(np.float32)
