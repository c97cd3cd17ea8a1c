"""The drawn pages: each box holds its answer, text stays on the page, and small print needs a zoom."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from vrag_env.corpus.generate import CARD_COLOURS, SYMBOLS, WorldConfig, generate_world
from vrag_env.corpus.generate.names import PRODUCT_LINES
from vrag_env.corpus.generate.pages_board import BADGE, badge_frame, card_frame
from vrag_env.corpus.records import Box
from vrag_env.questions import Evidence, Question
from vrag_env.views import FULL_PAGE, PixelBudget, cut

LONG_SIDE = 1792
SYMBOL_POINTS = 20.0
FOOTNOTE_POINTS = 4.0


class World:
    """Questions, and the pages of the documents as pypdfium2 sees them."""

    def __init__(self, directory: Path, questions: list[Question]) -> None:
        self.questions = questions
        self.documents = {p.name: pypdfium2.PdfDocument(p) for p in sorted((directory / "documents").glob("*.pdf"))}

    def page(self, page_id: str) -> pypdfium2.PdfPage:
        name, _, number = page_id.rpartition("#")
        return self.documents[name][int(number) - 1]

    def text_in(self, page_id: str, box: Box) -> str:
        page = self.page(page_id)
        width, height = page.get_size()
        x0, y0, x1, y1 = box
        return page.get_textpage().get_text_bounded(x0 * width, (1 - y1) * height, x1 * width, (1 - y0) * height)

    def image(self, page_id: str) -> Image.Image:
        page = self.page(page_id)
        return page.render(scale=LONG_SIDE / max(page.get_size())).to_pil().convert("RGB")

    def asked(self, part: str) -> list[Question]:
        found = [q for q in self.questions if part in q.question_id and q.answerable]
        assert found
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("pages")
    world = World(directory, generate_world(WorldConfig(seed=5, documents=10), directory))
    yield world
    for document in world.documents.values():
        document.close()


def test_boxes_of_printed_answers_hold_them(world: World) -> None:
    checked = 0
    for question in world.questions:
        if not question.answerable or len(question.gold_pages) > 1 or "-board-" in question.question_id:
            continue
        (evidence,) = question.evidence
        words = world.text_in(evidence.page_id, evidence.box).split()
        inside = " ".join(word.rstrip(".,") for word in words)
        assert f" {question.answer} " in f" {inside} ", question.question_id
        checked += 1
    assert checked > 100


def test_a_box_elsewhere_does_not_hold_the_answer(world: World) -> None:
    # The same check must fail for a box that is moved by its own height.
    for question in world.asked("-table-"):
        if question.question_id.endswith("footnote"):
            continue
        (evidence,) = question.evidence
        x0, y0, x1, y1 = evidence.box
        moved = world.text_in(evidence.page_id, (x0, 2 * y0 - y1, x1, y0))
        assert len(moved.split()) == 1  # exactly the cell above, and nothing of this one


def test_table_cells_hold_one_number(world: World) -> None:
    for question in world.asked("-table-"):
        if not question.question_id.endswith("footnote"):
            (evidence,) = question.evidence
            assert world.text_in(evidence.page_id, evidence.box).split() == [question.answer]


def test_differences_are_right(world: World) -> None:
    for question in world.asked("-difference-"):
        bar, sentence = (world.text_in(e.page_id, e.box) for e in question.evidence)
        revenue = next(w for w in bar.split() if w[0].isdigit())
        research = next(w for w in sentence.split() if w[0].isdigit())
        assert Decimal(question.answer) == Decimal(revenue) - Decimal(research) > 0


def test_chains_lead_from_the_room_to_the_card(world: World) -> None:
    by_box = {q.evidence[0]: q.answer for q in world.asked("-board-")}
    for question in world.asked("-chain-"):
        room, card = question.evidence
        team = world.text_in(room.page_id, room.box).split()[0]
        assert question.answer == by_box[card]
        cell = next(i for i in range(6) if near(badge(i), card.box))
        x0, y0, x1, y1 = card_frame(cell)
        head = world.text_in(card.page_id, (x0 / 720, y0 / 540, x1 / 720, y1 / 540))
        assert head.split() == [team, str(cell + 1)]


def badge(cell: int) -> Box:
    x0, y0, x1, y1 = badge_frame(cell)
    return (x0 / 720, y0 / 540, x1 / 720, y1 / 540)


def near(a: Box, b: Box) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4


def test_neighbours_on_the_plan(world: World) -> None:
    questions = [q for q in world.asked("-layout-") if "-of-" in q.question_id]
    assert questions
    for question in questions:
        page = world.page(question.gold_pages[0])
        (evidence,) = question.evidence
        known = question.text.split(" of ")[1].split()[0]
        names = [w for w in world.text_in(evidence.page_id, evidence.box).split() if w.isalpha() and w != "Room"]
        assert sorted(names) == sorted([known, question.answer])
        left = {name: position(page, name, evidence, page.get_size()[0]) for name in names}
        if "directly to the left" in question.text:
            assert left[question.answer] < left[known]
        else:
            assert left[question.answer] > left[known]


def position(page: pypdfium2.PdfPage, word: str, evidence: Evidence, width: float) -> float:
    text = page.get_textpage()
    start, _ = text.search(word, match_case=True, match_whole_word=True).get_next()
    x = text.get_charbox(start)[0] / width
    assert evidence.box[0] <= x <= evidence.box[2]
    return x


def test_the_largest_slice(world: World) -> None:
    # The shares stand in the text layer in the order of the legend.
    for question in world.asked("-pie-largest"):
        words = world.text_in(question.gold_pages[0], FULL_PAGE).split()
        shares = [int(a) for a, b in pairwise(words) if b == "%" and int(a) < 100]
        lines = [w for w in words if w in PRODUCT_LINES]
        assert sum(shares) == 100 and len(shares) == 5
        assert question.answer == lines[-5:][shares.index(max(shares))]


def test_boards_are_laid_out_alike_and_have_six_colours(world: World) -> None:
    boxes: dict[str, set[Box]] = {}
    for question in world.asked("-board-"):
        boxes.setdefault(question.gold_pages[0], set()).add(question.evidence[0].box)
    assert len(boxes) == 10
    assert len({frozenset(of_page) for of_page in boxes.values()}) == 1
    assert all(len(of_page) == 6 for of_page in boxes.values())


def test_badges_show_a_dark_symbol_on_white_and_no_text(world: World) -> None:
    images = {page_id: world.image(page_id) for page_id in {q.gold_pages[0] for q in world.asked("-board-")}}
    for question in world.asked("-board-"):
        (evidence,) = question.evidence
        assert question.answer in SYMBOLS
        assert world.text_in(evidence.page_id, evidence.box).strip() == ""
        image = images[evidence.page_id]
        inside = cut(image, evidence.box, (960, 720)).convert("L")
        grey = np.asarray(inside)
        # 20 points and 3 points of offset: the symbol lies within 14 points of the centre, the rest is white.
        centre = grey[360 - 145 : 360 + 145, 480 - 145 : 480 + 145]
        dark = int((centre < 100).sum())
        assert 0.15 * 200**2 < dark < 1.05 * 200**2, question.question_id
        assert dark == int((grey < 100).sum()) - edge(grey)
        corners = [grey[60, 60], grey[60, 900], grey[660, 60], grey[660, 900]]
        assert min(corners) >= 250


def normalise(dark: np.ndarray) -> np.ndarray:
    """Scale the frame of the dark pixels to 64 by 64."""
    rows, columns = np.nonzero(dark)
    part = dark[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.asarray(Image.fromarray(part.astype(np.uint8) * 255).resize((64, 64))) > 127


def test_the_badge_shows_the_symbol_that_is_the_answer(world: World) -> None:
    # Each badge is compared with the boards' own six shapes, averaged over the other documents.
    shapes: dict[str, list[tuple[str, np.ndarray]]] = {name: [] for name in SYMBOLS}
    images = {page_id: world.image(page_id) for page_id in {q.gold_pages[0] for q in world.asked("-board-")}}
    for question in world.asked("-board-"):
        (evidence,) = question.evidence
        grey = np.asarray(cut(images[evidence.page_id], evidence.box, (480, 360)).convert("L"))
        shapes[question.answer].append((evidence.page_id, normalise(grey[90:270, 120:360] < 128)))
    for name, examples in shapes.items():
        for page_id, shape in examples:
            likeness = {
                other: np.mean([(shape & s).sum() / (shape | s).sum() for p, s in shapes[other] if p != page_id])
                for other in SYMBOLS
            }
            assert max(likeness, key=lambda other: likeness[other]) == name
            assert likeness[name] > 0.9


def edge(grey: np.ndarray) -> int:
    """Dark pixels in the outermost 2 % of a badge, where the card shines through."""
    inner = grey[14:-14, 19:-19]
    return int((grey < 100).sum() - (inner < 100).sum())


def test_cards_are_told_apart_by_their_colour(world: World) -> None:
    wanted = {name: reference(name) for name in CARD_COLOURS}
    for question in world.asked("-board-"):
        image = world.image(question.gold_pages[0]) if question.question_id.endswith("-red") else None
        if image is None:
            continue
        for other in [q for q in world.asked("-board-") if q.gold_pages == question.gold_pages]:
            x0, _, _, y1 = other.evidence[0].box
            pixel = np.asarray(image.getpixel((int(x0 * image.width) - 20, int(y1 * image.height) + 20)), float)
            ranked = sorted((float(np.linalg.norm(pixel - rgb)), name) for name, rgb in wanted.items())
            assert ranked[0][1] == other.question_id.rpartition("-")[2]
            assert ranked[0][0] < 0.6 * ranked[1][0]  # not nearly another colour


def reference(name: str) -> np.ndarray:
    hue, lightness, saturation = CARD_COLOURS[name]
    return 255 * np.asarray(colorsys.hls_to_rgb(hue / 360, lightness, saturation))


def test_every_page_names_its_company_and_subject(world: World) -> None:
    for question in world.asked("-p"):
        if len(question.gold_pages) == 1:
            text = " ".join(world.text_in(question.gold_pages[0], FULL_PAGE).split()).lower()
            assert question.oracle_query.lower().rsplit(" ", 1)[0].split(" ")[0] in text
            name = " ".join(question.question_id.split("-")[:3])
            assert name in text
            assert question.oracle_query.lower().removeprefix(f"{name} ") in text


def test_nothing_is_cut_and_no_texts_overlap(world: World) -> None:
    for document in world.documents.values():
        for page in document:
            width, height = page.get_size()
            text = page.get_textpage()
            frames = [text.get_rect(i) for i in range(text.count_rects())]
            for left, bottom, right, top in frames:
                assert left >= 10 and bottom >= 8 and right <= width - 10 and top <= height - 8
            for i, a in enumerate(frames):
                for b in frames[i + 1 :]:
                    across = min(a[2], b[2]) - max(a[0], b[0])
                    along = min(a[3], b[3]) - max(a[1], b[1])
                    assert across < 0.5 or along < 0.5, (a, b)


def pixels_per_point(question: Question, world: World, box: Box) -> float:
    """Scale at which a region is shown at the default budget, along its height."""
    width, height = world.page(question.gold_pages[0]).get_size()
    region = ((box[2] - box[0]) * width, (box[3] - box[1]) * height)
    scale = LONG_SIDE / max(width, height)
    return PixelBudget().fit(region[0] * scale, region[1] * scale)[1] / region[1]


def test_footnotes_are_legible_only_after_a_zoom(world: World) -> None:
    # Capital letters of Helvetica are 0.72 of the font size high; under about 6 pixels they are guesswork.
    for question in world.asked("-footnote"):
        capitals = 0.72 * FOOTNOTE_POINTS
        assert capitals * pixels_per_point(question, world, FULL_PAGE) < 3.5
        assert capitals * pixels_per_point(question, world, question.evidence[0].box) > 30
        # The stored page has at least 6 pixels for them, so a zoom shows more than blur.
        assert capitals * LONG_SIDE / max(world.page(question.gold_pages[0]).get_size()) > 6


def test_symbols_grow_five_times_by_a_crop(world: World) -> None:
    for question in world.asked("-board-"):
        whole = SYMBOL_POINTS * pixels_per_point(question, world, FULL_PAGE)
        crop = SYMBOL_POINTS * pixels_per_point(question, world, question.evidence[0].box)
        assert whole < 21
        assert crop > 5 * whole
    assert BADGE == (96.0, 72.0)


def test_a_footnote_shown_on_the_page_has_lost_its_strokes(world: World) -> None:
    for question in world.asked("-footnote")[:4]:
        (evidence,) = question.evidence
        image = world.image(evidence.page_id)
        shown = cut(image, FULL_PAGE, PixelBudget().fit(*image.size))
        assert contrast(cut(image, evidence.box, (1200, 120))) > 1.3 * contrast(cut(shown, evidence.box, (1200, 120)))


def contrast(image: Image.Image) -> float:
    return float(np.asarray(image.convert("L"), float).std())
