from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.retrieval.page_images import MAX_PIXELS, MAX_SIDE, BadImageRequest, ImageRequest
from vrag_env.views import FULL_PAGE

NUMBER = st.one_of(st.integers(-1, 40_000).map(str), st.text(max_size=4))
SHARE = st.one_of(st.floats(-0.1, 1.1).map(str), st.text(max_size=4))


@settings(deadline=None, max_examples=300)
@given(
    page=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    parameters=st.fixed_dictionaries(
        {},
        optional={
            "box": st.tuples(SHARE, SHARE, SHARE, SHARE).map(",".join),
            "max_pixels": NUMBER,
            "width": NUMBER,
            "height": NUMBER,
            "format": st.sampled_from(["png", "jpeg", "PNG", ""]),
        },
    ),
)
def test_any_parameters_give_a_bounded_image_or_a_clear_error(
    page: tuple[int, int], parameters: dict[str, str]
) -> None:
    with suppress(BadImageRequest):
        wanted = ImageRequest.parse("a#1", page, parameters, "jpeg")
        width, height = wanted.size
        assert 1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS
        x0, y0, x1, y1 = wanted.box
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
        if "width" not in parameters and "height" not in parameters:
            assert width <= page[0] and height <= page[1]  # never enlarged
            assert width * height <= int(parameters.get("max_pixels", MAX_PIXELS))


def test_large_pages_are_reduced() -> None:
    assert ImageRequest.parse("a#1", (8192, 8192), {}, "png").size == (4096, 4096)  # 2**26 -> 2**24
    assert ImageRequest.parse("a#1", (32768, 10), {}, "png") == ImageRequest("a#1", FULL_PAGE, (16384, 5), "png")


def test_the_tag_tells_answers_apart() -> None:
    base = ImageRequest("a#1", FULL_PAGE, (10, 20), "png")
    others = [
        ImageRequest("a#2", FULL_PAGE, (10, 20), "png"),
        ImageRequest("a#1", (0.0, 0.0, 1.0, 0.5), (10, 20), "png"),
        ImageRequest("a#1", FULL_PAGE, (20, 10), "png"),
        ImageRequest("a#1", FULL_PAGE, (10, 20), "jpeg"),
    ]
    tags = {base.etag("hash"), base.etag("other"), *(other.etag("hash") for other in others)}
    assert len(tags) == 6 and base.etag("hash") == ImageRequest("a#1", FULL_PAGE, (10, 20), "png").etag("hash")


def test_a_thin_region_keeps_a_pixel() -> None:
    assert ImageRequest.parse("a#1", (1000, 1000), {"box": "0,0,1,0.001", "max_pixels": "100"}, "png").size == (100, 1)
    with pytest.raises(BadImageRequest, match="height: the image would have"):
        ImageRequest.parse("a#1", (1000, 1000), {"box": "0,0,1,0.001", "height": "100"}, "png")
