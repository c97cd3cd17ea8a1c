"""What an episode does when the parts that it is made of misbehave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest

from vrag_env.episode import Episode, step_many
from vrag_env.retrieval import Hit
from vrag_env.rewards import JudgeItem, Reward

MakeEpisode = Callable[..., Episode]
SEARCH = "<think></think><search>ambrosia</search>"
ANSWER = "<think></think><answer>42.5</answer>"


class FailingOnce:
    """A retriever and a judge whose first call fails, as one behind a network may."""

    def __init__(self, page_ids: Sequence[str]) -> None:
        self.calls = 0
        self.page_ids = page_ids

    def _call(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError("no route")

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        self._call()
        return [[Hit(page_id, 1.0) for page_id in self.page_ids] for _ in queries]

    def judge(self, items: Sequence[JudgeItem]) -> list[float]:
        self._call()
        return [1.0 for _ in items]


@pytest.mark.parametrize("action", [SEARCH, ANSWER])
def test_a_step_that_fails_can_be_taken_again(make_episode: MakeEpisode, action: str) -> None:
    first, second = make_episode(), make_episode()
    part = FailingOnce([first.corpus.page_ids()[0]])
    first.retriever = part
    first.reward = Reward({"answer": 1.0}, judge=part)
    before = first.state, second.state
    with pytest.raises(ConnectionError):
        step_many([second, first], [SEARCH, action])
    assert (second.state, first.state) == before
    results = step_many([second, first], [SEARCH, action])
    assert [result.info["turn"] for result in results] == [1, 1]
    assert results[1].reward == (1.0 if action == ANSWER else 0.0)


def test_a_page_that_is_returned_twice_is_shown_once(make_episode: MakeEpisode) -> None:
    episode = make_episode(pages_per_search=3)
    first, second, *_ = episode.corpus.page_ids()
    retriever = FailingOnce([first, first, second])
    retriever.calls = 1
    episode.retriever = retriever
    episode.step_text(SEARCH)
    assert [view.page_id for view in episode.views] == [first, second]
