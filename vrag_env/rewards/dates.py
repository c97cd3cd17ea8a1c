"""Dates and times of day as people write them in an answer."""

from __future__ import annotations

import re

from vrag_env.rewards.text import clean

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_LEAD = r"(?:(?:on|in) )?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?(?:the )?"
_DATES = tuple(
    re.compile(_LEAD + form)
    for form in (
        rf"{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?",
        rf"{_MONTH} {_DAY}(?:(?:, ?| ){_YEAR})?",
        rf"{_MONTH},? {_YEAR}",
        r"(?P<year>\d{4})-(?P<number>\d{2})-(?P<day>\d{2})",
    )
)
_TIME = re.compile(r"(\d{1,2})(?:[:.](\d{2}))?(?: ?([ap])\.?m\.?)?")


def read_date(text: str) -> tuple[int | None, int, int | None] | None:
    """Read a date with the month in words, or in the form of ISO 8601.

    Dates such as 3/5/2021 mean two days and are not read.

    Returns:
        Year, month, day, ``None`` for what is not written; or ``None`` if the text is no date.

    >>> read_date("March 5th, 2021"), read_date("2021-03-05"), read_date("Mar 2021"), read_date("3/5/2021")
    ((2021, 3, 5), (2021, 3, 5), (2021, 3, None), None)
    """
    text = clean(text)
    match = next((match for form in _DATES if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    found = match.groupdict()
    month = _MONTHS.index(found["month"][:3]) + 1 if found.get("month") else int(found["number"])
    year, day = (int(found[part]) if found.get(part) else None for part in ("year", "day"))
    return (year, month, day) if 1 <= month <= 12 and (day is None or 1 <= day <= 31) else None


def read_time(text: str) -> tuple[int, int] | None:
    """Read a time of day such as ``07:00``, ``7 am`` or ``7.30 p.m.``: hours from 0 to 23, minutes.

    >>> read_time("7.30 p.m."), read_time("7.30")
    ((19, 30), None)
    """
    match = _TIME.fullmatch(clean(text))
    if match is None or not (match[3] or ":" in text):
        return None
    hour, minute = int(match[1]), int(match[2] or 0)
    if match[3]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[3] == "p" else 0)
    return (hour, minute) if hour < 24 and minute < 60 else None
