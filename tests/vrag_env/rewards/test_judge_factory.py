from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vrag_env.errors import JudgeError
from vrag_env.rewards import APIJudge, JudgeItem, RuleJudge, make_judge

ITEM = JudgeItem("How many?", "58 trials", ("58",), "Int")


@pytest.mark.parametrize(("name", "score"), [("rule", 1.0), ("exact_match", 0.0), ("token_f1", 2 / 3)])
def test_rules_by_name(name: str, score: float) -> None:
    assert make_judge(name).judge([ITEM]) == [pytest.approx(score)]


@pytest.mark.parametrize(
    ("spec", "model", "url"),
    [
        ("api:qwen-max@https://h/v1", "qwen-max", "https://h/v1"),
        (
            "api:Qwen/Qwen2.5-7B-Instruct@http://localhost:8000/v1/",
            "Qwen/Qwen2.5-7B-Instruct",
            "http://localhost:8000/v1",
        ),
        ("api:qwen2.5:7b@q4@http://h/v1", "qwen2.5:7b@q4", "http://h/v1"),
    ],
)
def test_servers_by_name(spec: str, model: str, url: str, tmp_path: Path) -> None:
    judge = make_judge(spec, on_error="zero")
    assert isinstance(judge, APIJudge)
    assert (judge.model, judge.base_url, judge.on_error) == (model, url, "zero")
    assert judge.cache is not None and judge.cache.path == Path(os.environ["VRAG_CACHE"]) / "verdicts.sqlite"
    own = make_judge(spec, cache=tmp_path / "own.sqlite")
    assert isinstance(own, APIJudge) and own.cache is not None and own.cache.path.name == "own.sqlite"


def test_a_judge_is_taken_as_it_is() -> None:
    judge = RuleJudge()
    assert make_judge(judge) is judge


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt", "unknown judge 'gpt'.*rule, exact_match, token_f1, api:MODEL@URL and local:NAME"),
        ("", "unknown judge"),
        ("Rule", "unknown judge"),
        ("local:", "unknown judge"),
        ("api:", "api:MODEL@URL"),
        ("api:gpt", "api:MODEL@URL"),
        ("api:@http://h/v1", "api:MODEL@URL"),
        ("api:gpt@ftp://h", "api:MODEL@URL"),
        ("api:gpt@http://", "base_url"),
        ("api:gpt@http://u:geheim@h/v1", "password"),
        (3, "int"),
        (None, "NoneType"),
    ],
)
def test_wrong_names(spec: Any, message: str) -> None:
    with pytest.raises(JudgeError, match=message) as caught:
        make_judge(spec)
    assert "geheim" not in str(caught.value)
