"""Names of companies and the split of the documents."""

from __future__ import annotations

import random

import pytest

from vrag_env.corpus.generate.names import FIRST_WORDS, SECOND_WORDS, choose_test, draw_companies


@pytest.mark.parametrize("count", [1, 5, 24, 400, 5000, 10_000])
def test_names_are_unique(count: int) -> None:
    companies = draw_companies(count, random.Random(1))
    assert len({company.name for company in companies}) == count
    if count <= len(FIRST_WORDS) * len(SECOND_WORDS):
        assert len({company.short for company in companies}) == count


def test_the_name_and_its_slug() -> None:
    (company,) = draw_companies(1, random.Random(3))
    assert company.name == f"{company.first} {company.second} {company.year}"
    assert company.slug == f"{company.first.lower()}-{company.second.lower()}-{company.year}"


@pytest.mark.parametrize("seed", range(20))
def test_words_of_test_companies_occur_in_training(seed: int) -> None:
    companies = draw_companies(24, random.Random(seed))
    chosen = choose_test(companies, 0.25, random.Random(seed))
    assert len(chosen) == 6
    seen = {word for i, c in enumerate(companies) if i not in chosen for word in (c.first, c.second)}
    for i in chosen:
        assert {companies[i].first, companies[i].second} <= seen


def test_a_tiny_world_has_its_test_share_all_the_same() -> None:
    companies = draw_companies(2, random.Random(0))
    assert len(choose_test(companies, 0.5, random.Random(0))) == 1
    assert choose_test(companies, 0.0, random.Random(0)) == set()
