"""Cards: a board of symbols that have no words, and a dashboard of tiles."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import RULE, WHITE, Frame, hls, union
from vrag_env.corpus.generate.symbols import SYMBOLS, draw_symbol
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import terms

TOPICS = terms("status=状态, alert=警报, progress=进度, readiness=就绪, repair=维修, staffing=人员")
_SYMBOL_NAMES = terms("circle=圆形, square=方形, triangle=三角形, star=星形, cross=十字, moon=月牙")
_ROW = 3
SHOWN = 6


def _frames(area: Frame) -> list[Frame]:
    x0, y0, x1, y1 = area
    gap = 16.0
    wide, tall = (x1 - x0 - 2 * gap) / _ROW, (y1 - y0 - gap - 8) / 2
    return [
        (
            x0 + (i % _ROW) * (wide + gap),
            y0 + 8 + (i // _ROW) * (tall + gap),
            x0 + (i % _ROW) * (wide + gap) + wide,
            y0 + 8 + (i // _ROW) * (tall + gap) + tall,
        )
        for i in range(SHOWN)
    ]


def draw_board(paper: Paper, brief: Brief) -> Drawing:
    """Draw six cards with a small symbol on each."""
    frames = _frames(share_area(paper, brief))
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    symbols = [brief.dice.spread(range(len(SYMBOLS)), 1)[0] for _ in range(SHOWN)]
    cells = []
    for i, (frame, item) in enumerate(zip(frames, items, strict=True)):
        x0, y0, x1, y1 = frame
        paper.rect(frame, paper.style.colour(i), radius=8)
        paper.fit(x0 + 12, y0 + 12 + brief.label, item, brief.label + 2, x1 - x0 - 24, bold=True, colour=WHITE)
        badge: Frame = ((x0 + x1) / 2 - 34, (y0 + y1) / 2 - 18, (x0 + x1) / 2 + 34, (y0 + y1) / 2 + 42)
        paper.rect(badge, WHITE, radius=4)
        draw_symbol(
            paper,
            SYMBOLS[symbols[i]],
            (badge[0] + badge[2]) / 2,
            (badge[1] + badge[3]) / 2,
            2.2 * brief.size,
            hls(brief.dice.rng.uniform(0, 360), 0.2, 0.5),
        )
        name = _SYMBOL_NAMES[symbols[i]]
        cells.append(Cell(item, "", brief.say(name), paper.box(frame), None, name if brief.language else ()))
    counts = [(k, symbols.count(k)) for k in range(len(SYMBOLS)) if symbols.count(k)]
    number, count = counts[0]
    english, chinese = _SYMBOL_NAMES[number]
    whole = paper.box(union(*frames))
    body = brief.say(f"on how many cards is the symbol a {english}", f"有多少张卡片的符号是{chinese}")
    return Drawing(
        tuple(cells), (Ask("board/count", f"count-{english}", body, str(count), whole, "Int", difficulty="hard"),)
    )


def draw_tiles(paper: Paper, brief: Brief) -> Drawing:
    """Draw six tiles with a value on each; where a tile lies can be asked for."""
    frames = _frames(share_area(paper, brief))
    measure = brief.measure
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    items = [items[k] for k in brief.dice.spread(_TURNS, 1)[0]]
    values = brief.dice.spread(range(measure.low, measure.high), SHOWN)
    cells = []
    for i, (frame, item) in enumerate(zip(frames, items, strict=True)):
        x0, y0, x1, y1 = frame
        paper.rect(frame, WHITE, RULE, line=1.2, radius=6)
        paper.rect((x0, y0, x0 + 6, y1), paper.style.colour(i), radius=3)
        paper.fit(x0 + 18, y0 + 14 + brief.label, item, brief.label + 3, x1 - x0 - 30, bold=True)
        text = measure.text(values[i])
        written = f"{text} {brief.say(measure.unit)}"
        paper.fit(x0 + 18, y0 + 26 + brief.label + brief.size, written, brief.size, x1 - x0 - 30)
        bar = (x0 + 18, y1 - 22, x1 - 16, y1 - 14)
        paper.rect(bar, paper.look.tint)
        share = (values[i] - measure.low * 0.5) / (measure.high - measure.low * 0.5)
        paper.rect((bar[0], bar[1], bar[0] + (bar[2] - bar[0]) * share, bar[3]), paper.style.colour(i))
        cells.append(Cell(item, "", text, paper.box(frame), values[i]))
    asks = []
    for i in range(SHOWN):
        if i % _ROW < _ROW - 1:
            box = paper.box(union(frames[i], frames[i + 1]))
            body = brief.say(f"which tile lies directly to the right of {items[i]}", f"紧邻{items[i]}右侧的是哪一格")
            asks.append(
                Ask("tiles/right", f"right-{i}", body, items[i + 1], box, difficulty="medium", source_type="Layout")
            )
        if i < _ROW:
            box = paper.box(union(frames[i], frames[i + _ROW]))
            body = brief.say(f"which tile lies directly below {items[i]}", f"{items[i]}正下方的是哪一格")
            asks.append(
                Ask("tiles/below", f"below-{i}", body, items[i + _ROW], box, difficulty="medium", source_type="Layout")
            )
    return Drawing(tuple(cells), tuple(asks))


_TURNS = [[(start + step * k) % SHOWN for k in range(SHOWN)] for start in range(SHOWN) for step in (1, 5)]
