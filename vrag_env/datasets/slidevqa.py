"""SlideVQA: 14,484 questions over 2,619 decks of 20 slides.

Tanaka et al., "SlideVQA", AAAI 2023, arXiv:2301.04883. Three forms are read:

- the repository's: ``train.jsonl``, ``dev.jsonl``, ``test.jsonl`` and the decks that its script downloads, one
  folder of images per deck, whose order is that of ``image_urls`` (some are lost: the site no longer has them);
- the hub's, ``NTT-hil-insight/SlideVQA``: parquet files with the 20 pictures in every row;
- SlideVQA-Refined of ViDoRAG: the common JSON, with the decks as PDFs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vrag_env.datasets.common import field, is_common, read_common, read_entries
from vrag_env.datasets.files import Library, read_json, read_lines
from vrag_env.datasets.records import Document, Label, ParquetDeck, Source
from vrag_env.datasets.tables import columns_of, read_rows
from vrag_env.datasets.values import read_hops, read_pages
from vrag_env.errors import IngestError

_FIELDS = ["deck_name", "qa_id", "question", "answer", "evidence_pages", "reasoning_type", "answer_type"]
SPLITS = ("train", "dev", "val", "validation", "test")


def read_slidevqa(directory: Path, questions: Path | None = None) -> Source:
    """Read SlideVQA in whichever form the directory holds.

    The id of a question is its split, a slash and its ``qa_id``; in the common form it is its ``uid``.

    Args:
        directory: The download.
        questions: The annotation file, where the directory holds several forms.

    Raises:
        IngestError: If no form is there, or more than one.
    """
    library = Library(directory)
    files = {kind: paths for kind, paths in _by_form([questions] if questions else library.annotations) if paths}
    if not files:
        where = questions or directory
        raise IngestError(
            f"no annotations of SlideVQA in {where}: expected JSON Lines or parquet with 'qa_id' and 'deck_name', "
            "or the common JSON with 'slidevqa' in its name; give the file with --questions"
        )
    if len(files) > 1 or len(files.get("common", [])) > 1:
        shown = ", ".join(str(path) for paths in files.values() for path in paths[:2])
        raise IngestError(f"several forms of annotations: {shown}; choose one with --questions")
    [(form, paths)] = files.items()
    if form == "common":
        return read_common(paths[0], library, prefer="slidevqa")
    return _read_parquet(paths) if form == "parquet" else _read_lines(paths, library)


def _by_form(paths: list[Path]) -> Iterator[tuple[str, list[Path]]]:
    only = len(paths) == 1  # a file that the user named may have any name
    yield "parquet", [p for p in paths if p.suffix.lower() == ".parquet" and {"qa_id", "deck_name"} <= columns_of(p)]
    yield "jsonl", [p for p in paths if p.suffix.lower() == ".jsonl" and _asks(p)]
    yield (
        "common",
        [
            path
            for path in paths
            if path.suffix.lower() == ".json"
            and (only or "slidevqa" in path.name.lower())
            and is_common(read_json(path))
        ],
    )


def _asks(path: Path) -> bool:
    """Whether a file has questions; the files of the boxes look like it and have none."""
    return any(isinstance(value, dict) and "qa_id" in value for _, value in read_lines(path))


def _read_lines(paths: list[Path], library: Library) -> Source:
    labels: list[Label] = []
    unreadable: list[tuple[str, str]] = []
    images: dict[str, list[str]] = {}
    for path in paths:
        rows = []
        for place, value in read_lines(path):
            if isinstance(value, Exception):
                unreadable.append((place, "not JSON"))
            else:
                rows.append(value)
        more, bad = read_entries(rows, path.name, partial(_label, split=_split(path)))
        labels += more
        unreadable += bad
        for row in rows:
            if isinstance(row, dict) and isinstance(row.get("image_urls"), list):
                images.setdefault(str(row.get("deck_name")), [str(address) for address in row["image_urls"]])

    def find(name: str) -> Document | str:
        if name not in images:
            return "no list of images ('image_urls') for this deck"
        return library.find_deck(name, images[name])

    return Source(tuple(paths), tuple(labels), find, tuple(unreadable))


def _read_parquet(paths: list[Path]) -> Source:
    labels: list[Label] = []
    unreadable: list[tuple[str, str]] = []
    decks: dict[str, ParquetDeck] = {}
    for path in paths:
        rows = read_rows(path, _FIELDS)
        more, bad = read_entries(rows, path.name, partial(_label, split=_split(path)))
        labels += more
        unreadable += bad
        for index, row in enumerate(rows):
            decks.setdefault(str(row.get("deck_name")), ParquetDeck(path, index))
    return Source(tuple(paths), tuple(labels), lambda name: decks.get(name, "no row with this deck"), tuple(unreadable))


def _split(path: Path) -> str:
    """Name the split by the file: ``test.jsonl``, ``test-00000-of-00005.parquet``."""
    first = path.name.partition(".")[0].partition("-")[0].lower()
    return first if first in SPLITS else ""


def _label(entry: dict[str, Any], _: int, split: str) -> Label:
    pages, labelled, problems = read_pages(entry.get("evidence_pages"))
    uid = field(entry, "qa_id")
    return Label(
        uid=f"{split}/{uid}" if split else uid,
        text=field(entry, "question"),
        answer=field(entry, "answer"),
        document=field(entry, "deck_name"),
        pages=pages,
        query_type=read_hops(entry.get("reasoning_type")),
        split=split,
        labelled_pages=labelled,
        problems=tuple(problems),
    )
