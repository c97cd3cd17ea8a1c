"""The oracle ceiling: how many questions the best choice among the candidates could answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vrag_env.episode import EpisodeConfig
from vrag_env.numeric.features import Featurizer
from vrag_env.questions import Question
from vrag_env.retrieval import Retriever
from vrag_env.views import FULL_PAGE, View, crop_view


@dataclass(frozen=True)
class OracleCeiling:
    """Shares of the questions, 0 to 1.

    A question without an answer counts as 1 everywhere, since "Not answerable" is always offered.

    Attributes:
        questions: How many questions were looked at.
        first_hit: The first hit of one of the first candidate queries is a gold page.
        pages: Searching with one of them again and again shows a gold page while a turn is left for an answer.
        page_answers: A right answer is among the candidates of a gold page as a whole.
        answers: A right answer is among the candidates of a gold page, or of one of its cells.
        ceiling: ``pages`` and ``answers`` at once: about the accuracy of the best policy.
    """

    questions: int
    first_hit: float
    pages: float
    page_answers: float
    answers: float
    ceiling: float


def oracle_ceiling(
    questions: Sequence[Question], featurizer: Featurizer, retriever: Retriever, config: EpisodeConfig
) -> OracleCeiling:
    """Measure the ceiling; see :class:`OracleCeiling`.

    Args:
        questions: At least one.
        featurizer: Whose candidates are measured.
        retriever: What the queries are put to.
        config: The rules.

    Raises:
        ValueError: If there is no question.
    """
    if not questions:
        raise ValueError("the oracle ceiling needs at least one question")
    rows = []
    for question in questions:
        if not question.answerable:
            rows.append((True, True, True, True))
            continue
        gold = set(question.gold_pages)
        asked = featurizer.of(question, None, None).queries
        found = retriever.search(asked, config.max_turns * config.pages_per_search, question.scope)
        first = any(hits[0].page_id in gold for hits in found if hits)
        reached = {hit.page_id for hits in found for hit in hits} & gold
        whole = [
            page
            for page in question.gold_pages
            if featurizer.of(question, _page(featurizer, config, page), None).oracle
        ]
        zoomed = whole or [page for page in question.gold_pages if _in_a_cell(question, featurizer, config, page)]
        rows.append((first, bool(reached), bool(whole), bool(zoomed)))
    count = len(rows)
    first_hit, pages, page_answers, answers = (sum(row[place] for row in rows) / count for place in range(4))
    ceiling = sum(row[1] and row[3] for row in rows) / count
    return OracleCeiling(count, first_hit, pages, page_answers, answers, ceiling)


def _page(featurizer: Featurizer, config: EpisodeConfig, page_id: str) -> View:
    return View(1, page_id, FULL_PAGE, None, config.pixels.fit(*featurizer.corpus.page_size(page_id)))


def _in_a_cell(question: Question, featurizer: Featurizer, config: EpisodeConfig, page_id: str) -> bool:
    page = _page(featurizer, config, page_id)
    width, height = size = featurizer.corpus.page_size(page_id)
    for crop in featurizer.zooms(page):
        if crop is not None:
            box = crop_view(page, crop.box, config.box_frame, size)
            shown = config.pixels.fit((box[2] - box[0]) * width, (box[3] - box[1]) * height)
            if featurizer.of(question, View(2, page_id, box, 1, shown), page).oracle:
                return True
    return False
