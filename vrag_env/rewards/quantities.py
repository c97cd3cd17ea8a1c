"""Quantity: a number as people write it in an answer, with its percent sign, scale and unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vrag_env.rewards.text import clean

FLOAT_TOLERANCE = 0.01
"""Relative tolerance of the format ``Float`` in MMLongBench-Doc."""

_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SHORT_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion"}
_CURRENCY = r"(?:us\$|usd|eur|gbp|[$€£¥])"
_MAGNITUDE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40}"
_QUANTITY = re.compile(
    r"(?:[a-z][a-z .]{0,30}\s?[=:]\s?|(?:page|year|figure|fig\.?|table|step|number|no\.|section|slide) )?"
    r"(?:about |approximately |approx\.? |around |roughly |circa |ca\. ?|[~≈] ?)?"
    rf"#?(?P<currency>{_CURRENCY} ?)?(?P<sign>[+-] ?)?(?P<currency2>{_CURRENCY} ?)?"
    rf"(?P<magnitude>{_MAGNITUDE})(?P<exponent>e[+-]?\d{{1,2}})?"
    r"(?P<percent> ?(?:%|percent|per cent|pct)(?![a-z]))?"
    r"(?: ?(?P<unit>[a-zµ°€£$²³/][a-zµ°€£$²³/ ]{0,30}(?:per [\d,]{1,12}(?: [a-z]{1,20})?)?"
    r"|per [\d,]{1,12}(?: [a-z]{1,20})?))?"
)
_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""".split()  # noqa: SIM905
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_RATIO_WORDS = re.compile(r"percent|per cent|%|\b(?:share|ratio|proportion|fraction|probability|rate)\b")
# Words after a number that make it another statement than the number.
_NOT_A_UNIT = {"or", "and", "to", "not", "but", "than", "plus", "minus", "times", "maybe", "if", "either"}


@dataclass(frozen=True)
class Quantity:
    """A number with what stands around it.

    Attributes:
        value: The number as written, with its sign, without scale or percent sign applied.
        percent: Whether a percent sign or word follows.
        scale: ``thousand``, ``million``, ... or empty.
        unit: The words that follow, in lower case, in singular; empty if none.
    """

    value: float
    percent: bool = False
    scale: str = ""
    unit: str = ""


def read_quantity(text: str) -> Quantity | None:
    """Read a text that is one number and nothing else of weight.

    Around the number may stand: a label with ``=`` or ``:``, a word such as ``page`` or ``about``, a
    currency, a percent sign, a scale word and a few words of unit. Digits with leading zeros (``022``) are a
    code, not a number. Thousands may be separated by commas or blanks.

    >>> read_quantity("p = .049"), read_quantity("$3,624"), read_quantity("not 58")
    (Quantity(value=0.049, percent=False, scale='', unit=''), \
Quantity(value=3624.0, percent=False, scale='', unit=''), None)
    """
    if len(text) > 200:  # no number is written that long
        return None
    text = clean(text)
    words = _read_words(text)
    if words is not None:
        return Quantity(float(words))
    match = _QUANTITY.fullmatch(text)
    if match is None or re.match(r"0\d", match["magnitude"]):
        return None
    value = float(match["magnitude"].replace(",", "").replace(" ", "") + (match["exponent"] or ""))
    if (match["sign"] or "").startswith("-"):
        value = -value
    units = [word.removesuffix("s") or word for word in (match["unit"] or "").replace(",", "").split()]
    if len(units) > 5 or not _NOT_A_UNIT.isdisjoint(units):
        return None
    scale = ""
    if units and units[0] in _SCALES:
        scale = units.pop(0)
    elif units and units[0] in _SHORT_SCALES and (match["currency"] or match["currency2"]):
        scale = _SHORT_SCALES[units.pop(0)]  # "5 m" alone is five metres, "$5m" is five million
    return Quantity(value, match["percent"] is not None, scale, " ".join(units))


def _read_words(text: str) -> int | None:
    """Read ``zero`` to ``ninety-nine``."""
    if text in _ONES:
        return _ONES.index(text)
    tens, _, ones = text.replace("-", " ").partition(" ")
    if tens not in _TENS or (ones and ones not in _ONES[1:10]):
        return None
    return 10 * (_TENS.index(tens) + 2) + (_ONES.index(ones) if ones else 0)


def same_quantity(reference: Quantity, answer: Quantity, tolerance: float = 0.0, question: str = "") -> bool:
    """Tell whether two quantities are the same answer.

    - Units must agree where both are written.
    - Scales: ``42.5 million`` equals ``42,500,000``; it equals a bare ``42.5`` only if the question names the
      scale ("in millions").
    - Percent: ``68%`` equals ``68`` and ``0.68``. Without a percent sign on either side a factor of 100 is
      allowed only if the question asks for a percentage or ratio.

    Args:
        reference: The right answer.
        answer: The given answer.
        tolerance: Relative tolerance; 0 asks for equal numbers.
        question: The question, read for scale and ratio words.
    """
    if reference.unit and answer.unit and reference.unit != answer.unit:
        return False
    question = question.lower()
    full = reference.value * _SCALES.get(reference.scale, 1), answer.value * _SCALES.get(answer.scale, 1)
    pairs = [full]
    if bool(reference.scale) != bool(answer.scale) and (reference.scale or answer.scale) in question:
        pairs.append((reference.value, answer.value))
    one_percent = reference.percent != answer.percent
    if one_percent and reference.percent:
        pairs.append((full[0] / 100, full[1]))
    elif one_percent:
        pairs.append((full[0], full[1] / 100))
    elif not reference.percent and tolerance and _RATIO_WORDS.search(question):
        pairs += [(full[0] / 100, full[1]), (full[0] * 100, full[1])]
    return any(math.isclose(a, b, rel_tol=max(tolerance, 1e-9)) for a, b in pairs)
