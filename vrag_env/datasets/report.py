"""What an import did: read, selected, kept, left out and why, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vrag_env.datasets.records import Tally


@dataclass
class ImportReport:
    """The report of one call of :func:`vrag_env.datasets.importer.import_dataset`.

    Attributes:
        dataset: The benchmark.
        subset: Name of the subset, or empty.
        expected: How many questions the subset has according to its paper, where that is known.
        files: Annotation files that were read.
        read: Questions in them.
        selected: Questions of the split and the subset.
        kept: Questions that were written.
        limited: Questions that were passed over because of ``limit``.
        left_out: Questions that were not written, by reason.
        notes: Faults of labels whose questions were kept all the same, by kind.
        documents: Documents that the questions name.
        pages: Pages of those of them that are in the corpus.
        missing: Documents that are not in the corpus, by reason.
        blank: Pages whose picture is missing.
        counts: Kept questions by split, type, source and answer format.
        seconds: Duration.
        text: Pages without text, and what can be done about it; empty if there are none.
    """

    dataset: str
    subset: str = ""
    expected: int | None = None
    files: tuple[str, ...] = ()
    read: int = 0
    selected: int = 0
    kept: int = 0
    limited: int = 0
    left_out: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    documents: int = 0
    pages: int = 0
    missing: Tally = field(default_factory=Tally)
    blank: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    text: str = ""

    @property
    def as_expected(self) -> bool | None:
        """Whether the subset has the size that its paper gives; ``None`` where there is nothing to compare."""
        return None if self.expected is None else self.selected == self.expected

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data; of what was left out, every name."""
        plain: dict[str, Any] = {}
        for name, value in vars(self).items():
            plain[name] = value.by_reason if isinstance(value, Tally) else value
        return {**plain, "files": list(self.files), "as_expected": self.as_expected}

    def __str__(self) -> str:
        what = f"subset {self.subset!r}: {self.selected} questions" if self.subset else f"{self.selected} selected"
        if self.expected is not None:
            what += f", as in the paper ({self.expected})" if self.as_expected else f"; the paper has {self.expected}"
        lines = [
            f"{self.dataset}: {self.read} questions read from {', '.join(self.files)}; {what}",
            f"  kept {self.kept}, left out {len(self.left_out)}"
            + (f", {self.limited} beyond the limit" if self.limited else ""),
        ]
        lines += [f"    left out: {line}" for line in self.left_out.lines()]
        lines += [f"    label: {line}" for line in self.notes.lines()]
        lines.append(
            f"  {self.documents} documents, {self.pages} pages; {len(self.missing)} documents missing, in "
            f"{self.seconds:.1f} s"
        )
        lines += [f"    missing: {line}" for line in self.missing.lines()]
        if self.blank:
            lines.append(
                f"    {len(self.blank)} pictures of pages are missing (blank pages): {', '.join(self.blank[:3])}"
            )
        if self.text:
            lines.append(f"    {self.text}")
        lines += [f"  {name}: {_counts(counts)}" for name, counts in self.counts.items() if counts]
        return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or '(none)'} {count}" for name, count in counts.items())
