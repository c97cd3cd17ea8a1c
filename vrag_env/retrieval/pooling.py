"""Few vectors for a page's many: for choosing candidates, and as a smaller form of the page itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vrag_env.errors import RetrieverError, missing_extra

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]

_ROUNDS = 3  # more change little


def levels(dim: int) -> int:
    """Largest integer that a pooled vector is quantised to, at most 127.

    The products of integer vectors are summed in float32 or int32; up to 2**24 both are exact.

    >>> levels(128), levels(4096)
    (127, 63)
    """
    return min(127, int(np.sqrt(2**24 / dim) - 1e-9))


def pool_page(vectors: Float16 | Float32, count: int) -> Float32:
    """Pool a page's vectors by spherical k-means.

    The first centres are the farthest points, each the vector least like those before it: a maximum over a page is
    often reached by a vector far from all others, and centres spread over the raster would spend themselves on
    empty paper. Every step is a fixed function of the vectors; there is no randomness.

    Args:
        vectors: ``(vectors, dim)``.
        count: How many to pool to.

    Returns:
        ``(count, dim)``, each as long as the mean of its cluster's vectors; a page of no more than ``count``
        vectors is returned as it is, its first vector repeated to fill up, which changes no maximum.
    """
    wide = vectors.astype(np.float32)
    if len(wide) <= count:
        return np.concatenate([wide, np.repeat(wide[:1], count - len(wide), axis=0)])
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    unit: Float32 = wide / np.where(norms > 0, norms, np.float32(1))[:, None]
    centres = _farthest(unit, count)
    for _ in range(_ROUNDS):
        cluster = (unit @ centres.T).argmax(axis=1)
        order = np.argsort(cluster, kind="stable")
        firsts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
        sums = np.add.reduceat(unit[order], firsts, axis=0)
        lengths = np.sqrt(np.einsum("ij,ij->i", sums, sums))
        alive = lengths > 1e-6  # an empty cluster keeps its centre, and so does one whose vectors cancel
        centres[cluster[order][firsts][alive]] = sums[alive] / lengths[alive, None]
    cluster = (unit @ centres.T).argmax(axis=1)
    sizes = np.bincount(cluster, minlength=count)
    mean = np.bincount(cluster, weights=norms, minlength=count) / np.maximum(sizes, 1)
    return centres * np.where(sizes > 0, mean, norms.mean()).astype(np.float32)[:, None]


def _farthest(unit: Float32, count: int) -> Float32:
    chosen = [int(np.argmin(unit @ unit.mean(axis=0)))]
    nearest = unit @ unit[chosen[0]]
    for _ in range(count - 1):
        chosen.append(int(np.argmin(nearest)))
        np.maximum(nearest, unit @ unit[chosen[-1]], out=nearest)
    return unit[chosen].copy()


def quantise(pooled: Float32) -> tuple[Int8, float]:
    """Round a page's pooled vectors to integers.

    Args:
        pooled: ``(count, dim)``.

    Returns:
        The integers ``(count, dim)``, and the number that multiplies them.
    """
    scale = float(np.abs(pooled).max()) / levels(pooled.shape[1]) or 1.0
    return np.round(pooled / scale).astype(np.int8), scale


def pool_tokens(pages: Sequence[Float16], factor: int) -> list[Float16]:
    """Make pages smaller with colpali-engine's hierarchical pooler (Ward clustering of a page's own vectors).

    Args:
        pages: One array ``(vectors, dim)`` per page.
        factor: A page of n vectors keeps about n / ``factor``. It takes a third of a second per page of 700
            vectors on one core.

    Raises:
        DependencyError: If the extra ``colvision`` is not installed.
    """
    check_factor(factor)
    if factor == 1:
        return list(pages)
    try:
        import torch
        from colpali_engine.compression.token_pooling import HierarchicalTokenPooler
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "colpali_engine", "colvision") from error
    pooler = HierarchicalTokenPooler()
    smaller = [index for index, page in enumerate(pages) if len(page) > 1]  # the pooler refuses single vectors
    pooled = list(pages)
    if smaller:
        tensors = [torch.from_numpy(pages[index].astype(np.float32)) for index in smaller]
        for index, tensor in zip(smaller, pooler.pool_embeddings(tensors, pool_factor=factor), strict=True):
            pooled[index] = tensor.numpy().astype(np.float16)
    return pooled


def check_factor(factor: int) -> None:
    """Raise ``RetrieverError`` unless a pooling factor is a whole number of at least 1."""
    if factor < 1:
        raise RetrieverError(f"the pool factor is {factor}: expected 1 (no pooling) or more")
