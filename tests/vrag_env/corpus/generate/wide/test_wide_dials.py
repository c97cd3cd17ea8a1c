"""The dials: what is refused, and what they come to."""

from __future__ import annotations

from typing import Any

import pytest

from vrag_env.corpus.generate import PAGE_KINDS, WorldDials
from vrag_env.corpus.generate.wide import held_out
from vrag_env.corpus.generate.wide.family import split_of
from vrag_env.corpus.generate.wide.registry import VALUED
from vrag_env.corpus.generate.wide.terms import FIRST, SECOND, unique_name
from vrag_env.corpus.generate.wide.themes import THEMES
from vrag_env.errors import WorldError


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"questions": 0}, "questions"),
        ({"questions": 2.5}, "questions"),
        ({"questions": True}, "questions"),
        ({"seed": "7"}, "seed"),
        ({"pages": 9}, "pages"),
        ({"pages": 100_001}, "pages"),
        ({"pages": 60, "questions": 500}, "500 questions need more than 60 pages"),
        ({"distractors": 12}, "distractors"),
        ({"font_size": 2.9}, "font_size"),
        ({"font_size": 13}, "font_size"),
        ({"font_size": float("nan")}, "font_size"),
        ({"font_size": "5"}, "font_size"),
        ({"language": "fr"}, "language"),
        ({"kinds": ()}, "kinds"),
        ({"kinds": ("bars", "bars")}, "kinds"),
        ({"kinds": ("bars", "poem")}, "kinds"),
        ({"kinds": "bars"}, "kinds"),
        ({"multi_hop_share": 0.7}, "multi_hop_share"),
        ({"unanswerable_share": -0.1}, "unanswerable_share"),
        ({"multi_hop_share": 0.6, "unanswerable_share": 0.4}, "0.9 together"),
        ({"test_share": 1}, "test_share"),
        ({"held_out_share": 0.6}, "held_out_share"),
        ({"injection_share": 1.5}, "injection_share"),
        ({"colour": "red"}, "no dial 'colour'; the dials are seed, questions"),
    ],
)
def test_a_wrong_dial_is_named(dials: dict[str, Any], said: str) -> None:
    with pytest.raises(WorldError, match=said):
        WorldDials.read(dials)


def test_dials_that_are_no_mapping() -> None:
    with pytest.raises(WorldError, match="mapping"):
        WorldDials.read("500")  # type: ignore[arg-type]


def test_a_list_of_kinds_is_taken_as_json_has_it() -> None:
    assert WorldDials.read({"kinds": ["bars", "plan"]}) == WorldDials(kinds=("bars", "plan"))
    assert WorldDials.read(WorldDials(seed=3)) == WorldDials(seed=3)


@pytest.mark.parametrize("pages", [10, 1000, 100_000])
def test_there_are_as_many_pages_as_asked_for(pages: int) -> None:
    dials = WorldDials(questions=10, pages=pages, distractors=3)
    assert pages <= dials.documents * 6 < pages + 6 * dials.family_size


def test_every_dial_is_part_of_the_stamp() -> None:
    others = [
        {"seed": 1}, {"questions": 501}, {"pages": 1000}, {"distractors": 2}, {"font_size": 6}, {"language": "zh"},
        {"kinds": PAGE_KINDS[:4]}, {"multi_hop_share": 0.2}, {"unanswerable_share": 0.2}, {"test_share": 0.3},
        {"held_out_share": 0.1}, {"injection_share": 0.1},
    ]  # fmt: skip
    stamps = {WorldDials.read(dials).stamp for dials in ({}, *others)}
    assert len(stamps) == len(others) + 1


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_names_of_organisations_never_come_twice(theme: Any) -> None:
    total = len(FIRST) * len(SECOND) * len(theme.suffixes)
    names = [unique_name(k, total, 5, theme.suffixes) for k in range(total)]
    assert len({name for (name, _), _ in names}) == len({name for (_, name), _ in names}) == total
    with pytest.raises(ValueError, match="names for"):
        unique_name(0, total + 1, 5, theme.suffixes)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_themes_are_wide_enough(theme: Any) -> None:
    assert len(theme.items) == 12 and len(theme.columns) == 6 and len(theme.series) == 2 and len(theme.suffixes) == 4
    assert len({m.name for m in theme.measures}) >= 6
    units = [m.unit for m in theme.measures]
    assert any(units.count(unit) > 1 for unit in units)  # or there would be no calculation over two pages
    for measure in theme.measures:
        # Eight rows in twelve documents draw different values; a third of the range serves six points of a line.
        assert (measure.high - measure.low) // 3 * 0.6 >= 6 * 12 and measure.low * 7 > measure.high


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_out_leaves_values_on_both_sides(seed: int) -> None:
    hidden = held_out(WorldDials(seed=seed))
    assert len(hidden) == 3 and set(hidden) & set(VALUED) and set(VALUED) - set(hidden)


def test_without_test_documents_nothing_is_held_out() -> None:
    assert held_out(WorldDials(test_share=0)) == ()
    assert {split_of(WorldDials(test_share=0), k) for k in range(20)} == {"train"}
    assert held_out(WorldDials(kinds=("bars", "flow"), held_out_share=0.5)) == ()


def test_splits_have_their_share() -> None:
    splits = [split_of(WorldDials(), k) for k in range(80)]
    assert [splits.count(name) for name in ("train", "test", "test_templates")] == [60, 10, 10]
