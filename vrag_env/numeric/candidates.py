"""Candidates: the queries and answers from which a policy without a language chooses.

A provider gets the text of the question and the words that can be read in the current view, and nothing of
the gold, so that what it offers is what a plain reader could have found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vrag_env.corpus.records import Word
from vrag_env.corpus.text import STOP_WORDS
from vrag_env.extractive import asks_yes_or_no, rank_spans, words_of

_STOP = frozenset({*STOP_WORDS, "many", "much"})
_NAME = re.compile(r"(?:[A-Z]\w*|\d{4})(?: (?:[A-Z]\w*|\d{4}))*")
_MARKS = ".,;:!?()[]{}\"'"
_NEAR = (0.15, 2.5)  # what stands around an answer: to the side in widths of the page, above and below in lines
_CONTEXT_WORDS = 30


@dataclass(frozen=True)
class AnswerCandidate:
    """One answer that is offered.

    Attributes:
        text: The answer.
        context: What stands around it, from which its fitness can be told; may be empty.
    """

    text: str
    context: str = ""


@runtime_checkable
class CandidateProvider(Protocol):
    """Offers queries and answers, most promising first."""

    def queries(self, question: str, words: Sequence[Word], limit: int) -> Sequence[str]:
        """Return queries to choose from.

        Args:
            question: The question.
            words: What can be read in the current view, in reading order; nothing before the first page.
            limit: How many there is room for; more are left out.
        """
        ...

    def answers(self, question: str, words: Sequence[Word], limit: int) -> Sequence[AnswerCandidate]:
        """Return answers to choose from; "Not answerable" is always offered and need not be among them.

        Args:
            question: The question.
            words: As for :meth:`queries`.
            limit: As for :meth:`queries`.
        """
        ...


class TextCandidates:
    """Candidates from the question's own words and from the words of the view.

    Queries: the question; its key words (no stop words); the names in it (capitalised words and years); its
    key words without the names; then its key words with an entity of the view each (names that are not in the
    question, the most frequent first).

    Answers: yes and no, if that is asked; then by turns two spans and one line: spans are the numbers, names or
    words of the kind that is asked for, as :func:`vrag_env.extractive.rank_spans` ranks them, and lines are the
    printed lines of the view (without a gap wider than a letter's height and a half), those with the best spans
    first.
    """

    def queries(self, question: str, words: Sequence[Word], limit: int) -> list[str]:
        """Return queries; see :meth:`CandidateProvider.queries`."""
        key = [word for word in words_of(question) if word.lower() not in _STOP]
        # The first word has a capital whatever it is.
        names = [name for name in _NAME.findall(question[:1].lower() + question[1:]) if name.lower() not in _STOP]
        named = {part for name in names for part in name.split()}
        rest = [word for word in key if word not in named]
        found = [question, " ".join(key), " ".join(names), " ".join(rest)]
        found += [f"{' '.join(key)} {entity}" for entity in _entities(question, words)]
        return list(dict.fromkeys(query for query in found if query))[:limit]

    def answers(self, question: str, words: Sequence[Word], limit: int) -> list[AnswerCandidate]:
        """Return answers; see :meth:`CandidateProvider.answers`."""
        yes_no = [AnswerCandidate(text, question) for text in ("Yes", "No") if asks_yes_or_no(question)][:limit]
        lines = _lines(words)
        line_of = {place: number for number, line in enumerate(lines) for place in line}
        spans = rank_spans(question, words)
        order = dict.fromkeys([*(line_of[span.first] for span in spans), *range(len(lines))])
        texts = iter([(_text(words, lines[number]), lines[number][0], lines[number][-1]) for number in order])
        mixed: list[tuple[str, int, int]] = []
        for count, span in enumerate(spans, start=1):
            mixed.append(span)
            if count % 2 == 0:
                mixed += [line for line in [next(texts, None)] if line is not None]
        mixed += texts
        first: dict[str, tuple[int, int]] = {}
        for text, start, end in mixed:
            if text and len(first) < limit - len(yes_no):
                first.setdefault(text, (start, end))
        around = _Around(words)
        return yes_no + [AnswerCandidate(text, around(*place)) for text, place in first.items()]


def _entities(question: str, words: Sequence[Word]) -> list[str]:
    """Return the names on a view that are not in the question, the most frequent first."""
    asked = {part.lower() for part in words_of(question)}
    names: Counter[str] = Counter()
    for line in _lines(words):
        text = " ".join(words[place].text.strip(_MARKS) for place in line)
        for name in _NAME.findall(text):
            parts = [part for part in name.split() if part.lower() not in asked and part.lower() not in _STOP]
            if parts and not all(part.isdigit() or len(part) < 3 for part in parts):
                names[" ".join(parts[:4])] += 1
    return [name for name, _ in names.most_common(8)]


def _lines(words: Sequence[Word]) -> list[list[int]]:
    """Return the printed lines as places of words in reading order; a wide gap ends a line."""
    lines: list[list[int]] = []
    for place, word in enumerate(words):
        if place:
            before = words[place - 1].box
            height = word.box[3] - word.box[1]
            gap = word.box[0] - before[2]
            if abs(before[1] + before[3] - word.box[1] - word.box[3]) < 1.2 * height and -height < gap < 1.5 * height:
                lines[-1].append(place)
                continue
        lines.append([place])
    return lines


def _text(words: Sequence[Word], places: Sequence[int]) -> str:
    return " ".join(words[place].text for place in places).strip(_MARKS + " ")


class _Around:
    """What stands around a span: its row, and the lines above and below it."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = words

    def __call__(self, first: int, last: int) -> str:
        left, top, right, bottom = self._words[first].box
        right = max(right, self._words[last].box[2])
        middle, height = (top + bottom) / 2, bottom - top
        return " ".join(list(self._near(left, right, middle, height))[:_CONTEXT_WORDS])

    def _near(self, left: float, right: float, middle: float, height: float) -> Iterator[str]:
        for word in self._words:
            down = abs((word.box[1] + word.box[3]) / 2 - middle)
            beside = word.box[2] > left - _NEAR[0] and word.box[0] < right + _NEAR[0]
            if down < 0.6 * height or (beside and down < _NEAR[1] * height):
                yield word.text
