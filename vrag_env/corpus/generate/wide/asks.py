"""Questions about one page that follow from its values, whatever the page looks like."""

from __future__ import annotations

from itertools import pairwise

from vrag_env.corpus.generate.wide.facts import Ask, Brief, Cell, Drawing, evidence_of, slug
from vrag_env.corpus.generate.wide.registry import KINDS, measure_of

_PAIRS = 3
"""Differences that are asked for in each column."""
_TIMES = 4
"""Fewest points in time among which a highest one is asked for."""


def number_answer(steps: int, decimals: int, unit: str) -> tuple[str, str, tuple[str, ...]]:
    """Write a number as an answer.

    Returns:
        The answer, its format, and its variants.

    >>> number_answer(425, 1, "euros")
    ('42.5', 'Float', ('42.5 euros',))
    """
    text = f"{steps / 10:.1f}" if decimals else str(steps)
    return text, "Float" if decimals else "Int", (f"{text} {unit}",)


def column_words(brief: Brief, column: str) -> str:
    """Return the words that name a column after an item, with a space before them in English."""
    return brief.say(f" ({column})", f"（{column}）") if column else ""


def value_words(kind: str, brief: Brief, column: str) -> str:
    """Return what questions call the values of a column."""
    # A table calls its column without a name the total; its other columns hold the plain measure.
    pattern = KINDS[kind].value if not column or kind != "table" else KINDS["bars"].value
    return KINDS[kind].say(brief, pattern)


def lookup_body(kind: str, brief: Brief, item: str, column: str) -> str:
    """Ask for one value."""
    what, which = value_words(kind, brief, column), column_words(brief, column)
    if KINDS[kind].numeric:
        unit = brief.say(measure_of(kind, brief).unit)
        return brief.say(
            f"what figure is given for the {what} of {item}{which}, in {unit}",
            f"{item}{which}的{what}是多少（单位：{unit}）",
        )
    return brief.say(f"what is the {what} of {item}", f"{item}的{what}是什么")


def lookup(kind: str, brief: Brief, cell: Cell) -> Ask:
    """Ask for the value of a cell."""
    key = f"value-{slug(cell.item)}-{slug(cell.column)}".rstrip("-")
    body = lookup_body(kind, brief, cell.item, cell.column)
    if cell.steps is None:
        answer, form, variants = cell.text, "Int" if cell.text.isdecimal() else "Str", cell.variants
    else:
        measure = measure_of(kind, brief)
        answer, form, variants = number_answer(cell.steps, measure.decimals, brief.say(measure.unit))
        variants = tuple(dict.fromkeys((*variants, *(v for v in cell.variants if v != answer))))
        if cell.text != answer and cell.text not in variants:
            variants = (*variants, cell.text)
    return Ask(f"{kind}/value", key, body, answer, cell.box, form, variants)


def columns_of(cells: tuple[Cell, ...]) -> dict[str, list[Cell]]:
    """Group cells by column, in their order."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.column, []).append(cell)
    return found


def extreme(cells: list[Cell], rank: int) -> Cell:
    """Return the cell with the highest value (0), the second highest (1), the lowest (-1)."""
    return sorted(cells, key=lambda cell: -(cell.steps or 0))[rank]


RANKS: tuple[tuple[str, int, str, str], ...] = (
    ("highest", 0, "the highest", "最高"),
    ("lowest", -1, "the lowest", "最低"),
    ("second", 1, "the second highest", "第二高"),
)
"""Key, place, and what a question calls it."""


def asks_of(kind: str, brief: Brief, drawing: Drawing) -> list[Ask]:
    """Return everything that can be asked about a page."""
    asks = [*drawing.asks, *(lookup(kind, brief, cell) for cell in drawing.cells)]
    if not KINDS[kind].numeric:
        return asks
    measure = measure_of(kind, brief)
    unit, item_kind = brief.say(measure.unit), brief.say(brief.theme.item)
    for column, cells in columns_of(drawing.cells).items():
        what, which = value_words(kind, brief, column), column_words(brief, column)
        box = evidence_of(cells)
        if not KINDS[kind].banded:
            for key, place, english, chinese in RANKS:
                body = brief.say(
                    f"which {item_kind} has {english} {what}{which}", f"哪个{item_kind}的{what}{which}{chinese}"
                )
                answer = extreme(cells, place).item
                asks.append(
                    Ask(f"{kind}/{key}", f"{key}-{slug(column)}".rstrip("-"), body, answer, box, difficulty="medium")
                )
        for pair in list(pairwise(cells))[:_PAIRS]:
            more, less = sorted(pair, key=lambda cell: -(cell.steps or 0))
            body = brief.say(
                f"by how much, in {unit}, does {more.item} exceed {less.item} in {what}{which}",
                f"{more.item}的{what}{which}比{less.item}高多少（单位：{unit}）",
            )
            answer, form, variants = number_answer((more.steps or 0) - (less.steps or 0), measure.decimals, unit)
            key = f"difference-{slug(more.item)}-{slug(less.item)}-{slug(column)}".rstrip("-")
            asks.append(
                Ask(
                    f"{kind}/difference",
                    key,
                    body,
                    answer,
                    evidence_of([more, less]),
                    form,
                    variants,
                    difficulty="medium",
                )
            )
    by_item: dict[str, list[Cell]] = {}
    for cell in drawing.cells:
        if cell.column:
            by_item.setdefault(cell.item, []).append(cell)
    for item, cells in by_item.items():
        if len(cells) >= _TIMES and kind != "merged":
            best = extreme(cells, 0)
            if [cell.steps for cell in cells].count(best.steps) == 1:
                what = value_words(kind, brief, best.column)
                body = brief.say(f"when does {item} have the highest {what}", f"{item}的{what}何时最高")
                asks.append(
                    Ask(
                        f"{kind}/when",
                        f"when-{slug(item)}",
                        body,
                        best.column,
                        evidence_of(cells),
                        difficulty="medium",
                    )
                )
    return asks


def missing_of(kind: str, brief: Brief, drawing: Drawing) -> list[tuple[str, str]]:
    """Return ``(key, body)`` of questions that sound like the others and that no page answers."""
    found = list(drawing.missing)
    columns = list(columns_of(drawing.cells))
    for k, term in enumerate(brief.absent if columns else ()):
        item = brief.say(term)
        found.append((f"absent-{slug(term[0])}", lookup_body(kind, brief, item, columns[k % len(columns)])))
    return found
