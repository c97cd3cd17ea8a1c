"""Boxes, their lineage, the pixel budget: numbers by hand, and what must hold for all of them."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from vrag_env.views import (
    FULL_PAGE,
    MIN_CROP_PIXELS,
    BadBox,
    PixelBudget,
    View,
    compose,
    crop_view,
    cut,
    iou,
    relative_to,
    to_frame,
)

PAGE = (1792, 1344)
SIDES = st.integers(20, 4000)
UNIT = st.floats(0, 1, allow_nan=False)


@st.composite
def boxes(draw: st.DrawFn, smallest: float = 0.05) -> tuple[float, float, float, float]:
    x = draw(st.floats(0, 1 - smallest))
    y = draw(st.floats(0, 1 - smallest))
    return (x, y, draw(st.floats(x + smallest, 1)), draw(st.floats(y + smallest, 1)))


# ---------------------------------------------------------------------- lineage


def test_compose_by_hand() -> None:
    # The right half of the upper left quarter.
    assert compose((0, 0, 0.5, 0.5), (0.5, 0, 1, 1)) == (0.25, 0, 0.5, 0.5)
    # A crop of a crop of a crop: each time the lower right quarter.
    quarter = (0.5, 0.5, 1, 1)
    assert compose(compose(compose(FULL_PAGE, quarter), quarter), quarter) == (0.875, 0.875, 1, 1)


@settings(deadline=None, max_examples=100)
@given(boxes(), boxes(), boxes())
def test_composition_is_associative_and_inverted_by_relative_to(a, b, c) -> None:
    np.testing.assert_allclose(compose(compose(a, b), c), compose(a, compose(b, c)), atol=1e-12)
    np.testing.assert_allclose(relative_to(a, compose(a, b)), b, atol=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),  # 1 of 4 + 4 - 1
        ((0, 0, 4, 1), (1, 0, 2, 1), 1 / 4),  # contained
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),  # they touch
        ((0, 0, 1, 1), (5, 5, 6, 6), 0.0),
    ],
)
def test_iou_by_hand(a, b, expected: float) -> None:
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == iou(a, b)


def test_a_box_is_read_in_the_frame_of_the_view() -> None:
    # The view shows the right half of a 1000 x 800 page at 250 x 400: one shown pixel is two stored ones.
    view = View(1, "p", (0.5, 0.0, 1.0, 1.0), None, (250, 400))
    assert crop_view(view, (50, 100, 150, 200), "pixel", (1000, 800)) == pytest.approx((0.6, 0.25, 0.8, 0.5))
    # The same region in the frame from 0 to 1000.
    assert crop_view(view, (200, 250, 600, 500), "1000", (1000, 800)) == pytest.approx((0.6, 0.25, 0.8, 0.5))


def test_a_box_is_clipped_to_the_view() -> None:
    view = View(1, "p", (0.5, 0.0, 1.0, 1.0), None, (250, 400))
    assert crop_view(view, (-9, -9, 999, 100), "pixel", (1000, 800)) == (0.5, 0, 1, 0.25)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((50, 50, 50, 90), "inverted"),
        ((90, 50, 50, 90), "inverted"),
        ((50, 90, 90, 50), "inverted"),
        ((560, 0, 600, 100), "outside the image, which is 560 wide and 420 high"),
        ((-50, 0, 0, 100), "outside"),
        ((10, 10, 12, 100), "too small"),  # 2 * 3.2 = 6.4 stored pixels wide
        ((0, 10, 560, 12.6), "too thin"),  # 1792 : 8.32
        ((10, 0, 12.6, 420), "too thin"),  # 8.32 : 1344
    ],
)
def test_boxes_that_show_nothing(box, words: str) -> None:
    view = View(1, "p", FULL_PAGE, None, (560, 420))
    with pytest.raises(BadBox, match=words) as error:
        crop_view(view, box, "pixel", PAGE)
    assert "<" not in str(error.value).replace("x1 < x2 and y1 < y2", "")


def test_the_smallest_box_that_counts() -> None:
    view = View(1, "p", FULL_PAGE, None, PAGE)
    region = crop_view(view, (0, 0, MIN_CROP_PIXELS, MIN_CROP_PIXELS), "pixel", PAGE)
    assert region == (0, 0, 8 / 1792, 8 / 1344)
    with pytest.raises(BadBox, match="too small"):
        crop_view(view, (0, 0, MIN_CROP_PIXELS, MIN_CROP_PIXELS - 0.01), "pixel", PAGE)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(*[st.floats(-2000, 3000, allow_nan=False)] * 4), min_size=1, max_size=5))
def test_crops_of_crops_stay_inside_their_parents(written) -> None:
    budget, page = PixelBudget(), Image.new("RGB", (640, 480))
    view = View(1, "p", FULL_PAGE, None, budget.fit(640, 480))
    for box in written:
        try:
            region = crop_view(view, box, "pixel", page.size)
        except BadBox:
            continue
        assert 0 <= region[0] < region[2] <= 1
        assert 0 <= region[1] < region[3] <= 1
        np.testing.assert_array_less([view.box[0] - 1e-9, view.box[1] - 1e-9], region[:2])
        np.testing.assert_array_less(region[2:], [view.box[2] + 1e-9, view.box[3] + 1e-9])
        size = budget.fit((region[2] - region[0]) * 640, (region[3] - region[1]) * 480)
        assert cut(page, region, size).size == size
        view = View(view.view_id + 1, "p", region, view.view_id, size)


# ---------------------------------------------------------------------- pixels


@settings(deadline=None, max_examples=300)
@given(SIDES, SIDES, st.sampled_from([14, 28, 32]), st.integers(64, 2000), st.floats(2.2, 6))
def test_a_fitted_size_is_in_the_budget_and_stays(width, height, multiple, tokens, factor) -> None:
    assume(max(width / height, height / width) <= 100)
    budget = PixelBudget(tokens * multiple**2, int(tokens * factor) * multiple**2, multiple)
    size = budget.fit(width, height)
    assert size[0] % multiple == 0
    assert size[1] % multiple == 0
    assert budget.min_pixels <= size[0] * size[1] <= budget.max_pixels
    assert budget.fit(*size) == size


@settings(deadline=None, max_examples=300)
@given(SIDES, SIDES, st.integers(1, 12), st.integers(0, 12))
def test_no_budget_is_too_small(width, height, tokens, more) -> None:
    budget = PixelBudget(tokens * 28**2, (tokens + more) * 28**2)
    size = budget.fit(width, height)
    assert size[0] % 28 == size[1] % 28 == 0
    assert min(size) >= 28
    assert size[0] * size[1] <= budget.max_pixels


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # 1792 x 1344 has 2 408 448 pixels, 6 times the budget of 512 tokens: floor(1792 / sqrt 6 / 28) = 26
        # tokens by floor(1344 / sqrt 6 / 28) = 19.
        ((1792, 1344), (26 * 28, 19 * 28)),
        ((560, 420), (560, 420)),  # 300 tokens, inside the budget
        ((300, 200), (20 * 28, 14 * 28)),  # 200704 / 60000: times 1.829; ceil(19.6), ceil(13.06)
    ],
)
def test_sizes_by_hand(source, expected) -> None:
    assert PixelBudget().fit(*source) == expected


@settings(deadline=None, max_examples=150)
@given(SIDES, SIDES)
def test_sizes_are_those_of_the_image_processor_of_qwen(width: int, height: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    assume(max(width / height, height / width) <= 20)
    budget = PixelBudget()
    rows, columns = smart_resize(height, width, factor=28, min_pixels=budget.min_pixels, max_pixels=budget.max_pixels)
    assert budget.fit(width, height) == (columns, rows)
    # A shown image goes through the processor as it is.
    assert smart_resize(rows, columns, 28, budget.min_pixels, budget.max_pixels) == (rows, columns)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"min_pixels": 0}, "positive"),
        ({"multiple": 0}, "positive"),
        ({"min_pixels": 500_000}, "at least min_pixels"),
        ({"min_pixels": 1, "max_pixels": 28 * 28 - 1}, "multiple"),
    ],
)
def test_budgets_that_no_image_fits(arguments, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PixelBudget(**arguments)


@pytest.fixture(scope="module")
def page() -> Image.Image:
    """A smooth picture without symmetry, so that a wrong region can not look right."""
    y, x = np.mgrid[0:672, 0:896]
    channels = [128 + 100 * np.sin(x / 37 + y / 91), x / 896 * 255, y / 672 * 255]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


@settings(deadline=None, max_examples=25)
@given(boxes(0.2), boxes(0.2))
def test_a_crop_of_a_crop_reads_the_same_pixels_as_the_direct_box(page: Image.Image, outer, inner) -> None:
    budget = PixelBudget()
    first = View(1, "p", outer, None, budget.fit((outer[2] - outer[0]) * 896, (outer[3] - outer[1]) * 672))
    written = tuple(value * side for value, side in zip(inner, (*first.size, *first.size), strict=True))
    region = crop_view(first, written, "pixel", page.size)
    size = budget.fit((region[2] - region[0]) * 896, (region[3] - region[1]) * 672)
    through_lineage = np.asarray(cut(page, region, size), float)
    direct = np.asarray(cut(page, compose(outer, inner), size), float)
    assert np.abs(through_lineage - direct).max() <= 1
    # The same place in the picture that the agent saw, enlarged: blurrier, but the same region.
    seen = cut(page, outer, first.size)
    left, top, right, bottom = (round(value) for value in written)
    enlarged = np.asarray(seen.resize(size, box=(left, top, right, bottom)), float)
    assert np.abs(enlarged - direct).mean() < 6


def test_a_wrong_region_would_be_noticed(page: Image.Image) -> None:
    right = np.asarray(cut(page, (0.2, 0.2, 0.5, 0.5), (280, 280)), float)
    shifted = np.asarray(cut(page, (0.25, 0.2, 0.55, 0.5), (280, 280)), float)
    assert np.abs(right - shifted).mean() > 6


def test_cut_by_hand() -> None:
    image = Image.fromarray(np.kron([[0, 255], [64, 128]], np.ones((20, 20))).astype(np.uint8)).convert("RGB")
    lower_right = np.asarray(cut(image, (0.5, 0.5, 1, 1), (10, 10)), int)
    assert np.abs(lower_right[3:, 3:] - 128).max() == 0  # the first rows blend with the neighbours
    assert np.array_equal(np.asarray(cut(image, FULL_PAGE, (40, 40))), np.asarray(image))


@settings(deadline=None, max_examples=200)
@given(boxes(0.2), boxes(0.2), st.sampled_from(["pixel", "1000"]))
def test_a_region_written_in_a_frame_covers_the_region(outer, inner, frame: str) -> None:
    budget = PixelBudget()
    view = View(1, "p", outer, None, budget.fit((outer[2] - outer[0]) * PAGE[0], (outer[3] - outer[1]) * PAGE[1]))
    region = compose(outer, inner)
    written = to_frame(view, region, frame)
    width, height = view.size if frame == "pixel" else (1000, 1000)
    assert 0 <= written[0] < written[2] <= width
    assert 0 <= written[1] < written[3] <= height
    back = crop_view(view, written, frame, PAGE)
    # Rounded outwards, so at most one step of the frame larger on each side.
    step_x = (outer[2] - outer[0]) / width + 1e-9
    step_y = (outer[3] - outer[1]) / height + 1e-9
    assert region[0] - step_x <= back[0] <= region[0] + 1e-9
    assert region[1] - step_y <= back[1] <= region[1] + 1e-9
    assert region[2] - 1e-9 <= back[2] <= region[2] + step_x
    assert region[3] - 1e-9 <= back[3] <= region[3] + step_y


def test_a_region_outside_the_view_still_gives_a_box() -> None:
    view = View(1, "p", (0.0, 0.0, 0.5, 0.5), None, (280, 280))
    x1, y1, x2, y2 = to_frame(view, (0.8, 0.8, 0.9, 0.9), "pixel")
    assert x1 < x2 <= 280
    assert y1 < y2 <= 280
    assert math.isfinite(x1 + y1)
