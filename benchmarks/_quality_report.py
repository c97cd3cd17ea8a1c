"""The tables of :mod:`retrieval_quality`, from the numbers in its JSON."""

from __future__ import annotations

from typing import Any

METRICS = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10")


def quality_tables(result: dict[str, Any]) -> str:
    """Both tables of a run as Markdown."""
    lines = [
        f"{result['questions']} questions, {result['pages']} pages; `{result['command']}`.",
        "",
        f"| retriever | {' | '.join(METRICS)} | ms per query |",
        "|---|" + "---:|" * (len(METRICS) + 1),
    ]
    for row in result["retrievers"]:
        numbers = " | ".join(f"{row[key]:.3f}" for key in METRICS)
        lines.append(f"| {row['name']} | {numbers} | {row['ms_per_query']:.2f} |")
    lines += [
        "",
        "Questions whose first gold page comes earlier or later than with lexical, among the first ten:",
        "",
        "| retriever | earlier | same | later |",
        "|---|---:|---:|---:|",
    ]
    for row in result["retrievers"]:
        if row["name"] != "lexical":
            lines.append(f"| {row['name']} | {row['earlier']} | {row['same']} | {row['later']} |")
    return "\n".join(lines)
