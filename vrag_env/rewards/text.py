"""Normal forms of answers and the distances between them; the ground on which the rules of a judge stand."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

MAX_EDIT_CHARS = 1_000
"""Longer strings are compared for equality only: the edit distance takes quadratic time."""

_REPLACED = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63"), "-"),
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u02bc`\u00b4"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"), None),
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
}
_ACCENTS = dict.fromkeys(range(0x300, 0x370))
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.)+[^\W\d_]\b")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))


def unify(text: str) -> str:
    r"""Write the Unicode forms of dashes, quotes, blanks and full-width letters in one way; keep the case.

    Superscripts are left alone (no NFKC): ``10\u00b2`` is not ``102``.

    >>> unify("\u22121.8 \u00a0 \u201cgood\u201d")
    '-1.8 "good"'
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(_REPLACED).split())


def clean(text: str) -> str:
    """Return :func:`unify` in lower case, without accents, outer quotes, closing marks; never empties a text.

    >>> clean('"Killen 90".'), clean("...")
    ('killen 90', '...')
    """
    text = unify(text).lower()
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).translate(_ACCENTS))
    stripped = text.rstrip(".,;:!? ")
    if len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        stripped = stripped[1:-1].strip().rstrip(".,;:!? ")
    return stripped or text


def compact(text: str) -> str:
    """Return :func:`clean` without what only separates letters: blanks, hyphens, dots of initials, ...

    Empty brackets at the end, as of a call, are dropped. Between two digits one hyphen stays, since ``1-2``
    is not ``12``; so does a sign before a number.

    >>> compact("Santa Marta"), compact("labeling_lboxed()"), compact("2021-03 05"), compact("below -5")
    ('santamarta', 'labelinglboxed', '2021-03-05', 'below-5')
    """
    text = clean(text)
    text = re.sub(r"\(\s*\)$", "", text) or text
    text = _INITIALS.sub(lambda initials: initials[0].replace(".", ""), text)
    return re.sub(r"[\s_-]+", lambda gap: _keep(gap, text), text) or text


def _keep(gap: re.Match[str], text: str) -> str:
    before, after = text[max(gap.start() - 1, 0) : gap.start()], text[gap.end() : gap.end() + 1]
    between_digits = before.isdigit() and after.isdigit()
    sign = after.isdigit() and gap[0].endswith("-") and (not before or gap[0][0].isspace())
    return "-" if between_digits or sign else ""


def edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance of two strings, in O(len(first) * len(second)) steps.

    >>> edit_distance("kitten", "sitting")
    3
    """
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def anls(reference: str, answer: str, threshold: float = 0.5) -> float:
    """Return the normalised Levenshtein similarity, 0 unless it is above the threshold.

    Source: Biten et al., "Scene Text Visual Question Answering" (2019); MMLongBench-Doc uses it with 0.5.

    Args:
        reference: The right answer, in normal form.
        answer: The given answer, in normal form.
        threshold: Similarities up to this count as 0.

    Returns:
        ``1 - distance / longer length``, or 0. Two empty strings are equal.
    """
    if reference == answer:
        return 1.0
    longer = max(len(reference), len(answer))
    # The distance is at least the difference of the lengths.
    if longer > MAX_EDIT_CHARS or min(len(reference), len(answer)) / longer <= threshold:
        return 0.0
    similarity = 1 - edit_distance(reference, answer) / longer
    return similarity if similarity > threshold else 0.0


def squad_tokens(text: str) -> list[str]:
    """Return the tokens by which SQuAD compares answers: lower case, no punctuation, no articles.

    Source: Rajpurkar et al., "SQuAD" (2016). A text of articles or punctuation only keeps them.

    >>> squad_tokens("The 42.5 million, in the U.S.")
    ['425', 'million', 'in', 'us']
    """
    text = unify(text).lower()
    return _ARTICLES.sub(" ", text.translate(_NO_PUNCTUATION)).split() or text.split()


def exact_match(reference: str, answer: str) -> float:
    """Return 1 if both have the same :func:`squad_tokens` and at least one, else 0."""
    tokens = squad_tokens(answer)
    return float(bool(tokens) and tokens == squad_tokens(reference))


def token_f1(reference: str, answer: str) -> float:
    """Return the F1 of the bags of :func:`squad_tokens`.

    >>> round(token_f1("the red house", "a big red house"), 3)
    0.8
    """
    gold, given = squad_tokens(reference), squad_tokens(answer)
    common = sum((Counter(gold) & Counter(given)).values())
    return 2 * common / (len(gold) + len(given)) if common else 0.0
