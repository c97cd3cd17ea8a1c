"""Management report: two columns of text with facts inside the sentences."""

from __future__ import annotations

import random

from vrag_env.corpus.generate.config import WorldConfig
from vrag_env.corpus.generate.drawing import A4_PORTRAIT, MARGIN, Frame, Sheet, union
from vrag_env.corpus.generate.facts import Clue, Drawn, Fact
from vrag_env.corpus.generate.names import CITIES, FAMILY_NAMES, GIVEN_NAMES, Company, words

SUBJECT = "management report"
SIZE = A4_PORTRAIT

_FILLERS = (
    "The year began slowly and ended better than most had expected.",
    "Orders from abroad rose again after two quiet summers.",
    "Several older machines were replaced, which kept repairs low.",
    "The new building was handed over in {month} and is in full use.",
    "Customers asked above all for shorter delivery times.",
    "We kept prices stable although freight became dearer.",
    "A joint project with two universities started in {month}.",
    "Demand was strongest in {month} and weakest in {month2}.",
    "The apprentices of the first year finished their course in {month}.",
    "Suppliers were reviewed under stricter rules than before.",
    "Most contracts that ran out in {month} were renewed for three years.",
    "The works council and the management agreed on flexible hours.",
    "No serious accident happened, and the number of small ones fell.",
    "A storm in {month} stopped the plant for two days.",
    "The share of recycled packaging grew in every quarter.",
    "Currency effects were small and cancelled each other out.",
    "Our online shop was rebuilt and opened again in {month}.",
    "The outlook for the coming year is cautious but friendly.",
    "Training hours per person went up for the third time in a row.",
    "A survey in {month} showed that most people like to work here.",
    "Two smaller competitors left the market before {month}.",
    "The cost of raw materials fell after {month} and stayed low.",
    "Deliveries by rail replaced a good part of the road traffic.",
    "An audit of the data centre in {month} found nothing serious.",
    "Rents in the old town forced us to give up two workshops.",
    "The canteen now cooks with food from the neighbourhood.",
    "Interest on loans was higher than planned, and so were savings.",
    "Visitors from abroad came mostly in {month} and {month2}.",
    "Spare parts can now be ordered until late in the evening.",
    "Insurance for the older warehouses was negotiated again.",
    "The library of drawings was scanned and can be searched.",
    "A small fire in {month} was put out before it did any harm.",
    "We thank everyone who stayed patient during the rebuilding.",
)
_QUOTES = (
    "We plan in decades and check every week.",
    "Small steps, taken daily, carry far.",
    "What we promise in spring we deliver before winter.",
    "Good work is quiet work.",
)
_MONTHS = words("January February March April May June July August September October November December")
_HEADINGS = ("A steady year", "People", "Money", "Technology", "Outlook", "Environment")
_SIZE, _LEADING, _TOP = 11.0, 16.0, 112.0
_GUTTER = 24.0
_FILLERS_EACH = 5
_ASKED = 2


def draw(sheet: Sheet, company: Company, departments: list[str], rng: random.Random, config: WorldConfig) -> Drawn:
    """Draw a report; see :data:`vrag_env.corpus.generate.world.PAGES` for the arguments."""
    del departments, config
    sheet.header(f"Management report, {company.name}", f"From the annual review of {company.short}, {company.year}")
    stated = _draw_facts(company, rng)
    fillers = list(_FILLERS)
    rng.shuffle(fillers)
    width = (sheet.width - 2 * MARGIN - _GUTTER) / 2
    x, y, lowest = MARGIN, _TOP, _TOP
    boxes = {}
    headings = rng.sample(_HEADINGS, len(stated))
    for i, (key, (sentence, *_)) in enumerate(stated.items()):
        if i == len(stated) // 2:
            x, y = x + width + _GUTTER, _TOP
        month, month2 = rng.sample(_MONTHS, 2)
        sentences = [fillers.pop().format(month=month, month2=month2) for _ in range(_FILLERS_EACH)]
        place = rng.randint(0, _FILLERS_EACH)
        sentences.insert(place, sentence)
        lines = _wrap(sheet, sentences, width)
        sheet.text(x, y + 4, headings[i], 12, bold=True, colour=sheet.look.accent)
        y += 14
        boxes[key] = sheet.box(_write(sheet, lines, x, y, place))
        y += _LEADING * len(lines) + 24
        lowest = max(lowest, y)
    middle = MARGIN + width + _GUTTER / 2
    sheet.line(middle, _TOP - 6, middle, lowest - 24, sheet.look.tint, 1)
    sheet.rect((MARGIN, lowest, sheet.width - MARGIN, lowest + 74), sheet.look.tint)
    sheet.rect((MARGIN, lowest, MARGIN + 5, lowest + 74), sheet.look.accent)
    quote = rng.choice(_QUOTES)
    sheet.text(sheet.width / 2, lowest + 42, quote, 15, bold=True, colour=sheet.look.accent, align="centre")
    facts = tuple(
        Fact(key, stated[key][1], stated[key][2], boxes[key], "Text", stated[key][3])
        for key in rng.sample(list(stated), _ASKED)
    )
    missing = (
        ("ferries", f"How many ferries did {company.name} operate according to its {SUBJECT}?"),
        ("dividend", f"What dividend per share did {company.name} pay according to its {SUBJECT}?"),
    )
    return Drawn(facts, missing, {"research": Clue(stated["research"][2], boxes["research"])})


