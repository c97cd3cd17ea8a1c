"""What ``vrag generate`` does, as a function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vrag_env.corpus.generate import WorldDials, build_wide_world, generate_wide_world


def run_generate(
    dials: Mapping[str, Any],
    out: Path,
    *,
    index: bool = True,
    long_side: int = 1792,
    workers: int | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Generate a world, ingest it if asked to, and say what there is.

    Args:
        dials: The dials of :class:`~vrag_env.corpus.generate.WorldDials`.
        out: Directory of the world.
        index: Also ingest the documents.
        long_side: Longer side of a stored page in pixels.
        workers: Processes; by default one per core.
        progress: Show progress bars.
        say: Prints a text.

    Raises:
        WorldError: If a dial is out of its range or a font is missing.
        CorpusError: If the directory holds something else.
    """
    checked = WorldDials.read(dials)
    started = time.monotonic()
    if index:
        report, ingested = build_wide_world(checked, out, workers=workers, long_side=long_side, progress=progress)
    else:
        report = generate_wide_world(checked, out, workers=workers, progress=progress)
    seconds = time.monotonic() - started
    say(
        f"{report.documents} documents, {report.pages} pages, {report.questions} questions in {out} "
        f"({seconds:.1f} s, {report.pages / seconds:.1f} pages/s)"
    )
    if index:
        say(str(ingested))
        say(f"vrag play --corpus {out / 'corpus'} --questions {out / 'questions.json'}")
