"""What ``vrag import`` does, as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vrag_env.datasets import DATASETS, SOURCES, ImportReport, download_dataset, import_dataset
from vrag_env.errors import IngestError


def run_import(
    dataset: str,
    directory: Path,
    out: Path,
    *,
    download: bool = False,
    accept: bool = False,
    subset: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    scope: str = "corpus",
    questions: Path | None = None,
    long_side: int = 1792,
    ocr: str = "never",
    workers: int | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
    ask: Callable[[str], bool] | None = None,
) -> ImportReport:
    """Import a benchmark, after fetching it if asked to.

    Args:
        dataset: ``slidevqa``, ``vidoseek`` or ``mmlongbench``.
        directory: The download.
        out: Directory of the corpus.
        download: Fetch the benchmark into ``directory`` first.
        accept: The user accepts the licence without being asked.
        subset: See :func:`vrag_env.datasets.import_dataset`, also for the arguments that follow.
        split: Only this split.
        limit: Only the first questions.
        scope: ``corpus`` or ``document``.
        questions: The annotation file.
        long_side: Longer side of a stored page in pixels.
        ocr: ``never``, ``auto`` or ``always``.
        workers: Reading processes.
        progress: Show a progress bar.
        say: Prints a text.
        ask: Asks a question and returns whether the answer was yes; without it the answer is no.

    Returns:
        The report, which was also printed.

    Raises:
        IngestError: If an argument, the download or the licence stands in the way.
    """
    if dataset not in DATASETS:  # before a licence is shown for nothing
        raise IngestError(f"unknown data set {dataset!r}: choose one of {', '.join(DATASETS)}")
    if subset is not None and f"{dataset}-{subset}" not in SOURCES and subset != "vrag":
        raise IngestError(f"unknown subset {subset!r}: the only one is 'vrag'")
    if download:

        def confirm(licence: str) -> bool:
            say(licence)
            return accept or (ask is not None and ask("Do you accept these terms, and fetch the data?"))

        download_dataset(dataset, directory, subset=subset, confirm=confirm)
    try:
        report = import_dataset(
            dataset,
            directory,
            out,
            subset=subset,
            split=split,
            limit=limit,
            scope=scope,
            questions=questions,
            long_side=long_side,
            ocr=ocr,
            workers=workers,
            progress=progress,
        )
    except IngestError:
        raise
    except ValueError as error:  # an option from the command line
        raise IngestError(str(error)) from error
    say(str(report))
    say(f"{out / 'questions.json'} and {out / 'report.json'} written")
    return report