def _draw_facts(company: Company, rng: random.Random) -> dict[str, tuple[str, str, str, str]]:
    """Draw what the report states: by key, the sentence, the question, the answer and its format."""
    staff, patents = rng.randint(120, 4900), rng.randint(3, 79)
    research, energy = rng.randint(20, 160) / 10, rng.randint(21, 189) / 10
    chief = f"{rng.choice(GIVEN_NAMES)} {rng.choice(FAMILY_NAMES)}"
    city = rng.choice(CITIES)
    name = company.name
    facts = {
        "staff": (
            f"At the end of {company.year} {company.short} employed {staff} people.",
            f"How many people did {name} employ at the end of the year?",
            str(staff),
            "Int",
        ),
        "patents": (
            f"In the same period {patents} patents were filed, more than ever.",
            f"How many patents did {name} file?",
            str(patents),
            "Int",
        ),
        "research": (
            f"Spending on research came to {research:.1f} million euros.",
            f"How many million euros did {name} spend on research?",
            f"{research:.1f}",
            "Float",
        ),
        "energy": (
            f"Energy use per unit fell by {energy:.1f} per cent.",
            f"By how many per cent did the energy use per unit of {name} fall?",
            f"{energy:.1f}",
            "Float",
        ),
        "chief": (
            f"Since the spring the chief executive has been {chief}.",
            f"Who became chief executive of {name} in the spring?",
            chief,
            "Str",
        ),
        "move": (
            f"The training school of {company.short} moved to {city}.",
            f"To which city did the training school of {name} move?",
            city,
            "Str",
        ),
    }
    order = list(facts)
    rng.shuffle(order)
    return {key: facts[key] for key in order}


def _wrap(sheet: Sheet, sentences: list[str], width: float) -> list[list[tuple[str, int]]]:
    """Break sentences into lines of words, each with the number of its sentence."""
    lines: list[list[tuple[str, int]]] = [[]]
    for number, sentence in enumerate(sentences):
        for word in sentence.split():
            line = " ".join([*(w for w, _ in lines[-1]), word])
            if lines[-1] and sheet.measure(line, _SIZE) > width:
                lines.append([])
            lines[-1].append((word, number))
    return lines


def _write(sheet: Sheet, lines: list[list[tuple[str, int]]], x: float, y: float, sentence: int) -> Frame:
    """Write lines below each other and return the frame of one sentence."""
    frames = []
    for i, line in enumerate(lines):
        printed = [word for word, _ in line]
        base = y + _LEADING * i + 0.76 * _SIZE
        sheet.text(x, base, " ".join(printed), _SIZE)
        inside = [k for k, (_, number) in enumerate(line) if number == sentence]
        if inside:
            before = sheet.measure("".join(f"{w} " for w in printed[: inside[0]]), _SIZE)
            until = sheet.measure(" ".join(printed[: inside[-1] + 1]), _SIZE)
            frames.append((x + before, base - 0.76 * _SIZE, x + until, base + 0.24 * _SIZE))
    return union(*frames)
