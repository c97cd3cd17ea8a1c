"""``vrag replay`` on what ``vrag eval`` writes."""

from pathlib import Path

import pytest

from vrag_agent.cli import app
from vrag_agent.eval_command import run_evaluation
from vrag_agent.replay_command import run_replay
from vrag_env.corpus import Corpus
from vrag_env.errors import VRAGError
from vrag_env.replay import read_records


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    for name in ("oracle", "random"):
        run_evaluation(name, root / name, {}, limit=3)
    return root / "oracle", root / "random"


def test_a_run_becomes_a_list_and_pages(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = run_replay([runs[0]], corpus=None, out=tmp_path / "pages")
    assert page == tmp_path / "pages" / "index.html"
    assert len(list((tmp_path / "pages" / "episodes").iterdir())) == 3


def test_one_question_of_one_run_and_of_two(runs: tuple[Path, Path], tmp_path: Path) -> None:
    question = next(read_records(runs[0] / "episodes.jsonl")).question
    alone = run_replay([runs[0]], corpus=None, out=tmp_path / "one.html", question=question.question_id)
    assert 'id="turn-1"' in alone.read_text()
    both = run_replay(list(runs), corpus=None, out=tmp_path / "both.html", question=question.question_id)
    assert 'id="left-1"' in both.read_text()
    assert 'id="right-1"' in both.read_text()


def test_what_can_not_be_shown(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(VRAGError, match="there is no file"):
        run_replay([tmp_path / "none"], corpus=None, out=tmp_path / "x")
    with pytest.raises(VRAGError, match="no episode of question 'none'"):
        run_replay([runs[0]], corpus=None, out=tmp_path / "x", question="none")
    with pytest.raises(VRAGError, match=r"one \.html file holds one question"):
        run_replay([runs[0]], corpus=None, out=tmp_path / "x.html")
    Corpus.create(tmp_path / "empty")
    with pytest.raises(VRAGError, match="the corpus has no page"):
        run_replay([runs[0]], corpus=tmp_path / "empty", out=tmp_path / "x")


def test_the_command_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["replay", str(runs[0]), "--out", str(tmp_path / "pages"), "--limit", "1"])
    assert result.exit_code == 0, result.output
    assert "in a browser" in result.output
