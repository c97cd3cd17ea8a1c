"""Build a world: from its dials to an ingested corpus; and the built-in world of ``gym.make("VRAG-v0")``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from vrag_env.corpus.generate.config import WorldConfig
from vrag_env.corpus.generate.wide import WorldDials, WorldReport, generate_wide_world
from vrag_env.corpus.generate.world import DOCUMENTS, generate_world
from vrag_env.corpus.ingest import LONG_SIDE, IngestReport, ingest
from vrag_env.corpus.store import SCHEMA_VERSION, Corpus
from vrag_env.errors import CorpusError
from vrag_env.questions import Question

CORPUS = "corpus"
"""Folder of the corpus inside a world's directory."""
_ABANDONED_SECONDS = 24 * 3600.0  # nobody builds a world for so long


def build_world(
    config: WorldConfig,
    directory: str | Path,
    *,
    progress: bool = True,
    workers: int | None = None,
    long_side: int = LONG_SIDE,
) -> tuple[Corpus, list[Question]]:
    """Generate a world and ingest its documents.

    The corpus goes to ``directory/corpus``. A world that is complete is only opened, and a run that was
    killed is completed by the next one.

    Args:
        config: The dials.
        directory: Where; made if it does not exist.
        progress: Show a progress bar.
        workers: Processes that ingest; by default one per core.
        long_side: Longer side of the stored pages in pixels; the smaller, the faster.

    Returns:
        The corpus and the questions.

    Raises:
        CorpusError: If the directory holds another world, or a document could not be ingested.
    """
    directory = Path(directory)
    questions = generate_world(config, directory)
    corpus, _ = _ingest(directory, progress, workers, long_side)
    return corpus, questions


def build_wide_world(
    dials: WorldDials,
    directory: str | Path,
    *,
    progress: bool = True,
    workers: int | None = None,
    long_side: int = LONG_SIDE,
) -> tuple[WorldReport, IngestReport]:
    """Generate a wide world and ingest its documents, as :func:`build_world` does.

    The questions are in ``directory/questions.json``; they are not read, since there can be many.

    Args:
        dials: The dials.
        directory: Where; made if it does not exist.
        progress: Show progress bars.
        workers: Processes that draw, and that ingest; by default one per core.
        long_side: Longer side of the stored pages in pixels; the smaller, the faster.

    Returns:
        What was generated, and what was ingested.

    Raises:
        CorpusError: If the directory holds something else, or a document could not be ingested.
        WorldError: If the dials ask for what can not be drawn.
    """
    directory = Path(directory)
    report = generate_wide_world(dials, directory, workers=workers, progress=progress)
    _, ingested = _ingest(directory, progress, workers, long_side)
    return report, ingested


def _ingest(directory: Path, progress: bool, workers: int | None, long_side: int) -> tuple[Corpus, IngestReport]:
    corpus = Corpus.create(directory / CORPUS)
    report = ingest([directory / DOCUMENTS], corpus, long_side=long_side, workers=workers, progress=progress)
    if report.failures:
        name, reason = report.failures[0]
        raise CorpusError(
            f"{len(report.failures)} generated documents in {directory / DOCUMENTS} could not be read, "
            f"the first one {name} ({reason}): delete {directory} and build it again"
        )
    return corpus, report


def cache_directory() -> Path:
    """Return the directory of what can be built again: ``VRAG_CACHE``, or the platform's usual place."""
    chosen = os.environ.get("VRAG_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "vrag-gym"


def cached_world(config: WorldConfig | WorldDials, *, progress: bool = True) -> Path:
    """Return the directory of a world in the cache, which is built once and then kept.

    It is built beside its place and then renamed, so that what is there is always complete, and processes
    that start at once do not disturb each other: the first one to finish provides it for all.

    Args:
        config: The dials.
        progress: Show a progress bar while it is built.

    Returns:
        A directory with ``documents``, ``questions.json`` and ``corpus``; read-only by convention.

    Raises:
        OSError: If the cache can not be written; ``VRAG_CACHE`` names another place.
    """
    target = cache_directory() / f"world-{config.stamp}-{SCHEMA_VERSION}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".world-*"):  # by a process that was killed, or by one that is done by now
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        if isinstance(config, WorldDials):
            build_wide_world(config, temporary, progress=progress)
        else:
            build_world(config, temporary, progress=progress)
        try:
            temporary.rename(target)
        except OSError:
            # Another process was faster; any other reason, such as a full disk, is not ours to hide.
            if not target.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def builtin_world(*, progress: bool = True) -> Path:
    """Return the directory of the built-in world: :func:`cached_world` of the default dials.

    Args:
        progress: Show a progress bar while it is built.
    """
    return cached_world(WorldConfig(), progress=progress)
