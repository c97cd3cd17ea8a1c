"""A baseline reader without a model: the word of a page that stands where the question's words meet.

It knows four things of reading. An answer has a kind (a number, a percentage, a time, a name). It stands near
the rare words of the question: on their line in prose and lists, in their row and under their column in a
table. It is not in the question itself. And where the question asks for two things, there are two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vrag_env.corpus.records import Word
from vrag_env.corpus.text import STOP_WORDS

MAX_WORDS, _MAX_PLACES, _MAX_PHRASE = 3_000, 20, 5  # words of a page, places of a word, words of a name

_WORD = re.compile(r"[^\W_]+(?:[-.,'/_][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_MARKS = ".,;:!?()[]{}\"'\u201c\u201d\u2018\u2019"
_NUMBER = re.compile(r"(?:[a-zA-Z]{1,3}=)?([-+\u2212]?[$€£]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)%?|\d{1,2}:\d\d)")
_KINDS = (  # what the question asks for, and what such an answer looks like
    (re.compile(r"\bper ?cent|%"), re.compile(r"[-+\u2212]?[\d.,]*\d%")),
    (re.compile(r"\bwhat time\b"), re.compile(r"\d{1,2}:\d\d")),
)
_AMOUNTS = r"""number|amount|count|rate|ratio|total|sum|mean|median|average|price|cost|revenue|value|p-value|size
|area|share|height|weight|length|width|distance|population|year|date|time|percentage""".replace("\n", "")
_ASKS_NUMBER = re.compile(rf"\bhow (?:many|much|old|long|far|large|big|high)\b|\bper ?cent|%|\b(?:{_AMOUNTS})s?\b")
_ASKS_NAME = re.compile(rf"\bwho\b|\bwhich (?!(?:{_AMOUNTS})s?\b)")
_ASKS_TWO = re.compile(r"\brespectively\b|\btwo\b|\band (?:how|what|which)\b")
_YES_NO = re.compile(r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should) ")
_NAME = re.compile(r"(?<!^)(?:[A-Z]\w*|\d{4})(?: (?:[A-Z]\w*|\d{4}))+")
_CAPTIONS = {"figure", "fig", "table", "section", "page", "chapter", "slide", "equation"}
_EMPTY = {*STOP_WORDS, "many", "much", "shown", "show", "given", "give", "list", "name", "answer"}


def words_of(text: str) -> list[str]:
    """Return the words of a text as written, without surrounding punctuation.

    >>> words_of("Revenue (2021): 42.5 million.")
    ['Revenue', '2021', '42.5', 'million']
    """
    return _WORD.findall(text)


class Span(NamedTuple):
    """A few words of a page that could be an answer.

    Attributes:
        text: The words, without the marks around them.
        first: Place of its first word among the words of the page.
        last: Place of its last word.
    """

    text: str
    first: int
    last: int


def find_answer(question: str, words: Sequence[Word]) -> str:
    """Return the words of a page that most likely answer a question; empty if nothing on it fits.

    Every candidate of the kind that is asked for gets, for each content word of the question, the weight of
    that word (the rarer on the page, the higher; the words of one name share it) times how near it stands to
    an occurrence. Where one word is in its row and another heads its column, it gets their weights again. The
    largest sum wins. A yes-or-no question whose words are on the page is answered with yes.

    Args:
        question: The question.
        words: The words of the page with their boxes, in reading order.

    Returns:
        The answer, two answers with a comma where two are asked for, or nothing.
    """
    words = words[:MAX_WORDS]
    if not _places(question, words):
        return ""
    if asks_yes_or_no(question):
        return "Yes"
    wanted = rank_spans(question, words)[: 2 if _ASKS_TWO.search(question.lower()) else 1]
    return ", ".join(span.text for span in sorted(wanted, key=lambda span: span.first))


def rank_spans(question: str, words: Sequence[Word]) -> list[Span]:
    """Return the words of a page that could be the answer, the most likely first, as :func:`find_answer` ranks them.

    Args:
        question: The question.
        words: The words of the page, or of a part of it, with their boxes, in reading order.

    Returns:
        All spans of the kind that is asked for, those that score the same in reading order.
    """
    words = words[:MAX_WORDS]
    places = _places(question, words)
    weights = {part: len(found) ** -0.5 for part, found in places.items()}
    for name in map(_content, _NAME.findall(question)):
        weights.update({part: weights[part] / len(name) for part in name & weights.keys()})
    found = _candidates(question.lower(), words, _content(question))
    return sorted(found, key=lambda span: -_score(span, words, places, weights))


def asks_yes_or_no(question: str) -> bool:
    """Tell whether a question is one that is answered with yes or no."""
    return _YES_NO.match(question.lower()) is not None


def _places(question: str, words: Sequence[Word]) -> dict[str, list[int]]:
    """Return where on a page the content words of a question stand."""
    asked = _content(question)
    places: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        for part in sorted(_content(word.text) & asked):
            places.setdefault(part, []).append(index)
    return places


def _content(text: str) -> set[str]:
    """Return the content words of a text, compounds whole and in parts, without the s of a plural."""
    found = {*words_of(text.lower()), *_PART.findall(text.lower())} - _EMPTY
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found}


def _candidates(question: str, words: Sequence[Word], asked: set[str]) -> list[Span]:
    """Return what on a page is of the kind that a question asks for and not in the question."""
    bare = [word.text.strip(_MARKS) for word in words]
    numbers = [
        Span(match[1], index, index)
        for index, text in enumerate(bare)
        if (match := _NUMBER.fullmatch(text)) and text not in asked
        if index == 0 or bare[index - 1].lower() not in _CAPTIONS
    ]
    form = next((form for asks, form in _KINDS if asks.search(question)), _NUMBER)
    numbers = [candidate for candidate in numbers if form.fullmatch(candidate.text)] or numbers
    if _ASKS_NUMBER.search(question) and not _ASKS_NAME.search(question):
        return numbers
    free = [not _content(t) <= _CAPTIONS and not _content(t) & asked and not _NUMBER.fullmatch(t) for t in bare]
    # A capital, a digit or a mark inside it makes a name; a word that is everywhere on the page is none.
    common = Counter(bare)
    named = [ok and not (t.islower() and t.isalpha()) and common[t] <= 5 for ok, t in zip(free, bare, strict=True)]
    runs: list[Span] = []
    for index in (index for index, ok in enumerate(named if any(named) else free) if ok):
        last = runs[-1] if runs else Span("", -2, -2)
        if last.last == index - 1 and index - last.first < _MAX_PHRASE and _adjacent(words[index - 1], words[index]):
            runs[-1] = Span(f"{last.text} {bare[index]}", last.first, index)
        else:
            runs.append(Span(bare[index], index, index))
    return runs or numbers


def _adjacent(before: Word, word: Word) -> bool:
    """Tell whether a word follows another one on the same line, with no more than a blank between them."""
    height = word.box[3] - word.box[1]
    same_line = abs(before.box[1] - word.box[1]) < 0.6 * height and 0 <= word.box[0] - before.box[2] < height
    return same_line and before.text[-1:] not in ".,;:!?)"


def _score(
    candidate: Span, words: Sequence[Word], places: Mapping[str, list[int]], weights: Mapping[str, float]
) -> float:
    """Score a candidate as :func:`find_answer` says; distances are in its own heights, the page taken as square."""
    left, top, right, bottom = words[candidate.first].box
    line = bottom - top
    total, row, column = 0.0, 0.0, 0.0
    for part, found in places.items():
        best = 0.0
        for place in found[:_MAX_PLACES]:
            x0, y0, x1, y1 = words[place].box
            across, down = max(left - x1, x0 - right, 0.0) / line, abs(top + bottom - y0 - y1) / 2 / line
            steps = candidate.first - place if place < candidate.first else 1.5 * (place - candidate.last)
            near = 0.5 / (1 + 0.1 * (across + down))
            if down < 0.6:  # the same row: a label and its value
                near = (1.0 if left >= x0 else 0.7) / (1 + 0.02 * across)
                row = max(row, weights[part])
            elif across == 0 and top > y0:  # under it: a column and its heading
                near = 0.8 / (1 + 0.02 * down)
                column = max(column, weights[part])
            best = max(best, near, 1 / (1 + 0.1 * steps))  # the steps are for prose, which breaks its lines
        total += weights[part] * best
    return total + (row + column if row and column else 0.0)
