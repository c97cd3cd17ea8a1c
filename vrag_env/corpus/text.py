"""Text of pages: made safe to store, and cut into words for the search.

Two forms of each text are searched together, and their BM25 scores added. The first is split at punctuation
and stemmed, so that ``charts`` finds ``chart`` and ``lboxed`` finds ``labeling_lboxed``. The second keeps
words as they are written, compounds whole, so that among the pages found those with the very word come first.
"""

from __future__ import annotations

import re
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ufdd0-\ufdef]")
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\u00ad": ""}
)
_HYPHENS = str.maketrans({"\u2010": "-", "\u2011": "-"})
_WORD = re.compile(r"\w+(?:[-_.]\w+)*")

# Given to the index explicitly: with ICU word rules LanceDB 0.40 would otherwise drop the stop words of all
# its languages, and with Danish "dog", Romanian "cat" and German "war" goes a part of English.
_STOP_WORDS = """
a an the this that these those such
i me my mine we us our ours you your yours he him his she her hers it its they them their theirs
itself themselves
what which who whom whose when where why how
am is are was were be been being do does did doing has have had having
can could may might must shall should will would
and or nor but if then than because while until so
of at by for with about against between into through during before after above below to from up down in out on
off over under within without upon per
again further once here there all any both each few more most other some no not only own same
too very just also
"""
STOP_WORDS = tuple(_STOP_WORDS.split())
"""English words that say nothing of a page's subject; the index leaves them out."""

TOKENIZERS: dict[str, dict[str, Any]] = {
    # the Unicode rules of ICU, which know Chinese words, then split at punctuation inside of words
    "search_text": {"base_tokenizer": "icu/split", "stem": True, "custom_stop_words": list(STOP_WORDS)},
    "search_words": {"base_tokenizer": "whitespace", "stem": False, "custom_stop_words": list(STOP_WORDS)},
}
"""How LanceDB cuts each searched column into words, as options of its index and of its tokenizer."""


def clean_text(text: str) -> str:
    r"""Make text safe to store and search.

    Control characters and non-characters become spaces, halves of surrogate pairs are joined or replaced,
    typographic ligatures are spelled out, and soft hyphens vanish.

    >>> clean_text("e\ufb03cient\x00")
    'efficient '
    """
    if text.isascii() and text.isprintable():  # nearly every word
        return text
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _CONTROL.sub(" ", text).translate(_LIGATURES)


def whole_words(text: str) -> str:
    """Return the words of a text with one space between them, compounds whole.

    >>> whole_words("Call labeling_lboxed (see query.h), then dh-make.")
    'Call labeling_lboxed see query.h then dh-make'
    """
    return " ".join(_WORD.findall(text.translate(_HYPHENS)))
