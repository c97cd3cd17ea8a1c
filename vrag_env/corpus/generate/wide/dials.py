"""WorldDials: what can be chosen of a wide world, with the checks."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vrag_env.corpus.generate.wide.terms import LANGUAGES
from vrag_env.errors import WorldError

WIDE_VERSION = 1
"""Raised whenever the same dials would give other documents or questions."""

PAGE_KINDS = (
    "bars",
    "stacked",
    "lines",
    "pie",
    "scatter",
    "heatmap",
    "table",
    "merged",
    "prose",
    "plan",
    "timeline",
    "flow",
    "tree",
    "spec",
    "board",
    "tiles",
)
"""The kinds of page; what each looks like is in ``docs/worlds.md``."""

PAGES_PER_DOCUMENT = 6
QUESTIONS_PER_DOCUMENT = 10
"""Most questions of one document."""
MAX_PAGES = 100_000
MAX_DISTRACTORS = 11


@dataclass(frozen=True)
class WorldDials:
    """The dials of a wide world; equal dials give equal bytes, on any number of cores.

    Attributes:
        seed: Any whole number of at most 18 digits.
        questions: How many questions, exactly.
        pages: How many pages at least, 10 to 100,000; ``None`` for what the questions need. More pages than that
            are documents that are asked about less.
        distractors: How many other documents, 0 to 11, differ from a document in nothing but the edition and
            the numbers. Questions name the edition in words ("the fifth reporting period") and pages print its
            code ("P05"), so that the question itself is a vague query, and one that is rewritten finds the page.
        font_size: Size in points, 3 to 12, of the print that carries the answers. At the default budget a page
            is shown at about one pixel per point.
        language: ``"en"``, ``"zh"``, or ``"mixed"``: every other family of documents in Chinese. Chinese needs a
            font, see :mod:`vrag_env.corpus.generate.wide.fonts`.
        kinds: The kinds of page, some of :data:`PAGE_KINDS`.
        multi_hop_share: Share of the questions, 0 to 0.6, that need two pages.
        unanswerable_share: Share of the questions, 0 to 0.5, that no page answers; the two shares together at
            most 0.9.
        test_share: Share of the families of documents, 0 to under 1, that are kept for testing: half of them
            (split ``test``) with the kinds of page of the training split, the others (split ``test_templates``)
            with kinds that the training split does not have.
        held_out_share: Share of the kinds of page, 0 to 0.5, that only the split ``test_templates`` has, rounded
            down; if that is none, there is no such split.
        injection_share: Share of the pages, 0 to 1, that print an order to ignore the question and answer
            something else.

    Raises:
        WorldError: If a dial is out of its range.
    """

    seed: int = 0
    questions: int = 500
    pages: int | None = None
    distractors: int = 3
    font_size: float = 5.0
    language: str = "en"
    kinds: tuple[str, ...] = PAGE_KINDS
    multi_hop_share: float = 0.3
    unanswerable_share: float = 0.1
    test_share: float = 0.25
    held_out_share: float = 0.2
    injection_share: float = 0.0

    def __post_init__(self) -> None:
        _whole("seed", self.seed, -(10**18), 10**18)
        _whole("questions", self.questions, 1, MAX_PAGES // PAGES_PER_DOCUMENT * QUESTIONS_PER_DOCUMENT)
        _whole("distractors", self.distractors, 0, MAX_DISTRACTORS)
        if self.pages is not None:
            _whole("pages", self.pages, 10, MAX_PAGES)
        _number("font_size", self.font_size, 3, 12)
        _number("multi_hop_share", self.multi_hop_share, 0, 0.6)
        _number("unanswerable_share", self.unanswerable_share, 0, 0.5)
        _number("test_share", self.test_share, 0, 0.95)
        _number("held_out_share", self.held_out_share, 0, 0.5)
        _number("injection_share", self.injection_share, 0, 1)
        if self.multi_hop_share + self.unanswerable_share > 0.9:
            raise WorldError(
                "multi_hop_share and unanswerable_share must be at most 0.9 together, "
                f"got {self.multi_hop_share} and {self.unanswerable_share}"
            )
        if self.language not in (*LANGUAGES, "mixed"):
            raise WorldError(f"language must be one of {', '.join(LANGUAGES)}, mixed, got {self.language!r}")
        if (
            not isinstance(self.kinds, tuple)
            or not self.kinds
            or not all(isinstance(kind, str) for kind in self.kinds)
            or len(set(self.kinds)) < len(self.kinds)
            or not set(self.kinds) <= set(PAGE_KINDS)
        ):
            raise WorldError(f"kinds must be some of {', '.join(PAGE_KINDS)}, each once, got {self.kinds!r}")
        if self.pages is not None and self.questions > self.documents * QUESTIONS_PER_DOCUMENT:
            raise WorldError(
                f"{self.questions} questions need more than {self.pages} pages: a document has "
                f"{PAGES_PER_DOCUMENT} pages and at most {QUESTIONS_PER_DOCUMENT} questions; raise pages, or leave "
                "it out"
            )

    @classmethod
    def read(cls, dials: Mapping[str, Any] | WorldDials) -> WorldDials:
        """Read dials from a mapping, such as the argument ``world`` of the environment.

        Raises:
            WorldError: If a dial is unknown, of another type, or out of its range.
        """
        if isinstance(dials, WorldDials):
            return dials
        if not isinstance(dials, Mapping):
            raise WorldError(f"world must be a mapping of dials, such as {{'questions': 500}}, got {dials!r}")
        known = [field.name for field in fields(cls)]
        unknown = [name for name in dials if name not in known]
        if unknown:
            raise WorldError(f"a world has no dial {', '.join(map(repr, unknown))}; the dials are {', '.join(known)}")
        given = dict(dials)
        if isinstance(given.get("kinds"), list):
            given["kinds"] = tuple(given["kinds"])
        return cls(**given)

    @property
    def family_size(self) -> int:
        """Documents that differ in their edition only."""
        return self.distractors + 1

    @property
    def families(self) -> int:
        """How many families of documents there are."""
        needed = math.ceil(self.questions / QUESTIONS_PER_DOCUMENT)
        if self.pages is not None:
            needed = math.ceil(self.pages / PAGES_PER_DOCUMENT)
        return math.ceil(needed / self.family_size)

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return self.families * self.family_size

    @property
    def stamp(self) -> str:
        """A short name for the dials and the version of the generator: 16 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Write the dials and the version of the generator as JSON."""
        return json.dumps({"wide_version": WIDE_VERSION, "dials": asdict(self)}, indent=1) + "\n"


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise WorldError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise WorldError(f"{name} must be a number from {low} to {high}, got {value!r}")
