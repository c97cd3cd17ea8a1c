"""Bar chart: revenue by region, with the values in small print above the bars."""

from __future__ import annotations

import random

from vrag_env.corpus.generate.config import WorldConfig
from vrag_env.corpus.generate.drawing import RULE, SLIDE, SOFT, Sheet, hls, union
from vrag_env.corpus.generate.facts import Clue, Drawn, Fact
from vrag_env.corpus.generate.names import REGIONS, Company

SUBJECT = "revenue by region"
SIZE = SLIDE

_LEFT, _RIGHT, _TOP, _BASE = 92.0, 680.0, 120.0, 452.0
_LARGEST = 100.0
_ASKED = 2


def draw(sheet: Sheet, company: Company, departments: list[str], rng: random.Random, config: WorldConfig) -> Drawn:
    """Draw a bar chart; see :data:`vrag_env.corpus.generate.world.PAGES` for the arguments."""
    del departments, config
    sheet.header(f"Revenue by region, {company.name}", f"{company.short}: million euros, financial year {company.year}")
    regions = rng.sample(REGIONS, 6)
    tenths = rng.sample(range(180, 960), 6)
    scale = (_BASE - _TOP) / _LARGEST
    for tick in range(0, 101, 20):
        y = _BASE - tick * scale
        sheet.line(_LEFT, y, _RIGHT, y, RULE, 0.5)
        sheet.text(_LEFT - 8, y + 3, str(tick), 8, colour=SOFT, align="right")
    sheet.text(_LEFT, _TOP - 12, "million euros", 8, colour=SOFT, align="right")
    step = (_RIGHT - _LEFT) / 6
    thickness = step * rng.uniform(0.45, 0.7)
    one_colour = rng.random() < 0.5
    hue = rng.uniform(0, 360)
    clues = {}
    for i, (region, value) in enumerate(zip(regions, tenths, strict=True)):
        middle = _LEFT + step * (i + 0.5)
        top = _BASE - value / 10 * scale
        bar = (middle - thickness / 2, top, middle + thickness / 2, _BASE)
        sheet.rect(bar, sheet.look.accent if one_colour else hls(hue + 24 * i, 0.5, 0.5))
        label = sheet.text(middle, _BASE + 16, region, 10.5, align="centre")
        printed = sheet.text(middle, top - 4, f"{value / 10:.1f}", 6, align="centre")
        clues[f"revenue:{region}"] = Clue(f"{value / 10:.1f}", sheet.box(union(bar, label, printed)))
    sheet.line(_LEFT, _BASE, _RIGHT, _BASE, SOFT, 1.0)
    facts = tuple(
        Fact(
            region.lower(),
            _question(company, region),
            clues[f"revenue:{region}"].value,
            clues[f"revenue:{region}"].box,
            "Chart",
            "Float",
            (f"{clues[f'revenue:{region}'].value} million euros",),
        )
        for region in rng.sample(regions, _ASKED)
    )
    absent = [region for region in REGIONS if region not in regions]
    return Drawn(facts, tuple((region.lower(), _question(company, region)) for region in absent), clues)


def _question(company: Company, region: str) -> str:
    return f"What revenue, in million euros, does {company.name} report for the {region} region?"
