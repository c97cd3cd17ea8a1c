"""The kinds of page of a wide world: what each is called, asked for and drawn by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vrag_env.corpus.generate.wide.facts import Brief, Drawing
from vrag_env.corpus.generate.wide.kinds import (
    bars,
    cards,
    flow,
    heatmap,
    lines,
    pie,
    plan,
    prose,
    scatter,
    spec,
    tables,
    timeline,
    tree,
)
from vrag_env.corpus.generate.wide.paper import Paper
from vrag_env.corpus.generate.wide.terms import Term
from vrag_env.corpus.generate.wide.themes import Measure


@dataclass(frozen=True)
class PageKind:
    """One kind of page.

    In its texts, ``{measure}``, ``{kind}`` (what the items are) and ``{topic}`` are filled in.

    Attributes:
        source_type: ``Text``, ``Table``, ``Chart``, ``Figure`` or ``Layout``.
        title: Printed at its head.
        noun: What questions call it.
        value: What questions call the value that it gives for an item; empty if it gives none.
        draw: Draws it.
        numeric: Whether the values are numbers that can be compared.
        banded: Whether the order of the items is the same at every point in time, so that it is not asked for.
        topics: What it can be about, where it measures nothing.
    """

    source_type: str
    title: Term
    noun: Term
    value: Term
    draw: Callable[[Paper, Brief], Drawing]
    numeric: bool = True
    banded: bool = False
    topics: tuple[Term, ...] = ()

    def title_of(self, brief: Brief) -> str:
        """Return what a page calls itself."""
        text = self.say(brief, self.title)
        return text[:1].upper() + text[1:]

    def say(self, brief: Brief, pattern: Term) -> str:
        """Fill in one of the texts in the language of a document."""
        topic = self.topics[brief.topic] if self.topics else ("", "")
        return brief.say(pattern).format(
            measure=brief.say(brief.measure.name), kind=brief.say(brief.theme.item), topic=brief.say(topic).lower()
        )


_AMOUNT: Term = ("{measure}", "{measure}")

KINDS: dict[str, PageKind] = {
    "bars": PageKind(
        "Chart",
        ("{measure} by {kind}", "各{kind}{measure}"),
        ("bar chart of {measure} by {kind}", "各{kind}{measure}柱状图"),
        _AMOUNT,
        bars.draw_grouped,
    ),
    "stacked": PageKind(
        "Chart",
        ("make-up of {measure} by {kind}", "各{kind}{measure}构成"),
        ("stacked bars of {measure} by {kind}", "各{kind}{measure}构成堆积图"),
        _AMOUNT,
        bars.draw_stacked,
    ),
    "lines": PageKind(
        "Chart",
        ("{measure} over time", "{measure}走势"),
        ("line chart of {measure} over time", "{measure}走势折线图"),
        _AMOUNT,
        lines.draw,
        banded=True,
    ),
    "pie": PageKind(
        "Chart",
        ("shares of {measure}", "{measure}占比"),
        ("pie chart of the shares of {measure}", "{measure}占比饼图"),
        ("share of {measure}", "{measure}占比"),
        pie.draw,
    ),
    "scatter": PageKind(
        "Chart",
        ("{measure} against maturity", "{measure}与成熟度"),
        ("scatter plot of {measure} against maturity", "{measure}与成熟度散点图"),
        _AMOUNT,
        scatter.draw,
    ),
    "heatmap": PageKind(
        "Chart",
        ("heat map of {measure}", "{measure}热力图"),
        ("heat map of {measure}", "{measure}热力图"),
        _AMOUNT,
        heatmap.draw,
    ),
    "table": PageKind(
        "Table",
        ("{measure} in figures", "{measure}数据表"),
        ("table of {measure} in figures", "{measure}数据表"),
        ("total {measure}", "{measure}合计"),
        tables.draw_plain,
    ),
    "merged": PageKind(
        "Table",
        ("{measure} in two halves", "{measure}分项表"),
        ("table of {measure} in two halves", "{measure}分项表"),
        _AMOUNT,
        tables.draw_merged,
    ),
    "prose": PageKind(
        "Text",
        ("notes on {measure}", "{measure}评述"),
        ("notes on {measure}", "{measure}评述"),
        _AMOUNT,
        prose.draw,
    ),
    "tiles": PageKind(
        "Chart",
        ("dashboard of {measure}", "{measure}仪表板"),
        ("dashboard of {measure}", "{measure}仪表板"),
        _AMOUNT,
        cards.draw_tiles,
    ),
    "plan": PageKind(
        "Layout",
        ("floor plan of the {topic}", "{topic}平面图"),
        ("floor plan of the {topic}", "{topic}平面图"),
        ("room number", "房间号"),
        plan.draw,
        numeric=False,
        topics=plan.BUILDINGS,
    ),
    "timeline": PageKind(
        "Figure",
        ("timeline: {topic} dates", "{topic}时间线"),
        ("timeline of {topic} dates", "{topic}时间线"),
        ("{topic} date", "{topic}日期"),
        timeline.draw,
        numeric=False,
        topics=timeline.TOPICS,
    ),
    "flow": PageKind(
        "Figure",
        ("process chart: {topic}", "流程图：{topic}"),
        ("process chart for {topic}", "{topic}流程图"),
        ("", ""),
        flow.draw,
        numeric=False,
        topics=flow.PROCESSES,
    ),
    "tree": PageKind(
        "Text",
        ("chart of responsibilities: {topic}", "{topic}职责图"),
        ("chart of responsibilities for {topic}", "{topic}职责图"),
        ("name of the person in charge", "负责人姓名"),
        tree.draw,
        numeric=False,
        topics=tree.TOPICS,
    ),
    "spec": PageKind(
        "Table",
        ("data sheet: {topic}", "参数表：{topic}"),
        ("data sheet of the {topic}", "{topic}参数表"),
        ("", ""),
        spec.draw,
        numeric=False,
        topics=spec.DEVICES,
    ),
    "board": PageKind(
        "Figure",
        ("{topic} board", "{topic}看板"),
        ("{topic} board", "{topic}看板"),
        ("symbol", "符号"),
        cards.draw_board,
        numeric=False,
        topics=cards.TOPICS,
    ),
}
"""The kinds by name, one for each of :data:`vrag_env.corpus.generate.wide.dials.PAGE_KINDS`."""

VALUED = tuple(name for name, kind in KINDS.items() if kind.numeric)
"""Kinds whose values can be compared: questions over two pages begin at one of them."""


def measure_of(kind: str, brief: Brief) -> Measure:
    """Return what the values of a page are: of a pie they are shares, else the page's measure."""
    if kind == "pie":
        return Measure(brief.measure.name, ("per cent", "百分比"), 0, 100, 0)
    return brief.measure
