"""What a page is about, what it says, and what can be asked about it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vrag_env.corpus.generate.wide.terms import Identity, Term
from vrag_env.corpus.generate.wide.themes import Measure, Theme
from vrag_env.corpus.records import Box

T = TypeVar("T")


class Dice:
    """The randomness of one page of a family of documents.

    Every document of the family throws the same dice, so that their pages look the same; only what
    :meth:`spread` gives differs, and it gives no two of them the same.

    Args:
        seed: Names the stream of random numbers.
        place: Which document of the family.
        count: How many there are.
    """

    def __init__(self, seed: str, place: int, count: int) -> None:
        self.rng = random.Random(seed)
        self.place = place
        self._count = count

    def spread(self, population: Sequence[T], number: int) -> list[T]:
        """Draw different values, none of which another document of the family gets here.

        Where the population is too small for that, only those of one document are different.
        """
        if len(population) >= number * self._count:
            drawn: list[T] = self.rng.sample(population, number * self._count)
            return drawn[number * self.place : number * (self.place + 1)]
        rounds: list[list[T]] = [self.rng.sample(population, number) for _ in range(self._count)]
        return rounds[self.place]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """Return the values in an order that is the same in the whole family."""
        return self.rng.sample(values, len(values))

    def choose(self, values: Sequence[T], number: int) -> list[T]:
        """Draw some values; the same in the whole family."""
        return self.rng.sample(values, number)


@dataclass(frozen=True)
class Brief:
    """What a page is to show.

    Attributes:
        theme: The subject of the document.
        identity: Whose document it is.
        measure: What the page counts, where it counts something; another one on every page of a document.
        topic: 0 to 5, another one on every page of a document; what it is about where it counts nothing.
        items: The eight things that the document reports on.
        absent: Four others of the same sort that no page of the document names.
        language: Place in a :data:`~vrag_env.corpus.generate.wide.terms.Term`.
        size: Size of the print that carries the answers, in points.
        dice: Randomness.
    """

    theme: Theme
    identity: Identity
    measure: Measure
    topic: int
    items: tuple[Term, ...]
    absent: tuple[Term, ...]
    language: int
    size: float
    dice: Dice

    def say(self, english: str | Term, chinese: str = "") -> str:
        """Return a text in the language of the document."""
        pair = english if isinstance(english, tuple) else (english, chinese)
        return pair[self.language]

    @property
    def label(self) -> float:
        """Size of the words that name the items."""
        return max(self.size, 8.0)


@dataclass(frozen=True)
class Cell:
    """One value that a page gives for an item.

    Attributes:
        item: The item, in the language of the document.
        column: Which of its values, or empty where it has only one.
        text: The value as printed.
        box: Where it stands with what names it, normalised to the page.
        steps: The value in steps of the measure; ``None`` where it is no number.
        variants: Other ways to write it.
        names: Where its item and column are named, if that is not inside of ``box``.
    """

    item: str
    column: str
    text: str
    box: Box
    steps: int | None = None
    variants: tuple[str, ...] = ()
    names: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Ask:
    """One question about a page.

    Attributes:
        template: The pattern it was made from.
        key: Unique on the page; part of the question's id.
        body: The question without the name of the document, in lower case, without a question mark.
        answer: The reference answer.
        box: Where the answer stands.
        answer_format: ``Str``, ``Int`` or ``Float``.
        variants: Other answers that count as right.
        difficulty: ``easy``, ``medium`` or ``hard``.
        source_type: Where it differs from that of the page.
    """

    template: str
    key: str
    body: str
    answer: str
    box: Box
    answer_format: str = "Str"
    variants: tuple[str, ...] = ()
    difficulty: str = "easy"
    source_type: str = ""


@dataclass(frozen=True)
class Drawing:
    """What a drawn page says.

    Attributes:
        cells: Values by item.
        asks: Questions that only this kind of page has.
        missing: ``(key, body)`` of questions that only this kind of page has and does not answer.
    """

    cells: tuple[Cell, ...] = ()
    asks: tuple[Ask, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


def around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around some boxes."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return (min(x0), min(y0), max(x1), max(y1))


def evidence_of(cells: Sequence[Cell]) -> Box:
    """Return the smallest box around some cells and what names them."""
    return around([box for cell in cells for box in (cell.box, *cell.names)])


def slug(text: str) -> str:
    """Make a text part of an id."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
