"""World: documents about made-up companies, written as real PDFs, with questions whose evidence is known."""

from __future__ import annotations

import io
import json
import os
import random
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from reportlab.pdfgen.canvas import Canvas

from vrag_env.corpus.generate import (
    pages_bars,
    pages_board,
    pages_layout,
    pages_pie,
    pages_prose,
    pages_table,
)
from vrag_env.corpus.generate.config import GENERATOR_VERSION, WorldConfig
from vrag_env.corpus.generate.drawing import MARGIN, SOFT, Look, Sheet
from vrag_env.corpus.generate.facts import Drawn, Fact
from vrag_env.corpus.generate.hops import draw_two_hop
from vrag_env.corpus.generate.names import DEPARTMENTS, Company, choose_test, draw_companies
from vrag_env.corpus.records import page_id_of
from vrag_env.errors import CorpusError
from vrag_env.questions import NOT_ANSWERABLE, Evidence, Question, load_questions, save_questions

DOCUMENTS = "documents"
"""Folder of the PDFs inside a world's directory."""
QUESTIONS = "questions.json"
"""File of the questions inside a world's directory; written last."""
_MARKER = "world.json"
_FOOTNOTES = 2


@dataclass(frozen=True)
class PageKind:
    """One kind of page.

    Attributes:
        subject: What its title and footer call it; with the company's name it finds the page.
        size: Width and height in points.
        draw: Draws it. Takes the sheet, the company, the six departments of the company, the source of
            randomness and the dials; returns what the page says.
    """

    subject: str
    size: tuple[float, float]
    draw: Callable[[Sheet, Company, list[str], random.Random, WorldConfig], Drawn]


PAGES: dict[str, PageKind] = {
    "board": PageKind(pages_board.SUBJECT, pages_board.SIZE, pages_board.draw),
    "bars": PageKind(pages_bars.SUBJECT, pages_bars.SIZE, pages_bars.draw),
    "table": PageKind(pages_table.SUBJECT, pages_table.SIZE, pages_table.draw),
    "prose": PageKind(pages_prose.SUBJECT, pages_prose.SIZE, pages_prose.draw),
    "pie": PageKind(pages_pie.SUBJECT, pages_pie.SIZE, pages_pie.draw),
    "layout": PageKind(pages_layout.SUBJECT, pages_layout.SIZE, pages_layout.draw),
}
"""The kinds of page by name, one for each of :data:`vrag_env.corpus.generate.config.KINDS`."""


def generate_world(config: WorldConfig, directory: str | Path) -> list[Question]:
    """Write the documents and the questions of a world.

    The PDFs go to ``directory/documents`` and the questions to ``directory/questions.json``; document ids are
    the file names. Equal dials write equal bytes. A run that was killed is completed by the next one, and a
    world that is complete is only read.

    Args:
        config: The dials.
        directory: Where; made if it does not exist.

    Returns:
        The questions, document by document.

    Raises:
        CorpusError: If the directory holds another world, or documents that are not a world's.
    """
    directory = Path(directory)
    documents = directory / DOCUMENTS
    _claim(directory, config)
    if (directory / QUESTIONS).exists() and len(list(documents.glob("*.pdf"))) == config.documents:
        return load_questions(directory / QUESTIONS)
    documents.mkdir(exist_ok=True)
    companies = draw_companies(config.documents, _rng(config, "companies"))
    test = choose_test(companies, config.test_share, _rng(config, "splits"))
    questions: list[Question] = []
    owed = 0.0
    for index, company in enumerate(companies):
        pdf, answerable, missing = _draw_document(config, index, company, "test" if index in test else "train")
        _write(documents / f"{company.slug}.pdf", pdf)
        # A running account spreads the unanswerable questions evenly over documents and splits.
        owed += len(answerable) * config.unanswerable_share / (1 - config.unanswerable_share)
        asked = missing[: min(round(owed), len(missing))]
        owed -= len(asked)
        questions += answerable + asked
    save_questions(directory / QUESTIONS, questions)
    return questions


def _rng(config: WorldConfig, purpose: str) -> random.Random:
    """One stream of randomness per purpose, so that a change to one leaves the others as they were."""
    return random.Random(f"vrag-world/{GENERATOR_VERSION}/{config.seed}/{purpose}")


