"""Values as benchmarks write them: lists inside strings, page numbers that are none, words for the same thing."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

MAX_LIST_CHARS = 10_000
"""Longest text that is read as a list; labels have some dozens of characters."""

BELOW_ONE = "page numbers below 1 (left out of the gold pages)"
NO_NUMBER = "entries that are not page numbers (left out of the gold pages)"
NO_PAGE_LIST = "lists of pages that can not be read (taken as empty)"
NO_SOURCE_LIST = "lists of sources that can not be read (taken as empty)"
UNKNOWN_FORMAT = "answer formats that are not known (inferred from the answer)"

_SOURCES = {
    "pure-text (plain-text)": "Text",
    "generalized-text (layout)": "Layout",
    "2d_layout": "Layout",
    "image": "Figure",
}
_KINDS = ("Text", "Table", "Chart", "Figure", "Layout")
_SINGLE = re.compile(r"single[-_ ]?hop|content_extraction|extraction", re.IGNORECASE)
_MULTI = re.compile(r"multi[-_ ]?hop|logic", re.IGNORECASE)


def read_list(value: Any) -> list[Any]:
    """Read a list that may be written as text, as Python or JSON writes it; nothing in it is evaluated.

    Args:
        value: A list, a text such as ``"[3, 5]"`` or ``"['Chart']"``, or ``None`` for an empty list.

    Raises:
        ValueError: If it is none of these.

    >>> read_list("['Chart', 'Table']")
    ['Chart', 'Table']
    """
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or len(value) > MAX_LIST_CHARS:
        raise ValueError("not a list")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError("not a list") from error
    if not isinstance(found, list | tuple):
        raise ValueError("not a list")
    return list(found)


def read_pages(value: Any) -> tuple[tuple[int, ...], bool, list[tuple[str, str]]]:
    """Read the page numbers of a label.

    Args:
        value: A list of numbers, or text of one. A number may be written as text or as ``3.0``.

    Returns:
        The distinct numbers from 1 on in the order given; whether the label has any entry; and
        ``(kind, detail)`` of every entry that was left out.
    """
    try:
        entries = read_list(value)
    except ValueError:
        return (), bool(value), [(NO_PAGE_LIST, _short(value))]
    pages: list[int] = []
    problems: list[tuple[str, str]] = []
    for entry in entries:
        number = _whole(entry)
        if number is None:
            problems.append((NO_NUMBER, _short(entry)))
        elif number < 1:
            problems.append((BELOW_ONE, str(number)))
        elif number not in pages:
            pages.append(number)
    return tuple(pages), bool(entries), problems


def read_sources(value: Any) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Read what carries the answer, in the words of the paper: Text, Table, Chart, Figure, Layout.

    Args:
        value: One word, a list of words, or text of a list; the words of MMLongBench-Doc and ViDoSeek are
            translated, unknown ones are kept.

    Returns:
        The words, and ``(kind, detail)`` if they could not be read.
    """
    if isinstance(value, str) and not value.lstrip().startswith("["):
        words: Iterable[Any] = [value] if value.strip() else []
    else:
        try:
            words = read_list(value)
        except ValueError:
            return (), [(NO_SOURCE_LIST, _short(value))]
    return tuple(dict.fromkeys(_source(word) for word in words if isinstance(word, str) and word.strip())), []


def _source(word: str) -> str:
    plain = word.strip()
    if plain.lower() in _SOURCES:
        return _SOURCES[plain.lower()]
    return next((kind for kind in _KINDS if kind.lower() == plain.lower()), plain)


def read_hops(value: Any) -> str:
    """Name the type of a question as the paper's tables do.

    >>> read_hops("multi_hop"), read_hops("Single-Hop_Multi-Span"), read_hops("content_extraction")
    ('Multi-Hop', 'Single-Hop', 'Single-Hop')
    """
    text = value.strip() if isinstance(value, str) else ""
    if _MULTI.match(text):
        return "Multi-Hop"
    return "Single-Hop" if _SINGLE.match(text) else text


def read_text(value: Any) -> str:
    """Read a text that may have been stored as a number.

    Raises:
        ValueError: If it is neither, or blank.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("missing or blank")
    return value


def _whole(entry: Any) -> int | None:
    if isinstance(entry, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", entry):
        return int(entry)
    if isinstance(entry, bool) or not isinstance(entry, int | float) or entry != entry:
        return None
    return int(entry) if abs(entry) < 2**31 and entry == int(entry) else None


def _short(value: Any) -> str:
    return ascii(value)[:60]
