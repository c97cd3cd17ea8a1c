"""Pie chart: sales by product line, read through a legend."""

from __future__ import annotations

import math
import random

from vrag_env.corpus.generate.config import WorldConfig
from vrag_env.corpus.generate.drawing import A4_LANDSCAPE, INK, SOFT, WHITE, Frame, Sheet, hls, union
from vrag_env.corpus.generate.facts import Drawn, Fact
from vrag_env.corpus.generate.names import PRODUCT_LINES, Company

SUBJECT = "sales by product line"
SIZE = A4_LANDSCAPE

_X, _Y, _RADIUS = 300.0, 318.0, 165.0
_RIM = _RADIUS + 24
_LEGEND_X = 560.0
_SLICES = 5


def draw(sheet: Sheet, company: Company, departments: list[str], rng: random.Random, config: WorldConfig) -> Drawn:
    """Draw a pie chart; see :data:`vrag_env.corpus.generate.world.PAGES` for the arguments."""
    del departments, config
    sheet.header(f"Sales by product line, {company.name}", f"{company.short}: share of all sales in per cent")
    lines = rng.sample(PRODUCT_LINES, _SLICES)
    shares = _draw_shares(rng)
    hue, start = rng.uniform(0, 360), rng.uniform(0, 360)
    around: Frame = (_X - _RIM, _Y - _RIM, _X + _RIM, _Y + _RIM)
    frames = [around]
    for i, (line, share) in enumerate(zip(lines, shares, strict=True)):
        colour = hls(hue + 360 * i / _SLICES, 0.50 + 0.06 * (i % 2), 0.55)
        end = start + 3.6 * share
        angles = [math.radians(start + (end - start) * k / 40) for k in range(41)]
        arc = [(_X + _RADIUS * math.cos(a), _Y + _RADIUS * math.sin(a)) for a in angles]
        sheet.polygon([(_X, _Y), *arc], colour, WHITE, line=1.5)
        middle = math.radians((start + end) / 2)
        x, y = _X + (_RADIUS + 12) * math.cos(middle), _Y + (_RADIUS + 12) * math.sin(middle)
        sheet.text(x, y + 2.5, f"{share} %", 7, align="centre")
        y = 240.0 + 34 * i
        sheet.rect((_LEGEND_X, y - 10, _LEGEND_X + 14, y + 4), colour)
        label = sheet.text(_LEGEND_X + 24, y, line, 12)
        frames.append(union(label, (_LEGEND_X, y - 10, _LEGEND_X + 14, y + 4)))
        start = end
    if rng.random() < 0.5:  # a ring instead of a disc
        ring = [(_X + 78 * math.cos(t / 30 * math.pi), _Y + 78 * math.sin(t / 30 * math.pi)) for t in range(60)]
        sheet.polygon(ring, WHITE)
        sheet.text(_X, _Y + 8, "100 %", 22, bold=True, colour=INK, align="centre")
    sheet.text(_LEGEND_X, 205, "Product line", 9, colour=SOFT)
    box = sheet.box(union(*frames))
    best = lines[shares.index(max(shares))]
    asked = rng.choice(lines)
    printed = str(shares[lines.index(asked)])
    facts = (
        Fact(
            asked.lower(),
            _question(company, asked),
            printed,
            box,
            "Chart",
            "Int",
            (f"{printed}%", f"{printed} %", f"{printed} per cent"),
        ),
        Fact(
            "largest",
            f"Which product line has the largest share of the sales of {company.name}?",
            best,
            box,
            "Chart",
        ),
    )
    absent = [line for line in PRODUCT_LINES if line not in lines]
    return Drawn(facts, tuple((line.lower(), _question(company, line)) for line in absent[:2]))


def _draw_shares(rng: random.Random) -> list[int]:
    """Draw shares in per cent: distinct, none under 7, with a sum of 100."""
    while True:
        cuts = sorted(rng.sample(range(1, 100), _SLICES - 1))
        shares = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
        if min(shares) >= 7 and len(set(shares)) == _SLICES:
            return shares


def _question(company: Company, line: str) -> str:
    return f"What share of the sales of {company.name}, in per cent, comes from the {line} product line?"
