"""Data sheet: a drawing of a device, its properties, and conditions in small print."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import INK, RULE, SOFT, WHITE, Frame, union
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Drawing
from vrag_env.corpus.generate.wide.fillers import SENTENCES, share_area
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import terms

DEVICES = terms(
    "label printer=标签打印机, floor scale=地磅, ticket gate=检票闸机, hand lamp=手提灯, pump unit=水泵机组, "
    "ladder lift=梯式升降机"
)
_PROPERTIES = terms(
    "Height=高度, Width=宽度, Depth=深度, Net weight=净重, Rated power=额定功率, "
    "Noise level=噪声, Cable length=电缆长度, "
    "Warranty=保修期, Service interval=维护间隔, Start-up time=启动时间, Load limit=载重上限, Tank volume=水箱容量"
)
_UNITS = terms(
    "mm=毫米, mm=毫米, mm=毫米, kg=千克, W=瓦, dB=分贝, cm=厘米, months=个月, days=天, s=秒, kg=千克, litres=升"
)
SHOWN = 8


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw the picture on the left and the properties on the right."""
    x0, y0, x1, y1 = share_area(paper, brief)
    chosen = brief.dice.choose(range(len(_PROPERTIES)), SHOWN)
    values = brief.dice.spread(range(112, 990), SHOWN)
    half = x0 + (x1 - x0) * 0.42
    _picture(paper, brief, (x0, y0 + 6, half - 20, y0 + (y1 - y0) * 0.72))
    row = min((y1 - y0) * 0.72 / SHOWN, 44.0)
    asks = []
    for i, (number, value) in enumerate(zip(chosen, values, strict=True)):
        name, unit = brief.say(_PROPERTIES[number]), brief.say(_UNITS[number])
        top = y0 + 6 + i * row
        if i % 2 == 0:
            paper.rect((half, top, x1, top + row), paper.look.tint)
        base = top + row / 2
        label = paper.text(half + 8, base + brief.label * 0.35, name, brief.label, bold=True)
        printed = paper.text(x1 - 8, base + brief.size * 0.35, f"{value} {unit}", brief.size, align="right")
        box = paper.box(union(label, printed, (half, top, x1, top + row)))
        asks.append(
            Ask(
                "spec/value",
                f"value-{number}",
                _body(brief, number),
                str(value),
                box,
                "Int",
                (f"{value} {unit}",),
                source_type="Table",
            )
        )
    small = max(min(brief.size, 7.0), 4.0)
    notes = ("" if brief.language else " ").join(brief.say(pair) for pair in brief.dice.choose(SENTENCES, 9))
    paper.paragraph((x0, y0 + (y1 - y0) * 0.72 + 22, x1, y1 - 4), notes, small, colour=SOFT)
    absent = [number for number in range(len(_PROPERTIES)) if number not in chosen]
    return Drawing((), tuple(asks), tuple((f"absent-{number}", _body(brief, number)) for number in absent))


def _body(brief: Brief, number: int) -> str:
    english, chinese = _PROPERTIES[number]
    return brief.say(f"what is the {english.lower()}, in {_UNITS[number][0]}", f"{chinese}是多少{_UNITS[number][1]}")


def _picture(paper: Paper, brief: Brief, frame: Frame) -> None:
    """Draw something that looks like a device in front of a grid."""
    x0, y0, x1, y1 = frame
    paper.rect(frame, WHITE, RULE, line=0.8)
    for k in range(1, 8):
        paper.line(x0 + (x1 - x0) * k / 8, y0, x0 + (x1 - x0) * k / 8, y1, RULE, 0.25)
        paper.line(x0, y0 + (y1 - y0) * k / 8, x1, y0 + (y1 - y0) * k / 8, RULE, 0.25)
    rng = brief.dice.rng
    width, height = (x1 - x0) * rng.uniform(0.45, 0.65), (y1 - y0) * rng.uniform(0.4, 0.6)
    left, top = (x0 + x1 - width) / 2, (y0 + y1 - height) / 2
    paper.rect((left, top, left + width, top + height), paper.look.accent, INK, line=1.4, radius=10)
    paper.rect(
        (left + width * 0.1, top + height * 0.12, left + width * 0.65, top + height * 0.48),
        WHITE,
        INK,
        line=1.0,
        radius=4,
    )
    for k in range(3):
        y = top + height * (0.62 + 0.1 * k)
        paper.rect((left + width * 0.1, y, left + width * 0.9, y + 3), paper.look.tint)
    for k in range(rng.randint(2, 4)):
        x = left + width * 0.75
        y = top + height * 0.14 + 16 * k
        paper.rect((x, y, x + 9, y + 9), paper.style.colour(k), radius=4.5)
    for x in (left + width * 0.15, left + width * 0.75):
        paper.rect((x, top + height, x + width * 0.1, top + height + 8), INK)
