r"""Figure 3 of VRAG-RL: accuracy against the number of pages that are shown at once, with noise and as an upper bound.

What it reproduces: a reader is shown 1 to 6 pages after one search. "Noise" is what the retriever ranks first,
wrong pages included; "upper bound" is the gold pages alone, at most so many. The paper's own numbers can not be
read off its figure (``paper_results.json`` has the seven labels and no places).

Full run, on a GPU server (two times six runs with one call per question; time not measured):

    python benchmarks/fig3_reference_images.py --model Qwen/Qwen2.5-VL-7B-Instruct --server http://localhost:8000/v1 \
        --corpus runs/bench --questions runs/bench/questions.json --retriever colqwen2.5

Small run, a minute on two cores: a reader without a model (the words of a page nearest to the question's) over the
built-in world:

    python benchmarks/fig3_reference_images.py
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from _tables import Clock, LimitOption, OutOption, ResultOption, from_summary, result_markdown, run, write_result

from vrag_agent.commands import make_env
from vrag_agent.evaluation.policies import Chosen, load_model, with_method
from vrag_agent.evaluation.protocol import ScriptedPolicy
from vrag_agent.evaluation.run import evaluate_policy
from vrag_agent.plots import figure_of
from vrag_env.episode import EpisodeConfig
from vrag_env.questions import Question
from vrag_env.retrieval import Hit

COUNTS = (1, 2, 3, 4, 5, 6)


class GoldPages:
    """A retriever that knows which pages carry the answer of a question, asked by its own text.

    Args:
        questions: The questions.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._pages: dict[str, tuple[str, ...]] = {
            " ".join(question.text.split()): question.gold_pages for question in questions
        }

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Return the gold pages; nothing for another query."""
        found = [self._pages.get(" ".join(query.split()), ()) for query in queries]
        return [[Hit(page, 1.0 / place) for place, page in enumerate(pages[:k], 1)] for pages in found]


class Reader(ScriptedPolicy):
    """Searches once and answers from so many pages without a model."""

    def __init__(self, pages: int) -> None:
        super().__init__("retrieve_then_answer", label=f"reader of {pages}")
        self._pages = pages

    def rules(self, config: EpisodeConfig) -> EpisodeConfig:
        """Show so many pages at once."""
        return replace(config, max_turns=1, pages_per_search=self._pages)


def main(
    model: Annotated[str | None, typer.Option(help="A model's name. Default: a reader without a model.")] = None,
    server: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server that has it.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="A corpus. Default: the built-in world.")] = None,
    questions: Annotated[Path | None, typer.Option(help="Its questions.")] = None,
    retriever: Annotated[str, typer.Option(help="As for 'vrag eval'.")] = "lexical",
    judge: Annotated[list[str] | None, typer.Option(help="As for 'vrag eval'; may be repeated.")] = None,
    limit: LimitOption = None,
    out: OutOption = Path("runs/fig3"),
    result: ResultOption = None,
) -> None:
    """Evaluate with 1 to 6 pages, twice, and draw both lines."""
    clock = Clock(out)
    loaded = None if model is None else load_model(model, server)
    given = {"corpus": corpus, "questions": questions}
    rows: list[dict[str, Any]] = []
    for count in COUNTS:
        chosen = Chosen(Reader(count)) if loaded is None else with_method(loaded, "vanilla_rag", "image", count)
        cells: dict[str, Any] = {}
        for label in ("noise", "upper bound"):
            env = make_env({**chosen.env_options, **{k: v for k, v in given.items() if v}, "retriever": retriever})
            asked = [question for question in env.questions if question.gold_pages][:limit]
            if label == "upper bound":
                env.retriever = GoldPages(asked)
            summary = evaluate_policy(
                chosen.policy,
                env,
                out / f"{label.replace(' ', '-')}-{count}",
                questions=asked,
                judges=judge or ["rule"],
                retriever=retriever if label == "noise" else "gold",
            )
            cells[label] = from_summary(summary, "accuracy")
            if label == "noise":
                cells["recall of the pages"] = from_summary(summary, "shown_recall")
        rows.append({"row": str(count), "cells": cells})
    who = "a reader without a model" if model is None else Path(model).name
    written = write_result(
        result or out / "fig3.json",
        "fig3_reference_images",
        title="Accuracy against the number of pages shown at once",
        columns=["noise", "upper bound", "recall of the pages"],
        rows=rows,
        seeds=[0],
        seconds=clock.seconds(),
        notes=[f"{who}, {rows[0]['cells']['noise']['questions']} questions with gold pages, retriever {retriever}"],
    )
    draw(out / "fig3.png", rows, who)
    print(result_markdown(written))


def draw(path: Path, rows: Sequence[dict[str, Any]], who: str) -> None:
    """Draw both lines with their intervals."""
    figure = figure_of(5.5, 4)
    axes = figure.subplots()
    counts = [int(row["row"]) for row in rows]
    for label, colour in (("noise", "#d1495b"), ("upper bound", "#1b6ca8")):
        cells = [row["cells"][label] for row in rows]
        values = [cell["value"] for cell in cells]
        low, high = [cell["low"] or 0 for cell in cells], [cell["high"] or 1 for cell in cells]
        axes.plot(counts, values, marker="o", color=colour, label=label)
        axes.fill_between(counts, low, high, color=colour, alpha=0.15)
    axes.set(xlabel="pages shown", ylabel="accuracy, 95 % interval", ylim=(0, 1), title=who.replace("$", r"\$"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run(main)
