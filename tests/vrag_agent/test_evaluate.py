"""Evaluation: hand-computed metrics, and files that are there whole or not at all."""

import json
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from vrag_agent.evaluate import (
    describe_corpus,
    direct_retrieval,
    evaluation,
    play,
    question_types,
    versions,
    write_episodes,
    write_json,
)
from vrag_env.episode import Episode
from vrag_env.players import make_player
from vrag_env.questions import Question
from vrag_env.retrieval import Hit, make_retriever
from vrag_env.rewards import make_reward

SEARCH = "<think>I look.</think><search>{}</search>"
ANSWER = "<think>There.</think><answer>{}</answer>"


class Listed:
    """A retriever whose rankings are written down; keeps what it was asked."""

    def __init__(self, rankings: dict[str, str]) -> None:
        self.rankings = rankings
        self.calls: list[tuple[tuple[str, ...], int]] = []

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        self.calls.append((tuple(queries), k))
        return [[Hit(page, 1.0 / rank) for rank, page in enumerate(self.rankings[q], 1)] for q in queries]


def question(text: str, gold: str) -> Question:
    return Question(text, text, "x", gold_pages=tuple(gold), answer_format="Str" if gold else "None")


def test_direct_retrieval_by_hand() -> None:
    retriever = Listed({"q1": "abc", "q2": "xyabcdefgh", "q3": "cab"})
    asked = [question("q1", "a"), question("none", ""), question("q2", "bz"), question("q3", "ab")]
    found = direct_retrieval(retriever, asked)
    # q1: a is first. q2: b is fourth of ten, z is missing. q3: a is second and b third.
    ideal_of_two = 1 + 1 / math.log2(3)
    assert found == pytest.approx(
        {
            "questions": 3,
            "recall@1": (1 + 0 + 0) / 3,
            "recall@5": (1 + 1 / 2 + 1) / 3,
            "recall@10": (1 + 1 / 2 + 1) / 3,
            "mrr@10": (1 + 1 / 4 + 1 / 2) / 3,
            "ndcg@10": (1 + (1 / math.log2(5)) / ideal_of_two + (1 / math.log2(3) + 1 / 2) / ideal_of_two) / 3,
        }
    )
    assert retriever.calls == [(("q1", "q2", "q3"), 10)]  # one batch, without the unanswerable question


def test_recall_at_five_and_ten_differ() -> None:
    found = direct_retrieval(Listed({"q": "cdefghija"}), [question("q", "a")])
    assert (found["recall@1"], found["recall@5"], found["recall@10"]) == (0, 0, 1)
    assert found["mrr@10"] == pytest.approx(1 / 9)


def test_no_gold_pages_no_measure() -> None:
    assert direct_retrieval(Listed({}), [question("none", "")]) == {}


@pytest.fixture
def played(make_episode: Callable[..., Episode]) -> list[Episode]:
    """Three finished episodes: right in two turns, cut off after invalid ones, right without a page."""
    right, lost, unanswerable = (
        make_episode("amber-revenue"),
        make_episode("north-sum"),
        make_episode("olive-price"),
    )
    right.step_text(SEARCH.format("ambrosia"))
    right.step_text(ANSWER.format("42.5"))
    while not lost.done:
        lost.step_text("no action at all")
    unanswerable.step_text(ANSWER.format("Not answerable"))
    return [right, lost, unanswerable]


def test_evaluation_by_hand(played: list[Episode]) -> None:
    result = evaluation(played)
    assert result["questions"] == 3
    assert result["accuracy"] == pytest.approx(2 / 3)
    # 2 turns, then max_turns + 1 = 5 invalid ones, then 1
    assert result["mean_turns"] == pytest.approx(8 / 3)
    assert result["invalid_rate"] == pytest.approx(5 / 8)
    assert result["finish_rate"] == pytest.approx(2 / 3)
    # over the questions with gold pages: found at once, nothing found
    assert result["retrieval_ndcg"] == pytest.approx(1 / 2)
    assert result["mean_reward"] == pytest.approx(sum(turn.reward for episode in played for turn in episode.turns) / 3)
    assert result["wrong"] == ["north-sum"]
    assert list(result["by_type"]) == ["Multi-Hop", "Unanswerable"]  # amber-revenue has no type
    assert result["by_type"]["Multi-Hop"]["accuracy"] == 0
    assert result["by_type"]["Unanswerable"]["questions"] == 1
    assert math.isnan(result["by_type"]["Unanswerable"]["retrieval_ndcg"])


def test_types_of_a_question_are_split() -> None:
    asked = Question("q", "q", "x", source_type="Chart, Table", query_type="Multi-Hop")
    assert question_types(asked) == ["Chart", "Table", "Multi-Hop"]


def test_types_can_be_chosen(played: list[Episode]) -> None:
    by_split = evaluation(played, lambda asked: [asked.split])["by_type"]
    assert {name: row["questions"] for name, row in by_split.items()} == {"train": 2, "test": 1}


def test_play_in_batches(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> None:
    retriever, reward = make_retriever("lexical", tiny_corpus), make_reward("paper")
    records = []
    for batch_size in (1, 2, 64):
        episodes = [Episode(q, tiny_corpus, retriever, reward) for q in tiny_questions]
        ended: list[int] = []
        play(make_player("oracle"), episodes, batch_size, ended.append)
        assert all(episode.done for episode in episodes) and sum(ended) == 5
        records.append([[turn.text for turn in episode.turns] for episode in episodes])
    assert records[0] == records[1] == records[2]


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"name": "Größe", "value": (1, {"ndcg": math.nan})})
    assert json.loads(path.read_text(encoding="utf-8"))["value"] == [1, {"ndcg": None}]
    assert "Größe" in path.read_text(encoding="utf-8")  # readable by people
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_json(path, {"value": object()})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_episodes_one_a_line(tmp_path: Path, played: list[Episode]) -> None:
    write_episodes(tmp_path / "episodes.jsonl", played)
    lines = (tmp_path / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert "<answer>42.5</answer>" in json.dumps(json.loads(lines[0]))
    assert [entry.name for entry in tmp_path.iterdir()] == ["episodes.jsonl"]


def test_versions_and_corpus(tiny_corpus: Any) -> None:
    import gymnasium

    assert versions()["gymnasium"] == gymnasium.__version__
    described = describe_corpus(tiny_corpus)
    assert (described["documents"], described["pages"]) == (4, 8)
    assert described["fingerprint"] == tiny_corpus.fingerprint
    assert str(tiny_corpus.path) not in json.dumps(described)  # a summary can be published
