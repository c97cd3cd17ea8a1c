"""A baseline reader without a model: the span of a text that stands nearest to the words of a question."""

from __future__ import annotations

import re

WINDOW = 30
"""Number of words that are looked at together."""
MAX_WORDS = 20_000
"""Longer texts are cut."""

_WORD = re.compile(r"[^\W_]+(?:[-.,'/_][^\W_]+)*")
_TOKEN = re.compile(r"[$€£]?[^\W_]+(?:[-.,'/_:][^\W_]+)*%?|[.;:,!?]")
_NUMBER = re.compile(r"[$€£]?\d[\d.,:/-]*%?")
_ASKS_PERCENT = re.compile(r"\bper ?cent|%")
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|old|long|far|large|big|high|often)\b|\bper ?cent|%"
    r"|\b(?:number|amount|count|rate|ratio|total|sum|mean|median|average|year|date)\b"
    r"|\b(?:price|cost|revenue|value|size)\b"
)


def words_of(text: str) -> list[str]:
    """Return the words of a text as written, without surrounding punctuation.

    >>> words_of("Revenue (2021): 42.5 million.")
    ['Revenue', '2021', '42.5', 'million']
    """
    return _WORD.findall(text)


_STOP_WORDS = frozenset(
    words_of(
        """a an and are as at be by did do does for from has have how in is it its many much of on or that the
        this to was were what when where which who whose why with"""
    )
)


def find_answer(question: str, text: str) -> str:
    """Return the span of a text that most likely answers a question; empty if there is none.

    The window of :data:`WINDOW` words that holds most of the question's content words is searched. Where the
    question asks for a number (how many, what percentage, which year, ...), the candidates are the numbers in
    the window that the question does not name; else the runs of words with a capital that it does not name,
    or, failing that, the other content words. The candidate with the smallest mean distance to the question's
    words in the window wins, the earlier one in a tie; one that follows the words beats one that precedes
    them.

    Args:
        question: The question.
        text: The text of a page.

    >>> find_answer("How many members does the choir have?", "The choir of Ulm has 48 members.")
    '48'
    """
    asked = {word for word in map(str.lower, words_of(question)) if word not in _STOP_WORDS}
    tokens = _TOKEN.findall(text)[:MAX_WORDS]
    lowered = [token.lower() for token in tokens]
    matches = [index for index, token in enumerate(lowered) if token in asked]
    if not matches:
        return ""
    start = max(matches, key=lambda index: (len(asked.intersection(lowered[index : index + WINDOW])), -index))
    # Some words before the first match: an answer may precede the words of the question.
    low, high = max(0, start - WINDOW // 4), min(len(tokens), start + WINDOW)
    anchors = [index for index in matches if low <= index < high]
    candidates = _candidates(question.lower(), tokens, asked, low, high)
    if not candidates:
        return ""
    first, last = min(candidates, key=lambda span: _distance(span, anchors))
    return " ".join(tokens[first:last])


def _distance(span: tuple[int, int], anchors: list[int]) -> tuple[float, int]:
    """Return the mean distance to the anchors; a step backwards counts one and a half."""
    steps = [span[0] - index if index < span[0] else 1.5 * (index - span[1] + 1) for index in anchors]
    return sum(steps) / len(steps), span[0]


def _candidates(question: str, tokens: list[str], asked: set[str], low: int, high: int) -> list[tuple[int, int]]:
    """Return spans ``(first, one past the last)`` of the expected kind between two positions."""
    free = [i for i in range(low, high) if tokens[i].lower() not in asked and tokens[i][-1] not in ".;:,!?"]
    numbers = [i for i in free if _NUMBER.fullmatch(tokens[i])]
    if _ASKS_NUMBER.search(question):
        percent = [i for i in numbers if tokens[i].endswith("%")] if _ASKS_PERCENT.search(question) else []
        return [(i, i + 1) for i in percent or numbers]
    content = [i for i in free if tokens[i].lower() not in _STOP_WORDS]
    names = [i for i in content if tokens[i][0].isupper()]
    spans: list[tuple[int, int]] = []
    for i in names or content:
        if names and spans and spans[-1][1] == i:
            spans[-1] = (spans[-1][0], i + 1)
        else:
            spans.append((i, i + 1))
    return spans
