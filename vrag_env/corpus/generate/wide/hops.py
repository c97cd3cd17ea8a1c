"""Questions over two pages: from one to the other, or a calculation with both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vrag_env.corpus.generate.wide.asks import (
    RANKS,
    column_words,
    columns_of,
    extreme,
    lookup,
    number_answer,
    value_words,
)
from vrag_env.corpus.generate.wide.facts import Brief, Cell, Drawing, evidence_of, slug
from vrag_env.corpus.generate.wide.registry import KINDS, measure_of
from vrag_env.corpus.records import Box


@dataclass(frozen=True)
class DrawnPage:
    """One page of a document that has been drawn.

    Attributes:
        number: Its number, from 1.
        kind: Its kind.
        brief: What it shows.
        drawing: What it says.
    """

    number: int
    kind: str
    brief: Brief
    drawing: Drawing

    @property
    def noun(self) -> str:
        """What questions call it."""
        return KINDS[self.kind].say(self.brief, KINDS[self.kind].noun)

    @property
    def title(self) -> str:
        """What it calls itself."""
        return KINDS[self.kind].title_of(self.brief)


@dataclass(frozen=True)
class Hop:
    """One question over two pages.

    Attributes:
        template: The pattern it was made from.
        key: Unique in the document.
        text: The whole question.
        answer: The reference answer.
        pages: The two pages, each as a pair of the place of its document in the family and its number.
        boxes: The evidence on each of them.
        kinds: The kinds of the two pages.
        answer_format: ``Str``, ``Int`` or ``Float``.
        variants: Other answers that count as right.
    """

    template: str
    key: str
    text: str
    answer: str
    pages: tuple[tuple[int, int], tuple[int, int]]
    boxes: tuple[Box, Box]
    kinds: tuple[str, str]
    answer_format: str = "Str"
    variants: tuple[str, ...] = ()


def hops_inside(pages: Sequence[DrawnPage]) -> list[Hop]:
    """Return the questions over two pages of one document."""
    found: list[Hop] = []
    for first in pages:
        for second in pages:
            if first.number == second.number or not second.drawing.cells or not KINDS[first.kind].numeric:
                continue
            if not KINDS[first.kind].banded:
                found += _chains(first, second)
            same_unit = measure_of(first.kind, first.brief).unit == measure_of(second.kind, second.brief).unit
            if first.number < second.number and KINDS[second.kind].numeric and same_unit:
                found += _sums(first, second)
    return found


def hops_across(first: Sequence[DrawnPage], second: Sequence[DrawnPage]) -> list[Hop]:
    """Return the questions over the same page of two documents of a family."""
    found: list[Hop] = []
    for a, b in zip(first, second, strict=True):
        if KINDS[a.kind].numeric:
            others = {(cell.item, cell.column): cell for cell in b.drawing.cells}
            for cell in a.drawing.cells[:4]:
                if (cell.item, cell.column) in others:
                    found += _changes(a, b, cell, others[cell.item, cell.column])
    return found


def _pair(first: DrawnPage, second: DrawnPage) -> tuple[tuple[int, int], tuple[int, int]]:
    return (
        (first.brief.dice.place, first.number),
        (second.brief.dice.place, second.number),
    )


def _whose(brief: Brief) -> str:
    organisation, edition = brief.say(brief.identity.organisation), brief.say(brief.identity.edition)
    return brief.say(f"{organisation} for {edition}", f"{organisation}{edition}")


def _chains(first: DrawnPage, second: DrawnPage) -> list[Hop]:
    """The value on the second page of the item that is highest or lowest on the first."""
    brief = first.brief
    found = []
    targets = columns_of(second.drawing.cells)
    for number, (column, cells) in enumerate(columns_of(first.drawing.cells).items()):
        # The columns of the second page take turns, so that the number of questions stays small.
        other = list(targets)[number % len(targets)]
        by_item = {cell.item: cell for cell in targets[other]}
        for key, place, english, chinese in RANKS[:2]:
            best = extreme(cells, place)
            if best.item not in by_item:
                continue
            end = by_item[best.item]
            asked = lookup(second.kind, second.brief, end)
            kind, which = brief.say(brief.theme.item), column_words(brief, column)
            measured = value_words(first.kind, brief, column)
            what, after = value_words(second.kind, second.brief, other), column_words(brief, other)
            unit = brief.say(measure_of(second.kind, second.brief).unit) if KINDS[second.kind].numeric else ""
            text = brief.say(
                f"Which {what}{after}{', in ' + unit + ',' if unit else ''} does the {second.noun} give for the "
                f"{kind} that has {english} {measured}{which} in the {first.noun} of {_whose(brief)}?",
                f"根据{_whose(brief)}的资料，{first.noun}中{measured}{which}{chinese}的{kind}，"
                f"在{second.noun}中的{what}{after}是" + (f"多少（单位：{unit}）？" if unit else "什么？"),
            )
            name = f"p{first.number}-p{second.number}-chain-{key}-{slug(column)}".rstrip("-")
            boxes = (evidence_of(cells), end.box)
            found.append(
                Hop(
                    "hops/chain",
                    name,
                    text,
                    asked.answer,
                    _pair(first, second),
                    boxes,
                    (first.kind, second.kind),
                    asked.answer_format,
                    asked.variants,
                )
            )
    return found


def _sums(first: DrawnPage, second: DrawnPage) -> list[Hop]:
    """Difference, sum and comparison of two values in the same unit."""
    brief = first.brief
    measure = measure_of(first.kind, brief)
    if measure.decimals != measure_of(second.kind, second.brief).decimals or "pie" in (first.kind, second.kind):
        return []  # shares of different things do not add up
    unit = brief.say(measure.unit)
    found = []
    a_column, a_cells = next(iter(columns_of(first.drawing.cells).items()))
    b_column, b_cells = next(iter(columns_of(second.drawing.cells).items()))
    by_item = {cell.item: cell for cell in b_cells}
    for a in a_cells:
        b = by_item.get(a.item)
        if b is None or a.steps is None or b.steps is None or a.steps == b.steps:
            continue
        left = f"{value_words(first.kind, brief, a_column)}{column_words(brief, a_column)}"
        right = f"{value_words(second.kind, second.brief, b_column)}{column_words(brief, b_column)}"
        texts = {
            "difference": brief.say(
                f"By how much, in {unit}, do the {left} of {a.item} in the {first.noun} and its {right} in the "
                f"{second.noun} differ, according to {_whose(brief)}?",
                f"根据{_whose(brief)}的资料，{a.item}在{first.noun}中的{left}与在{second.noun}中的{right}相差多少（单位：{unit}）？",
            ),
            "sum": brief.say(
                f"What do the {left} of {a.item} in the {first.noun} and its {right} in the {second.noun} add up "
                f"to, in {unit}, according to {_whose(brief)}?",
                f"根据{_whose(brief)}的资料，{a.item}在{first.noun}中的{left}与在{second.noun}中的{right}之和是多少（单位：{unit}）？",
            ),
        }
        for key, text in texts.items():
            steps = abs(a.steps - b.steps) if key == "difference" else a.steps + b.steps
            answer, form, variants = number_answer(steps, measure.decimals, unit)
            name = f"p{first.number}-p{second.number}-{key}-{slug(a.item)}"
            found.append(
                Hop(
                    f"hops/{key}",
                    name,
                    text,
                    answer,
                    _pair(first, second),
                    (a.box, b.box),
                    (first.kind, second.kind),
                    form,
                    variants,
                )
            )
    return found


def _changes(first: DrawnPage, second: DrawnPage, a: Cell, b: Cell) -> list[Hop]:
    """How a value differs between two editions, and in which of them it is higher."""
    if a.steps is None or b.steps is None or a.steps == b.steps:
        return []
    brief = first.brief
    measure = measure_of(first.kind, brief)
    unit = brief.say(measure.unit)
    organisation = brief.say(brief.identity.organisation)
    editions = [brief.say(page.brief.identity.edition) for page in (first, second)]
    what, which = value_words(first.kind, brief, a.column), column_words(brief, a.column)
    answer, form, variants = number_answer(abs(a.steps - b.steps), measure.decimals, unit)
    higher = first if a.steps > b.steps else second
    name = f"p{first.number}-vs-{second.brief.identity.code.lower()}-{slug(a.item)}-{slug(a.column)}".rstrip("-")
    change = brief.say(
        f"By how much, in {unit}, does the figure for {what} of {a.item}{which} in the {first.noun} of {organisation} "
        f"differ between {editions[0]} and {editions[1]}?",
        f"根据{organisation}的{first.noun}，{a.item}的{what}{which}在{editions[0]}与{editions[1]}之间相差多少（单位：{unit}）？",
    )
    compare = brief.say(
        f"In which edition does {a.item} have the higher {what}{which} in the {first.noun} of {organisation}, "
        f"{editions[0]} or {editions[1]}?",
        f"根据{organisation}的{first.noun}，{a.item}的{what}{which}在哪一期更高：{editions[0]}还是{editions[1]}？",
    )
    identity = higher.brief.identity
    named = brief.say(identity.edition)
    kinds = (first.kind, second.kind)
    codes = (f"{identity.code} {identity.year}", named, named.removeprefix("the "), named.split(" of ")[0])
    return [
        Hop(
            "hops/change", f"{name}-change", change, answer, _pair(first, second), (a.box, b.box), kinds, form, variants
        ),
        Hop(
            "hops/compare",
            f"{name}-compare",
            compare,
            identity.code,
            _pair(first, second),
            (a.box, b.box),
            kinds,
            "Str",
            tuple(dict.fromkeys(codes)),
        ),
    ]
