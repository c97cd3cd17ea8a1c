"""Lists in answers: how a text may be read as a list, and how well two lists match."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vrag_env.rewards.text import unify

MAX_LIST_CHARS = 4_000
"""Longer texts are read as one element."""

_LINE = re.compile(r"\s*\n\s*(?:[-*•]\s+|\d{1,2}[.)]\s+)?")
_FIRST_BULLET = re.compile(r"\s*(?:[-*•]\s+|1[.)]\s+)")
_MARK = re.compile(r"[,;|]|(?<=\s)(?:and|&)(?=\s)", re.IGNORECASE)
_GROUP = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_OPEN, _CLOSE = "([{", ")]}"


def split_list(text: str) -> list[list[str]]:
    """Return the ways in which a text can be read as a list of strings.

    Line breaks, semicolons and bars separate where there are any; else commas, and possibly ``and`` and
    ``&``. A comma before three digits may separate or may group thousands. Nothing inside quotes or round
    brackets separates. Outer square brackets, bullets and quotes are dropped. Nothing is evaluated.

    Args:
        text: The answer as written.

    Returns:
        Distinct readings, each with at least one element, elements never empty; no reading for a blank text.

    >>> split_list("2,403 and 48,308")[-1]
    ['2,403', '48,308']
    >>> split_list("['Smith, John', 'Doe']")
    [['Smith, John', 'Doe']]
    """
    text = text.strip()
    if "\n" in text:
        text = _LINE.sub(" ; ", _FIRST_BULLET.sub("", text, count=1))
    text = unify(text)
    if len(text) > MAX_LIST_CHARS:
        return [[text]]
    if len(text) > 1 and text[0] == "[" and text[-1] == "]":
        text = text[1:-1].strip()
    shielded = _shielded(text)
    marks = [mark for mark in _MARK.finditer(text) if not shielded[mark.start()]]
    strong = [mark.span() for mark in marks if mark[0] in ";|"]
    commas = [mark.span() for mark in marks if mark[0] == ","]
    sure = [span for span in commas if not _GROUP.match(text, span[0])]
    words = [mark.span() for mark in marks if mark[0] not in ",;|"]
    options = [strong] if strong else [commas, sorted(commas + words), sure, sorted(sure + words)]
    readings: list[list[str]] = []
    for cuts in options:
        reading = _cut(text, cuts)
        if reading and reading not in readings:
            readings.append(reading)
    return readings


def _shielded(text: str) -> list[bool]:
    """Tell for each character whether it stands inside quotes or brackets that are closed again."""
    shielded = [False] * len(text)
    opened: list[tuple[str, int]] = []
    start_of_element = True
    i = 0
    while i < len(text):
        character = text[i]
        if character in "\"'" and start_of_element:
            end = _closing_quote(text, i)
            if end > i:
                shielded[i:end] = [True] * (end - i)
                i = end
        elif character in _OPEN:
            opened.append((_CLOSE[_OPEN.index(character)], i))
        elif opened and character == opened[-1][0]:
            _, start = opened.pop()
            if not opened:
                shielded[start:i] = [True] * (i - start)
        start_of_element = character in ",;|[" or (start_of_element and character == " ")
        i += 1
    return shielded


def _closing_quote(text: str, start: int) -> int:
    """Return where the quote that opens at ``start`` closes an element; -1 if nowhere."""
    end = text.find(text[start], start + 1)
    while end != -1 and text[end + 1 : end + 3].lstrip()[:1] not in ("", ",", ";", "|", "]"):
        end = text.find(text[start], end + 1)
    return end


def _cut(text: str, cuts: Sequence[tuple[int, int]]) -> list[str]:
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    elements = (text[start:end].strip() for start, end in zip(starts, ends, strict=True))
    return [_unquote(element) for element in elements if _unquote(element)]


def _unquote(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if quoted else text


def best_matching(scores: Sequence[Sequence[float]]) -> float:
    """Match rows to columns one to one so that the worst pair is as good as can be; return its score.

    Args:
        scores: A square matrix; element ``[i][j]`` scores row ``i`` with column ``j``.

    >>> best_matching([[0.9, 1.0], [0.0, 0.6]])
    0.6
    """
    levels = sorted({value for row in scores for value in row if value > 0}, reverse=True)
    return next((level for level in levels if _can_match(scores, level)), 0.0)


def _can_match(scores: Sequence[Sequence[float]], level: float) -> bool:
    """Look for a perfect matching among the pairs that reach the level, by Kuhn's augmenting paths."""
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, value in enumerate(scores[row]):
            if value >= level and column not in seen:
                seen.add(column)
                if column not in owner or place(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(scores)))
