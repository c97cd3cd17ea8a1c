"""Writes the tables of the committed results into the documents that show them, so that no number is copied by hand.

What it does: between the lines ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` of ``benchmarks/README.md`` and
``docs/scale.md`` stands what this command makes of a JSON file in ``benchmarks/results``. Run it after a
measurement; with ``--check`` it only says whether they are up to date, as a test does.

    python benchmarks/retrieval_tables.py
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import scale
import typer
from _quality_report import quality_tables
from _speed_report import speed_tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "scale.md")
TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "retrieval_speed": ("retrieval_speed.json", speed_tables),
    "retrieval_quality": ("retrieval_quality.json", quality_tables),
    "scale": ("scale.json", lambda runs: "\n\n".join(scale.report(run) for run in runs)),
}


def filled(text: str, results: Path = RESULTS) -> str:
    """Return a document with its tables made anew.

    Args:
        text: Markdown with pairs of marks around each table.
        results: Directory of the JSON files; a table whose file is not there says that it was not measured.

    Raises:
        ValueError: If a mark has a name that no table has, or has no other end.
    """

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        file, make = TABLES[name]
        path = results / file
        body = make(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else "Not measured."
        return f"<!-- begin {name} -->\n\n{body}\n\n<!-- end {name} -->"

    marks = re.findall(r"<!-- (begin|end) (\w+) -->", text)
    if [("begin", name) for _, name in marks[1::2]] != marks[::2] or any(end != "end" for end, _ in marks[1::2]):
        raise ValueError(f"expected every begin followed by its end, got {marks}")
    return re.sub(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", table, text, flags=re.DOTALL)


def main(
    check: Annotated[bool, typer.Option(help="Change nothing; exit with 1 if a table is not current.")] = False,
) -> None:
    """Bring the tables in the documents up to the committed results."""
    stale = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            stale.append(document.relative_to(ROOT))
            if not check:
                document.write_text(new, encoding="utf-8")
    print(
        f"{'not current' if check else 'written'}: {', '.join(map(str, stale))}" if stale else "all tables are current"
    )
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    application()
