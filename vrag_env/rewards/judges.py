"""Judge: tells in [0, 1] how right answers are, always in batches. RuleJudge needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vrag_env.errors import RewardError
from vrag_env.rewards.rules import score_answer
from vrag_env.rewards.text import exact_match, token_f1

if TYPE_CHECKING:
    from vrag_env.questions import Question

METRICS = ("mmlongbench", "exact_match", "token_f1")
SUCCESS_THRESHOLD = 0.5
"""An answer counts as right from this score on."""


@dataclass(frozen=True)
class JudgeItem:
    """One answer to judge.

    Attributes:
        question: What was asked.
        answer: What the agent answered; untrusted, never empty.
        references: The reference answer and the variants that count as right.
        answer_format: ``Str``, ``Int``, ``Float``, ``List`` or ``None`` (not answerable).
    """

    question: str
    answer: str
    references: tuple[str, ...]
    answer_format: str

    @classmethod
    def of(cls, question: Question, answer: str) -> JudgeItem:
        """Put an answer beside its question."""
        return cls(question.text, answer, (question.answer, *question.answer_variants), question.answer_format)


@runtime_checkable
class Judge(Protocol):
    """Judges answers."""

    def judge(self, items: Sequence[JudgeItem]) -> list[float]:
        """Judge a batch.

        Args:
            items: The answers.

        Returns:
            One score in [0, 1] per item, in the same order.
        """
        ...


class RuleJudge:
    """Judges by fixed rules: no model, no network, the same verdict every time.

    Args:
        metric: ``"mmlongbench"``: the rules of MMLongBench-Doc as repaired in :mod:`vrag_env.rewards.rules`.
            ``"exact_match"`` and ``"token_f1"``: the metrics of SlideVQA, with the normal form of SQuAD.

    Raises:
        RewardError: If the metric is unknown.

    Example:
        >>> judge = RuleJudge()
        >>> judge.judge([JudgeItem("How many?", "58 trials", ("58",), "Int")])
        [1.0]
    """

    def __init__(self, metric: str = "mmlongbench") -> None:
        if metric not in METRICS:
            raise RewardError(f"unknown metric {metric!r}: choose one of {', '.join(METRICS)}")
        self.metric = metric

    def judge(self, items: Sequence[JudgeItem]) -> list[float]:
        """Judge a batch; see :meth:`Judge.judge`. Never raises, whatever the strings hold."""
        return [self._judge(item) for item in items]

    def _judge(self, item: JudgeItem) -> float:
        if self.metric == "mmlongbench":
            return score_answer(item.answer, item.references, item.answer_format, item.question)
        measure = exact_match if self.metric == "exact_match" else token_f1
        return max((measure(reference, item.answer) for reference in item.references), default=0.0)

    def __repr__(self) -> str:
        return f"RuleJudge(metric={self.metric!r})"
