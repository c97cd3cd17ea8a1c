"""Fact: something that a page says, what can be asked about it, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vrag_env.corpus.records import Box


@dataclass(frozen=True)
class Fact:
    """One question that a page answers.

    Attributes:
        key: Short name, unique on the page; part of the question's id.
        question: What is asked; names the company.
        answer: The reference answer.
        box: Where the answer stands, normalised to the page.
        source_type: ``Text``, ``Table``, ``Chart``, ``Figure`` or ``Layout``.
        answer_format: ``Str``, ``Int`` or ``Float``.
        variants: Other answers that count as right.
        thought: What one thinks who has found the place on the page.
    """

    key: str
    question: str
    answer: str
    box: Box
    source_type: str
    answer_format: str = "Str"
    variants: tuple[str, ...] = ()
    thought: str = ""


@dataclass(frozen=True)
class Clue:
    """Something that a page says, for questions that need two pages.

    Attributes:
        value: What it says.
        box: Where, normalised to the page.
    """

    value: str
    box: Box


@dataclass(frozen=True)
class Drawn:
    """What one drawn page holds.

    Attributes:
        facts: What is asked about it.
        missing: ``(key, question)`` of questions that sound like the others but have no answer here.
        clues: What it says, by ``subject:name``.
    """

    facts: tuple[Fact, ...]
    missing: tuple[tuple[str, str], ...] = ()
    clues: Mapping[str, Clue] = field(default_factory=dict)
