"""Tables of a run: as text for the terminal, as Markdown for a paper, and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrag_agent.evaluation.measures import METRICS

HEADLINE = ("accuracy", "mean_reward", "retrieval_ndcg", "invalid_rate", "finish_rate", "mean_turns")
"""The columns of the table in the terminal."""
NOT_MEASURED = "not measured"


def text_table(summary: Mapping[str, Any]) -> str:
    """Write the numbers of an evaluation as a text table, one type a line."""
    lines = [f"{'':20}" + "".join(f"{name:>16}" for name in ("questions", *HEADLINE))]
    for label, row in {"all": summary, **summary["by_type"]}.items():
        cells = "".join(f"{_number(row.get(name), 3):>16}" for name in HEADLINE)
        lines.append(f"{label:20}{row['questions']:>16}{cells}")
    retrieval = summary["retrieval"]
    if retrieval:
        found = ", ".join(f"{name} {value:.3f}" for name, value in retrieval.items() if name != "questions")
        lines.append(f"direct retrieval over {retrieval['questions']} questions: {found}")
    for pair in summary.get("agreement", ()):
        lines.append(
            f"{pair['judges'][0]} and {pair['judges'][1]} agree on {_number(pair['agreement'], 3)} of "
            f"{pair['answers']} answers, kappa {_number(pair['kappa'], 3)}"
        )
    if summary["wrong"]:
        shown = ", ".join(summary["wrong"][:10])
        more = len(summary["wrong"]) - 10
        lines.append(f"not judged right: {shown}{f' and {more} more' if more > 0 else ''}")
    return "\n".join(lines)


def markdown(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Write runs on the same questions as Markdown: the numbers of each, then accuracy by type, then the judges."""
    names = [name for name in METRICS if any(run.get(name) is not None for run in summaries)]
    label = [run["policy"] for run in summaries]
    head = f"{summaries[0]['questions']} questions, seeds {', '.join(map(str, summaries[0]['seeds']))}"
    parts = [f"{head}. In brackets: 95 % bootstrap interval over questions.\n"]
    rows = [
        [f"{name}", *[with_interval(run, name) for run in summaries], METRICS[name].meaning]
        for name in names
        if name != "seconds"  # differs from run to run; it is in summary.json
    ]
    parts.append(table(["", *label, "meaning"], rows))
    types = sorted({name for run in summaries for name in run["by_type"]})
    if types:
        rows = [
            [
                name,
                str(next(run["by_type"][name]["questions"] for run in summaries if name in run["by_type"])),
                *[with_interval(run["by_type"].get(name, {}), "accuracy") for run in summaries],
            ]
            for name in types
        ]
        parts += ["Accuracy by type; a question may count under several:\n", table(["type", "questions", *label], rows)]
    retrieval = summaries[0]["retrieval"]
    if retrieval:
        rows = [[name, _number(value, 3)] for name, value in retrieval.items() if name != "questions"]
        parts += [
            f"The retriever with the questions themselves as queries, {retrieval['questions']} questions:\n",
            table(["", "direct retrieval"], rows),
        ]
    if len(summaries[0]["judges"]) > 1:
        parts += ["Judges:\n", _judges(summaries)]
    return "\n".join(parts)


def _judges(summaries: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for run in summaries:
        for name, found in run["judges"].items():
            rows.append([run["policy"], name, _bracketed(found["accuracy"], found["interval"], 3), found["unjudged"]])
        for pair in run["agreement"]:
            said = f"agree on {_number(pair['agreement'], 3)}, kappa {_number(pair['kappa'], 3)}"
            rows.append([run["policy"], " and ".join(pair["judges"]), said, pair["unjudged"]])
    return table(["policy", "judge", "accuracy", "without a verdict"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a Markdown table, the first column left, the others right; text in it can not break it."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(_cell(value) for value in line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def with_interval(row: Mapping[str, Any], name: str, scale: float = 1.0, digits: int | None = None) -> str:
    """Write a number with its interval in brackets, or ``-`` where there is none."""
    interval = row.get("intervals", {}).get(name, [None, None])
    return _bracketed(row.get(name), interval, METRICS[name].digits if digits is None else digits, scale)


def _bracketed(value: float | None, interval: Sequence[float | None], digits: int, scale: float = 1.0) -> str:
    if value is None:
        return "-"
    low, high = interval
    if low is None or high is None:
        return _number(value * scale, digits)
    return f"{_number(value * scale, digits)} [{_number(low * scale, digits)}, {_number(high * scale, digits)}]"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plot_accuracy(path: Path, summaries: Sequence[Mapping[str, Any]]) -> None:
    """Draw accuracy with its intervals: one group of bars per type, one bar per run.

    Raises:
        DependencyError: If matplotlib is not installed.
    """
    from vrag_agent.plots import figure_of

    types = sorted({name for run in summaries for name in run["by_type"]})
    groups = ["all", *types]
    figure = figure_of(max(5.0, 1.5 + len(groups) * (0.5 + 0.35 * len(summaries))), 4.2)
    axes = figure.subplots()
    width = 0.8 / len(summaries)
    for place, run in enumerate(summaries):
        rows = [run, *[run["by_type"].get(name, {}) for name in types]]
        values = [row.get("accuracy") or 0.0 for row in rows]
        ends = [
            row.get("intervals", {}).get("accuracy", [value, value]) for row, value in zip(rows, values, strict=True)
        ]
        errors = [
            [value - low for value, (low, _) in zip(values, ends, strict=True)],
            [high - value for value, (_, high) in zip(values, ends, strict=True)],
        ]
        centres = [index + (place - (len(summaries) - 1) / 2) * width for index in range(len(groups))]
        axes.bar(centres, values, width * 0.92, yerr=errors, capsize=2, label=run["policy"], error_kw={"linewidth": 1})
    counts = [summaries[0]["questions"], *[_count(summaries, name) for name in types]]
    labels = [f"{name}\nn = {count}" for name, count in zip(groups, counts, strict=True)]
    axes.set_xticks(range(len(groups)), [label.replace("$", r"\$") for label in labels], fontsize=8)
    axes.set(ylim=(0, 1.05), ylabel="accuracy, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(path, dpi=110)


def _count(summaries: Sequence[Mapping[str, Any]], name: str) -> int:
    return next(run["by_type"][name]["questions"] for run in summaries if name in run["by_type"])
