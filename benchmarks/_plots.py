"""Growth with pages and with queries, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _ours import OURS

_MARKERS = "osv^D<>P*"


def plot_growth(cells: Sequence[dict[str, Any]], directory: Path, name: str) -> list[Path]:
    """Draw time against pages (per number of queries) and against queries (per number of pages), log-log.

    Args:
        cells: Rows of the JSON (:meth:`_timing.Cell.raw`).
        directory: Where the pictures go.
        name: What the names of the files begin with.

    Returns:
        The files.
    """
    return [
        _plot(cells, "pages", "queries", "pages", directory / f"{name}_by_pages.png"),
        _plot(cells, "queries", "pages", "queries at once", directory / f"{name}_by_queries.png"),
    ]


def _plot(cells: Sequence[dict[str, Any]], across: str, panel: str, label: str, path: Path) -> Path:
    from matplotlib.figure import Figure

    panels = sorted({cell[panel] for cell in cells})
    engines = list(dict.fromkeys(cell["engine"] for cell in cells))
    figure = Figure(figsize=(1.2 + 4.6 * len(panels), 5.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axis, value in zip(axes, panels, strict=True):
        for place, engine in enumerate(engines):
            points = sorted(
                (cell[across], cell["ms_per_query"])
                for cell in cells
                if cell["engine"] == engine and cell[panel] == value
            )
            if not points:
                continue
            ours = engine == OURS
            (handles[engine],) = axis.plot(
                *zip(*points, strict=True),
                marker=_MARKERS[place % len(_MARKERS)],
                linewidth=2.6 if ours else 1.3,
                color="black" if ours else f"C{place}",
                label=engine,
            )
        ticks = sorted({cell[across] for cell in cells})
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_title(
            f"{value:,} pages" if panel == "pages" else f"{value} {'query' if value == 1 else 'queries'} at once"
        )
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        axis.grid(True, which="major", alpha=0.3)
    axes[0].set_ylabel("milliseconds per query (median)")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    return path
