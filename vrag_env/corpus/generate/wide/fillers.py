"""Sentences that fill a page and answer nothing, and the commentary that stands below a chart."""

from __future__ import annotations

from vrag_env.corpus.generate.drawing import SOFT, Frame
from vrag_env.corpus.generate.wide.facts import Brief
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import Term

SENTENCES: tuple[Term, ...] = (
    ("The figures were checked twice before they were printed.", "数据在付印前经过两次核对。"),
    ("Small differences are due to rounding.", "细微差异由四舍五入造成。"),
    ("Late entries will appear in the next issue.", "迟到的数据将在下一期刊出。"),
    ("The method is the same as in earlier issues.", "方法与以往各期相同。"),
    ("Two readers asked for larger print, and we will try.", "两位读者希望字体更大，我们会尽力。"),
    ("A storm delayed the collection by two days.", "一场风暴使收集工作推迟了两天。"),
    ("Older records were moved to the cellar and can be seen on request.", "旧档案已移至地下室，可按要求查阅。"),
    ("Nothing in this issue replaces the signed originals.", "本期内容不能代替签字原件。"),
    ("The new forms saved a good deal of time.", "新表格节省了不少时间。"),
    ("Comparisons should be made with care.", "比较时应当谨慎。"),
    ("We thank everyone who answered so patiently.", "感谢每一位耐心答复的人。"),
    ("Some instruments were replaced during the work.", "部分仪器在工作期间更换。"),
    ("The next issue will be shorter and come earlier.", "下一期将更短，也会更早发布。"),
    ("A few values had to be read a second time.", "少数数值不得不重新读取。"),
    ("The order of the entries has no meaning.", "条目的先后没有含义。"),
    ("Training for new staff was held in the spring.", "新员工培训在春季举行。"),
    ("Questions were answered within a week.", "所有疑问都在一周内得到答复。"),
    ("Storage was moved to a drier room.", "库房已移到更干燥的房间。"),
    ("The outlook is cautious but friendly.", "前景谨慎而乐观。"),
    ("Costs of printing stayed as they were.", "印刷费用保持不变。"),
    ("An outside reviewer found nothing serious.", "外部审阅者没有发现严重问题。"),
    ("The summary is written for people in a hurry.", "摘要是为匆忙的读者准备的。"),
    ("Tables and pictures follow the usual rules.", "图表遵循惯常的规则。"),
    ("The works council was heard on every point.", "各项内容都听取了职工委员会的意见。"),
    ("Deliveries by rail went on without a break.", "铁路运输没有中断。"),
    ("The canteen was rebuilt and is open again.", "食堂已重建并重新开放。"),
    ("No serious accident was reported.", "没有严重事故的报告。"),
    ("Several partners have renewed their contracts.", "多家伙伴续签了合同。"),
    ("What could not be measured was left out.", "无法测量的内容均已略去。"),
    ("The archive keeps all issues for ten years.", "档案室将各期保存十年。"),
)
QUOTES: tuple[Term, ...] = (
    ("Good work is quiet work.", "好的工作是安静的工作。"),
    ("We plan in decades and check every week.", "以十年为计，每周核对。"),
    ("Small steps, taken daily, carry far.", "日行小步，终至千里。"),
    ("Measure first, speak later.", "先测量，后发言。"),
)
_TALL = 470.0
_DRAWN = 400.0
_BODY = 9.0
_GUTTER = 22.0


def share_area(paper: Paper, brief: Brief) -> Frame:
    """Return the frame for a drawing; on a tall page, the rest below it is filled with commentary."""
    x0, y0, x1, y1 = paper.area
    if y1 - y0 <= _TALL:
        return paper.area
    middle = y0 + _DRAWN
    paper.text(x0, middle + 34, brief.say("Remarks", "说明"), 12, bold=True, colour=paper.look.accent)
    sentences = [brief.say(pair) for pair in brief.dice.shuffled(SENTENCES)]
    width = (x1 - x0 - _GUTTER) / 2
    for column in range(2):
        text = ("" if brief.language else " ").join(sentences[column::2])
        lines = paper.wrap(text, _BODY, width)[: int((y1 - middle - 60) / (_BODY * 1.45))]
        x = x0 + column * (width + _GUTTER)
        for i, line in enumerate(lines):
            paper.text(x, middle + 56 + i * _BODY * 1.45, line, _BODY, colour=SOFT)
    return (x0, y0, x1, middle)
