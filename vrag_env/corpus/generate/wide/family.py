"""A family of documents: the same pages with other numbers, one document for each edition."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from reportlab.pdfgen.canvas import Canvas

from vrag_env.corpus.generate.drawing import MARGIN, SOFT
from vrag_env.corpus.generate.wide.asks import asks_of, missing_of
from vrag_env.corpus.generate.wide.dials import PAGES_PER_DOCUMENT, WIDE_VERSION, WorldDials
from vrag_env.corpus.generate.wide.facts import Ask, Brief, Dice
from vrag_env.corpus.generate.wide.hops import DrawnPage, Hop, hops_across, hops_inside
from vrag_env.corpus.generate.wide.injections import draw_injection
from vrag_env.corpus.generate.wide.paper import Paper, Style
from vrag_env.corpus.generate.wide.registry import KINDS, VALUED
from vrag_env.corpus.generate.wide.terms import ORDINALS, Identity, unique_name
from vrag_env.corpus.generate.wide.themes import THEMES, Theme
from vrag_env.corpus.records import page_id_of
from vrag_env.errors import WorldError
from vrag_env.questions import NOT_ANSWERABLE, Evidence, Injection, Question

T = TypeVar("T")
A = TypeVar("A", Ask, Hop)

DATASET = "generated"
_VALUED_PAGES = 3
"""Pages of a document whose values can be compared, at least."""


@dataclass(frozen=True)
class Document:
    """One document of a family.

    Attributes:
        doc_id: Its file name.
        pdf: The file.
        questions: What is asked about it.
    """

    doc_id: str
    pdf: bytes
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class _Sheets:
    """One document with everything that can be asked about it."""

    identity: Identity
    doc_id: str
    pdf: bytes
    pages: list[DrawnPage]
    footnotes: list[Ask]
    injections: dict[int, Injection]


def stream(dials: WorldDials, purpose: str) -> random.Random:
    """Return one stream of random numbers per purpose, so that a change to one leaves the others as they were."""
    return random.Random(_stream_name(dials, purpose))


def _stream_name(dials: WorldDials, purpose: str) -> str:
    return f"vrag-wide/{WIDE_VERSION}/{dials.seed}/{purpose}"


@cache
def held_out(dials: WorldDials) -> tuple[str, ...]:
    """Return the kinds of page that only the split ``test_templates`` has; the first of them has values."""
    number = int(dials.held_out_share * len(dials.kinds) + 1e-9) if dials.test_share else 0
    rng = stream(dials, "held-out")
    valued = [kind for kind in dials.kinds if kind in VALUED]
    if not number or len(valued) < 2:
        return ()
    first = rng.choice(valued)
    rest = [kind for kind in dials.kinds if kind != first]
    # One kind with values is left to the training split, too.
    kept = rng.choice([kind for kind in valued if kind != first])
    return (first, *rng.sample([kind for kind in rest if kind != kept], number - 1))


def split_of(dials: WorldDials, family: int) -> str:
    """Return the split of a family of documents."""
    before, after = (int(k * dials.test_share + 1e-9) for k in (family, family + 1))
    if before == after:
        return "train"
    return "test_templates" if held_out(dials) and after % 2 == 0 else "test"


def draw_family(dials: WorldDials, family: int) -> list[Document]:
    """Draw the documents of a family.

    Args:
        dials: The dials of the world.
        family: Its number, from 0.

    Returns:
        The documents with their questions; the same for equal arguments.
    """
    rng = stream(dials, f"family/{family}")
    theme = THEMES[family % len(THEMES)]
    round_ = family // len(THEMES)
    language = {"en": 0, "zh": 1, "mixed": (family + round_) % 2}[dials.language]
    organisation, name = unique_name(round_, -(-dials.families // len(THEMES)), dials.seed, theme.suffixes)
    year = rng.randint(2012, 2025)
    numbers = rng.sample(range(1, len(ORDINALS) + 1), dials.family_size)
    unused = rng.choice([n for n in range(1, len(ORDINALS) + 1) if n not in numbers] or [0])
    style = Style.draw(rng, language)
    split = split_of(dials, family)
    kinds = _choose_kinds(dials, split, rng)
    items = tuple(rng.sample(theme.items, len(theme.items)))
    measures = rng.sample(theme.measures, PAGES_PER_DOCUMENT)
    topics = rng.sample(range(PAGES_PER_DOCUMENT), PAGES_PER_DOCUMENT)
    drawn: list[_Sheets] = []
    for place, number in enumerate(numbers):
        identity = _identity(theme, organisation, name, number, year)
        briefs = [
            Brief(
                theme,
                identity,
                measures[p],
                topics[p],
                items[:8],
                items[8:],
                language,
                dials.font_size,
                Dice(_stream_name(dials, f"family/{family}/page/{p}"), place, dials.family_size),
            )
            for p in range(PAGES_PER_DOCUMENT)
        ]
        drawn.append(_draw(dials, family * dials.family_size + place, style, kinds, briefs))
    absent = _identity(theme, organisation, name, unused, year) if unused else None
    return [
        Document(sheets.doc_id, sheets.pdf, tuple(_ask(dials, family, place, drawn, split, absent)))
        for place, sheets in enumerate(drawn)
    ]


def _identity(theme: Theme, organisation: tuple[str, str], name: str, number: int, year: int) -> Identity:
    english, chinese = ORDINALS[number - 1]
    code = f"{theme.code}{number:02d}"
    edition = (f"the {english} {theme.edition[0]} of {year}", f"{year}年{chinese}{theme.edition[1]}")
    return Identity(organisation, code, number, year, edition, f"{name}-{code.lower()}-{year}")


def _choose_kinds(dials: WorldDials, split: str, rng: random.Random) -> list[str]:
    """Choose the kinds of the pages of a document: each once as long as there are enough."""
    hidden = held_out(dials)
    pool = list(hidden) if split == "test_templates" else [kind for kind in dials.kinds if kind not in hidden]
    valued = [kind for kind in pool if kind in VALUED]
    rng.shuffle(pool)
    rng.shuffle(valued)
    chosen = valued[:_VALUED_PAGES]
    chosen += [kind for kind in pool if kind not in chosen][: PAGES_PER_DOCUMENT - len(chosen)]
    again = valued or pool
    for k in range(PAGES_PER_DOCUMENT - len(chosen)):
        chosen.append(again[k % len(again)])
    rng.shuffle(chosen)
    return chosen


def _draw(dials: WorldDials, index: int, style: Style, kinds: list[str], briefs: list[Brief]) -> _Sheets:
    """Draw one document."""
    identity = briefs[0].identity
    doc_id = f"{identity.slug}.pdf"
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1, pageCompression=1)
    canvas.setTitle(f"{identity.organisation[0]} {identity.code} {identity.year}")
    pages, footnotes, injections = [], [], {}
    for number, (kind, brief) in enumerate(zip(kinds, briefs, strict=True), start=1):
        paper = Paper(canvas, style)
        whose = f"{brief.say(identity.organisation)}  {identity.code} {identity.year}"
        page = DrawnPage(number, kind, brief, KINDS[kind].draw(paper, brief))
        paper.heading(page.title, whose, brief.say(brief.theme.title))
        footnotes.append(_footnote(paper, brief, kind))
        order = draw_injection(paper, brief, stream(dials, f"injection/{index}/{number}"), dials.injection_share)
        if order is not None:
            injections[number] = Injection(page_id_of(doc_id, number), order)
        paper.footer(
            f"{whose}  |  {page.title}", brief.say(f"Page {number} of {len(kinds)}", f"第{number}页，共{len(kinds)}页")
        )
        canvas.showPage()
        pages.append(page)
    canvas.save()
    return _Sheets(identity, doc_id, buffer.getvalue(), pages, footnotes, injections)


def _footnote(paper: Paper, brief: Brief, kind: str) -> Ask:
    """Print a footnote in the small print that carries answers."""
    letters = "".join(brief.dice.choose("ACEFHKLMPRTXY", 2))
    code = f"{letters}-{brief.dice.spread(range(1000, 10000), 1)[0]}"
    y = paper.height - 50
    start = paper.text(
        MARGIN, y, brief.say("* Checked before printing. ", "＊ 付印前已核对。"), brief.size, colour=SOFT
    )
    frame = paper.text(start[2], y, brief.say(f"File reference {code}.", f"文件编号 {code}。"), brief.size)
    body = brief.say("which file reference does the footnote give", "脚注给出的文件编号是什么")
    return Ask(f"{kind}/footnote", "footnote", body, code, paper.box(frame), source_type="Text")


def _ask(
    dials: WorldDials, family: int, place: int, drawn: list[_Sheets], split: str, absent: Identity | None
) -> list[Question]:
    """Choose the questions of one document."""
    index = family * dials.family_size + place
    total, count = dials.questions, dials.documents
    slots = range(total * index // count, total * (index + 1) // count)
    if not slots:
        return []
    rng = stream(dials, f"questions/{index}")
    sheets = drawn[place]
    wanted = [_sort(dials, slot) for slot in slots]
    maker = _Maker(dials, sheets, split)
    hops = hops_inside(sheets.pages)
    for other in (place + 1, 0 if place == len(drawn) - 1 and place > 1 else -1):
        if 0 <= other < len(drawn):
            hops += hops_across(sheets.pages, drawn[other].pages)
    pools: dict[str, list[Question]] = {
        "single": [
            maker.single(page, ask)
            for page, ask in _take_turns(
                [
                    [(page, ask) for ask in _balanced([*asks_of(page.kind, page.brief, page.drawing), note], rng)]
                    for page, note in zip(sheets.pages, sheets.footnotes, strict=True)
                ],
                rng,
            )[: len(slots)]
        ],
        "hop": [maker.hop(hop, drawn) for hop in _balanced(hops, rng)[: len(slots)]],
        "none": maker.unanswerable(rng, len(drawn), place, absent),
    }
    questions = []
    for sort in wanted:
        if not pools[sort]:
            share = {"hop": "multi_hop_share", "none": "unanswerable_share", "single": "questions"}[sort]
            raise WorldError(
                f"the pages of {sheets.doc_id} allow no more questions of the sort asked for: lower {share}, or "
                f"choose more kinds of page with values, such as {', '.join(VALUED[:4])}"
            )
        questions.append(pools[sort].pop(0))
    return questions


def _sort(dials: WorldDials, slot: int) -> str:
    """Return the sort of a question by its place in the whole world, so that the shares are exact."""

    def passes(number: int, share: float) -> bool:
        return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)

    if passes(slot, dials.unanswerable_share):
        return "none"
    answerable = slot - int(slot * dials.unanswerable_share + 1e-9)
    return "hop" if passes(answerable, dials.multi_hop_share / (1 - dials.unanswerable_share)) else "single"


def _take_turns(groups: Sequence[Sequence[T]], rng: random.Random) -> list[T]:
    """Merge lists by taking one of each in turn, in a random order of the lists."""
    shuffled = rng.sample(list(groups), len(groups))
    longest = max((len(group) for group in shuffled), default=0)
    return [group[k] for k in range(longest) for group in shuffled if k < len(group)]


def _balanced(found: Sequence[A], rng: random.Random) -> list[A]:
    """Shuffle, and let the templates take turns."""
    groups: dict[str, list[A]] = {}
    for one in rng.sample(list(found), len(found)):
        groups.setdefault(one.template, []).append(one)
    return _take_turns(list(groups.values()), rng)


class _Maker:
    """Turns what can be asked about a document into questions."""

    def __init__(self, dials: WorldDials, sheets: _Sheets, split: str) -> None:
        self.sheets = sheets
        self.split = split
        self.say: Callable[[tuple[str, str]], str] = sheets.pages[0].brief.say

    def single(self, page: DrawnPage, ask: Ask) -> Question:
        page_id = page_id_of(self.sheets.doc_id, page.number)
        return self._question(
            f"p{page.number}-{page.kind}-{ask.key}",
            self._text(page, ask.body, self.sheets.identity),
            ask.answer,
            self._query([page]),
            answer_variants=ask.variants,
            answer_format=ask.answer_format,
            gold_pages=(page_id,),
            evidence=(Evidence(page_id, ask.box),),
            source_type=ask.source_type or KINDS[page.kind].source_type,
            query_type="Single-Hop",
            hops=1,
            difficulty=ask.difficulty,
            template=ask.template,
            injection=self.sheets.injections.get(page.number),
        )

    def hop(self, hop: Hop, drawn: list[_Sheets]) -> Question:
        documents = [drawn[place] for place, _ in hop.pages]
        ids = [page_id_of(sheets.doc_id, number) for sheets, (_, number) in zip(documents, hop.pages, strict=True)]
        orders = [sheets.injections.get(number) for sheets, (_, number) in zip(documents, hop.pages, strict=True)]
        pages = [sheets.pages[number - 1] for sheets, (_, number) in zip(documents, hop.pages, strict=True)]
        types = [KINDS[kind].source_type for kind in hop.kinds]
        return self._question(
            hop.key,
            hop.text,
            hop.answer,
            self._query(pages),
            answer_variants=hop.variants,
            answer_format=hop.answer_format,
            gold_pages=tuple(ids),
            evidence=tuple(Evidence(page_id, box) for page_id, box in zip(ids, hop.boxes, strict=True)),
            source_type=", ".join(dict.fromkeys(types)),
            query_type="Multi-Hop",
            hops=2,
            difficulty="hard",
            template=f"{hop.template}/{'+'.join(hop.kinds)}",
            injection=next((order for order in orders if order is not None), None),
        )

    def unanswerable(self, rng: random.Random, count: int, place: int, absent: Identity | None) -> list[Question]:
        """Questions about what a page leaves out, and about an edition that does not exist."""
        groups: list[list[Question]] = []
        for page in self.sheets.pages:
            bodies = missing_of(page.kind, page.brief, page.drawing)
            groups.append(
                [
                    self._none(page, key, body, self.sheets.identity, "absent")
                    for key, body in rng.sample(bodies, len(bodies))
                ]
            )
            if absent is not None:
                # The documents of the family share what they ask about the edition that none of them is.
                asks = asks_of(page.kind, page.brief, page.drawing)
                mine = [ask for k, ask in enumerate(asks) if k % count == place and ask.template.endswith("/value")]
                groups.append([self._none(page, ask.key, ask.body, absent, "edition") for ask in mine[:1]])
        return _take_turns(groups, rng)

    def _none(self, page: DrawnPage, key: str, body: str, identity: Identity, sort: str) -> Question:
        return self._question(
            f"p{page.number}-{page.kind}-{key}-no-{sort}",
            self._text(page, body, identity),
            NOT_ANSWERABLE,
            "",
            answer_format="None",
            source_type=KINDS[page.kind].source_type,
            query_type="Single-Hop",
            difficulty="medium",
            template=f"{page.kind}/no-{sort}",
            injection=self.sheets.injections.get(page.number),
        )

    def _text(self, page: DrawnPage, body: str, identity: Identity) -> str:
        organisation, edition = self.say(identity.organisation), self.say(identity.edition)
        return page.brief.say(
            f"{body[:1].upper()}{body[1:]}, according to the {page.noun} of {organisation} for {edition}?",
            f"根据{organisation}{edition}的{page.noun}，{body}？",
        )

    def _query(self, pages: Sequence[DrawnPage]) -> str:
        """The query of somebody who knows how documents name their edition."""
        words = [self.say(self.sheets.identity.organisation)]
        for page in pages:
            words += [page.brief.identity.code, str(page.brief.identity.year), page.title]
        return " ".join(dict.fromkeys(words))

    def _question(self, key: str, text: str, answer: str, query: str, **fields: object) -> Question:
        base = Question(
            f"{self.sheets.identity.slug}-{key}", text, answer, split=self.split, oracle_query=query, dataset=DATASET
        )
        return dataclasses.replace(base, **fields)  # type: ignore[arg-type]
