"""``vrag collect`` as a user calls it; the kill is in ``demonstrations/test_collect.py``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vrag_agent.cli import app
from vrag_agent.demonstrations import DemonstrationStore
from vrag_env.errors import DemonstrationError
from vrag_env.questions import Question, save_questions


@pytest.fixture
def common(tmp_path: Path, tiny_corpus_path: Path, tiny_questions: Sequence[Question]) -> list[str]:
    save_questions(tmp_path / "questions.json", tiny_questions)
    options = ["--corpus", str(tiny_corpus_path), "--questions", str(tmp_path / "questions.json")]
    return ["collect", "--out", str(tmp_path / "demos"), *options]


def run(arguments: list[str]) -> Any:
    return CliRunner().invoke(app, arguments, catch_exceptions=True)


def test_the_oracle_then_the_released_format_and_back(common: list[str], tmp_path: Path) -> None:
    done = run([*common, "--keep", "4", "--released", str(tmp_path / "search_sft.json")])
    assert done.exit_code == 0, done.output
    assert "5 episodes of 5 questions: 5 accepted, 4 kept" in done.output and "requests" not in done.output
    kept = DemonstrationStore(tmp_path / "demos").read()
    assert len({(d.turns, d.searches, d.crops) for d in kept}) == 3  # balanced: three different shapes
    assert len(json.loads((tmp_path / "search_sft.json").read_text())) == 4
    more = run(common)  # plays nothing again, and now keeps all
    assert "holds 5 episodes already" in more.output and "5 kept" in more.output
    back = run(["collect", "--from-released", str(tmp_path / "search_sft.json"), "--out", str(tmp_path / "back")])
    assert back.exit_code == 0 and "4 demonstrations read, 0 left out" in back.output
    again = DemonstrationStore(tmp_path / "back").read()
    assert [d.images for d in again] == [d.images for d in kept]
    assert [m.text for d in again for m in d.messages[1:]] == [m.text for d in kept for m in d.messages[1:]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--expert", "nobody"], "unknown expert 'nobody'"),
        (["--expert", "api:model"], "api:MODEL@URL"),
        (["--expert", "oracle", "--leak"], "--leak"),
        (["--expert", "api:m@http://127.0.0.1:1/v1", "--frame", "percent"], "percent"),
    ],
)
def test_wrong_options(common: list[str], options: list[str], message: str) -> None:
    done = run([*common, *options])
    assert isinstance(done.exception, ValueError) and message in str(done.exception)


def test_another_corpus_is_not_mixed_in(common: list[str], tmp_path: Path) -> None:
    assert run([*common, "--limit", "1"]).exit_code == 0
    done = run(["collect", "--out", str(tmp_path / "demos"), "--limit", "1"])
    assert isinstance(done.exception, DemonstrationError) and "begun with corpus" in str(done.exception)
