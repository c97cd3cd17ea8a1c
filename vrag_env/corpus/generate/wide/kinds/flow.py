"""Flow chart: a process with one decision."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import INK, WHITE, Frame, union
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Drawing
from vrag_env.corpus.generate.wide.fillers import share_area
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import Term, terms

PROCESSES = terms(
    "complaints=投诉处理, purchases=采购流程, new staff=入职流程, repairs=维修流程, "
    "travel=差旅流程, data requests=数据申请"
)
_STEPS = terms(
    "Open a case=建立案卷, Check the form=检查表格, Call the sender=致电发件人, "
    "Ask for papers=索取文件, Enter the data=录入数据, "
    "Print a label=打印标签, Inform the head=通知主管, Sign the note=签署便条, "
    "Book a date=预约日期, Weigh the item=称量物品, "
    "Seal the box=封好箱子, Send a receipt=发送回执, File a copy=归档副本, "
    "Close the case=结束案卷, Take a photo=拍摄照片, "
    "Scan the code=扫描条码"
)
_DECISIONS = terms("Complete?=是否完整？, Urgent?=是否紧急？, Approved?=是否批准？, Under budget?=预算内？")


def draw(paper: Paper, brief: Brief) -> Drawing:
    """Draw three steps, a decision, and two steps for each of its answers."""
    x0, y0, x1, y1 = share_area(paper, brief)
    size = brief.size
    shown: list[Term] = brief.dice.spread(_TURNS, 1)[0]
    absent = [term for term in _STEPS if term not in shown][:4]
    steps = [brief.say(term) for term in shown]
    decision = brief.say(_DECISIONS[brief.dice.rng.randrange(len(_DECISIONS))])
    yes, no = brief.say("yes", "是"), brief.say("no", "否")
    gap_x, gap_y = 38.0, 34.0
    wide, tall = (x1 - x0 - 3 * gap_x) / 4, (y1 - y0 - 2 * gap_y - 8) / 3
    tall = min(tall, 96.0)

    def place(column: int, row: int) -> Frame:
        left, top = x0 + column * (wide + gap_x), y0 + 8 + row * (tall + gap_y)
        return (left, top, left + wide, top + tall)

    # Three steps down the left, the decision beside the last one, its answers to the upper and the lower right.
    frames = [place(0, 0), place(0, 1), place(0, 2), place(2, 0), place(3, 0), place(2, 2), place(3, 2)]
    choice = place(1, 2)
    ink = paper.look.accent
    for i, (frame, step) in enumerate(zip(frames, steps, strict=True)):
        paper.rect(frame, paper.look.tint, paper.style.colour(i % 6), line=1.3, radius=6)
        inner = (frame[0] + 6, frame[1] + 5, frame[2] - 6, frame[3] - 5)
        paper.paragraph(inner, step, size, align="centre", middle=True)
    cx, cy = (choice[0] + choice[2]) / 2, (choice[1] + choice[3]) / 2
    paper.polygon([(choice[0], cy), (cx, choice[1]), (choice[2], cy), (cx, choice[3])], WHITE, INK, line=1.3)
    paper.fit(cx, cy + size * 0.35, decision, size, wide * 0.62, align="centre")
    for a, b in ((0, 1), (1, 2)):
        x = (frames[a][0] + frames[a][2]) / 2
        paper.arrow(x, frames[a][3], x, frames[b][1], ink)
    paper.arrow(frames[2][2], cy, choice[0], cy, ink)
    paper.arrow(choice[2], cy, frames[5][0], cy, ink)
    upper = (frames[3][1] + frames[3][3]) / 2
    paper.line(cx, choice[1], cx, upper, ink, 1.0)
    paper.arrow(cx, upper, frames[3][0], upper, ink)
    paper.arrow(frames[3][2], upper, frames[4][0], upper, ink)
    paper.arrow(frames[5][2], cy, frames[6][0], cy, ink)
    paper.text(cx + 5, choice[1] - 8, yes, size, bold=True)
    paper.text(choice[2] + 5, cy - 5, no, size, bold=True)

    def after(key: str, known: int, answer: int) -> Ask:
        body = brief.say(f'which step follows "{steps[known]}"', f"“{steps[known]}”之后是哪一步")
        return Ask("flow/next", key, body, steps[answer], paper.box(union(frames[known], frames[answer])))

    def before(key: str, known: int, answer: int) -> Ask:
        body = brief.say(f'which step comes directly before "{steps[known]}"', f"“{steps[known]}”之前是哪一步")
        return Ask("flow/before", key, body, steps[answer], paper.box(union(frames[known], frames[answer])))

    def branch(key: str, word: str, answer: int) -> Ask:
        body = brief.say(
            f'which step comes next if the answer to "{decision}" is {word}',
            f"如果“{decision}”的答案为“{word}”，下一步是什么",
        )
        return Ask(
            "flow/branch", key, body, steps[answer], paper.box(union(choice, frames[answer])), difficulty="medium"
        )

    asks = (
        after("next-0", 0, 1),
        after("next-1", 1, 2),
        after("next-3", 3, 4),
        after("next-5", 5, 6),
        before("before-1", 1, 0),
        before("before-2", 2, 1),
        before("before-4", 4, 3),
        before("before-6", 6, 5),
        branch("yes", yes, 3),
        branch("no", no, 5),
    )
    missing = tuple(
        (f"absent-{k}", brief.say(f'which step follows "{term[0]}"', f"“{term[1]}”之后是哪一步"))
        for k, term in enumerate(absent)
    )
    return Drawing((), asks, missing)


def _turns() -> list[list[Term]]:
    """Sixteen processes of seven steps; no two have the same step in the same place."""
    return [[_STEPS[(start + 5 * k) % len(_STEPS)] for k in range(7)] for start in range(len(_STEPS))]


_TURNS = _turns()
