"""How far two judges agree on the same answers: counts, raw agreement, Cohen's kappa, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vrag_env.errors import RewardError
from vrag_env.rewards.judges import SUCCESS_THRESHOLD, Judge, JudgeItem
from vrag_env.rewards.model_judge import ModelJudge

_SHOWN = 20
_SHOWN_CHARS = 80


@dataclass(frozen=True)
class Disagreement:
    """One answer on which two judges differ.

    Attributes:
        index: Its position among the items.
        item: The answer.
        score_a: What the first judge says, in [0, 1].
        score_b: What the second judge says.
    """

    index: int
    item: JudgeItem
    score_a: float
    score_b: float


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree; ``print`` it for a report.

    Attributes:
        judge_a: The first judge, in words.
        judge_b: The second judge, in words.
        both_right: Answers that both call right.
        only_a: Answers that only the first calls right.
        only_b: Answers that only the second calls right.
        both_wrong: Answers that both call wrong.
        unjudged: Answers on which at least one gave no verdict; they count nowhere else.
        disagreements: The answers of ``only_a`` and ``only_b``, in the order of the items.
    """

    judge_a: str
    judge_b: str
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    unjudged: int
    disagreements: tuple[Disagreement, ...]

    @property
    def items(self) -> int:
        """Answers on which both gave a verdict."""
        return self.both_right + self.only_a + self.only_b + self.both_wrong

    @property
    def agreement(self) -> float | None:
        """Share of the answers on which both say the same; ``None`` without any."""
        return (self.both_right + self.both_wrong) / self.items if self.items else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: agreement beyond what the two would reach by chance with their shares of "right".

        ``(p_o - p_e) / (1 - p_e)``, where ``p_o`` is the agreement and ``p_e`` the sum over right and wrong of
        the product of both judges' shares (Cohen, "A coefficient of agreement for nominal scales", 1960).
        ``None`` without answers, or where both judges give all answers the same verdict.
        """
        observed = self.agreement
        if observed is None:
            return None
        right_a, right_b = self.both_right + self.only_a, self.both_right + self.only_b
        # Whole numbers, so that judges who never differ from one verdict give exactly 1.
        chance = right_a * right_b + (self.items - right_a) * (self.items - right_b)
        if chance == self.items**2:
            return None
        expected = chance / self.items**2
        return (observed - expected) / (1 - expected)

    def __str__(self) -> str:
        agreed = "-" if self.agreement is None else f"{self.agreement:.3f}"
        kappa = "-" if self.kappa is None else f"{self.kappa:.3f}"
        lines = [
            f"A: {self.judge_a}",
            f"B: {self.judge_b}",
            f"answers {self.items}, without a verdict {self.unjudged}, agreement {agreed}, Cohen's kappa {kappa}",
            f"both right {self.both_right}, only A {self.only_a}, only B {self.only_b}, both wrong {self.both_wrong}",
        ]
        for case in self.disagreements[:_SHOWN]:
            answer, reference = (
                repr(text[:_SHOWN_CHARS]) for text in (case.item.answer, " | ".join(case.item.references))
            )
            lines.append(f"#{case.index}: A {case.score_a:g}, B {case.score_b:g}: {answer} for {reference}")
        if len(self.disagreements) > _SHOWN:
            lines.append(f"and {len(self.disagreements) - _SHOWN} more")
        return "\n".join(lines)


def agreement(items: Sequence[JudgeItem], judge_a: Judge, judge_b: Judge) -> Agreement:
    """Let two judges judge the same answers.

    A score counts as right from 0.5 on, as for ``is_success``. An answer on which a judge that asks a model gave
    no verdict counts as unjudged, whatever that judge's ``on_error`` says.

    Args:
        items: The answers.
        judge_a: The first judge.
        judge_b: The second judge.

    Raises:
        RewardError: If a judge returns another number of scores than there are items.

    Example:
        >>> from vrag_env.rewards import RuleJudge
        >>> items = [JudgeItem("How many?", "58 trials", ("58",), "Int"), JudgeItem("Who?", "Ann", ("Ann",), "Str")]
        >>> report = agreement(items, RuleJudge(), RuleJudge("exact_match"))
        >>> report.agreement, report.only_a, report.disagreements[0].item.answer
        (0.5, 1, '58 trials')
    """
    return compare(items, scores_of(judge_a, items), scores_of(judge_b, items), repr(judge_a), repr(judge_b))


def compare(
    items: Sequence[JudgeItem],
    scores_a: Sequence[float | None],
    scores_b: Sequence[float | None],
    judge_a: str = "A",
    judge_b: str = "B",
) -> Agreement:
    """Compare scores that are there already; see :func:`agreement`.

    Args:
        items: The answers.
        scores_a: What the first judge said of each, in [0, 1]; ``None`` where it gave no verdict.
        scores_b: What the second judge said.
        judge_a: The first judge, in words.
        judge_b: The second judge, in words.

    Raises:
        ValueError: If the lengths differ.
    """
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    unjudged = 0
    disagreements: list[Disagreement] = []
    for index, (item, score_a, score_b) in enumerate(zip(items, scores_a, scores_b, strict=True)):
        if score_a is None or score_b is None:
            unjudged += 1
            continue
        verdicts = (score_a >= SUCCESS_THRESHOLD, score_b >= SUCCESS_THRESHOLD)
        counts[verdicts] += 1
        if verdicts[0] != verdicts[1]:
            disagreements.append(Disagreement(index, item, score_a, score_b))
    return Agreement(
        judge_a=judge_a,
        judge_b=judge_b,
        both_right=counts[True, True],
        only_a=counts[True, False],
        only_b=counts[False, True],
        both_wrong=counts[False, False],
        unjudged=unjudged,
        disagreements=tuple(disagreements),
    )


def scores_of(judge: Judge, items: Sequence[JudgeItem]) -> list[float | None]:
    """Let a judge judge, and say openly where it gave no verdict.

    Returns:
        One score in [0, 1] per item; ``None`` where a judge that asks a model gave no verdict, whatever its
        ``on_error`` says.

    Raises:
        RewardError: If it returns another number of scores than there are items.
    """
    scores: list[float | None]
    if isinstance(judge, ModelJudge):
        scores = [None if verdict is None else float(verdict) for verdict in judge.verdicts(items)]
    else:
        scores = [float(score) for score in judge.judge(items)]
    if len(scores) != len(items):
        raise RewardError(f"{judge!r} returned {len(scores)} scores for {len(items)} answers")
    return scores
