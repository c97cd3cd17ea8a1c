"""Compaction: old versions of a corpus's tables are deleted, and small files merged.

Every write makes a new version of a table and keeps the old one, so that whoever reads it goes on undisturbed. Nothing
of that is ever deleted by itself: a document that was replaced ten times is on disk ten times.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

from vrag_env.corpus.lock import write_lock
from vrag_env.corpus.store import Corpus

KEEP = timedelta(days=7)
"""Versions that are younger stay by default."""


@dataclass(frozen=True)
class CompactReport:
    """What :func:`compact` did.

    Attributes:
        bytes_before: Size of the corpus's directory before.
        bytes_after: The same after.
        versions: Number of versions deleted, of all tables together.
        oldest: The oldest version of the table of pages that can still be opened.
    """

    bytes_before: int
    bytes_after: int
    versions: int
    oldest: int


def compact(corpus: Corpus, keep: timedelta = KEEP) -> CompactReport:
    """Delete old versions of all tables of a corpus and merge small files.

    The pages stay the same, as do the results of every search. What becomes impossible: opening a deleted version
    (``Corpus.open(path, version)``, a checkpoint or an experiment that names one), and reading on in an
    environment that was made before it and still runs, as it pins its version. Those that are younger than ``keep``
    are safe.

    Args:
        corpus: The corpus; it shows the newest pages from then on.
        keep: Age below which a version stays; zero deletes all but the newest.

    Raises:
        CorpusError: If it is read only, or another process writes to it or builds embeddings for it.
        ValueError: If ``keep`` is negative.
    """
    if keep < timedelta(0):
        raise ValueError(f"keep must not be negative, got {keep}")
    before = _bytes(corpus)
    deleted = 0
    with corpus.writing(), ExitStack() as locks:
        tables = [corpus.table]
        for name in corpus.side_tables():
            building = corpus.path / f"{name}.build"
            if building.is_dir():
                locks.enter_context(write_lock(building))
            tables.append(corpus.database.open_table(name))
        for table in tables:
            had = {version["version"] for version in table.list_versions()}
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="optimize", category=UserWarning)  # the caller was told
                # Nobody else writes, so that files which belong to no version were left by a process that was killed.
                table.optimize(cleanup_older_than=keep, delete_unverified=True)
            deleted += len(had - {version["version"] for version in table.list_versions()})
    with corpus.writing():  # what was merged shows from here on
        corpus.update_text_index()
        oldest = min(version["version"] for version in corpus.table.list_versions())
    return CompactReport(before, _bytes(corpus), deleted, oldest)


def _bytes(corpus: Corpus) -> int:
    return sum(file.stat().st_size for file in corpus.path.rglob("*") if file.is_file())
