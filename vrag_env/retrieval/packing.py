"""Storage of float16 vectors without loss, smaller than two bytes a value.

Vision models run in bfloat16, whose 8 significant bits and narrow exponents leave a float16 value with some ten bits
of content. They are spread over both of its bytes, where a compressor does not find them: so the high bytes and the
low bytes are compressed apart.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vrag_env.errors import RetrieverError

_HEADER = struct.Struct("<II")  # bytes of a plane as it was, bytes of the first plane compressed
_THREADS = 2  # pyarrow's codec lets go of the interpreter; more than the disk gives is of no use


def pack(vectors: npt.NDArray[np.float16]) -> bytes:
    """Compress an array of float16 values.

    Args:
        vectors: Of any shape; the values are kept bit for bit, the shape is not.
    """
    planes = np.ascontiguousarray(vectors, dtype="<f2").reshape(-1).view(np.uint8).reshape(-1, 2)  # (values, 2)
    codec = pa.Codec("zstd", compression_level=1)
    low, high = (codec.compress(planes[:, side].tobytes(), asbytes=True) for side in (0, 1))
    return _HEADER.pack(len(planes), len(low)) + low + high


def unpack(packed: bytes, dim: int) -> npt.NDArray[np.float16]:
    """Return the vectors ``(vectors, dim)`` that :func:`pack` was given.

    Raises:
        RetrieverError: If they are damaged.
    """
    try:
        count, middle = _HEADER.unpack_from(packed)
        codec = pa.Codec("zstd", compression_level=1)
        planes = np.empty((count, 2), dtype=np.uint8)
        low = memoryview(packed)[_HEADER.size : _HEADER.size + middle]
        for side, stream in enumerate((low, memoryview(packed)[_HEADER.size + middle :])):
            planes[:, side] = np.frombuffer(codec.decompress(stream, count), dtype=np.uint8)
        return planes.reshape(-1).view("<f2").reshape(-1, dim)
    except (struct.error, ValueError, OSError) as error:
        raise RetrieverError(f"stored vectors are damaged ({error}): build the embeddings again") from error


def unpack_all(packed: Sequence[bytes], dim: int) -> list[npt.NDArray[np.float16]]:
    """Unpack many pages, on two threads; see :func:`unpack`."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda page: unpack(page, dim), packed))
