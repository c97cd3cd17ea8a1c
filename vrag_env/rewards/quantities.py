"""Quantity: a number as people write it in an answer, with its percent sign, scale and unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from vrag_env.rewards.text import clean

FLOAT_TOLERANCE = 0.01
"""Relative tolerance of the format ``Float`` in MMLongBench-Doc."""

_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SHORT_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion"}
_CURRENCY = r"(?:us\$|usd|eur|gbp|[$€£¥])"
_MAGNITUDE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40}"
_QUANTITY = re.compile(
    r"(?:[a-z][a-z .]{0,30}\s?[=:]\s?"
    r"|(?:in |on )?(?:the )?(?P<label>page|year|figure|fig\.?|table|step|number|no\.|section|slide) |in )?"
    r"(?:about |approximately |approx\.? |around |roughly |circa |ca\. ?|[~≈] ?)?"
    rf"#?(?P<currency>{_CURRENCY} ?)?(?P<sign>[+-] ?|minus |negative )?(?P<currency2>{_CURRENCY} ?)?"
    rf"(?P<magnitude>{_MAGNITUDE})(?P<exponent>e[+-]?\d{{1,2}})?"
    r"(?P<percent> ?(?:%|percent|per cent|pct)(?![a-z]))?"
    r"(?: ?(?P<unit>[a-zµ°€£$²³/][a-zµ°€£$²³/ ]{0,30}(?:per [\d,]{1,12}(?: [a-z]{1,20})?)?"
    r"|per [\d,]{1,12}(?: [a-z]{1,20})?))?"
)
_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""".split()  # noqa: SIM905
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# Symbols and plurals (without their s) of units, and the one word that they stand for.
_UNIT_WORDS = {
    "mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer", "ft": "foot", "feet": "foot",
    "in": "inch", "inche": "inch", "mi": "mile", "g": "gram", "kg": "kilogram", "lb": "pound", "ms": "millisecond",
    "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "yr": "year", "kb": "kilobyte", "mb": "megabyte",
    "gb": "gigabyte", "tb": "terabyte", "metre": "meter", "kilometre": "kilometer", "centimetre": "centimeter",
    "millimetre": "millimeter", "l": "liter", "litre": "liter", "ml": "milliliter", "millilitre": "milliliter",
}  # fmt: skip
_CURRENCIES = {
    "$": "$", "us$": "$", "usd": "$", "dollar": "$", "us dollar": "$", "€": "€", "eur": "€", "euro": "€",
    "£": "£", "gbp": "£", "¥": "¥",
}  # fmt: skip
_LABELS = {"fig": "figure", "fig.": "figure", "no.": "number"}
_RANGE = re.compile(r"(?:from |between )?(\S.*?) ?(?:-|to|(?<=\d )and|(?<=% )and) ?(\S.*)")
_DECADE = re.compile(r"(?:in )?(?:the )?\d*\d0'?s")
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
        unit: The words that follow, in lower case, in singular, abbreviations written out; empty if none.
        currency: ``$``, ``€``, ``£`` or ``¥``; empty if none.
        label: What it counts by the word before it: ``page``, ``figure``, ``table``, ...; empty if none.
    """

    value: float
    percent: bool = False
    scale: str = ""
    unit: str = ""
    currency: str = ""
    label: str = ""


def read_quantity(text: str) -> Quantity | None:
    """Read a text that is one number and nothing else of weight.

    Around the number may stand: a label with ``=`` or ``:``, a word such as ``page`` or ``about``, a
    currency, a percent sign, a scale word and a few words of unit. Digits with leading zeros (``022``) are a
    code and ``1990s`` is a decade, not a number. Thousands may be separated by commas or blanks.

    >>> read_quantity("p = .049"), read_quantity("$3,624"), read_quantity("not 58")
    (Quantity(value=0.049, percent=False, scale='', unit='', currency='', label=''), \
Quantity(value=3624.0, percent=False, scale='', unit='', currency='$', label=''), None)
    """
    if len(text) > 200:  # no number is written that long
        return None
    text = clean(text)
    words = _read_words(text)
    if words is not None:
        return Quantity(float(words))
    match = _QUANTITY.fullmatch(text)
    if match is None or re.match(r"0\d", match["magnitude"]) or _DECADE.fullmatch(text):
        return None
    value = float(match["magnitude"].replace(",", "").replace(" ", "") + (match["exponent"] or ""))
    if (match["sign"] or "+")[0] in "-mn":
        value = -value
    units = [word.removesuffix("s") or word for word in (match["unit"] or "").replace(",", "").split()]
    if len(units) > 5 or not _NOT_A_UNIT.isdisjoint(units):
        return None
    scale = ""
    if units and units[0] in _SCALES:
        scale = units.pop(0)
    elif units and units[0] in _SHORT_SCALES and (len(units[0]) > 1 or units[0] == "k" or _has_currency(match)):
        scale = _SHORT_SCALES[units.pop(0)]  # "5 m" alone is five metres, "$5m" is five million
    currency = _CURRENCIES.get((match["currency"] or match["currency2"] or "").strip(), "")
    if not currency and " ".join(units) in _CURRENCIES:
        currency, units = _CURRENCIES[" ".join(units)], []
    unit = " ".join(_UNIT_WORDS.get(word, word) for word in units)
    label = _LABELS.get(match["label"] or "", match["label"] or "")
    return Quantity(value, match["percent"] is not None, scale, unit, currency, label)


def _has_currency(match: re.Match[str]) -> bool:
    return bool(match["currency"] or match["currency2"])


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

    - Units, currencies and labels (``page``, ``table``) must agree where both are written.
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
    for own, other in (
        (reference.unit, answer.unit),
        (reference.currency, answer.currency),
        (reference.label, answer.label),
    ):
        if own and other and own != other:
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


def same_range(reference: str, answer: str, question: str = "") -> bool:
    """Tell whether two texts are the same range of numbers, such as ``10-20%`` and ``from 10% to 20%``.

    Both ends must be the same; a percent sign or unit at one end counts for both.
    """
    expected, given = _read_range(reference), _read_range(answer)
    if expected is None or given is None:
        return False
    return all(same_quantity(own, other, 0.0, question) for own, other in zip(expected, given, strict=True))


def _read_range(text: str) -> tuple[Quantity, Quantity] | None:
    text = clean(text)
    match = _RANGE.fullmatch(text) if len(text) <= 200 else None
    if match is None or (" and " in text and not text.startswith("between ")):
        return None
    low, high = read_quantity(match[1]), read_quantity(match[2])
    if low is None or high is None:
        return None
    percent = low.percent or high.percent
    return replace(low, percent=percent, scale=low.scale or high.scale, unit=low.unit or high.unit), replace(
        high, percent=percent
    )
