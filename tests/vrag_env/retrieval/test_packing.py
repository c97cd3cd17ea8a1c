import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from vrag_env.errors import RetrieverError
from vrag_env.retrieval.packing import pack, unpack, unpack_all


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_every_bit_comes_back(bits: np.ndarray) -> None:
    vectors = bits.view(np.float16)  # infinities and every kind of NaN among them
    assert np.array_equal(unpack(pack(vectors), vectors.shape[1]).view(np.uint16), bits)


def test_bfloat16_values_take_less_than_their_two_bytes() -> None:
    values = np.random.default_rng(0).normal(0, 0.088, (700, 128)).astype(np.float32)
    rounded = (values.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float16)
    assert len(pack(rounded)) < 0.7 * rounded.nbytes


def test_pages_keep_their_order() -> None:
    pages = [np.full((n, 4), n, dtype=np.float16) for n in range(1, 30)]
    found = unpack_all([pack(page) for page in pages], 4)
    assert all(np.array_equal(a, b) for a, b in zip(pages, found, strict=True))
    assert unpack_all([], 4) == []


@pytest.mark.parametrize("harm", [lambda b: b"", lambda b: b[:6], lambda b: b[:-9], lambda b: b"\xff" * 8 + b[8:]])
def test_damage_is_an_error(harm) -> None:  # type: ignore[no-untyped-def] # a table of lambdas
    packed = pack(np.ones((5, 4), dtype=np.float16))
    with pytest.raises(RetrieverError, match="damaged"):
        unpack(harm(packed), 4)


def test_a_wrong_number_of_dimensions_is_an_error() -> None:
    with pytest.raises(RetrieverError, match="damaged"):
        unpack(pack(np.ones((5, 4), dtype=np.float16)), 3)