def _claim(directory: Path, config: WorldConfig) -> None:
    """Make sure that the directory is free or holds this world, finished or not."""
    marker = directory / _MARKER
    content = {"stamp": config.stamp, "version": GENERATOR_VERSION, "config": asdict(config)}
    expected = (json.dumps(content, indent=1) + "\n").encode()
    if marker.exists():
        if marker.read_bytes() != expected:
            raise CorpusError(f"{directory} holds a world with other dials (see {marker}): choose another directory")
    elif (directory / DOCUMENTS).exists() or (directory / QUESTIONS).exists():
        raise CorpusError(f"{directory} holds documents or questions that no world wrote: choose another directory")
    else:
        directory.mkdir(parents=True, exist_ok=True)
        _write(marker, expected)


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _draw_document(
    config: WorldConfig, index: int, company: Company, split: str
) -> tuple[bytes, list[Question], list[Question]]:
    """Draw one document.

    Returns:
        The PDF, the questions that it answers, and questions that it does not answer.
    """
    rng = _rng(config, f"document/{index}")
    look = Look.draw(rng)
    departments = rng.sample(DEPARTMENTS, 6)
    kinds = list(config.kinds)
    rng.shuffle(kinds)
    plain = [kind for kind in kinds if kind != "board"]  # a board carries no text that could be asked for
    footnoted = set(rng.sample(plain, min(_FOOTNOTES, len(plain))))
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1, pageCompression=0)
    canvas.setTitle(company.name)
    doc_id = f"{company.slug}.pdf"
    answerable: list[Question] = []
    missing: list[Question] = []
    pages = {}
    for number, kind in enumerate(kinds, start=1):
        page = PAGES[kind]
        page_rng = _rng(config, f"document/{index}/{kind}")
        sheet = Sheet(canvas, page.size, look)
        drawn = page.draw(sheet, company, departments, page_rng, config)
        sheet.footer(f"{company.name}  |  {page.subject}", f"Page {number} of {len(kinds)}")
        facts = list(drawn.facts)
        if kind in footnoted:
            facts.append(_draw_footnote(sheet, company, page.subject, page_rng, config.footnote_size))
        canvas.showPage()
        pages[kind] = (number, drawn.clues)
        stem = f"{company.slug}-p{number}-{kind}"
        for fact in facts:
            page_id = page_id_of(doc_id, number)
            answerable.append(
                Question(
                    question_id=f"{stem}-{fact.key}",
                    text=fact.question,
                    answer=fact.answer,
                    answer_variants=fact.variants,
                    answer_format=fact.answer_format,
                    gold_pages=(page_id,),
                    evidence=(Evidence(page_id, fact.box),),
                    source_type=fact.source_type,
                    query_type="Single-Hop",
                    split=split,
                    oracle_query=f"{company.name} {page.subject}",
                    oracle_thought=fact.thought,
                )
            )
        for key, text in drawn.missing:
            missing.append(
                Question(
                    question_id=f"{stem}-{key}-none",
                    text=text,
                    answer=NOT_ANSWERABLE,
                    answer_format="None",
                    source_type=drawn.facts[0].source_type,
                    query_type="Single-Hop",
                    split=split,
                )
            )
    canvas.save()
    two_hop = draw_two_hop(company, doc_id, pages, index, _rng(config, f"document/{index}/hops"), split)
    if two_hop is not None:
        answerable.append(two_hop)
    rng.shuffle(missing)
    return buffer.getvalue(), answerable, missing


def _draw_footnote(sheet: Sheet, company: Company, subject: str, rng: random.Random, size: float) -> Fact:
    """Print a footnote that is too small to read unless the page is enlarged."""
    letters = "".join(rng.sample("ACEFHKLMPRTXY", 2))
    code = f"{letters}-{rng.randint(1000, 9999)}"
    y = sheet.height - 32
    start = sheet.text(MARGIN, y, "Prepared from the audited accounts. ", size, colour=SOFT)
    frame = sheet.text(start[2], y, f"Audit reference {code}.", size)
    sheet.text(frame[2], y, " Small differences are due to rounding.", size, colour=SOFT)
    question = f"Which audit reference does the footnote on the {subject} page of {company.name} give?"
    return Fact("footnote", question, code, sheet.box(frame), "Text")
