"""What a reader of a benchmark hands over: labels as they are written, and where each document lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Label:
    """One question as a benchmark has it, before anything was checked against its document.

    Attributes:
        uid: Id inside the benchmark.
        text: The question.
        answer: The reference answer.
        document: Name of the document, exactly as the benchmark writes it; empty if it names none.
        pages: Gold pages, 1-based, distinct; those that can not be page numbers are in ``problems``.
        answer_format: As in :mod:`vrag_env.questions`, or ``None`` to infer it from the answer.
        answer_variants: Other answers that count as right.
        sources: What carries the answer: ``Text``, ``Table``, ``Chart``, ``Figure``, ``Layout``.
        query_type: ``Single-Hop``, ``Multi-Hop``, or the benchmark's own word.
        split: ``train``, ``test``, ... or empty.
        labelled_pages: Whether the label named any page, good or bad.
        problems: ``(kind, detail)`` of what is wrong with the label.
    """

    uid: str
    text: str
    answer: str
    document: str
    pages: tuple[int, ...]
    answer_format: str | None = None
    answer_variants: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    query_type: str = ""
    split: str = ""
    labelled_pages: bool = False
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PdfDocument:
    """A document that is a PDF file.

    Attributes:
        path: The file.
    """

    path: Path


@dataclass(frozen=True)
class DeckDocument:
    """A document whose pages are image files.

    Attributes:
        pages: ``(page number, file)`` in order of the numbers, which count from 1.
        missing: Numbers of pages whose file is not there.
    """

    pages: tuple[tuple[int, Path], ...]
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class ParquetDeck:
    """A document whose pages are images inside one row of a parquet file.

    Attributes:
        path: The file.
        row: The row, counted from 0.
    """

    path: Path
    row: int


Document = PdfDocument | DeckDocument | ParquetDeck


class DocumentFinder(Protocol):
    """Finds the document that a label names."""

    def __call__(self, name: str) -> Document | str:
        """Return the document, or the reason why there is none."""
        ...


@dataclass(frozen=True)
class Source:
    """Everything that a reader found.

    Attributes:
        files: The annotation files that were read.
        labels: The questions in the order of the files.
        find: Finds their documents.
        unreadable: ``(place, reason)`` of entries that are not questions at all.
        given: Whether the questions come from a file in the common JSON of VRAG-RL rather than the benchmark's
            own annotations.
    """

    files: tuple[Path, ...]
    labels: tuple[Label, ...]
    find: DocumentFinder
    unreadable: tuple[tuple[str, str], ...] = ()
    given: bool = False


@dataclass
class Tally:
    """Names by reason, in the order in which the reasons came up."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count a name under a reason."""
        self.by_reason.setdefault(reason, []).append(name)

    def __len__(self) -> int:
        """Number of entries under all reasons."""
        return sum(map(len, self.by_reason.values()))

    def lines(self, shown: int = 3) -> Iterator[str]:
        """Yield one line per reason: how many, and the first few."""
        for reason, names in self.by_reason.items():
            more = f", and {len(names) - shown} more" if len(names) > shown else ""
            yield f"{len(names)} {reason}: {'; '.join(names[:shown])}{more}"
