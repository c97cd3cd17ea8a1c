"""Memory while searching, measured in a process of its own that does nothing else.

Called by :mod:`retrieval_speed`; prints one JSON object. ``ours`` opens the engine over its table on disk;
``all`` holds every multi-vector in memory as bfloat16 tensors and compares by brute force, as the released engine
does (with ``score_multi_vector``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _machine import peak_rss_mib, rss_mib
from _ours import Ours
from _timing import K
from synthetic_pages import SyntheticPages


def measure_ours(directory: Path, pages: int, seed: int) -> dict[str, float]:
    """Memory of our engine for one query, then for 64 at once."""
    import lancedb  # noqa: F401  # what is imported anyway belongs to the baseline
    import torch  # noqa: F401

    queries = SyntheticPages(seed).queries("hard", 64, pages)[0]
    before = rss_mib()
    engine = Ours(directory)
    opened = rss_mib()
    for query in queries[:8]:
        engine.search([query], K)
    one = peak_rss_mib()
    engine.search(queries, K)
    return {"before": before, "open": opened - before, "one": one - before, "batch": peak_rss_mib() - before}


def measure_all(pages: int, seed: int) -> dict[str, float]:
    """Memory of all multi-vectors as bfloat16, and of a search of one query in them."""
    import torch
    from colpali_engine.utils.processing_utils import BaseVisualRetrieverProcessor

    source = SyntheticPages(seed)
    query = torch.from_numpy(source.queries("hard", 1, pages)[0][0]).bfloat16()
    before = rss_mib()
    held: list[Any] = [torch.from_numpy(page).bfloat16() for batch in source.batches(pages) for page in batch]
    loaded = rss_mib()
    BaseVisualRetrieverProcessor.score_multi_vector([query], held, device="cpu")
    return {"before": before, "open": loaded - before, "one": peak_rss_mib() - before}


def main(arguments: Sequence[str]) -> None:
    """``ours DIRECTORY PAGES SEED`` or ``all PAGES SEED``."""
    mode, *rest = arguments
    pages, seed = int(rest[-2]), int(rest[-1])
    print(json.dumps(measure_ours(Path(rest[0]), pages, seed) if mode == "ours" else measure_all(pages, seed)))


if __name__ == "__main__":
    main(sys.argv[1:])
