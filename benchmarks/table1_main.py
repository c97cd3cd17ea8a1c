r"""Table 1 of VRAG-RL: seven methods on SlideVQA, ViDoSeek and MMLongBench-Doc, by every column of the paper.

What it reproduces: accuracy of Vanilla RAG, ReAct and Search-R1, each on text and on page images, and of the loop
of VRAG-RL, on the questions of the three benchmarks against one pooled corpus; the published numbers stand beside.
ViDoRAG-style and evidence-first prompts are two rows more.

What it needs: the three benchmarks, imported into one corpus, each with ``--subset vrag``, and a model: a server
that speaks OpenAI's protocol, or weights that are loaded here. Rows on text use the pages' text layer; import with
``--ocr auto`` for slides that are pictures.

    vrag import slidevqa    --from downloads/ViDoSeek --subset vrag --out runs/bench \
        --questions downloads/ViDoSeek/slidevqa_refined.json
    vrag import vidoseek    --from downloads/ViDoSeek --subset vrag --out runs/bench
    vrag import mmlongbench --from downloads/MMLongBench-Doc --subset vrag --out runs/bench

Full run; the model's own size says which rows of the paper stand beside it. Time: not measured. The methods make
about four calls per question, so 4,009 questions and nine methods are some 150,000 calls (by arithmetic):

    vllm serve Qwen/Qwen2.5-VL-7B-Instruct --limit-mm-per-prompt.image 10
    python benchmarks/table1_main.py --model Qwen/Qwen2.5-VL-7B-Instruct --server http://localhost:8000/v1 \
        --retriever colqwen2.5 --judge api:qwen-max@https://example.org/v1 --judge rule

The row of the trained agent: the same with ``--model runs/train/checkpoint --method native``. Small run, in
minutes: the same with ``--limit 20``, which takes the first questions of each benchmark. Without ``--model`` it
prints the published numbers and "not measured".

Killing it and starting it again goes on where it was and gives the same table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from _tables import Clock, OutOption, ResultOption, SeedsOption, paper, result_markdown, run, write_result

from vrag_agent.commands import make_env
from vrag_agent.evaluation.journal import EvaluationError
from vrag_agent.evaluation.policies import NATIVE, load_model, methods, with_method
from vrag_agent.evaluation.run import evaluate_policy, slug
from vrag_env.questions import Question

COLUMNS = {
    "slidevqa:Single-Hop": "SlideVQA single",
    "slidevqa:Multi-Hop": "SlideVQA multi",
    "vidoseek:Single-Hop": "ViDoSeek extraction",
    "vidoseek:Multi-Hop": "ViDoSeek logic",
    "mmlongbench:Text": "MMLB text",
    "mmlongbench:Table": "MMLB table",
    "mmlongbench:Chart": "MMLB chart",
    "mmlongbench:Figure": "MMLB figure",
    "mmlongbench:Layout": "MMLB layout",
    "Overall": "Overall",
}
ROWS = {
    "vanilla_rag_text": "OCR Vanilla RAG",
    "react_text": "OCR ReAct",
    "search_r1_text": "OCR Search-R1",
    "vanilla_rag": "Vanilla RAG",
    "react": "ReAct",
    "search_r1": "Search-R1-VL",
    "vrag": "VRAG",
    "vidorag": "ViDoRAG-style",
    "evidence_first": "evidence first",
}


def columns_of(question: Question) -> list[str]:
    """Return the columns in which a question counts; SlideVQA and ViDoSeek by hops, MMLongBench-Doc by sources."""
    if question.dataset == "mmlongbench":
        kinds = [kind.strip() for kind in question.source_type.split(",")]
    else:
        kinds = [question.query_type]
    return ["Overall", *[name for kind in kinds if (name := f"{question.dataset}:{kind}") in COLUMNS]]


def first_of_each(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """Return the first questions of each benchmark."""
    taken: dict[str, int] = {}
    chosen = []
    for question in questions:
        taken[question.dataset] = taken.get(question.dataset, 0) + 1
        if limit is None or taken[question.dataset] <= limit:
            chosen.append(question)
    return chosen


def size_of(model: str) -> str | None:
    """Return which backbone of the paper a model is, by its name; ``None`` if it is neither."""
    return next((size for size in ("Qwen2.5-VL-3B", "Qwen2.5-VL-7B") if size.lower() in model.lower()), None)


def main(
    model: Annotated[str | None, typer.Option(help="A model's name, or a checkpoint's directory.")] = None,
    server: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server that has it.")] = None,
    corpus: Annotated[Path, typer.Option(help="The corpus that 'vrag import' made.")] = Path("runs/bench"),
    questions: Annotated[Path | None, typer.Option(help="Default: questions.json of the corpus.")] = None,
    retriever: Annotated[str, typer.Option(help="As for 'vrag eval'.")] = "lexical",
    judge: Annotated[list[str] | None, typer.Option(help="As for 'vrag eval'; may be repeated.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only these rows; may be repeated.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Pages of the methods that search once.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a reply.")] = 1024,
    batch_size: Annotated[int, typer.Option(min=1, help="Episodes at the same time.")] = 64,
    seeds: SeedsOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions of each benchmark.")] = None,
    out: OutOption = Path("runs/table1"),
    result: ResultOption = None,
) -> None:
    """Evaluate a model by every method and print the table."""
    clock = Clock(out)
    chosen = method or list(ROWS)
    unknown = sorted(set(chosen) - {*ROWS, *methods()})
    if unknown:
        raise EvaluationError(f"unknown method {', '.join(unknown)}: choose from {', '.join((*ROWS, NATIVE))}")
    summaries: dict[str, Mapping[str, Any]] = {}
    if model is not None:
        loaded = load_model(model, server, max_tokens=max_tokens)
        asked = questions if questions is not None else corpus / "questions.json"
        for name in chosen:
            plain, pages = name.removesuffix("_text"), "text" if name.endswith("_text") else "image"
            picked = with_method(loaded, plain, pages, top_k)
            env = make_env({**picked.env_options, "corpus": corpus, "questions": asked, "retriever": retriever})
            summaries[name] = evaluate_policy(
                picked.policy,
                env,
                out / slug(name),
                questions=first_of_each(env.questions, limit),
                seeds=seeds or [0],
                judges=judge or ["rule"],
                batch_size=batch_size,
                retriever=retriever,
                types=columns_of,
            )
    published = {(row["backbone"], row["method"]): row["accuracy"] for row in paper("table1")["rows"]}
    size = None if model is None else size_of(model)
    rows = []
    for backbone in ("Qwen2.5-VL-3B", "Qwen2.5-VL-7B"):
        for name in ROWS:
            if (backbone, name) in published:
                cells: dict[str, Any] = {
                    label: f"{published[backbone, name][column]:.1f}" for column, label in COLUMNS.items()
                }
                rows.append({"row": f"{backbone}, {ROWS[name]}, paper", "cells": cells})
            if size != backbone or name not in summaries:
                rows.append({"row": f"{backbone}, {ROWS[name]}, measured", "cells": dict.fromkeys(COLUMNS.values())})
            else:
                rows.append({"row": f"{backbone}, {ROWS[name]}, measured", "cells": cells_of(summaries[name])})
    if size is None:
        rows += [
            {"row": f"{Path(model or '').name}, {ROWS.get(name, name)}, measured", "cells": cells_of(summary)}
            for name, summary in summaries.items()
        ]
    counts: dict[str, Any] = {label: "-" for label in COLUMNS.values()}
    for summary in summaries.values():
        found = summary["by_type"]
        counts = {label: found[column]["questions"] if column in found else 0 for column, label in COLUMNS.items()}
    rows.append({"row": "questions measured", "cells": counts})
    notes = [f"Paper: {paper('table1')['source']}. Accuracy in %.", *paper("table1")["doubts"][:2]]
    if summaries:
        judges = list(next(iter(summaries.values()))["judges"])
        notes.append(f"Measured: judge {judges[0]}, retriever {retriever}; in brackets the 95 % interval.")
    written = write_result(
        result or out / "table1.json",
        "table1_main",
        title="Main results",
        columns=list(COLUMNS.values()),
        rows=rows,
        seeds=(seeds or [0]) if model is not None else [],
        seconds=clock.seconds(),
        notes=notes,
    )
    print(result_markdown(written, 1))


def cells_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a row, in per cent; a column without questions is not measured."""
    cells: dict[str, Any] = {}
    for column, label in COLUMNS.items():
        found = summary["by_type"].get(column)
        if found is None:
            cells[label] = None
            continue
        low, high = found["intervals"].get("accuracy", [None, None])
        scaled = [None if value is None else 100 * value for value in (found["accuracy"], low, high)]
        cells[label] = dict(zip(("value", "low", "high"), scaled, strict=True)) | {"questions": found["questions"]}
    return cells


if __name__ == "__main__":
    run(main)
