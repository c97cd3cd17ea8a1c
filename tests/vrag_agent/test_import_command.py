"""``vrag import`` as a newcomer types it."""

import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from reportlab.pdfgen.canvas import Canvas
from typer.testing import CliRunner

from vrag_agent.cli import app
from vrag_agent.import_command import run_import
from vrag_env.errors import IngestError
from vrag_env.questions import load_questions


def download(root: Path) -> Path:
    """A MMLongBench-Doc of one document: two questions, one of them with a page that is not there."""
    (root / "documents").mkdir(parents=True)
    canvas = Canvas(str(root / "documents" / "a.b.pdf"), pagesize=(300, 200), invariant=True)
    for line in ("Oslo has 31 cranes.", "Bergen has 48 cranes."):
        canvas.drawString(40, 100, line)
        canvas.showPage()
    canvas.save()
    entry = {"doc_id": "a.b.pdf", "answer_format": "Int", "evidence_sources": "['Chart']"}
    rows = [
        {**entry, "question": "How many cranes has Bergen?", "answer": "48", "evidence_pages": "[2]"},
        {**entry, "question": "How many cranes has Oslo?", "answer": "31", "evidence_pages": "[1, 1418]"},
    ]
    (root / "samples.json").write_text(json.dumps(rows))
    return root


def vrag(*arguments: object, **options: Any) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], **options)


def test_import_and_evaluate(tmp_path: Path) -> None:
    root, out = download(tmp_path / "mmlb"), tmp_path / "corpus"
    done = vrag("import", "mmlongbench", "--from", root, "--out", out, "--subset", "vrag", "--workers", 1)
    assert done.exit_code == 0, done.output
    assert "2 questions read from samples.json; subset 'vrag': 2 questions; the paper has 847" in done.stdout
    assert "a.b.pdf:2: 1418 of 2" in done.stdout and f"{out / 'questions.json'}" in done.stdout
    assert [q.gold_pages for q in load_questions(out / "questions.json")] == [
        ("mmlongbench/a.b.pdf#2",),
        ("mmlongbench/a.b.pdf#1",),
    ]
    options = ("--corpus", out, "--questions", out / "questions.json", "--out", tmp_path / "run")
    assert vrag("eval", "--policy", "oracle", *options).exit_code == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["accuracy"] == 1.0 and summary["questions"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("docvqa", "--from", "x", "--out", "y"), "unknown data set 'docvqa'"),
        (("vidoseek", "--from", "x", "--out", "y", "--subset", "hard"), "unknown subset 'hard'"),
        (("vidoseek", "--from", "x", "--out", "y", "--scope", "page"), "scope must be one of"),
        (("vidoseek", "--from", "none", "--out", "y"), "no directory none"),
    ],
)
def test_bad_options(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    from vrag_agent import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vrag", "import", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The hub's client, played by a function that makes the files."""
    calls: list[dict[str, Any]] = []

    def fetch(**asked: Any) -> str:
        calls.append(asked)
        download(Path(asked["local_dir"]))
        return str(asked["local_dir"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    return calls


def test_the_licence_is_asked_for(hub: list[dict[str, Any]], tmp_path: Path) -> None:
    arguments = ("import", "mmlongbench", "--from", tmp_path / "in", "--out", tmp_path / "out", "--download")
    refused = vrag(*arguments, input="n\n")
    assert "CC BY-NC 4.0" in refused.output and "Do you accept" in refused.output
    assert isinstance(refused.exception, IngestError) and not hub and not (tmp_path / "in").exists()
    done = vrag(*arguments, "--workers", 1, input="y\n")
    assert done.exit_code == 0 and "kept 2" in done.stdout and hub[0]["repo_id"] == "yubo2333/MMLongBench-Doc"


def test_accepted_beforehand(hub: list[dict[str, Any]], tmp_path: Path) -> None:
    said: list[str] = []
    report = run_import(
        "mmlongbench",
        tmp_path / "in",
        tmp_path / "out",
        download=True,
        accept=True,
        limit=1,
        workers=1,
        progress=False,
        say=said.append,
    )
    assert said[0].startswith("MMLongBench-Doc: CC BY-NC 4.0") and report.kept == 1 and len(hub) == 1
