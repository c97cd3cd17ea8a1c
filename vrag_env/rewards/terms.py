"""The terms of the reward that need no judge: pure functions of the record of an episode, each in [0, 1].

A term that does not apply to a question (no evidence boxes) is ``None``. Terms read what the environment
executed, never the text that was written, so that nothing written can imitate an action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vrag_env.actions import Invalid, Search
from vrag_env.retrieval.metrics import ndcg_at_k
from vrag_env.views import iou

if TYPE_CHECKING:
    from vrag_env.episode import Episode


def retrieval(episode: Episode) -> float:
    """Return the NDCG of the distinct pages, in the order shown, against the gold pages.

    Source: VRAG-RL (arXiv 2505.22019), equations 7 to 9, with binary gains: the page at position ``i`` (from
    1) adds ``1 / log2(i + 1)`` if it is gold; the sum is divided by that of all gold pages shown first. Wrong
    pages before a gold page lower the term, wrong pages after the last one do not; showing a page again, or
    listing a gold page twice, changes nothing.

    A question without gold pages (one without an answer, as a rule) has no NDCG, and the paper says nothing of
    it. There the term is 1 as soon as a search was executed and 0 before: whoever says "Not answerable" must
    have looked. Were the term left out and its weight spread over the others, denying everything at once would
    earn the whole reward on such questions.

    Returns:
        The NDCG, or whether a search was executed where the question has no gold pages.
    """
    gold = frozenset(episode.question.gold_pages)
    if not gold:
        return float(any(isinstance(turn.action, Search) for turn in episode.turns))
    return ndcg_at_k(episode.pages_shown, gold)


def pattern(episode: Episode) -> float:
    """Return the share of turns whose action was executed, as opposed to Invalid; 0 with no turns.

    Source: VRAG-RL, equation 10, as a share instead of all or nothing. A box that can not be cut, a crop
    before any image, and a search in the last turn are Invalid, too.
    """
    turns = episode.turns
    if not turns:
        return 0.0
    return sum(not isinstance(turn.action, Invalid) for turn in turns) / len(turns)


def region(episode: Episode) -> float | None:
    """Return how well the crops hit the evidence.

    Returns:
        The mean over the evidence boxes of the best intersection over union with any crop of that page, both
        in page coordinates, a crop of a crop included; full pages do not count. ``None`` if the question has
        no evidence boxes.
    """
    evidence = episode.question.evidence
    if not evidence:
        return None
    crops = [view for view in episode.views if view.parent_id is not None]
    best = (
        max((iou(view.box, target.box) for view in crops if view.page_id == target.page_id), default=0.0)
        for target in evidence
    )
    return sum(best) / len(evidence)


def cost(episode: Episode) -> float:
    """Return one minus the share of the means that was spent, so that higher is cheaper.

    The share is the mean of two: turns taken of the ``max_turns + 1`` possible; pixels shown of
    ``episode_pixels``, or without such a limit of ``max_pixels`` for every page that ``max_turns + 1``
    searches could show. Give it a small weight: an agent that answers at once without looking is the
    cheapest.
    """
    config = episode.config
    turns = config.max_turns + 1
    pixels = config.episode_pixels or turns * config.pages_per_search * config.pixels.max_pixels
    spent = (min(len(episode.turns) / turns, 1.0) + min(episode.pixels_spent / pixels, 1.0)) / 2
    return 1.0 - spent


TERMS: dict[str, Callable[[Episode], float | None]] = {
    "retrieval": retrieval,
    "pattern": pattern,
    "region": region,
    "cost": cost,
}
"""The terms by name; the term ``answer`` is the judge's and known only when the episode has ended."""
