"""Questions that need two pages of one document: one page leads to the other, or is compared with it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal

from vrag_env.corpus.generate.facts import Clue
from vrag_env.corpus.generate.names import Company
from vrag_env.corpus.records import page_id_of
from vrag_env.questions import Evidence, Question

Pages = Mapping[str, tuple[int, Mapping[str, Clue]]]
"""By kind of page: its number in the document, and its clues."""


def draw_two_hop(
    company: Company, doc_id: str, pages: Pages, prefer: int, rng: random.Random, split: str
) -> Question | None:
    """Draw one question over two pages.

    Args:
        company: The subject of the document.
        doc_id: The document.
        pages: Its pages.
        prefer: Even to prefer a difference of two numbers, odd to prefer a look-up through two pictures.
        rng: Source of randomness.
        split: Split of the document.

    Returns:
        The question, or ``None`` if the document lacks the kinds of page that it takes.
    """
    makers = [
        maker
        for maker, kinds in ((_difference, {"bars", "prose"}), (_chain, {"layout", "board"}))
        if kinds <= set(pages)
    ]
    return makers[prefer % len(makers)](company, doc_id, pages, rng, split) if makers else None


def _difference(company: Company, doc_id: str, pages: Pages, rng: random.Random, split: str) -> Question:
    bars, clues = pages["bars"]
    prose, statements = pages["prose"]
    key = rng.choice(list(clues))
    revenue, research = clues[key], statements["research"]
    region = key.partition(":")[2]
    answer = str(Decimal(revenue.value) - Decimal(research.value))
    return Question(
        question_id=f"{company.slug}-p{bars}-p{prose}-difference-{region.lower()}",
        text=f"By how many million euros does the revenue of the {region} region of {company.name} exceed "
        "its spending on research?",
        answer=answer,
        answer_variants=(f"{answer} million euros",),
        answer_format="Float",
        gold_pages=(page_id_of(doc_id, bars), page_id_of(doc_id, prose)),
        evidence=(
            Evidence(page_id_of(doc_id, bars), revenue.box),
            Evidence(page_id_of(doc_id, prose), research.box),
        ),
        source_type="Chart, Text",
        query_type="Multi-Hop",
        split=split,
        oracle_query=f"{company.name} revenue management report",
    )


def _chain(company: Company, doc_id: str, pages: Pages, rng: random.Random, split: str) -> Question:
    layout, rooms = pages["layout"]
    board, cards = pages["board"]
    key = rng.choice(list(rooms))
    room = rooms[key]
    card = cards[f"team:{room.value}"]
    number = key.partition(":")[2]
    return Question(
        question_id=f"{company.slug}-p{layout}-p{board}-chain-{number}",
        text=f"Which symbol does the {company.name} status board show for the team that sits in room "
        f"{number} on the floor plan?",
        answer=card.value,
        gold_pages=(page_id_of(doc_id, layout), page_id_of(doc_id, board)),
        evidence=(
            Evidence(page_id_of(doc_id, layout), room.box),
            Evidence(page_id_of(doc_id, board), card.box),
        ),
        source_type="Layout, Figure",
        query_type="Multi-Hop",
        split=split,
        oracle_query=f"{company.name} floor status",
    )
