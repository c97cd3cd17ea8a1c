"""Values as benchmarks write them; whatever is written, reading it never does anything but read it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.datasets.values import (
    BELOW_ONE,
    NO_NUMBER,
    NO_PAGE_LIST,
    read_hops,
    read_list,
    read_pages,
    read_sources,
    read_text,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[3, 5]", [3, 5]),
        ("['Chart', 'Table']", ["Chart", "Table"]),
        ('["Chart"]', ["Chart"]),
        ("[]", []),
        ("(1, 2)", [1, 2]),
        (" [1] ", [1]),
        ([7], [7]),
        (None, []),
    ],
)
def test_lists_in_text(value: Any, expected: list[Any]) -> None:
    assert read_list(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "3", "{}", "Chart", "[1, __import__('os')]", "[1", "open('x')", "[" * 5000, "[1]" + " " * 10_000, 3, True],
)
def test_what_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a list"):
        read_list(value)


def test_nothing_is_evaluated(tmp_path: Any) -> None:
    target = tmp_path / "made"
    with pytest.raises(ValueError, match="not a list"):
        read_list(f"[open({str(target)!r}, 'w')]")
    assert not target.exists()


@pytest.mark.parametrize(
    ("value", "pages", "kinds"),
    [
        ("[2, 2, 1]", (2, 1), []),
        ("[0]", (), [BELOW_ONE]),
        ("[-1, 3]", (3,), [BELOW_ONE]),
        ([1.0, "2", " 3 "], (1, 2, 3), []),
        ([1.5, True, "two", None, float("nan"), float("inf")], (), [NO_NUMBER] * 6),
        ("[1418]", (1418,), []),  # only the document tells that there is no such page
        ("fourteen", (), [NO_PAGE_LIST]),
    ],
)
def test_page_numbers(value: Any, pages: tuple[int, ...], kinds: list[str]) -> None:
    found, labelled, problems = read_pages(value)
    assert (found, labelled) == (pages, True)
    assert [kind for kind, _ in problems] == kinds


def test_no_pages_are_no_problem() -> None:
    assert read_pages("[]") == read_pages(None) == ((), False, [])


def test_words_for_sources() -> None:
    assert read_sources("['Pure-text (Plain-text)', 'Generalized-text (Layout)', 'Chart']") == (
        ("Text", "Layout", "Chart"),
        [],
    )
    assert read_sources("2d_layout") == (("Layout",), [])
    assert read_sources("text") == (("Text",), [])
    assert read_sources(["Table", "table", "Hologram"]) == (("Table", "Hologram"), [])
    assert read_sources("") == read_sources(None) == ((), [])
    assert len(read_sources("[x")[1]) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Multi-Hop", "Multi-Hop"),
        ("multi_hop", "Multi-Hop"),
        ("Multi-Hop_Single-Span", "Multi-Hop"),
        ("Single-Hop_Multi-Span", "Single-Hop"),
        ("content_extraction", "Single-Hop"),
        ("Discrete", "Discrete"),
        (None, ""),
        (3, ""),
    ],
)
def test_types(value: Any, expected: str) -> None:
    assert read_hops(value) == expected


def test_texts_that_are_numbers() -> None:
    assert (read_text(42), read_text(2.5), read_text("x")) == ("42", "2.5", "x")
    for bad in (True, None, " ", []):
        with pytest.raises(ValueError, match="missing or blank"):
            read_text(bad)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4)
)


@settings(deadline=None, max_examples=150)
@given(ANYTHING | st.text(alphabet="[](){}'\",0123456789 -e.+*abc_", max_size=40))
def test_pages_are_always_pages(value: Any) -> None:
    pages, labelled, _ = read_pages(value)
    assert all(type(page) is int and page >= 1 for page in pages)
    assert len(set(pages)) == len(pages)
    assert labelled or not pages
    read_sources(value)
