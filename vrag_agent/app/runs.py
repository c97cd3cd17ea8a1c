"""The part of the page for recorded runs: filter them, open an episode, compare two policies on one question."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr

from vrag_agent.app.drawing import frame, status
from vrag_env.actions import Invalid
from vrag_env.corpus import Corpus
from vrag_env.errors import VRAGError
from vrag_env.replay import EpisodeRecord, comparison_html, corpus_images, read_records, record_html
from vrag_env.replay.run import question_types

EPISODES = "episodes.jsonl"
MOST_EPISODES = 5_000
"""Most episodes of one run that the page reads."""
OUTCOMES = ("right", "wrong", "no answer")
ANY, NONE = "any", "none"


def runs_in(root: Path) -> dict[str, Path]:
    """Find the runs below a directory: files of episodes, by the name of their directory relative to it."""
    found = sorted(root.glob(f"**/{EPISODES}"))
    return {str(path.parent.relative_to(root)) if path.parent != root else root.name: path for path in found}


def read_run(path: Path) -> tuple[EpisodeRecord, ...]:
    """Read the episodes of a run; a file that has not changed is read once."""
    return _read(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int) -> tuple[EpisodeRecord, ...]:
    return tuple(islice(read_records(path), MOST_EPISODES))


def pick(
    records: Sequence[EpisodeRecord], outcome: str = ANY, kind: str = ANY, turns: str = ANY, invalid: bool = False
) -> list[int]:
    """Return the positions of the episodes that pass the filters."""
    return [
        position
        for position, record in enumerate(records)
        if outcome in (ANY, record.outcome)
        and (kind == ANY or kind in question_types(record))
        and turns in (ANY, str(len(record.turns)))
        and (not invalid or any(isinstance(turn.action, Invalid) for turn in record.turns))
    ]


def runs_tab(root: Path, corpus: Corpus) -> None:
    """Add the controls and what they do.

    Args:
        root: Where the runs are; nothing outside of it can be opened.
        corpus: What they were played on.
    """
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            run = gr.Dropdown([], label="Run", elem_id="run")
            other = gr.Dropdown([NONE], value=NONE, label="Compare with", elem_id="other")
            with gr.Row():
                outcome = gr.Dropdown([ANY, *OUTCOMES], value=ANY, label="Outcome", min_width=120, elem_id="outcome")
                kind = gr.Dropdown([ANY], value=ANY, label="Type", min_width=120)
                turns = gr.Dropdown([ANY], value=ANY, label="Turns", min_width=120)
            invalid = gr.Checkbox(False, label="with invalid turns")
            episode = gr.Dropdown([], label="Episode", filterable=True, elem_id="choose-episode")
            show = gr.Button("Show", variant="primary", elem_id="show-episode")
            told = gr.HTML(status("Choose a run."), elem_id="runs-told")
        with gr.Column(scale=3, min_width=320):
            page = gr.HTML("", elem_id="replay")

    def records_of(name: str | None) -> tuple[EpisodeRecord, ...]:
        runs = runs_in(root)
        if not runs:
            raise VRAGError(f"no run has been recorded below {root.name}: make one with 'vrag eval --out ...'")
        if name not in runs:
            raise VRAGError("choose a run first")
        return read_run(runs[name])

    def refresh(chosen: str | None, second: str) -> tuple[Any, Any]:
        names = list(runs_in(root))
        return (
            gr.Dropdown(names, value=chosen if chosen in names else (names[0] if names else None)),
            gr.Dropdown([NONE, *names], value=second if second in names else NONE),
        )

    def chosen(name: str | None) -> tuple[Any, Any]:
        try:
            records = records_of(name)
        except VRAGError:
            return gr.skip(), gr.skip()  # 'Show' says what is wrong
        kinds = sorted({each for record in records for each in question_types(record)})
        lengths = sorted({len(record.turns) for record in records})
        return gr.Dropdown([ANY, *kinds], value=ANY), gr.Dropdown([ANY, *map(str, lengths)], value=ANY)

    def narrow(name: str | None, *filters: Any) -> tuple[Any, Any]:
        try:
            records = records_of(name)
        except VRAGError as error:
            return gr.Dropdown([], value=None), status(str(error), bad=True)
        fits = pick(records, *filters)
        labels = [(_label(records[position]), position) for position in fits]
        right = sum(records[position].is_success for position in fits)
        said = status(f"{len(fits)} of {len(records)} episodes, {right} of them right.")
        return gr.Dropdown(labels, value=fits[0] if fits else None), said

    def draw(name: str | None, second: str, position: int | None) -> tuple[Any, Any]:
        try:
            records = records_of(name)
            if position is None or not 0 <= position < len(records):
                raise VRAGError("no episode passes the filters: widen them")
            record = records[position]
            missing = [page for page in record.pages_shown if not corpus.has_page(page)]
            if missing:
                raise VRAGError(f"the documents here have no page {missing[0]!r}: start the page on the run's --corpus")
            images = corpus_images(corpus)
            if second == NONE:
                return frame(record_html(record, images, str(name)), "The episode"), gr.skip()
            same = [r for r in records_of(second) if r.question.question_id == record.question.question_id]
            if not same:
                raise VRAGError(f"{second} has no episode of question {record.question.question_id!r}")
            both = comparison_html(record, same[0], images, (str(name), second))
            return frame(both, "Two episodes"), gr.skip()
        except VRAGError as error:
            return gr.skip(), status(str(error), bad=True)

    private: Any = {"api_visibility": "private"}
    filters = [run, outcome, kind, turns, invalid]
    for event in (run.focus, other.focus):
        event(refresh, [run, other], [run, other], **private)
    run.change(chosen, run, [kind, turns], **private).then(narrow, filters, [episode, told], **private)
    for control in (outcome, kind, turns, invalid):
        control.input(narrow, filters, [episode, told], **private)
    gr.on([show.click, episode.input], draw, [run, other, episode], [page, told], **private)


def _label(record: EpisodeRecord) -> str:
    return f"{record.outcome}: {record.question.text[:120]} ({record.question.question_id})"
