"""Two columns of text; the values stand inside of the sentences."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import Frame, union
from vrag_env.corpus.generate.wide.facts import Brief, Cell, Drawing
from vrag_env.corpus.generate.wide.fillers import QUOTES, SENTENCES
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import Term

SHOWN = 6
_GUTTER = 26.0
_HEADINGS: tuple[Term, ...] = (
    ("A steady time", "平稳时期"),
    ("What we found", "我们的发现"),
    ("In detail", "详情"),
    ("At a glance", "概览"),
    ("Background", "背景"),
    ("Notes from the field", "现场记录"),
)
_PATTERNS: tuple[Term, ...] = (
    ("In {item}, the {measure} came to {value} {unit}.", "{item}的{measure}为{value}{unit}。"),
    ("{item} reported {measure} of {value} {unit}.", "据报，{item}的{measure}达到{value}{unit}。"),
    ("For {item} we noted {measure} of {value} {unit}.", "我们记录到{item}的{measure}为{value}{unit}。"),
)


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw three paragraphs a column, one value in each, and a quotation below them."""
    x0, y0, x1, y1 = paper.area
    measure, size = brief.measure, brief.size
    items = [brief.say(item) for item in brief.dice.choose(brief.items, SHOWN)]
    values = brief.dice.spread(range(measure.low, measure.high), SHOWN)
    headings = brief.dice.shuffled(_HEADINGS)
    fillers = brief.dice.shuffled(SENTENCES)
    width = (x1 - x0 - _GUTTER) / 2
    lead = size * 1.5
    head = max(size, 9.0) + 2
    room = (y1 - y0 - 60) / 3  # of one paragraph
    cells = []
    lowest = y0
    for i, (item, value) in enumerate(zip(items, values, strict=True)):
        x, y = x0 + (i // 3) * (width + _GUTTER), y0 + 4 + (i % 3) * room
        pattern = brief.say(_PATTERNS[brief.dice.rng.randrange(len(_PATTERNS))])
        text = measure.text(value)
        stated = pattern.format(item=item, measure=brief.say(measure.name), value=text, unit=brief.say(measure.unit))
        sentences = [brief.say(pair) for pair in fillers[5 * i : 5 * i + 5]]
        place = brief.dice.rng.randrange(len(sentences))
        paper.text(x, y + head * 0.8, brief.say(headings[i]), head, bold=True, colour=paper.look.accent)
        most = int((room - head - 16) / lead)
        lines, marked = _lines(paper, brief, [*sentences[:place], stated, *sentences[place:]], place, width)
        while len(lines) > most:  # leave out sentences from the end, never the one with the value
            sentences.pop()
            place = min(place, len(sentences))
            lines, marked = _lines(paper, brief, [*sentences[:place], stated, *sentences[place:]], place, width)
        frames: list[Frame] = []
        for k, line in enumerate(lines):
            frame = paper.text(x, y + head + 8 + k * lead + size * 0.5, line, size)
            if k in marked:
                frames.append(frame)
            lowest = max(lowest, frame[3])
        cells.append(Cell(item, "", text, paper.box(union(*frames)), value))
    paper.line(x0 + width + _GUTTER / 2, y0, x0 + width + _GUTTER / 2, y1 - 64, paper.look.tint, 1.0)
    paper.rect((x0, y1 - 48, x1, y1 - 8), paper.look.tint)
    paper.rect((x0, y1 - 48, x0 + 5, y1 - 8), paper.look.accent)
    quote = brief.say(QUOTES[brief.dice.rng.randrange(len(QUOTES))])
    paper.text((x0 + x1) / 2, y1 - 23, quote, 14, bold=True, colour=paper.look.accent, align="centre")
    return Drawing(tuple(cells))


def _lines(paper: Paper, brief: Brief, sentences: list[str], place: int, width: float) -> tuple[list[str], set[int]]:
    """Break sentences into lines; also return the numbers of the lines that hold sentence ``place``."""
    gap = "" if brief.language else " "
    lines = paper.wrap(gap.join(sentences), brief.size, width)
    before = len(gap.join(sentences[:place])) + (len(gap) if place else 0)
    end = before + len(sentences[place])
    marked, position = set(), 0
    for number, line in enumerate(lines):
        if position < end and position + len(line) > before:
            marked.add(number)
        position += len(line) + len(gap)
    return lines, marked
