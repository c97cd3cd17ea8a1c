"""A run as a folder of pages: a list that can be filtered, and one page per episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vrag_env.actions import Invalid
from vrag_env.replay.document import document, number, text
from vrag_env.replay.page import record_html
from vrag_env.replay.pictures import Images
from vrag_env.replay.record import EpisodeRecord
from vrag_env.replay.scripts import FILTER

LONGEST = 400


def write_run(
    directory: str | Path,
    records: Sequence[EpisodeRecord],
    images: Images,
    title: str = "VRAG run",
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write ``index.html``, the list of a run's episodes, and ``episodes/NNNNN.html`` for each of them.

    Args:
        directory: Where to; made if it does not exist.
        records: The episodes, of one policy or of several.
        images: Draws their views.
        title: Title of the list.
        progress: Called with 1 after each page.

    Returns:
        The path of the list.
    """
    root = Path(directory)
    (root / "episodes").mkdir(parents=True, exist_ok=True)
    names = [f"{number:05d}.html" for number in range(1, len(records) + 1)]
    for name, record in zip(names, records, strict=True):
        page = record_html(record, images, f"{record.policy or title}: {record.question.question_id}")
        (root / "episodes" / name).write_text(page, encoding="utf-8")
        if progress is not None:
            progress(1)
    index = root / "index.html"
    index.write_text(run_html(records, [f"episodes/{name}" for name in names], title), encoding="utf-8")
    return index


def run_html(records: Sequence[EpisodeRecord], links: Sequence[str], title: str) -> str:
    """Return the list of a run's episodes.

    Args:
        records: The episodes.
        links: Where the page of each lies, relative to the list.
        title: Title of the list.
    """
    rows = "".join(_row(record, link) for record, link in zip(records, links, strict=True))
    policies = sorted({record.policy for record in records})
    types = sorted({kind for record in records for kind in question_types(record)})
    turns = sorted({len(record.turns) for record in records})
    outcomes = [each for each in ("right", "wrong", "no answer", "running") if any(r.outcome == each for r in records)]
    filters = (
        _select("outcome", "Outcome", outcomes)
        + (_select("policy", "Policy", policies) if len(policies) > 1 else "")
        + _select("type", "Type", types)
        + _select("turns", "Turns", [str(count) for count in turns])
        + '<label><input type="checkbox" name="invalid"> with invalid turns</label>'
        + '<label>Words <input type="search" name="words"></label>'
    )
    head = "".join(
        f"<th>{name}</th>"
        for name in ("Question", "Policy", "Outcome", "Answer", "Reference", "Type", "Turns", "Invalid", "Return")
    )
    heading = text(title, LONGEST)
    right = sum(record.is_success for record in records)
    body = (
        f'<p class="kicker">{heading}</p>\n<h1><span id="shown">{len(records)}</span> of {len(records)} episodes</h1>\n'
        f'<p class="faint">{right} of {len(records)} were judged right.</p>\n'
        f'<div class="filters">{filters}</div>\n'
        f'<section><div class="scroll"><table class="run"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></section>"
    )
    return document(heading, body, FILTER)


def question_types(record: EpisodeRecord) -> list[str]:
    """The types of the question: its sources, its kind, and whether it can be answered at all."""
    question = record.question
    sources = [part.strip() for part in question.source_type.split(",") if part.strip()]
    return [
        *sources,
        *([question.query_type] if question.query_type else []),
        *([] if question.answerable else ["Unanswerable"]),
    ]


def _row(record: EpisodeRecord, link: str) -> str:
    invalid = sum(isinstance(turn.action, Invalid) for turn in record.turns)
    types = question_types(record)
    data = (
        f'data-outcome="{record.outcome}" data-policy="{text(record.policy, LONGEST)}" '
        f'data-types="{text(chr(10).join(types), LONGEST)}" data-turns="{len(record.turns)}" '
        f'data-invalid="{invalid}"'
    )
    answer = "&ndash;" if record.answer is None else text(record.answer, 80)
    return (
        f'<tr {data}><td><a href="{link}">{text(record.question.text, 160)}</a></td>'
        f'<td>{text(record.policy, 60)}</td><td class="{record.outcome.replace(" ", "-")}">{record.outcome}</td>'
        f"<td>{answer}</td><td>{text(record.question.answer, 80)}</td><td>{text(', '.join(types), 80)}</td>"
        f'<td class="number">{len(record.turns)}</td><td class="number">{invalid}</td>'
        f'<td class="number">{number(record.total_reward)}</td></tr>\n'
    )


def _select(name: str, label: str, values: Sequence[str]) -> str:
    options = "".join(f'<option value="{text(value, LONGEST)}">{text(value, LONGEST)}</option>' for value in values)
    return f'<label>{label} <select name="{name}"><option value="">any</option>{options}</select></label>'
