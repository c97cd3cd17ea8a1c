"""The documents show the numbers of the committed results, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("colpali_engine")

from retrieval_tables import DOCUMENTS, RESULTS, ROOT, filled

SCALE = RESULTS / "scale.json"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_committed_results(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert "<!-- begin " in text
    assert filled(text) == text, f"{document.relative_to(ROOT)}: run python benchmarks/retrieval_tables.py"


def test_another_number_is_another_table(tmp_path: Path) -> None:
    text = "before <!-- begin scale -->old<!-- end scale --> after"
    assert filled(text, tmp_path) == "before <!-- begin scale -->\n\nNot measured.\n\n<!-- end scale --> after"
    runs = json.loads(SCALE.read_text(encoding="utf-8"))[:1]
    (tmp_path / "scale.json").write_text(json.dumps(runs), encoding="utf-8")
    first = filled(text, tmp_path)
    runs[0]["search"][0]["ms_median"] += 1
    (tmp_path / "scale.json").write_text(json.dumps(runs), encoding="utf-8")
    second = filled(text, tmp_path)
    assert f"{runs[0]['pages']:,} pages" in first and first != second
    assert filled(second, tmp_path) == second


def test_marks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="no table 'nonesuch'"):
        filled("<!-- begin nonesuch --><!-- end nonesuch -->")
    with pytest.raises(ValueError, match="begin followed by its end"):
        filled("<!-- begin scale --><!-- begin retrieval_speed --><!-- end scale -->")
