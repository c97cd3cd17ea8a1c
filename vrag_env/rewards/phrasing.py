"""What stands around a short answer: lead-ins such as "The answer is", Markdown and LaTeX marks."""

from __future__ import annotations

import re

_LEAD_IN = re.compile(
    r"(?:(?:so|thus|hence|therefore|based on the (?:document|page|table|chart|figure|image)s?),? )?"
    r"(?:(?:the |my |our )?(?:final |short |correct )*answer(?: to (?:the|this|your) question)?(?: is:?| was|:| =) "
    r"|(?:it|this|that|they|there)(?:'s| is| was| are| were) )",
    re.IGNORECASE,
)
_MARKED = (
    re.compile(r"(\*\*|__|\*|`)(?P<inner>[^*`]+)\1(?P<end>[.]?)"),
    re.compile(r"\$?\\boxed\{(?P<inner>[^{}]+)\}\$?(?P<end>[.]?)"),
    re.compile(r"\$?\\text\{(?P<inner>[^{}]+)\}\$?(?P<end>[.]?)"),
)
_VERDICT = re.compile(r"(yes|no|true|false)\s?[,.;:-]\s?(.+)")
_AGAINST = {
    "yes": re.compile(r"\b(?:no|not|false|never|neither|none|cannot|but|however|or|maybe|perhaps)\b|n't\b"),
    "no": re.compile(r"\b(?:yes|true|but|however|or|maybe|perhaps)\b"),
}
_AGAINST["true"], _AGAINST["false"] = _AGAINST["yes"], _AGAINST["no"]
_ROUNDS = 3  # "The answer is **42**" needs two


def short_answer(text: str) -> str:
    r"""Return an answer without the lead-in and the marks around it; as it is where there are none.

    The official scorer of MMLongBench-Doc lets a language model cut the short answer out of what was written.
    These rules take off only what can not hold an answer itself; nothing is looked for inside a sentence.

    Args:
        text: An answer; line breaks inside it are kept.

    >>> short_answer("The answer is **42**."), short_answer("It is not 42"), short_answer(r"\boxed{North}")
    ('42.', 'not 42', 'North')
    """
    text = text.strip()
    for _ in range(_ROUNDS):
        lead = _LEAD_IN.match(text[:200])
        if lead is not None and text[lead.end() :].strip():
            text = text[lead.end() :].strip()
        marked = next((match for pattern in _MARKED if (match := pattern.fullmatch(text))), None)
        if marked is not None and marked["inner"].strip():
            text = marked["inner"].strip() + marked["end"]
    return text


def verdict_word(text: str) -> str:
    """Return the yes, no, true or false that an answer begins with, if the rest does not speak against it.

    Args:
        text: An answer in lower case.

    Returns:
        The word, or the text as it is.

    >>> verdict_word("no, it does not."), verdict_word("yes, but no"), verdict_word("nobody")
    ('no', 'yes, but no', 'nobody')
    """
    match = _VERDICT.fullmatch(text)
    if match is None or _AGAINST[match[1]].search(match[2]):
        return text
    return match[1]
