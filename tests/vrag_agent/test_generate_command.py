"""The command that generates a world."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vrag_agent.cli import app
from vrag_env.errors import WorldError
from vrag_env.questions import load_questions

RUN = CliRunner()
FEW = ["--questions", "6", "--distractors", "1", "--kinds", "table, plan", "--workers", "1"]


def test_it_writes_documents_questions_and_a_corpus(tmp_path: Path) -> None:
    out = tmp_path / "w"
    result = RUN.invoke(app, ["generate", *FEW, "--long-side", "128", "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"2 documents, 12 pages, 6 questions in .*pages/s", result.output)
    assert len(load_questions(out / "questions.json")) == 6 and (out / "corpus").is_dir()


def test_documents_alone(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["generate", *FEW, "--no-index", "--out", str(tmp_path / "w")], catch_exceptions=False)
    assert result.exit_code == 0 and not (tmp_path / "w" / "corpus").exists()


def test_a_wrong_dial_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="font_size must be a number from 3 to 12, got 20"):
        RUN.invoke(app, ["generate", "--font-size", "20", "--out", str(tmp_path / "w")], catch_exceptions=False)
    with pytest.raises(WorldError, match="kinds must be some of"):
        RUN.invoke(app, ["generate", "--kinds", "poem", "--out", str(tmp_path / "w")], catch_exceptions=False)
    assert not (tmp_path / "w").exists()
