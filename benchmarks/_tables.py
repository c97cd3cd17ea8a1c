"""What the scripts of the tables share: where results go, what stands in them, and the paper's numbers beside them.

A result is a JSON file in ``benchmarks/results``: the table's name, the command, the versions, seeds, duration, and
rows of numbers. :mod:`results_page` writes the tables of ``benchmarks/README.md`` from these files.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vrag_agent.evaluate import versions, write_json
from vrag_agent.evaluation.intervals import Estimate
from vrag_agent.evaluation.report import NOT_MEASURED, table
from vrag_env.errors import VRAGError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAPER = HERE / "paper_results.json"

OutOption = Annotated[Path, typer.Option(file_okay=False, help="Directory of the runs. A killed script goes on there.")]
ResultOption = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write the result here, as for benchmarks/README.md. Default: --out."),
]
SeedsOption = Annotated[list[int] | None, typer.Option("--seed", help="May be repeated.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first questions.")]


class Clock:
    """Seconds that all starts of a script have spent together, kept in the directory of its runs.

    Args:
        out: The directory.
    """

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / "seconds.json"
        self._before = json.loads(self._path.read_text()) if self._path.exists() else 0.0
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds so far, and keep them."""
        spent = float(self._before + time.perf_counter() - self._started)
        write_json(self._path, spent)
        return round(spent, 1)


def write_result(
    path: Path,
    name: str,
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    seconds: float,
    notes: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the result of a script.

    Args:
        path: The file.
        name: Name of the table, that of the script.
        title: What it shows.
        columns: Names of the columns after the first one.
        rows: Each has ``row`` (its label) and ``cells`` (by column: text, or ``value``, ``low``, ``high``,
            ``questions``).
        seeds: Seeds that are in it.
        seconds: How long all of it took.
        notes: What a reader must know.
        extra: Whatever else is worth keeping.
    """
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    result = {
        "format": "vrag-result/1",
        "name": name,
        "title": title,
        "command": command,
        "seeds": list(seeds),
        "seconds": seconds,
        "versions": versions(),
        "columns": list(columns),
        "rows": [dict(row) for row in rows],
        "notes": list(notes),
        **(extra or {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return result


def cell(found: Estimate | Mapping[str, Any], scale: float = 1.0) -> dict[str, Any]:
    """Return a cell of an estimate."""
    values = found if isinstance(found, Mapping) else vars(found)
    scaled = {name: None if values[name] is None else values[name] * scale for name in ("value", "low", "high")}
    return {**scaled, "questions": values["questions"]}


def from_summary(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a cell of a number of a run's summary."""
    low, high = summary.get("intervals", {}).get(name, [None, None])
    count = summary.get("counts", {}).get(name, summary["questions"])
    return {"value": summary.get(name), "low": low, "high": high, "questions": count}


def result_markdown(result: Mapping[str, Any], digits: int = 3) -> str:
    """Write a result as Markdown: table, notes, and how it was made."""
    rows = [
        [row["row"], *[_cell_text(row["cells"].get(column), digits) for column in result["columns"]]]
        for row in result["rows"]
    ]
    seeds = ", ".join(map(str, result["seeds"]))
    lines = [table(["", *result["columns"]], rows), "\n"]
    lines += [f"- {note}\n" for note in result["notes"]]
    seeded = f"seeds {seeds}, " if seeds else ""
    lines.append(f"\n`{result['command']}` ({seeded}{result['seconds']:.0f} s)\n")
    return "".join(lines)


def _cell_text(found: Any, digits: int) -> str:
    if found is None:
        return NOT_MEASURED
    if isinstance(found, str):
        return found
    if isinstance(found, int | float):
        return f"{found:.{digits}f}" if isinstance(found, float) else str(found)
    if found["value"] is None:
        return "-"
    text = f"{found['value']:.{digits}f}"
    if found.get("low") is not None:
        text += f" [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
    return text


def paper(section: str) -> dict[str, Any]:
    """Return a section of the published numbers, with its source and doubts."""
    found: dict[str, Any] = json.loads(PAPER.read_text(encoding="utf-8"))[section]
    return found


def run(main: Any) -> None:
    """Run a script: bad input ends with a message, not with a traceback."""
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command(help=sys.modules[main.__module__].__doc__)(main)
    try:
        application()
    except VRAGError as fault:
        print(f"{Path(sys.argv[0]).stem}: {fault}", file=sys.stderr)
        raise SystemExit(2) from fault
