"""summarize: every number worked out by hand from episodes that were really played."""

import math
from collections.abc import Callable

import pytest

from vrag_agent.metrics import summarize
from vrag_env.episode import Episode

MakeEpisode = Callable[..., Episode]


def play(episode: Episode, *actions: str) -> Episode:
    for action in actions:
        episode.step_text(f"<think></think>{action}")
    assert episode.done
    return episode


def test_three_episodes_by_hand(make_episode: MakeEpisode) -> None:
    right = play(
        make_episode("amber-revenue", reward="outcome"),
        "<search>ambrosia</search>",  # the gold page first: NDCG 1
        "<answer>42.5</answer>",
    )
    late = play(
        make_episode("cobalt-staff", reward="outcome"),
        "<search>ambrosia</search>",
        "nonsense",  # invalid
        "<search>dolphin</search>",  # the gold page second: NDCG 1 / log2(3)
        "<answer>999</answer>",  # wrong
    )
    unanswered = play(
        make_episode("olive-price", reward="outcome", max_turns=1),  # no gold pages: no part in the NDCG
        "<search>gondola</search>",
        "<search>gondola</search>",  # only an answer was possible: invalid, and the end
    )
    assert [episode.pages_shown for episode in (right, late)] == [
        ("finance/amber.pdf#1",),
        ("finance/amber.pdf#1", "finance/cobalt.pdf#2"),
    ]
    assert summarize([right, late, unanswered]) == pytest.approx(
        {
            "accuracy": 1 / 3,
            "mean_reward": 1 / 3,  # the outcome reward is 1 for a right answer
            "retrieval_ndcg": (1 + 1 / math.log2(3)) / 2,
            "invalid_rate": 2 / 8,
            "finish_rate": 2 / 3,
            "mean_turns": 8 / 3,
        }
    )


def test_rewards_of_all_turns_count(make_episode: MakeEpisode) -> None:
    episode = play(make_episode("amber-revenue"), "<search>ambrosia</search>", "<answer>42.5</answer>")
    assert summarize([episode])["mean_reward"] == pytest.approx(sum(turn.reward for turn in episode.turns))
    assert summarize([episode])["mean_reward"] == pytest.approx(0.2 + 0.7 + 0.1)  # the weights of the paper


def test_without_gold_pages_there_is_no_retrieval_measure(make_episode: MakeEpisode) -> None:
    episode = play(make_episode("olive-price"), "<answer>Not answerable</answer>")
    summary = summarize([episode])
    assert math.isnan(summary["retrieval_ndcg"]) and summary["accuracy"] == 1.0


def test_nothing_can_not_be_summarized() -> None:
    with pytest.raises(ValueError, match="no episodes"):
        summarize([])
