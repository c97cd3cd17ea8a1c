"""Table 1 from the original files of three benchmarks to its last cell, with a server that answers from a script."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import table1_main
from chat_server import ChatServer, Reply

from vrag_agent.evaluation.journal import EvaluationError
from vrag_env.datasets import import_dataset
from vrag_env.questions import Question, load_questions

sys.path.insert(0, str(Path(__file__).parents[1] / "vrag_env" / "datasets"))
from benchmark_files import write_mmlongbench, write_vidoseek

COUNTS = {
    "SlideVQA single": 1,
    "SlideVQA multi": 1,
    "ViDoSeek extraction": 1,
    "ViDoSeek logic": 2,
    "MMLB text": 1,
    "MMLB table": 1,
    "MMLB chart": 2,
    "MMLB figure": 2,
    "MMLB layout": 1,
}
"""By hand from the originals: one question has two sources; those whose documents are lost can not be asked."""
WRONG = "What do bees eat?"
"""The script of the server does not know this one: ViDoSeek, logic."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three benchmarks in their own forms, imported into one corpus as the docstring of the script says."""
    root = tmp_path_factory.mktemp("originals")
    write_vidoseek(root / "ViDoSeek")
    write_mmlongbench(root / "MMLongBench-Doc")
    out = root / "bench"
    refined = root / "ViDoSeek" / "slidevqa_refined.json"
    options: dict[str, Any] = {"subset": "vrag", "progress": False, "workers": 1, "long_side": 320}
    import_dataset("slidevqa", root / "ViDoSeek", out, questions=refined, **options)
    import_dataset("vidoseek", root / "ViDoSeek", out, **options)
    import_dataset("mmlongbench", root / "MMLongBench-Doc", out, **options)
    return out


@pytest.fixture
def server(bench: Path) -> Iterator[ChatServer]:
    """Answers by every method's own notation, from a script that knows the answers."""
    answers = {question.text: question.answer for question in load_questions(bench / "questions.json")}

    def say(_: int, body: dict[str, Any]) -> Reply:
        system = body["messages"][0]["content"]
        first = "".join(p["text"] for p in body["messages"][1]["content"] if p["type"] == "text")
        text = next(text for text in answers if text in first)
        answer = "no idea" if text == WRONG else answers[text]
        begun = any(message["role"] == "assistant" for message in body["messages"])
        if "Action: Search" in system:
            return Reply(f"Thought: a\nAction: {f'Finish[{answer}]' if begun else f'Search[{text}]'}")
        if "<think>your reasoning" in system:
            act = f"<answer>{answer}</answer>" if begun else f"<search>{text}</search>"
            return Reply(f"<think>a</think>{act}")
        if "sort pages" in system:
            return Reply("<select>1</select>")
        return Reply(f"<draft>{answer}</draft>" if "check whether" in system else f"<answer>{answer}</answer>")

    running = ChatServer()
    running.script = say
    yield running
    running.close()


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["row"]: row["cells"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


@pytest.mark.slow
def test_from_the_originals_to_every_cell(bench: Path, server: ChatServer, tmp_path: Path, capsys: Any) -> None:
    table1_main.main(
        model="Qwen/Qwen2.5-VL-7B-Instruct",
        server=server.url,
        corpus=bench,
        out=tmp_path,
        max_tokens=1024,
        batch_size=64,
    )
    rows = rows_of(tmp_path / "table1.json")
    total = len(load_questions(bench / "questions.json"))
    assert rows["questions measured"] == {**COUNTS, "Overall": total}
    assert total == 2 + 4 + 6  # one of ViDoSeek, without an answer, counts in the last column alone
    for name, label in table1_main.ROWS.items():
        cells = rows[f"Qwen2.5-VL-7B, {label}, measured"]
        assert {column: cell["questions"] for column, cell in cells.items()} == {**COUNTS, "Overall": total}, name
        right = {column: cell["value"] for column, cell in cells.items()}
        assert right["ViDoSeek logic"] == 50.0, name  # the one that the server does not know
        assert right["Overall"] == pytest.approx(100 * (total - 1) / total), name
        assert all(value == 100.0 for column, value in right.items() if column not in ("ViDoSeek logic", "Overall"))
        # The other size was not measured, and says so.
        assert set(rows[f"Qwen2.5-VL-3B, {label}, measured"].values()) == {None}
    assert rows["Qwen2.5-VL-7B, VRAG, paper"]["Overall"] == "57.1"
    assert "not measured" in capsys.readouterr().out
    # Methods on text sent no picture, the others did.
    pictures = [
        any(p["type"] == "image_url" for m in b["messages"][1:] for p in m["content"] if isinstance(p, dict))
        for b in server.bodies
    ]
    assert any(pictures) and not all(pictures)


@pytest.mark.slow
def test_started_again_it_asks_nothing_and_says_the_same(bench: Path, server: ChatServer, tmp_path: Path) -> None:
    options: dict[str, Any] = {"corpus": bench, "out": tmp_path, "method": ["vrag"], "limit": 1}
    options |= {"model": "some/other", "server": server.url, "max_tokens": 64, "batch_size": 2}
    table1_main.main(**options)
    first, asked = rows_of(tmp_path / "table1.json"), len(server.bodies)
    table1_main.main(**options)
    assert rows_of(tmp_path / "table1.json") == first and len(server.bodies) == asked > 0
    assert first["questions measured"]["Overall"] == 3  # the first of each benchmark
    assert first["other, VRAG, measured"]["Overall"]["questions"] == 3


def test_without_a_model_nothing_is_measured(tmp_path: Path) -> None:
    table1_main.main(out=tmp_path, max_tokens=64, batch_size=2)
    rows = rows_of(tmp_path / "table1.json")
    measured = [cells for name, cells in rows.items() if name.endswith("measured") and name != "questions measured"]
    assert len(measured) == 18 and all(set(cells.values()) == {None} for cells in measured)
    with pytest.raises(EvaluationError, match="unknown method none"):
        table1_main.main(out=tmp_path, method=["none"], max_tokens=64, batch_size=2)


def test_columns() -> None:
    asked = Question("q", "q", "x", source_type="Chart, Table", dataset="mmlongbench", query_type="Cross-Page")
    assert table1_main.columns_of(asked) == ["Overall", "mmlongbench:Chart", "mmlongbench:Table"]
    asked = Question("q", "q", "x", source_type="Layout", dataset="vidoseek", query_type="Multi-Hop")
    assert table1_main.columns_of(asked) == ["Overall", "vidoseek:Multi-Hop"]
