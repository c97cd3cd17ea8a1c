"""Write the tables of benchmarks/README.md from the result files, so that no number is ever typed.

Everything between the marks ``<!-- results: begin -->`` and ``<!-- results: end -->`` is replaced: one section per
file of ``benchmarks/results`` that has the format of :mod:`_tables`, in the order below. A test checks that the
page is what this command writes.

    python benchmarks/results_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _tables import HERE, RESULTS, result_markdown

PAGE = HERE / "README.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
ORDER = (
    "table1_main",
    "table2_ablation",
    "table3_behaviour",
    "fig3_reference_images",
    "fig4_retrieval",
    "fig6_latency",
    "reward_terms",
    "robustness",
    "players",
    "swap_algorithms",
    "eval_speed",
)
DIGITS = {"table1_main": 1, "fig6_latency": 2, "eval_speed": 2}


def sections() -> str:
    """Return all sections."""
    found: list[dict[str, Any]] = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(result, dict) and result.get("format") == "vrag-result/1":
            found.append(result)
    found.sort(key=lambda result: ORDER.index(result["name"]) if result["name"] in ORDER else len(ORDER))
    parts = []
    for result in found:
        table = result_markdown(result, DIGITS.get(result["name"], 3))
        parts.append(f"### {result['title']} (`{result['name']}.py`)\n\n{table}\n")
    return "\n".join(parts)


def page() -> str:
    """Return the whole page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{sections()}{END}{after}"


def main() -> None:
    """Write the page."""
    written: Path = PAGE
    written.write_text(page(), encoding="utf-8")
    print(f"{written.name}: {len(list(RESULTS.glob('*.json')))} result files")


if __name__ == "__main__":
    main()
