"""The page of results says what the result files say, and the published numbers are those of the paper."""

import json
from pathlib import Path

import _tables
import pytest
import results_page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_command_writes() -> None:
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page()


def test_every_result_says_how_it_was_made() -> None:
    found = 0
    for path in _tables.RESULTS.glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(result, dict) and result.get("format") == "vrag-result/1":
            found += 1
            script = result["command"].split()[1]
            assert (ROOT / script).is_file(), path.name
            assert result["seconds"] >= 0 and result["versions"]["vrag-gym"] and "seeds" in result
            for row in result["rows"]:
                assert set(row["cells"]) <= set(result["columns"]), (path.name, row["row"])
    assert found >= 5


def test_cells() -> None:
    texts = [_tables._cell_text(cell, 1) for cell in (None, "-", 3, 0.25, {"value": None})]
    assert texts == ["not measured", "-", "3", "0.2", "-"]
    assert _tables._cell_text({"value": 0.5, "low": 0.25, "high": 0.75}, 2) == "0.50 [0.25, 0.75]"


def test_published_numbers() -> None:
    paper = json.loads(_tables.PAPER.read_text(encoding="utf-8"))
    rows = {(row["backbone"][-2:], row["method"]): row["accuracy"] for row in paper["table1"]["rows"]}
    assert len(rows) == 14 and all(len(row) == 10 for row in rows.values())
    assert rows["7B", "vrag"]["Overall"] == 57.1 and rows["3B", "vanilla_rag_text"]["slidevqa:Single-Hop"] == 15.1
    # The gains that its text speaks of, of which one does not follow from its own table.
    assert rows["7B", "search_r1"]["Overall"] == 37.4
    assert [row["accuracy"] for row in paper["table2"]["rows"]] == [47.2, 49.3, 54.9, 57.1]
    assert all(paper[name]["source"] and paper[name]["doubts"] for name in ("table1", "table2", "table3"))


def test_a_result_is_written_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/some.py", "--limit", "3"])
    rows = [{"row": "a | b", "cells": {"x": {"value": 0.5, "low": None, "high": None, "questions": 2}}}]
    written = _tables.write_result(
        tmp_path / "r.json", "some", title="Some", columns=["x", "y"], rows=rows, seeds=[1], seconds=2.5, notes=["n"]
    )
    shown = _tables.result_markdown(written)
    assert "| a \\| b | 0.500 | not measured |" in shown and "- n\n" in shown
    assert "`python benchmarks/some.py --limit 3` (seeds 1, 2 s)" in shown
