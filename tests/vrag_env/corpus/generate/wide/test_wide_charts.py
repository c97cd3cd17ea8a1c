"""Answers recomputed from the shapes and words of the PDF, without the numbers of the generator."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from drawn import Frame, Shape, Sheet, draw, look_at, opened

from vrag_env.corpus.generate.wide.asks import asks_of
from vrag_env.corpus.generate.wide.facts import Ask
from vrag_env.corpus.generate.wide.hops import DrawnPage, hops_across, hops_inside
from vrag_env.corpus.generate.wide.terms import MONTHS

SEEDS = (1, 2)


def page_of(kind: str, seed: int) -> tuple[Sheet, list[Ask], DrawnPage]:
    document = draw(seed=seed, kinds=(kind,), injection_share=0.0)
    with opened(document.pdf) as pdf:
        drawn = document.pages[0]
        return look_at(pdf[0]), asks_of(kind, drawn.brief, drawn.drawing), drawn


def axis_of(sheet: Sheet) -> tuple[float, float]:
    """Slope and offset of the vertical axis: value = slope * y + offset, from the ticks printed beside it."""
    ticks = [
        (float(text), (frame[1] + frame[3]) / 2)
        for text, frame in sheet.texts
        if re.fullmatch(r"\d+(\.\d+)?", text.strip()) and 72 < frame[2] < 76
    ]
    assert len(ticks) >= 4
    values, ys = zip(*ticks, strict=True)
    slope, offset = np.polyfit(ys, values, 1)
    assert np.abs(np.array(ys) * slope + offset - values).max() < 0.01 * max(values)
    return float(slope), float(offset)


def inside(shape: Shape, sheet: Sheet, box: tuple[float, float, float, float]) -> bool:
    frame = (box[0] * sheet.width, box[1] * sheet.height, box[2] * sheet.width, box[3] * sheet.height)
    x0, y0, x1, y1 = shape.frame
    return frame[0] - 1 <= x0 and frame[1] - 1 <= y0 and x1 <= frame[2] + 1 and y1 <= frame[3] + 1


def legend_of(sheet: Sheet, word: str) -> tuple[int, int, int]:
    """Colour of the square left of a word."""
    frame = sheet.place(word)
    middle = (frame[1] + frame[3]) / 2
    [square] = [
        shape
        for shape in sheet.shapes
        if 0 < frame[0] - shape.frame[2] < 14 and shape.frame[1] < middle < shape.frame[3] and width(shape) < 20
    ]
    return square.fill


def width(shape: Shape) -> float:
    return shape.frame[2] - shape.frame[0]


def number(ask: Ask) -> float:
    return float(ask.answer)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["bars", "stacked"])
def test_bars_are_as_high_as_what_is_answered(kind: str, seed: int) -> None:
    sheet, asks, drawn = page_of(kind, seed)
    slope, _ = axis_of(sheet)
    heights: dict[tuple[str, str], float] = {}
    for cell in drawn.drawing.cells:
        colour = legend_of(sheet, cell.column)
        bars = [s for s in sheet.shapes if s.fill == colour and width(s) > 20 and inside(s, sheet, cell.box)]
        assert len(bars) == 1
        heights[cell.item, cell.column] = (bars[0].frame[3] - bars[0].frame[1]) * -slope
    assert len(heights) == 12
    check(asks, heights)


@pytest.mark.parametrize("seed", SEEDS)
def test_points_of_lines_are_as_high_as_what_is_answered(seed: int) -> None:
    sheet, asks, drawn = page_of("lines", seed)
    slope, offset = axis_of(sheet)
    heights: dict[tuple[str, str], float] = {}
    for cell in drawn.drawing.cells:
        colour = legend_of(sheet, cell.item)
        x = sum(sheet.place(cell.column)[0::2]) / 2
        points = [s for s in sheet.shapes if s.fill == colour and width(s) < 6 and abs(sum(s.frame[0::2]) / 2 - x) < 2]
        assert len(points) == 1
        heights[cell.item, cell.column] = sum(points[0].frame[1::2]) / 2 * slope + offset
    check(asks, heights)


@pytest.mark.parametrize("seed", SEEDS)
def test_dots_of_a_scatter_plot_lie_where_what_is_answered_says(seed: int) -> None:
    sheet, asks, drawn = page_of("scatter", seed)
    slope, offset = axis_of(sheet)
    dots = {}
    for cell in drawn.drawing.cells:
        [dot] = [
            s for s in sheet.shapes if 7 < s.frame[3] - s.frame[1] < 10 and width(s) < 10 and inside(s, sheet, cell.box)
        ]
        dots[cell.item] = (sum(dot.frame[0::2]) / 2, sum(dot.frame[1::2]) / 2)
    check(asks, {(item, ""): y * slope + offset for item, (_, y) in dots.items()})
    dashes = [s for s in sheet.shapes if 5 < width(s) < 9 and s.frame[3] - s.frame[1] < 3]
    line = np.median([sum(s.frame[1::2]) / 2 for s in dashes])
    assert min(abs(y - line) for _, y in dots.values()) > 6  # a point is four wide: none is on the line
    own = {ask.key: ask.answer for ask in asks}
    assert own["above"] == str(sum(y < line for _, y in dots.values()))
    assert own["right"] == max(dots, key=lambda item: dots[item][0])
    assert own["left"] == min(dots, key=lambda item: dots[item][0])


@pytest.mark.parametrize("seed", SEEDS)
def test_slices_are_as_large_as_what_is_answered(seed: int) -> None:
    sheet, asks, drawn = page_of("pie", seed)
    areas = {}
    for cell in drawn.drawing.cells:
        colour = legend_of(sheet, cell.item)
        [piece] = [s for s in sheet.shapes if s.fill == colour and len(s.points) > 20]
        x, y = np.array(piece.points).T
        areas[cell.item, ""] = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    total = sum(areas.values())
    check(asks, {key: 100 * area / total for key, area in areas.items()})


@pytest.mark.parametrize("seed", SEEDS)
def test_the_darker_a_cell_of_a_heat_map_the_higher_its_value(seed: int) -> None:
    sheet, asks, drawn = page_of("heatmap", seed)
    found = []
    values: dict[tuple[str, str], float] = {}
    for cell in drawn.drawing.cells:
        item, column = sheet.place(cell.item), sheet.place(cell.column)
        x, y = (column[0] + column[2]) / 2, (item[1] + item[3]) / 2  # where row and column meet
        [square] = [
            s
            for s in sheet.shapes
            if s.frame[0] < x < s.frame[2] and s.frame[1] < y < s.frame[3] and 40 < width(s) < 200
        ]
        [text] = [
            text
            for text, f in sheet.texts
            if square.frame[0] < f[0] and f[2] < square.frame[2] and square.frame[1] < f[1] and f[3] < square.frame[3]
        ]
        values[cell.item, cell.column] = float(text)
        found.append((float(text), sum(square.fill)))
    darkness = [colour for _, colour in sorted(found)]
    assert all(a >= b for a, b in itertools.pairwise(darkness)) and darkness[0] > darkness[-1]
    check(asks, values, 1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["table", "merged"])
def test_cells_of_a_table_stand_where_row_and_column_meet(kind: str, seed: int) -> None:
    sheet, asks, drawn = page_of(kind, seed)
    theme = drawn.brief.theme
    heads = sorted(
        (frame for text, frame in sheet.texts if text.strip() in {t[0] for t in theme.columns} | {"Total"}),
        key=lambda frame: frame[0],
    )
    names = [
        text
        for text, _ in sorted(
            ((text.strip(), frame) for text, frame in sheet.texts if frame in heads), key=lambda pair: pair[1][0]
        )
    ]
    if kind == "merged":
        halves = sorted((sheet.place(term[0]), term[0]) for term in theme.series)
        names = [f"{halves[k // 2][1]}, {name}" for k, name in enumerate(names)]
    values: dict[tuple[str, str], float] = {}
    for item in {cell.item for cell in drawn.drawing.cells}:
        row = sheet.place(item)
        line = sorted(
            (frame[2], float(text))
            for text, frame in sheet.texts
            if abs(sum(frame[1::2]) - sum(row[1::2])) < 8 and re.fullmatch(r"\d+(\.\d+)?", text.strip())
        )
        assert [round(x) for x, _ in line] == pytest.approx([round(frame[2]) for frame in heads], abs=2)
        for name, (_, value) in zip(names, line, strict=True):
            values[item, "" if name == "Total" else name] = value
        if kind == "table":
            assert line[-1][1] == pytest.approx(sum(value for _, value in line[:-1]))
    check(asks, values, 1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_prose_and_tiles_say_what_is_answered(seed: int) -> None:
    sheet, asks, drawn = page_of("prose", seed)
    text = " ".join(sheet.text.split())
    stated = {}
    for cell in drawn.drawing.cells:
        [sentence] = [s for s in re.split(r"(?<=[.])\s(?=[A-Z])", text) if re.search(rf"\b{cell.item}\b.*\d", s)]
        stated[cell.item, ""] = float(re.findall(r"\d+(?:\.\d+)?", sentence)[-1])
    check(asks, stated, 1e-9)
    sheet, asks, drawn = page_of("tiles", seed)
    places = {cell.item: sheet.place(cell.item) for cell in drawn.drawing.cells}
    below = {}
    for item, frame in places.items():
        near = [(f[1], t) for t, f in sheet.texts if abs(f[0] - frame[0]) < 3 and 0 < f[1] - frame[3] < 30]
        below[item, ""] = float(min(near)[1].split()[0])
    check([ask for ask in asks if ask.source_type != "Layout"], below, 1e-9)
    for ask in asks:
        if ask.template == "tiles/right":
            known = places[ask.body.rsplit(" of ", 1)[1]]
            right = [i for i, f in places.items() if abs(f[1] - known[1]) < 3 and f[0] > known[0] + 3]
            assert ask.answer == min(right, key=lambda item: places[item][0])
        if ask.template == "tiles/below":
            known = places[ask.body.rsplit(" below ", 1)[1]]
            assert ask.answer in [i for i, f in places.items() if abs(f[0] - known[0]) < 3 and f[1] > known[1] + 3]


@pytest.mark.parametrize("seed", (*SEEDS, 3))
def test_rooms_lie_where_what_is_answered_says(seed: int) -> None:
    sheet, asks, drawn = page_of("plan", seed)
    corridor = sheet.place("Corridor")[1]
    rooms = [(t.strip(), f) for t, f in sheet.texts if f[1] > 90]
    labels = {t: f for t, f in rooms if f"Room {t}" and t in {c.item for c in drawn.drawing.cells}}
    labels |= {t: f for t, f in rooms if t in ("Kitchen", "Storage", "Lounge", "Printing")}
    rows = [sorted((f[0], t) for t, f in labels.items() if (f[1] < corridor) is upper) for upper in (True, False)]
    assert [len(row) for row in rows] == [4, 4]
    for ask in asks:
        kind = ask.template.split("/")[1]
        row = next(row for row in rows if kind == "lower" or any(t in ask.body.split() for _, t in row))
        names = [t for _, t in row]
        if kind == "right":
            assert names[names.index(ask.body.rsplit(" of ", 1)[1]) + 1] == ask.answer
        elif kind == "left":
            assert names[names.index(ask.body.rsplit(" of ", 1)[1]) - 1] == ask.answer
        elif kind == "lower":
            words = ("first", "second", "third", "fourth")
            position = next(k for k, word in enumerate(words) if f"the {word} room" in ask.body)
            assert [t for _, t in rows[1]][position] == ask.answer
        else:
            item = ask.body.rsplit(" of ", 1)[1]
            frame = labels[item]
            [number] = [
                t for t, f in rooms if t.startswith("Room ") and abs(f[0] - frame[0]) < 3 and 0 < f[1] - frame[1] < 40
            ]
            assert number == f"Room {ask.answer}"


@pytest.mark.parametrize("seed", (*SEEDS, 3, 4))
def test_dates_and_their_order(seed: int) -> None:
    sheet, asks, drawn = page_of("timeline", seed)
    months = [english for english, _ in MONTHS]
    dates = {}
    order = []
    for cell in drawn.drawing.cells:
        label = sheet.place(cell.item)
        x = (label[0] + label[2]) / 2
        [text] = [t.strip() for t, f in sheet.texts if abs((f[0] + f[2]) / 2 - x) < 4 and 0 < f[1] - label[1] < 25]
        day, month = text.split()
        dates[cell.item] = (months.index(month), int(day), text)
        order.append((x, cell.item))
    names = [item for _, item in sorted(order)]
    assert names == sorted(names, key=lambda item: dates[item])
    for ask in asks:
        kind = ask.template.split("/")[1]
        items = [item for item in names if re.search(rf"\b{item}\b", ask.body)]
        if kind == "value":
            assert ask.answer == dates[items[0]][2]
        elif kind == "days":
            a, b = dates[items[0]], dates[items[1]]
            assert a[0] == b[0] and int(ask.answer) == abs(a[1] - b[1])
        else:
            step = 1 if kind == "after" else -1
            assert ask.answer == names[names.index(items[0]) + step]


@pytest.mark.parametrize("seed", SEEDS)
def test_arrows_lead_from_a_step_to_the_next(seed: int) -> None:
    sheet, asks, _ = page_of("flow", seed)
    boxes = {}
    for text, frame in sheet.texts:
        around = [
            s.frame
            for s in sheet.shapes
            if s.frame[0] < frame[0]
            and frame[2] < s.frame[2]
            and s.frame[1] < frame[1]
            and frame[3] < s.frame[3]
            and 60 < width(s) < 220
        ]
        if around:
            boxes[" ".join(text.split())] = min(around, key=lambda f: f[2] - f[0])
    tips = [s.points for s in sheet.shapes if len(s.points) == 4 and width(s) < 8 and s.points[0] == s.points[3]]
    assert len(tips) >= 6

    def into(frame: Frame) -> bool:
        return any(frame[0] - 1 <= p[0][0] <= frame[2] + 1 and frame[1] - 1 <= p[0][1] <= frame[3] + 1 for p in tips)

    for ask in asks:
        kind = ask.template.split("/")[1]
        if kind == "branch":
            assert into(boxes[ask.answer])
            yes = ask.body.endswith("yes")
            assert (boxes[ask.answer][3] < sheet.height / 2) is yes  # "yes" leads up, "no" to the right
            continue
        known = boxes[ask.body.split('"')[1]]
        other = boxes[ask.answer]
        first, second = (known, other) if kind == "next" else (other, known)
        same_row = abs(first[1] - second[1]) < 2 and 0 < second[0] - first[2] < 60
        same_column = abs(first[0] - second[0]) < 2 and 0 < second[1] - first[3] < 60
        assert same_row != same_column and into(second)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_under_whom(seed: int) -> None:
    sheet, asks, _ = page_of("tree", seed)

    def below(word: str) -> str:
        label = sheet.place(word)
        x = (label[0] + label[2]) / 2
        [text] = [t.strip() for t, f in sheet.texts if abs((f[0] + f[2]) / 2 - x) < 4 and 0 < f[1] - label[1] < 25]
        return text

    for ask in asks:
        kind = ask.template.split("/")[1]
        if kind == "head":
            assert ask.answer == below("Head")
        elif kind == "value":
            assert ask.answer == below(ask.body.rsplit(" of ", 1)[1])
        else:
            label = sheet.place(ask.body.split("in charge of ")[1].removesuffix(" report"))
            left = (label[0] + label[2]) / 2 < sheet.width / 2
            assert ask.answer == below("First deputy" if left else "Second deputy")


@pytest.mark.parametrize("seed", SEEDS)
def test_symbols_are_what_is_answered(seed: int) -> None:
    """By the number of corners: pdfium sees a circle, a square and so on as their outlines."""
    corners = {33: "circle", 5: "square", 4: "triangle", 11: "star", 13: "cross"}
    sheet, asks, drawn = page_of("board", seed)
    seen = {}
    for cell in drawn.drawing.cells:
        symbols = [s for s in sheet.shapes if width(s) < 14 and inside(s, sheet, cell.box)]
        assert len(symbols) == 1
        seen[cell.item] = corners.get(len(symbols[0].points), "moon")
    for ask in asks:
        if ask.template == "board/value":
            assert ask.answer == seen[ask.body.rsplit(" of ", 1)[1]]
        else:
            assert ask.answer == str(list(seen.values()).count(ask.body.rsplit(" ", 1)[1].strip()))


def test_data_sheets_say_what_is_answered() -> None:
    sheet, asks, _ = page_of("spec", 1)
    for ask in asks:
        name = ask.body.removeprefix("what is the ").split(", in ")[0].capitalize()
        label = sheet.place(name)
        [text] = [t for t, f in sheet.texts if abs(sum(f[1::2]) - sum(label[1::2])) < 6 and f[0] > label[2]]
        assert text.split()[0] == ask.answer


def test_two_pages_are_joined_by_what_they_print() -> None:
    """Chains, differences, sums and changes, from the values that the pages print for an item."""
    kinds = ("tiles", "prose", "scatter", "table")
    first, second = draw(seed=4, kinds=kinds, place=0), draw(seed=4, kinds=kinds, place=1)
    hops = hops_inside(first.pages) + hops_across(first.pages, second.pages)
    printed = {(page.brief.dice.place, page.number): page for page in (*first.pages, *second.pages)}
    seen = set()
    for hop in hops:
        (a, b), kind = (printed[place] for place in hop.pages), hop.template.split("/")[1]
        seen.add(kind)
        left = [c for c in a.drawing.cells if re.search(rf"\b{c.item}\b", hop.text) or kind == "chain"]
        if kind == "chain":
            column = next((c.column for c in left if c.column and f"({c.column}) in the {a.noun} of" in hop.text), "")
            cells = [c for c in left if c.column == column]
            best = (max if "the highest" in hop.text else min)(cells, key=lambda c: float(c.text))
            answers = [c.text for c in b.drawing.cells if c.item == best.item]
            assert hop.answer in answers
            continue
        values = []
        for page, box in zip((a, b), hop.boxes, strict=True):
            [cell] = [c for c in page.drawing.cells if c.box == box]
            assert re.search(rf"\b{cell.item}\b", hop.text)
            values.append(float(cell.text))
        if kind == "sum":
            assert float(hop.answer) == pytest.approx(sum(values))
        elif kind == "compare":
            assert hop.answer == (a if values[0] > values[1] else b).brief.identity.code
        else:
            assert float(hop.answer) == pytest.approx(abs(values[0] - values[1]))
    assert seen == {"chain", "difference", "sum", "change", "compare"} or seen == {"chain", "change", "compare"}


def check(asks: list[Ask], measured: dict[tuple[str, str], float], tolerance: float = 0.02) -> None:
    """Answer every question about values from measured ones, and compare."""
    items = {item for item, _ in measured}
    columns = {column for _, column in measured}
    largest = max(measured.values())
    checked = 0
    for ask in asks:
        kind = ask.template.split("/")[1]
        named = [item for item in sorted(items, key=len, reverse=True) if re.search(rf"\b{item}\b", ask.body)]
        column = next((c for c in columns if c and f"({c})" in ask.body), "")
        if kind == "value":
            assert number(ask) == pytest.approx(measured[named[0], column], abs=tolerance * largest), ask
        elif kind in ("highest", "lowest", "second"):
            ranked = sorted(((v, item) for (item, c), v in measured.items() if c == column), reverse=True)
            place = {"highest": 0, "lowest": -1, "second": 1}[kind]
            assert abs(ranked[place][0] - dict((i, v) for v, i in ranked)[ask.answer]) <= tolerance * largest, ask
        elif kind == "difference":
            more, less = re.search(r"does (.+) exceed (.+) in ", ask.body).groups()
            assert number(ask) == pytest.approx(
                measured[more, column] - measured[less, column], abs=tolerance * largest
            )
        elif kind == "when":
            best = max((v, c) for (item, c), v in measured.items() if item == named[0] and c)
            assert measured[named[0], ask.answer] >= best[0] - tolerance * largest, ask
        else:
            continue
        checked += 1
    assert checked >= 8
