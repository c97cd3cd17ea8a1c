"""WorldConfig: the dials of a generated world."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

GENERATOR_VERSION = 1
"""Raised whenever the same dials would give other documents or questions."""

KINDS = ("board", "bars", "table", "prose", "pie", "layout")
"""The kinds of page, one module each."""

MAX_DOCUMENTS = 10_000
"""The companies of a world have names of their own; more would run out of them."""


@dataclass(frozen=True)
class WorldConfig:
    """The dials of a generated world; equal dials give equal bytes.

    Attributes:
        seed: Any whole number.
        documents: Number of documents, 1 to :data:`MAX_DOCUMENTS`; each is the report of one company.
        kinds: The kinds of page that each document has, one page each, in an order of its own; some of
            :data:`KINDS`.
        test_share: Share of the documents, at least 0 and under 1, whose questions are in the split ``test``.
        unanswerable_share: Share of the questions, at least 0 and under 0.5, that no page answers.
        symbol_size: Size in points of the symbols on a status board, 8 to 60. A page of 540 points height is
            shown about one pixel per point at the default pixel budget.
        footnote_size: Size in points of the footnotes, 3 to 10.

    Raises:
        ValueError: If a dial is out of its range.
    """

    seed: int = 0
    documents: int = 24
    kinds: tuple[str, ...] = KINDS
    test_share: float = 0.25
    unanswerable_share: float = 0.05
    symbol_size: float = 20.0
    footnote_size: float = 4.0

    def __post_init__(self) -> None:
        if not 1 <= self.documents <= MAX_DOCUMENTS:
            raise ValueError(f"documents must be 1 to {MAX_DOCUMENTS}, got {self.documents}")
        if not self.kinds or len(set(self.kinds)) < len(self.kinds) or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, each once, got {self.kinds!r}")
        if not 0 <= self.test_share < 1:
            raise ValueError(f"test_share must be at least 0 and under 1, got {self.test_share}")
        if not 0 <= self.unanswerable_share < 0.5:
            raise ValueError(f"unanswerable_share must be at least 0 and under 0.5, got {self.unanswerable_share}")
        if not 8 <= self.symbol_size <= 60:
            raise ValueError(f"symbol_size must be 8 to 60 points, got {self.symbol_size}")
        if not 3 <= self.footnote_size <= 10:
            raise ValueError(f"footnote_size must be 3 to 10 points, got {self.footnote_size}")

    @property
    def stamp(self) -> str:
        """A short name for the dials and the version of the generator: 16 hexadecimal digits."""
        text = json.dumps([GENERATOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
