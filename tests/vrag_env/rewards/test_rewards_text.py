from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.rewards.lists import best_matching, split_list
from vrag_env.rewards.quantities import Quantity, read_quantity, same_quantity
from vrag_env.rewards.text import (
    anls,
    clean,
    compact,
    edit_distance,
    exact_match,
    squad_tokens,
    token_f1,
    unify,
)

short = st.text(alphabet="ab c", max_size=8)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edit_distance_by_hand(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == distance


@settings(deadline=None, max_examples=100)
@given(short, short, short)
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_anls_by_hand() -> None:
    assert anls("chicago", "chicagoo") == 1 - 1 / 8
    assert anls("abcd", "abxy") == 0.0  # similarity 0.5 is not above the threshold
    assert anls("abcd", "abxy", threshold=0.4) == 0.5
    assert anls("", "") == 1.0
    assert anls("a" * 2000, "a" * 1999 + "b") == 0.0  # beyond the length that is aligned


def test_unify_and_clean() -> None:
    assert unify("\u22121.8\u00a0%") == "-1.8 %"
    assert unify("\uff11\uff12") == "12"
    assert unify("10\u00b2") == "10\u00b2"
    assert clean("\u201cS\u00e3o Paulo\u201d.") == "sao paulo"
    assert clean("...") == "..."
    assert clean("'a' and 'b'")  # quotes that do not enclose the whole must not lose text


def test_compact_keeps_what_changes_a_number() -> None:
    assert compact("Santa Marta") == compact("SantaMarta") == compact("santa-marta")
    assert compact("labeling_lboxed()") == compact("labeling lboxed")
    assert compact("1-2") != compact("12")
    assert compact("-5") != compact("5")
    assert compact("below -5") != compact("below 5")
    assert compact("U.S.") == compact("US")


def test_squad_metrics_by_hand() -> None:
    assert squad_tokens("The  U.S. economy!") == ["us", "economy"]
    assert exact_match("the Red House", "red house.") == 1.0
    assert exact_match("red", "red house") == 0.0
    assert exact_match("the", "a") == 0.0  # articles only: nothing may be emptied into equality
    assert exact_match("...", "") == 0.0
    assert token_f1("red house", "big red house") == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert token_f1("red", "blue") == 0.0
    assert token_f1("x x y", "x y y") == pytest.approx(2 / 3)  # min counts: x 1, y 1


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("58", Quantity(58)),
        ("-1.80", Quantity(-1.8)),
        ("\u22121.8", Quantity(-1.8)),
        (".049", Quantity(0.049)),
        ("p = .049", Quantity(0.049)),
        ("1,258", Quantity(1258)),
        ("1 258 000", Quantity(1258000)),
        ("$3,624", Quantity(3624, currency="$")),
        ("-$5", Quantity(-5, currency="$")),
        ("68 percent", Quantity(68, percent=True)),
        ("42.5 million", Quantity(42.5, scale="million")),
        ("$42.5M", Quantity(42.5, scale="million", currency="$")),
        ("3 million euros", Quantity(3, scale="million", currency="€")),
        ("42k", Quantity(42, scale="thousand")),
        ("minus 1.8", Quantity(-1.8)),
        ("5 m", Quantity(5, unit="meter")),
        ("58 per 100,000", Quantity(58, unit="per 100000")),
        ("seventy-two", Quantity(72)),
        ("page 4", Quantity(4, label="page")),
        ("in Fig. 4", Quantity(4, label="figure")),
        ("in 2021", Quantity(2021)),
        ("~12 km", Quantity(12, unit="kilometer")),
        ("1e3", Quantity(1000)),
    ],
)
def test_read_quantity(text: str, quantity: Quantity) -> None:
    assert read_quantity(text) == quantity


@pytest.mark.parametrize(
    "text",
    [
        "",
        "022",
        "not 58",
        "58 or 59",
        "58-60",
        "58 to 60",
        "12,34",
        "1.2.3",
        "07:00",
        "less than 5",
        "1989 1990",
        "Chicago",
        "seventy-ten",
        "5 " + "x" * 300,
        "9" * 100,
    ],
)
def test_what_is_not_a_quantity(text: str) -> None:
    assert read_quantity(text) is None


def test_same_quantity() -> None:
    percent, plain, ratio = Quantity(68, percent=True), Quantity(68), Quantity(0.68)
    assert same_quantity(percent, plain) and same_quantity(percent, ratio) and same_quantity(ratio, percent)
    assert not same_quantity(plain, ratio)
    assert not same_quantity(plain, ratio, 0.01, "How tall?")
    assert same_quantity(plain, ratio, 0.01, "What percentage?")
    assert same_quantity(Quantity(100), Quantity(101), 0.01) and not same_quantity(Quantity(100), Quantity(101))
    assert not same_quantity(Quantity(100), Quantity(102), 0.01)
    million = Quantity(42.5, scale="million")
    assert same_quantity(million, Quantity(42_500_000))
    assert not same_quantity(million, Quantity(42.5))
    assert same_quantity(million, Quantity(42.5), question="How much, in millions?")
    assert not same_quantity(Quantity(5, unit="km"), Quantity(5, unit="mile"))


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("a, b", ["a", "b"]),
        ("a; b, c", ["a", "b, c"]),
        ("a, b and c", ["a", "b", "c"]),
        ('["a", "b, c"]', ["a", "b, c"]),
        ("['Smith, John', 'Doe']", ["Smith, John", "Doe"]),
        ("2,403, 48,308", ["2,403", "48,308"]),
        ("2,403 and 48,308", ["2,403", "48,308"]),
        ("342,150", ["342", "150"]),
        ("f(a, b), c", ["f(a, b)", "c"]),
        ("f(a, b", ["f(a", "b"]),
        ("- a\n- b", ["a", "b"]),
        ("1. a\n2. b", ["a", "b"]),
        ("server's disk, it's", ["server's disk", "it's"]),
        ("Chicago", ["Chicago"]),
    ],
)
def test_split_list_reads(text: str, reading: list[str]) -> None:
    assert reading in split_list(text)


def test_split_list_of_nothing_and_of_code() -> None:
    assert split_list("  ") == []
    assert split_list(", ,") == []
    assert split_list("[__import__('os').getcwd()]") == [["__import__('os').getcwd()"]]


def test_best_matching_by_hand() -> None:
    assert best_matching([[0.9, 1.0], [0.0, 0.6]]) == 0.6  # not the greedy 1.0 and 0.0
    assert best_matching([[1.0, 1.0], [0.0, 0.0]]) == 0.0
    assert best_matching([[0.7]]) == 0.7


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(), max_size=60))
def test_normal_forms_never_raise_and_never_empty(text: str) -> None:
    assert bool(clean(text)) == bool(unify(text)) == bool(compact(text))
    assert unify(unify(text)) == unify(text)
    read_quantity(text)
    assert all(element for reading in split_list(text) for element in reading)
