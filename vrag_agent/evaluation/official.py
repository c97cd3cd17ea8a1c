"""The official score of MMLongBench-Doc, as its released script computes it, faults and all.

Source: Ma et al., "MMLongBench-Doc" (arXiv:2407.01523), the repository mayubo2333/MMLongBench-Doc,
``eval/eval_score.py``. It is here so that numbers can stand beside published ones; the judge ``rule`` repairs its
faults (:mod:`vrag_env.rewards.rules`). Two things differ. The official script first has GPT-4o extract a short answer
from a long one; here the answer is taken as it is, except that any wording of "not answerable" becomes those two words.
And lists are read, never evaluated as code.
"""

from __future__ import annotations

import math
import re
from typing import Any

from vrag_env.datasets.values import read_list
from vrag_env.questions import NOT_ANSWERABLE, Question
from vrag_env.rewards.rules import is_denial
from vrag_env.rewards.text import MAX_EDIT_CHARS, edit_distance

MAX_CHARS = 2_000
"""A longer answer is cut here; it can not be right."""
_WHOLE = (
    re.compile(r"\d+(-\d+|\s\d+)?"),
    re.compile(r"\d{4}[-\s]\d{2}[-\s]\d{2}"),
    re.compile(r"\d{4}[-\s]\d{2}"),
    re.compile(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}"),
)


def extracted(answer: str | None, question: str = "") -> str:
    """Return what is scored: the answer, or "Not answerable" in exactly these words; empty without an answer."""
    if answer is None:
        return ""
    return NOT_ANSWERABLE if is_denial(answer, question) else answer[:MAX_CHARS]


def official_score(question: Question, answer: str | None) -> float:
    """Score one answer; the best over the reference and its variants.

    Returns:
        A score in [0, 1]; 0 without an answer.

    >>> official_score(Question("q", "How many?", "58", answer_format="Int"), "58.7")
    1.0
    """
    given = extracted(answer, question.text)
    if answer is None:
        return 0.0
    return max(
        _score(reference, given, question.answer_format) for reference in (question.answer, *question.answer_variants)
    )


def _score(reference: str, given: str, answer_format: str) -> float:
    if answer_format == "Int":
        try:
            return float(int(reference) == int(float(given)))
        except (ValueError, OverflowError):
            return 0.0
    if answer_format == "Float":
        return float(_same_float(_cleaned(reference), _cleaned(given)))
    if answer_format == "List":
        return _score_list(reference, given)
    wanted, got = _cleaned(reference), _cleaned(given)
    return float(wanted == got) if _compared_whole(wanted) else _anls(wanted, got)


def _same_float(reference: str, given: str) -> bool:
    try:
        wanted, got = float(reference), float(given)
    except ValueError:
        return False
    for scaled in (wanted / 100, wanted, wanted * 100):
        if math.isclose(scaled, got, rel_tol=0.01):
            return True
        digits = max(min(_precision(got), _precision(scaled)), 2)
        if math.isfinite(got) and round(got, digits) == round(scaled, digits):
            return True
    return False


def _precision(value: float) -> int:
    return len(str(value).rpartition(".")[2]) if "." in str(value) else 3


def _score_list(reference: str, given: str) -> float:
    wanted, got = _elements(reference), _elements(given)
    if len(wanted) != len(got) or not wanted:
        return 0.0
    wanted, got = sorted(map(_cleaned, wanted)), sorted(map(_cleaned, got))
    if _is_number(wanted[0]) or _compared_whole(wanted[0]):
        return float("-".join(wanted) == "-".join(got))
    return min(_anls(a, b) for a, b in zip(wanted, got, strict=True))


def _elements(text: str) -> list[Any]:
    if not text.startswith("["):
        return [text]
    try:
        return read_list(text)
    except ValueError:
        return [text]


def _cleaned(value: Any) -> str:
    text = re.sub(r"\s*\([^)]*\)", "", str(value).lower().strip()).strip()
    text = re.sub(r"^['\"]|['\"]$", "", text).strip()
    return text.lstrip("$").strip().rstrip("%").strip()


def _compared_whole(text: str) -> bool:
    if "https://" in text or text.endswith((".py", "ipynb")) or text.startswith("page"):
        return True
    return "a.m." in text or "p.m." in text or any(form.fullmatch(text) for form in _WHOLE)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _anls(reference: str, given: str) -> float:
    longer = max(len(reference), len(given))
    if longer == 0:
        return 1.0
    # The distance is at least the difference of the lengths: a long answer need not be aligned to be wrong.
    if min(len(reference), len(given)) / longer <= 0.5 or longer > MAX_EDIT_CHARS:
        return float(reference == given)
    similarity = 1 - edit_distance(reference, given) / longer
    return similarity if similarity > 0.5 else 0.0
