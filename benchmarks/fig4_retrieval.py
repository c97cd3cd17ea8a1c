r"""Figure 4 of VRAG-RL: recall of the queries that an agent writes, against the questions themselves as queries.

What it reproduces: Recall@1, and what the figure leaves out: @5, @10 and MRR. An agent's queries are put to the
retriever again, each to a depth of 10. "First query" is the agent's first search; "all queries" counts a gold page
as found when any of its searches ranks it among the first k, so that more searches can only help. Questions without
a search count as not found. The paper's figure has bars without numbers.

Full run: ``vrag eval`` of each agent first, then (seconds, or as long as the retriever takes):

    python benchmarks/fig4_retrieval.py --run runs/vrag --run runs/react --corpus runs/bench \
        --questions runs/bench/questions.json --retriever colqwen2.5

Small run, a minute on two cores: the scripted players over the built-in world.

    python benchmarks/fig4_retrieval.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _runs import CorpusOption, QuestionsOption, RetrieverOption, RunsOption, open_env, runs_or_players
from _tables import Clock, LimitOption, OutOption, ResultOption, cell, result_markdown, run, write_result

from vrag_agent.evaluation.compare import Finished
from vrag_agent.evaluation.intervals import ratio
from vrag_env.questions import Question
from vrag_env.retrieval import Retriever
from vrag_env.retrieval.metrics import mrr_at_k, recall_at_k

DEPTH = 10
COLUMNS = ("recall@1", "recall@5", "recall@10", "mrr@10")
Ranking = Sequence[str]


def queries_of(finished: Finished) -> dict[str, list[str]]:
    """Return the queries of the first seed, in order, by question."""
    seed = min(seed for seed, _ in finished.rows)
    return {
        question_id: [turn["action"]["query"] for turn in row["turns"] if turn["action"]["type"] == "search"]
        for (own, question_id), row in finished.rows.items()
        if own == seed
    }


def rank(retriever: Retriever, asked: Sequence[tuple[Question, str]]) -> list[Ranking]:
    """Put every query to the retriever, one call for each set of documents."""
    found: dict[int, Ranking] = {}
    scopes: dict[tuple[str, ...] | None, list[int]] = {}
    for place, (question, _) in enumerate(asked):
        scopes.setdefault(question.scope, []).append(place)
    for scope, places in scopes.items():
        hits = retriever.search([asked[place][1] for place in places], DEPTH, scope)
        found |= {place: [hit.page_id for hit in ranked] for place, ranked in zip(places, hits, strict=True)}
    return [found[place] for place in range(len(asked))]


def cells_of(questions: Sequence[Question], rankings: Mapping[str, Sequence[Ranking]]) -> dict[str, Any]:
    """Return the cells of a row: over the questions, by the union of what their queries found."""

    def mean(value: Callable[[Question, Ranking], float], best: bool) -> dict[str, Any]:
        values = []
        for question in questions:
            found = [value(question, ranking) for ranking in rankings[question.question_id]]
            values.append(max(found, default=0.0) if best else 0.0)
        return cell(ratio(values, [1.0] * len(values)))

    cells = {}
    for k in (1, 5, 10):
        values = []
        for question in questions:
            union = {page for ranking in rankings[question.question_id] for page in ranking[:k]}
            values.append(recall_at_k(sorted(union), question.gold_pages, max(1, len(union))) if union else 0.0)
        cells[f"recall@{k}"] = cell(ratio(values, [1.0] * len(values)))
    cells["mrr@10"] = mean(lambda question, ranking: mrr_at_k(ranking, question.gold_pages, DEPTH), True)
    return cells


def main(
    runs: RunsOption = None,
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    limit: LimitOption = None,
    out: OutOption = Path("runs/fig4"),
    result: ResultOption = None,
) -> None:
    """Put the queries of agents to the retriever again, and print how good they were."""
    clock = Clock(out)
    env = open_env(corpus, questions, retriever)
    agents = {name: queries_of(found) for name, found in runs_or_players(runs, env, out, limit).items()}
    asked = [
        question
        for question in env.questions[:limit]
        if question.gold_pages and all(question.question_id in queries for queries in agents.values())
    ]
    direct = rank(env.retriever, [(question, question.text) for question in asked])
    rankings = {question.question_id: [found] for question, found in zip(asked, direct, strict=True)}
    rows = [{"row": "direct retrieval", "cells": {**cells_of(asked, rankings), "queries": 1.0}}]
    for name, queries in agents.items():
        pairs = [(question, query) for question in asked for query in queries[question.question_id]]
        found = iter(rank(env.retriever, pairs))
        by_question = {question.question_id: [next(found) for _ in queries[question.question_id]] for question in asked}
        first = {question_id: ranked[:1] for question_id, ranked in by_question.items()}
        mean = len(pairs) / len(asked)
        rows.append({"row": f"{name}, first query", "cells": {**cells_of(asked, first), "queries": "-"}})
        rows.append({"row": f"{name}, all queries", "cells": {**cells_of(asked, by_question), "queries": mean}})
    written = write_result(
        result or out / "fig4.json",
        "fig4_retrieval",
        title="Recall of the agents' queries",
        columns=[*COLUMNS, "queries"],
        rows=rows,
        seeds=[0],
        seconds=clock.seconds(),
        notes=[f"{len(asked)} questions with gold pages, {len(env.corpus)} pages, retriever {retriever}"],
    )
    print(result_markdown(written))


if __name__ == "__main__":
    run(main)
