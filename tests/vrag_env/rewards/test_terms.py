from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.actions import Invalid, Search
from vrag_env.corpus import Box, Corpus
from vrag_env.episode import Episode, EpisodeState, Turn
from vrag_env.questions import Evidence, Question
from vrag_env.retrieval import make_retriever
from vrag_env.rewards import TERMS, Reward
from vrag_env.views import FULL_PAGE, View

MakeEpisode = Callable[..., Episode]


def page(number: int, view_id: int = 1, parent_id: int | None = None, box: Box = FULL_PAGE) -> View:
    return View(view_id, f"fruit.pdf#{number}", box, parent_id, (112, 112))


def with_views(episode: Episode, *views: View) -> Episode:
    episode.state = replace(episode.state, views=views)
    return episode


@pytest.mark.parametrize(
    ("shown", "gold", "expected"),
    [
        ([], [1], 0.0),
        ([1], [1], 1.0),
        ([2, 1], [1], 1 / math.log2(3)),
        ([1, 2, 3], [1], 1.0),  # wrong pages after the gold page cost nothing
        ([1, 1, 1], [1], 1.0),  # the released code gives 2.13 here
        ([1], [1, 1], 1.0),  # and 0.61 here
        ([2, 2, 1], [1], 1 / math.log2(3)),
        ([1], [1, 2], 1 / (1 + 1 / math.log2(3))),
        ([3, 1, 2], [1, 2], (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))),
    ],
)
def test_retrieval_by_hand(new_episode: MakeEpisode, shown: list[int], gold: list[int], expected: float) -> None:
    episode = new_episode(gold_pages=tuple(f"fruit.pdf#{number}" for number in gold))
    with_views(episode, *(page(number) for number in shown))
    assert TERMS["retrieval"](episode) == pytest.approx(expected)


def test_without_boxes_there_is_no_region(new_episode: MakeEpisode) -> None:
    assert TERMS["region"](new_episode(gold_pages=(), evidence=())) is None


def test_without_gold_pages_one_search_is_asked_for(new_episode: MakeEpisode) -> None:
    episode = new_episode(gold_pages=(), evidence=())
    assert TERMS["retrieval"](episode) == 0.0
    refused, searched = Turn("<search>x</search>", "", Invalid("no thought")), Turn("", "", Search("x"))
    episode.state = EpisodeState(turns=(refused,))
    assert TERMS["retrieval"](episode) == 0.0
    episode.state = EpisodeState(turns=(refused, searched, searched, refused))
    assert TERMS["retrieval"](episode) == 1.0  # whatever it found: nothing could be right


def test_pattern_by_hand(new_episode: MakeEpisode) -> None:
    episode = new_episode()
    assert TERMS["pattern"](episode) == 0.0
    good, bad = Turn("", "", Search("x")), Turn("<search>x</search>", "", Invalid("no thought"))
    episode.state = EpisodeState(turns=(good, bad, good, good))
    assert TERMS["pattern"](episode) == 0.75


def test_region_by_hand(new_episode: MakeEpisode) -> None:
    half = (0.0, 0.0, 0.5, 1.0)  # holds the evidence twice over: 0.25 / 0.5
    episode = new_episode()
    assert TERMS["region"](with_views(episode, page(4))) == 0.0  # the page itself is no crop
    assert TERMS["region"](with_views(episode, page(4), page(4, 2, 1, half))) == 0.5
    assert TERMS["region"](with_views(episode, page(3), page(3, 2, 1, half))) == 0.0  # another page
    exact = (0.0, 0.0, 0.5, 0.5)
    assert TERMS["region"](with_views(episode, page(4, 2, 1, half), page(4, 3, 2, exact))) == 1.0  # the best
    second = Evidence("fruit.pdf#4", (0.5, 0.5, 1.0, 1.0))
    two = new_episode(evidence=(*episode.question.evidence, second))
    assert TERMS["region"](with_views(two, page(4), page(4, 2, 1, exact))) == 0.5  # one of two


def test_cost_by_hand(new_episode: MakeEpisode) -> None:
    episode = new_episode()  # 4 + 1 turns, images of 112 * 112
    assert TERMS["cost"](episode) == 1.0
    turn = Turn("", "", Search("x"))
    episode.state = EpisodeState(turns=(turn, turn), views=(page(1),))
    assert TERMS["cost"](episode) == pytest.approx(1 - (2 / 5 + 1 / 5) / 2)
    limited = new_episode(config={"episode_pixels": 2 * 112 * 112})
    limited.state = episode.state
    assert TERMS["cost"](limited) == pytest.approx(1 - (2 / 5 + 1 / 2) / 2)


boxes = st.tuples(*[st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0.5, 1), st.floats(0.5, 1)])
views = st.builds(page, st.integers(1, 4), st.just(2), st.sampled_from([None, 1]), boxes)


@settings(deadline=None, max_examples=100)
@given(st.lists(views, max_size=8), st.lists(st.integers(1, 9), max_size=5), st.lists(st.booleans(), max_size=6))
def test_terms_stay_in_range_and_ignore_repeats(
    fruit_corpus: Corpus, shown: list[View], gold: list[int], valid: list[bool]
) -> None:
    pages = tuple(f"fruit.pdf#{number}" for number in gold)
    question = Question("q", "?", "x", gold_pages=pages, evidence=(Evidence("fruit.pdf#1", (0, 0, 0.5, 0.5)),))
    retriever = make_retriever("lexical", fruit_corpus)
    episode = Episode(question, fruit_corpus, retriever, Reward.preset("paper"))
    turns = tuple(Turn("", "", Search("x") if good else Invalid("no")) for good in valid)
    episode.state = EpisodeState(turns=turns, views=tuple(shown))
    values = {name: term(episode) for name, term in TERMS.items()}
    assert all(value is None or 0 <= value <= 1 for value in values.values())
    episode.state = replace(episode.state, views=(*shown, *shown))
    assert TERMS["retrieval"](episode) == values["retrieval"]
    assert TERMS["region"](episode) == values["region"]
