"""The rules of MMLongBench-Doc for telling whether an answer is right, with its plain faults repaired.

Source of the rules: the repository mayubo2333/MMLongBench-Doc, ``eval/eval_score.py``. There an ``Int`` must
be equal, a ``Float`` may be off by 1 %, a ``Str`` is scored by ANLS above 0.5 (equality for links, file
names, telephone numbers, dates, mail addresses), a ``List`` needs the same length and every element, and
``None`` is compared with "Not answerable". The official rules expect an answer that a language model has
extracted first; here they read the answer itself, without lead-ins and marks
(:mod:`vrag_env.rewards.phrasing`). What differs, and why:

- Numbers: ``58.7`` is not the ``Int`` 58 (officially it is cut off), ``0.0`` is not the ``Float`` 0.003
  (officially both round to 0.00), and 68 equals 0.68 only where a percentage or ratio is at stake. Thousands
  separators, currencies, units, Unicode signs and number words are read. A number is compared as a number
  under ``Str`` and inside lists, too.
- Strings: ANLS alone takes ``VVE`` for ``VVI``, ``Killen91`` for ``Killen90``, ``not significant`` for
  ``significant``, ``Amber Heron`` for ``Amber Falcon`` and ``North Carolina or Ohio`` for ``North Carolina``.
  So every word of the reference must occur in the answer (a slip of one letter in words of five letters and
  more, two from nine), digits and negations must agree, a code must be equal, and several answers are no
  answer.
- Cleaning never empties a text, and text in round brackets is dropped from one side only if the other has
  none.
- Dates, times and ranges are the same whatever their form: ``5 March 2021`` is ``2021-03-05``.
- Lists are parsed, never evaluated. Elements are matched one to one in the best way; in the order given if
  the question asks for an order.
- Any common wording of "not answerable" is right for ``None`` and wrong for everything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vrag_env.rewards.dates import read_date, read_time
from vrag_env.rewards.lists import best_matching, split_list
from vrag_env.rewards.phrasing import short_answer, verdict_word
from vrag_env.rewards.quantities import FLOAT_TOLERANCE, read_quantity, same_quantity, same_range
from vrag_env.rewards.text import anls, clean, compact, edit_distance, unify

MAX_ELEMENTS = 100
"""Longer lists are compared as whole texts only."""
MAX_WRITTEN_CHARS = 20_000
"""Marks are not looked for beyond it."""
MAX_DENIAL_CHARS = 300
"""No text longer than this is read as "not answerable"."""

_THE = r"(?:the |this |these |that |any |given |provided )*"
_SUBJECT = rf"(?:{_THE}(?:question|answer|information|value|data|it|this|that) )"
_SOURCE = rf"(?:{_THE}(?:documents?|pages?|images?|corpus|text|sources?|context) )"
_DENIAL = re.compile(
    r"(?:(?:sorry,? )?(?:"
    rf"{_SUBJECT}?(?:is |are |was )?(?:un|not |non-?)answerable"
    rf"|{_SUBJECT}?(?:cannot|can't|can not|could not|couldn't) be "
    r"(?:answered|determined|found|known|inferred)"
    rf"|{_SUBJECT}?(?:(?:is|are|was) not|isn't|aren't|not) "
    r"(?:available|mentioned|specified|stated|given|provided|found|known|shown|reported|included|present|listed)"
    r"|(?:there is |i have )?(?:not enough|insufficient|no(?: such)?) (?:information|evidence|data|answer)"
    r"|(?:i am |i'm )?unable to (?:answer|determine|find)"
    r"|i (?:cannot|can't|can not|could not|couldn't) (?:answer|determine|find)"
    rf"|{_SOURCE}(?:do|does|did) ?(?:not|n't) "
    r"(?:contain|mention|provide|specify|state|give|show|include|report|say|answer|have|hold|list)"
    rf"|none of {_SOURCE}(?:contains?|mentions?|gives?|shows?)"
    r"|(?:unknown|n/a|none)$)\b)(?P<rest>.*)"
)
_HEDGE = re.compile(
    r"\b(?:but|however|although|though|except|maybe|perhaps|probably|likely|guess|estimate|assum\w+|"
    r"answer is|or|unless|if)\b"
)
_NEGATIONS = frozenset({"no", "not", "non", "never", "without", "neither", "nor", "none", "except", "cannot"})
_STOP_WORDS = frozenset({"a", "an", "the", "of", "in", "on", "at", "for", "to", "and", "by", "with"})
_SEPARATORS = frozenset({"or", "and", "either", "&", "/", "|", ";", ",", "+"})
_TOKEN = re.compile(r"[^\W_]+|[&/|;,+]")
_DIGITS = re.compile(r"\d+")
_BRACKETED = re.compile(r"\s*\(([^()]*)\)")
_ORDERED = re.compile(
    r"\brespectively\b|\bin (?:this|that|the same|\w+ing|chronological|alphabetical) order\b"
    r"|\bin order of\b"
    r"|\bfrom (?:the )?(?:\w+est|most|least|first|top|left) to (?:the )?(?:\w+est|most|least|last|bottom|right)\b"
)
_ARTICLE = re.compile(r"(?:the|an?) (?=.)")
_CODE = re.compile(r"\S*(?:\d|[_./\\:@#]\S|\(\)|[a-z][A-Z])\S*")
_EXACT_WORDS = frozenset({"yes", "no", "true", "false"})


def is_denial(answer: str, question: str = "") -> bool:
    """Tell whether an answer says, and says only, that the question can not be answered.

    Args:
        answer: What the agent answered; untrusted.
        question: The question, whose numbers the answer may repeat.

    >>> is_denial("The document does not mention larch."), is_denial("Not answerable, but maybe 42")
    (True, False)
    """
    if len(answer) > MAX_DENIAL_CHARS:
        return False
    match = _DENIAL.fullmatch(clean(answer)) or _DENIAL.fullmatch(clean(short_answer(answer)))
    if match is None or _HEDGE.search(match["rest"]):
        return False
    return set(_DIGITS.findall(match["rest"])) <= set(_DIGITS.findall(question))


def score_answer(answer: str, references: Sequence[str], answer_format: str, question: str = "") -> float:
    """Score an answer by the rules above, best over the references.

    Args:
        answer: What the agent answered; untrusted.
        references: The reference answer and its variants.
        answer_format: ``Str``, ``Int``, ``Float``, ``List`` or ``None`` (not answerable).
        question: The question; read for an asked order, a scale ("in millions") and ratio words.

    Returns:
        A score in [0, 1]; a fraction for strings that are close.

    >>> score_answer("1,258", ["1258"], "Int"), score_answer("VVE", ["VVI"], "Str")
    (1.0, 0.0)
    """
    if answer_format == "None":
        return float(is_denial(unify(answer), question))
    forms = dict.fromkeys((answer, short_answer(answer[:MAX_WRITTEN_CHARS])))
    return max(_score_written(form, references, answer_format, question) for form in forms)


def _score_written(written: str, references: Sequence[str], answer_format: str, question: str) -> float:
    answer = unify(written)
    if not any(character.isalnum() for character in answer):
        return float(bool(answer) and answer in map(unify, references))
    longest = max(map(len, references), default=0)
    if len(answer) > 2 * longest + 200:
        return 0.0  # ANLS is 0 beyond twice the length; the rest is room for numbers, units and quotes
    if any(clean(answer) == clean(reference) for reference in references):
        return 1.0
    if _starts_with_denial(answer):
        return 0.0
    if answer_format == "List":
        return max((_score_list(written, reference, question) for reference in references), default=0.0)
    return max((_score(answer, unify(reference), answer_format, question) for reference in references), default=0.0)


def _starts_with_denial(answer: str) -> bool:
    match = _DENIAL.match(clean(answer)[:MAX_DENIAL_CHARS])
    return match is not None and clean(answer) not in ("none", "unknown", "n/a")


def _score(answer: str, reference: str, answer_format: str, question: str) -> float:
    tolerance = FLOAT_TOLERANCE if answer_format == "Float" else 0.0
    pairs = _without_brackets(reference, answer)
    if answer_format in ("Int", "Float"):
        return max(_score_number(a, b, tolerance, question) for a, b in pairs)
    return max(score_string(a, b, question) for a, b in pairs)


def _score_number(reference: str, answer: str, tolerance: float, question: str) -> float:
    expected, given = read_quantity(reference), read_quantity(answer)
    if expected is None or given is None:
        return float(compact(reference) == compact(answer))
    return float(same_quantity(expected, given, tolerance, question))


def _without_brackets(reference: str, answer: str) -> list[tuple[str, str]]:
    """Return the pairs of texts to compare: as they are, and without bracketed text where that is fair."""
    short_reference, short_answer = _drop_brackets(reference), _drop_brackets(answer, percent_is_extra=True)
    pairs = [(reference, answer)]
    if short_reference != reference and short_answer == answer:
        pairs.append((short_reference, answer))
    elif short_answer != answer and short_reference == reference:
        pairs.append((reference, short_answer))
    return pairs


def _drop_brackets(text: str, percent_is_extra: bool = False) -> str:
    """Drop bracketed text, unless nothing else is there or it holds a second number or another answer.

    With ``percent_is_extra``, ``9 (18 %)`` becomes ``9``; a reference of that form asks for both.
    """
    inner = " ".join(_BRACKETED.findall(text)).lower()
    outer = " ".join(_BRACKETED.sub(" ", text).split())
    if not any(c.isalnum() for c in outer) or not inner.strip():
        return text
    if not (_NEGATIONS | {"or", "either", "maybe"}).isdisjoint(_TOKEN.findall(inner)):
        return text
    first, second = read_quantity(outer), read_quantity(inner)
    if first is not None and second is not None:
        return outer if percent_is_extra and second.percent and not first.percent else text
    return outer


def score_string(reference: str, answer: str, question: str = "") -> float:
    """Score one string, or one element of a list, without regard to brackets.

    Args:
        reference: The right answer, :func:`~vrag_env.rewards.text.unify` applied, case kept.
        answer: The given answer, likewise.
        question: See :func:`score_answer`.

    Returns:
        1 for equal numbers, codes or texts; ANLS above 0.5 for texts that say the same words; else 0.
    """
    if compact(reference) == compact(answer):
        return 1.0
    time = read_time(reference)
    if time is not None:
        return float(time == read_time(answer))
    date, given_date = read_date(reference), read_date(answer)
    if date is not None and given_date is not None:
        return float(date == given_date)
    if same_range(reference, answer, question):
        return 1.0
    number = read_quantity(reference)
    if number is not None:
        given = read_quantity(answer)
        return float(given is not None and same_quantity(number, given, 0.0, question))
    wanted, got = (_ARTICLE.sub("", clean(text)) for text in (reference, answer))
    if wanted in _EXACT_WORDS:
        return float(wanted == verdict_word(got))
    if _CODE.fullmatch(reference):
        return 0.0
    similarity = anls(wanted, got)
    return similarity if similarity and _says_the_same(wanted, got) else 0.0


def _says_the_same(wanted: str, got: str) -> bool:
    words, given = (_TOKEN.findall(text.replace("'", "")) for text in (wanted, got))
    if sorted(_DIGITS.findall(wanted)) != sorted(_DIGITS.findall(got)):
        return False
    if _NEGATIONS.intersection(words) != _NEGATIONS.intersection(given):
        return False
    if not _SEPARATORS.intersection(given) <= _SEPARATORS.intersection(words):
        return False
    content = [w for w in words if w not in _STOP_WORDS and w not in _SEPARATORS] or words
    return all(any(_same_word(word, other) for other in given) for word in content)


def _same_word(word: str, other: str) -> bool:
    if word == other:
        return True
    slips = 0 if len(word) < 5 else 1 if len(word) < 9 else 2
    return word[0] == other[0] and abs(len(word) - len(other)) <= slips and edit_distance(word, other) <= slips


def _score_list(answer: str, reference: str, question: str) -> float:
    """Score a list by its worst element, in the best reading of both texts."""
    ordered = _ORDERED.search(question.lower()) is not None
    best = 0.0
    given_readings = split_list(answer)
    for expected in split_list(reference):
        for given in given_readings:
            if len(given) == len(expected) <= MAX_ELEMENTS:
                scores = [[_score_element(a, b, question) for b in given] for a in expected]
                found = min(row[i] for i, row in enumerate(scores)) if ordered else best_matching(scores)
                best = max(best, found)
    return best


def _score_element(reference: str, answer: str, question: str) -> float:
    return max(score_string(a, b, question) for a, b in _without_brackets(reference, answer))
