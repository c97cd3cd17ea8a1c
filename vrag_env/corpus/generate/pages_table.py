"""Dense table: key figures of many sites in small print; the answer is one cell."""

from __future__ import annotations

import random

from vrag_env.corpus.generate.config import WorldConfig
from vrag_env.corpus.generate.drawing import A4_PORTRAIT, MARGIN, RULE, WHITE, Sheet
from vrag_env.corpus.generate.facts import Drawn, Fact
from vrag_env.corpus.generate.names import CITIES, Company

SUBJECT = "site key figures"
SIZE = A4_PORTRAIT

COLUMNS: tuple[tuple[str, str, int, int], ...] = (
    ("Staff", "How many staff", 12, 980),
    ("Floor area", "What floor area in square metres", 400, 9900),
    ("Visitors", "How many visitors", 1000, 9990),
    ("Vehicles", "How many vehicles", 2, 99),
    ("Power use", "What power use in megawatt hours", 100, 999),
    ("Complaints", "How many complaints", 1, 99),
)
"""Head, start of the question, smallest and largest value."""

_ROWS = 30
_ASKED = 3
_TOP, _ROW_H, _SIZE = 150.0, 19.0, 6.5


def draw(sheet: Sheet, company: Company, departments: list[str], rng: random.Random, config: WorldConfig) -> Drawn:
    """Draw a dense table; see :data:`vrag_env.corpus.generate.world.PAGES` for the arguments."""
    del departments, config
    look = sheet.look
    sheet.header(f"Site key figures, {company.name}", f"All {_ROWS} sites of {company.short} in {company.year}")
    sheet.text(MARGIN, 102, "Counted on the last working day of December. Sites in alphabetical order;", 8.5)
    sheet.text(MARGIN, 114, "floor area in square metres, power use in megawatt hours.", 8.5)
    cities = sorted(rng.sample(CITIES, _ROWS))
    values = [[rng.randint(low, high) for _, _, low, high in COLUMNS] for _ in cities]
    right = sheet.width - MARGIN
    first = MARGIN + 96
    step = (right - first) / len(COLUMNS)
    sheet.rect((MARGIN, _TOP - _ROW_H, right, _TOP), look.accent)
    sheet.text(MARGIN + 6, _TOP - 6, "Site", _SIZE, bold=True, colour=WHITE)
    for c, (head, *_) in enumerate(COLUMNS):
        sheet.text(first + step * (c + 1) - 8, _TOP - 6, head, _SIZE, bold=True, colour=WHITE, align="right")
    for r, city in enumerate(cities):
        y = _TOP + r * _ROW_H
        if r % 2:
            sheet.rect((MARGIN, y, right, y + _ROW_H), look.tint)
        sheet.line(MARGIN, y + _ROW_H, right, y + _ROW_H, RULE, 0.3)
        sheet.text(MARGIN + 6, y + 12, city, _SIZE)
        for c, value in enumerate(values[r]):
            sheet.text(first + step * (c + 1) - 8, y + 12, str(value), _SIZE, align="right")
    cells = rng.sample([(r, c) for r in range(_ROWS) for c in range(len(COLUMNS))], _ASKED)
    facts = tuple(
        Fact(
            _key(cities[r], c),
            _question(company, cities[r], c),
            str(values[r][c]),
            sheet.box((first + step * c, _TOP + r * _ROW_H, first + step * (c + 1), _TOP + (r + 1) * _ROW_H)),
            "Table",
            "Int",
        )
        for r, c in cells
    )
    absent = [city for city in CITIES if city not in cities]
    missing = [(city, rng.randrange(len(COLUMNS))) for city in rng.sample(absent, 2)]
    return Drawn(facts, tuple((_key(city, c), _question(company, city, c)) for city, c in missing))


def _key(city: str, column: int) -> str:
    return f"{city}-{COLUMNS[column][0]}".lower().replace(" ", "-")


def _question(company: Company, city: str, column: int) -> str:
    return f"{COLUMNS[column][1]} does {company.name} list for its {city} site?"
