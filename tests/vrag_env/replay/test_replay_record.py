"""Records: they survive JSON, and one that is not a record is refused by name."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vrag_env.errors import VRAGError
from vrag_env.questions import Injection
from vrag_env.replay import EpisodeRecord, Sampled, episode_to_record, read_records

ACTIONS = (
    "<think>I look for it.</think><search>ambrosia</search>",
    "<think>Too small.</think><bbox>[73, 133, 655, 186]</bbox>",
    "gibberish",
    "<think>There.</think><answer>42.5</answer>",
)


@pytest.fixture
def episode(make_episode: Callable[..., Any]) -> Any:
    episode = make_episode("amber-revenue")
    for action in ACTIONS:
        episode.step_text(action)
    return episode


def test_a_record_survives_json(episode: Any) -> None:
    record = episode_to_record(episode)
    assert json.loads(json.dumps(record)) == record
    assert record["format"] == "vrag-episode/1"
    assert record["question"]["question_id"] == "amber-revenue"
    assert record["question"]["evidence"][0]["box"] == [0.1, 0.25, 0.9, 0.35]
    assert [turn["action"]["type"] for turn in record["turns"]] == ["search", "crop", "invalid", "answer"]
    assert record["turns"][0]["action"] == {"type": "search", "query": "ambrosia"}
    assert record["turns"][0]["hits"][0]["page_id"] == "finance/amber.pdf#1"
    assert record["turns"][1]["views"][0]["parent_id"] == 1
    assert record["turns"][2]["text"] == "gibberish"
    assert record["turns"][3]["reward_terms"]["answer"] == 1.0
    assert record["return"] == pytest.approx(0.975)
    assert (record["answer"], record["terminated"], record["truncated"]) == ("42.5", True, False)
    assert record["pages_shown"] == ["finance/amber.pdf#1"]
    assert record["pixels_spent"] == episode.pixels_spent
    assert record["weights"] == {"retrieval": 0.2, "answer": 0.7, "pattern": 0.1}
    assert "sampled" not in record["turns"][0]


def test_reading_gives_back_the_same_objects(episode: Any) -> None:
    sampled = (Sampled(("a", "b"), (-0.5, -1.0)), None, None, Sampled((), ()))
    record = EpisodeRecord.of(episode, "someone", sampled, (0.5, 1.5, None, 2.0))
    again = EpisodeRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert again == record
    full = replace(
        record, question=replace(record.question, hops=2, scope=("a",), injection=Injection("finance/amber.pdf#1", "7"))
    )
    assert EpisodeRecord.from_json(json.loads(json.dumps(full.to_json()))) == full
    assert again.turns == episode.turns
    assert again.views == episode.views
    assert (again.answer, again.pages_shown, again.outcome) == ("42.5", episode.pages_shown, "right")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("format",), "vrag-episode/9", "expected the record of an episode"),
        (("turns",), None, "'turns' must be list"),
        (("turns", 0, "action", "type"), "dance", "unknown action 'dance'"),
        (("turns", 0, "views", 0, "box"), [0, 0, 2, 1], "not a region of a page"),
        (("turns", 0, "views", 0, "box"), [0, 0, float("nan"), 1], "finite number"),
        (("turns", 0, "views", 0, "size"), [100_000, 100_000], "over the limit"),
        (("turns", 0, "views", 0, "size"), [10, True], "must be two positive whole numbers"),
        (("turns", 1, "views", 0, "view_id"), 7, "view 7 stands where view 2 was expected"),
        (("turns", 1, "views", 0, "parent_id"), 2, "can not be cut from view 2"),
        (("turns", 0, "reward"), "1", "'reward' must be a finite number"),
        (("turns", 0, "sampled"), {"tokens": ["a"], "logprobs": []}, "1 tokens but 0 log-probs"),
        (("question", "text"), 7, "'text' must be str"),
        (("question", "answer_variants"), [1], "must be a list of texts"),
        (("is_success",), 1, "'is_success' must be bool"),
    ],
)
def test_what_is_not_a_record(episode: Any, path: tuple[Any, ...], value: Any, words: str) -> None:
    record = copy.deepcopy(episode_to_record(episode))
    EpisodeRecord.from_json(record)
    place: Any = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    if isinstance(value, list) and value[-1] is True:
        place[path[-1]] = [10, 0]
    with pytest.raises(VRAGError, match=words):
        EpisodeRecord.from_json(record)


def test_a_file_of_records(episode: Any, tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    line = json.dumps(episode_to_record(episode))
    path.write_text(f"{line}\n\n{line}\n")
    assert len(list(read_records(path))) == 2
    path.write_text(f"{line}\n{{}}\n")
    with pytest.raises(VRAGError, match=r"episodes\.jsonl, line 2: expected the record"):
        list(read_records(path))
    path.write_text("not json\n")
    with pytest.raises(VRAGError, match="line 1"):
        list(read_records(path))
    with pytest.raises(VRAGError, match="can not be read"):
        list(read_records(tmp_path / "none.jsonl"))
