"""Scripted players: an oracle that knows the answers, one that acts at random, and a plain baseline.

A player decides from the record of the episode alone and keeps nothing between turns, so that it plays the
same whatever the batch, and goes on from any restored state. The oracle is the only one that looks at the
gold of a question; it writes the demonstrations from which a policy learns the grammar.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Protocol

from vrag_env.actions import (
    MAX_ANSWER_CHARS,
    MAX_QUERY_CHARS,
    Answer,
    Crop,
    Invalid,
    ParsedTurn,
    Search,
    format_turn,
    parse,
)
from vrag_env.corpus.records import Box, Word
from vrag_env.episode import Episode
from vrag_env.errors import VRAGError
from vrag_env.extractive import find_answer, words_of
from vrag_env.questions import NOT_ANSWERABLE, Question
from vrag_env.views import FULL_PAGE, BadBox, View, crop_view, to_frame

PLAYERS = ("oracle", "random", "retrieve_then_answer")
_INSIDE = 0.01
"""How far, as a share of the page, a crop may fall short of a box and still hold it (boxes are rounded)."""


class Player(Protocol):
    """Plays episodes."""

    def act(self, episode: Episode) -> str:
        """Return the text of the next turn, in the grammar of :mod:`vrag_env.actions`.

        Args:
            episode: A started episode that has not ended.
        """
        ...


def make_player(name: str, seed: int = 0) -> Player:
    """Return a scripted player by name.

    Args:
        name: ``oracle``, ``random`` or ``retrieve_then_answer``.
        seed: Seed of the random player; the others are deterministic.

    Raises:
        VRAGError: If there is no such player.
    """
    if name == "oracle":
        return OraclePlayer()
    if name == "random":
        return RandomPlayer(seed)
    if name == "retrieve_then_answer":
        return RetrieveThenAnswerPlayer()
    raise VRAGError(f"unknown player {name!r}: choose one of {', '.join(PLAYERS)}")


class OraclePlayer:
    """Plays as well as the retriever and the rules allow, because it reads the gold of the question.

    It searches until every gold page was shown, with the first query that the retriever answers with a
    missing gold page: the question's ``oracle_query``, its text, then groups of words from the page's own
    text layer. It enlarges the evidence on the page seen last while that leaves a turn for every missing page
    (several boxes of a page together, since a page can not be seen whole again). It answers with the
    reference, without having seen the gold pages if they can not be reached; for a question without gold pages
    after one search.

    Args:
        zoom: Share of the questions, 0 to 1, in which it enlarges the evidence; chosen by the question's id. In
            the others it answers from the page as shown. Demonstrations of both kinds teach how to enlarge
            without teaching when.
    """

    def __init__(self, zoom: float = 1.0) -> None:
        if not 0 <= zoom <= 1:
            raise ValueError(f"zoom must be between 0 and 1, got {zoom}")
        self.zoom = zoom

    def act(self, episode: Episode) -> str:
        """Return the next turn; see :meth:`Player.act`."""
        question = episode.question
        if not episode.last_turn:
            if not question.gold_pages and not _has_searched(episode):
                return _search("I look for the page first.", question.text)
            missing = [page for page in dict.fromkeys(question.gold_pages) if page not in episode.pages_shown]
            turns_left = episode.config.max_turns - len(episode.turns)
            box = _evidence_box(episode)
            if box is not None and turns_left > len(missing) and _share(question) < self.zoom:
                thought = question.oracle_thought.replace("</think>", "") or "I enlarge the part with the answer."
                return format_turn(thought, Crop(box))
            if missing and _room_for(episode, missing[0], FULL_PAGE):
                thought = "I look for the next page." if episode.views else "I look for the page first."
                return _search(thought, _query_for(episode, missing))
        if not question.answerable:
            return _answer("The pages do not hold the answer.", NOT_ANSWERABLE)
        if not set(question.gold_pages) <= set(episode.pages_shown):
            return _answer("I answer without having seen every page.", question.answer)
        return _answer("I can read the answer now.", question.answer)


def _share(question: Question) -> float:
    """A number in [0, 1) that depends on the question's id alone."""
    digest = hashlib.sha256(question.question_id.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _query_for(episode: Episode, missing: Sequence[str]) -> str:
    """Return a query whose next new page is a missing gold page, or the first candidate if there is none."""
    question = episode.question
    first = [_one_line(text) for text in (question.oracle_query, question.text) if _one_line(text)]
    for make in (lambda: first, lambda: list(_queries_from(episode, missing[0]))):  # a page is read only if needed
        candidates = make()
        if not candidates:
            continue
        found = episode.retriever.search(candidates, episode.search_depth, question.scope)
        shown = set(episode.pages_shown)
        for query, hits in zip(candidates, found, strict=True):
            # Noise depends on the query: where one is answered badly another may not be.
            new = [hit.page_id for hit in episode.worsen(query, hits) if hit.page_id not in shown]
            if any(page in missing for page in new[: episode.config.pages_per_search]):
                return query
    return first[0] if first else "page"


def _queries_from(episode: Episode, page_id: str) -> Iterator[str]:
    """Yield queries of a page's own words: those near the evidence, the longest, then stretches of text."""
    page = episode.corpus.page(page_id)
    for evidence in episode.question.evidence:
        if evidence.page_id == page_id:
            nearest = sorted(page.words, key=lambda word: _distance(word, evidence.box))
            yield from (" ".join(word.text for word in nearest[:count]) for count in (6, 12, 24))
    words = list(dict.fromkeys(words_of(page.text)))
    longest = sorted(words, key=len, reverse=True)
    yield from (" ".join(longest[:count]) for count in (6, 12, 24, 48) if words)
    yield from (" ".join(words[start : start + 12]) for start in range(0, min(len(words), 120), 12))


def _distance(word: Word, box: Box) -> float:
    x, y = (word.box[0] + word.box[2]) / 2, (word.box[1] + word.box[3]) / 2
    return max(box[0] - x, x - box[2], 0.0) + max(box[1] - y, y - box[3], 0.0)


def _evidence_box(episode: Episode) -> tuple[int, int, int, int] | None:
    """Return the crop of the evidence not yet enlarged in the current view, in the view's frame."""
    view = episode.view
    if view is None or isinstance(episode.turns[-1].action, Invalid):
        return None
    same_page = [seen for seen in episode.views if seen.page_id == view.page_id]
    crops = [seen.box for seen in same_page if seen.parent_id is not None]
    boxes = [
        evidence.box
        for evidence in episode.question.evidence
        if evidence.page_id == view.page_id
        and _holds(view.box, evidence.box)
        and not any(_holds(crop, evidence.box) for crop in crops)
    ]
    if not boxes:
        return None
    union = (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )
    for margin in (0.0, 0.01, 0.03):  # evidence of a few points can be too small or too thin to cut
        padded = (union[0] - margin, union[1] - margin, union[2] + margin, union[3] + margin)
        written = to_frame(view, padded, episode.config.box_frame)
        region = _region(episode, view, written)
        if region is not None:
            return written if _room_for(episode, view.page_id, region) else None
    return None


def _holds(outer: Box, inner: Box) -> bool:
    return all(outer[i] <= inner[i] + _INSIDE and inner[i + 2] <= outer[i + 2] + _INSIDE for i in (0, 1))


def _region(episode: Episode, view: View, box: tuple[float, float, float, float]) -> Box | None:
    try:
        return crop_view(view, box, episode.config.box_frame, episode.corpus.page_size(view.page_id))
    except BadBox:
        return None


def _room_for(episode: Episode, page_id: str, box: Box) -> bool:
    """Tell whether the budget of pixels allows one more view."""
    if episode.config.episode_pixels is None:
        return True
    width, height = episode.corpus.page_size(page_id)
    shown = episode.config.pixels.fit((box[2] - box[0]) * width, (box[3] - box[1]) * height)
    return shown[0] * shown[1] <= episode.config.episode_pixels - episode.pixels_spent


class RandomPlayer:
    """Takes random valid actions: searches with words of the question, crops, answers with a word it met.

    The randomness of a turn comes from the seed, the question and the number of the turn.

    Args:
        seed: Seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def act(self, episode: Episode) -> str:
        """Return the next turn; see :meth:`Player.act`."""
        rng = random.Random(f"{self.seed}/{episode.question.question_id}/{len(episode.turns)}")
        words = words_of(episode.question.text) or ["page"]
        kind = "answer" if episode.last_turn else rng.choice(("search", "crop", "answer"))
        if kind == "crop" and episode.view is not None:
            box = self._box(episode.view, episode.config.box_frame, rng)
            region = _region(episode, episode.view, box)
            if region is not None and _room_for(episode, episode.view.page_id, region):
                return format_turn("I enlarge some part.", Crop(box))
        if kind != "answer":
            query = " ".join(rng.choice(words) for _ in range(rng.randint(1, 5)))
            return _search("I search for some words.", query)
        if episode.view is not None:
            words = words_of(episode.corpus.page(episode.view.page_id).text) or words
        return _answer("I answer with some word.", rng.choice(words))

    @staticmethod
    def _box(view: View, frame: str, rng: random.Random) -> tuple[int, int, int, int]:
        width, height = view.size if frame == "pixel" else (1000, 1000)
        w, h = rng.randint(width // 4, width), rng.randint(height // 4, height)
        x, y = rng.randint(0, width - w), rng.randint(0, height - h)
        return x, y, x + w, y + h


class RetrieveThenAnswerPlayer:
    """Searches once with the question itself and answers from the text layer of the pages shown.

    This is plain retrieval-augmented answering without a model: :func:`vrag_env.extractive.find_answer` picks
    the words. "Not answerable" if no page was found or nothing on it fits. It never looks at the gold.
    """

    def act(self, episode: Episode) -> str:
        """Return the next turn; see :meth:`Player.act`."""
        question = episode.question.text
        if not _has_searched(episode) and not episode.last_turn:
            return _search("I search with the question itself.", question)
        for page_id in episode.pages_shown:
            span = find_answer(question, episode.corpus.page(page_id).words)
            if span:
                return _answer("I take what stands nearest to the words of the question.", span)
        return _answer("I found nothing.", NOT_ANSWERABLE)


def _has_searched(episode: Episode) -> bool:
    return any(isinstance(turn.action, Search) for turn in episode.turns)


def _one_line(text: str) -> str:
    """Make untrusted text fit for the grammar: printable, on one line, without angle brackets.

    Angle brackets go because a question or a page may quote a tag.
    """
    return " ".join("".join(c if c.isprintable() and c not in "<>" else " " for c in text).split())


def _search(thought: str, query: str) -> str:
    return format_turn(thought, Search(_one_line(query)[:MAX_QUERY_CHARS].strip() or "page"))


def _answer(thought: str, text: str) -> str:
    """Write an answer as it is where the grammar allows it, else cleaned."""
    action = Answer(text)
    if parse(f"<think></think><answer>{text}</answer>") != ParsedTurn("", action):
        action = Answer(_one_line(text)[:MAX_ANSWER_CHARS].strip() or NOT_ANSWERABLE)
    return format_turn(thought, action)
