"""Two runs on the same questions, paired: the difference with its interval, McNemar's test, and who was right where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrag_agent.evaluation.intervals import Estimate, mcnemar, mean_difference
from vrag_agent.evaluation.journal import EPISODES, RUN, VERDICTS, EvaluationError, key_of, read_lines
from vrag_agent.evaluation.report import table
from vrag_env.rewards.judges import SUCCESS_THRESHOLD

MEASURES = ("accuracy", "reward", "token_f1", "anls", "mmlongbench", "shown_ndcg", "shown_recall", "turns", "pixels")
"""What is compared: accuracy by the judge, and measures of :mod:`vrag_agent.evaluation.measures`."""


@dataclass(frozen=True)
class Finished:
    """A run as its files hold it.

    Attributes:
        name: Name of its policy.
        rows: Its episodes by seed and question.
        verdicts: Verdicts by judge, seed and question.
    """

    name: str
    rows: Mapping[tuple[int, str], Mapping[str, Any]]
    verdicts: Mapping[tuple[str, int, str], float | None]

    @property
    def judges(self) -> list[str]:
        """Names of its judges, in the order in which they judged."""
        return list(dict.fromkeys(judge for judge, _, _ in self.verdicts))

    def value(self, name: str, judge: str, seed: int, question_id: str) -> float | None:
        """Return one measure of one episode, or whether it is right."""
        row = self.rows[seed, question_id]
        if name != "accuracy":
            value: float | None = row["measures"].get(name)
            return value
        if row["answer"] is None:
            return 0.0
        score = self.verdicts.get((judge, seed, question_id))
        return None if score is None else float(score >= SUCCESS_THRESHOLD)


@dataclass(frozen=True)
class Comparison:
    """What came out; ``print`` it for a report.

    Attributes:
        first: Name of the first run.
        second: Name of the second run.
        judge: The judge of accuracy.
        questions: Questions that both have played with the same seeds.
        seeds: The seeds that both have.
        left_out: Questions that only one has.
        unjudged: Questions without a verdict, left out of ``accuracy``.
        means: Means of both by measure.
        differences: Second minus first by measure, with 95 % intervals, paired by question.
        both_right: Questions that both have right with the first common seed, and so on for the next three.
        only_first: See above.
        only_second: See above.
        both_wrong: See above.
        p_value: Of McNemar's exact test on these.
        lost: Ids of the questions that only the first has right.
        won: Ids of the questions that only the second has right.
    """

    first: str
    second: str
    judge: str
    questions: int
    seeds: tuple[int, ...]
    left_out: int
    unjudged: int
    means: Mapping[str, tuple[float, float]]
    differences: Mapping[str, Estimate]
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    p_value: float
    lost: tuple[str, ...]
    won: tuple[str, ...]

    def __str__(self) -> str:
        rows = []
        for name, found in self.differences.items():
            one, two = self.means[name]
            ends = "-" if found.low is None else f"[{found.low:+.3f}, {found.high:+.3f}]"
            rows.append([name, f"{one:.3f}", f"{two:.3f}", f"{found.value:+.3f}", ends, found.questions])
        seeds = ", ".join(map(str, self.seeds))
        lines = [
            f"{self.questions} questions that both have played (left out: {self.left_out}), seeds {seeds}, "
            f"judge {self.judge} (questions without a verdict: {self.unjudged})\n",
            table(["", self.first, self.second, "difference", "95 % interval", "questions"], rows),
            f"Seed {self.seeds[0]}: both right {self.both_right}, only {self.first} {self.only_first}, "
            f"only {self.second} {self.only_second}, both wrong {self.both_wrong}; "
            f"McNemar's exact test p = {self.p_value:.3g}",
        ]
        for label, ids in ((self.first, self.lost), (self.second, self.won)):
            if ids:
                more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
                lines.append(f"only {label} right: {', '.join(ids[:10])}{more}")
        return "\n".join(lines)


def load_run(directory: Path) -> Finished:
    """Read the files of a run.

    Raises:
        EvaluationError: If there is no run.
    """
    if not (directory / RUN).is_file() or not (directory / EPISODES).is_file():
        raise EvaluationError(f"{directory} holds no run: expected the --out directory of 'vrag eval' with one policy")
    settings = json.loads((directory / RUN).read_text(encoding="utf-8"))
    rows = {key_of(row): row for row in read_lines(directory / EPISODES)}
    verdicts = {(line["judge"], *key_of(line)): line["score"] for line in read_lines(directory / VERDICTS)}
    return Finished(settings["policy"]["policy"], rows, verdicts)


def compare(first: Finished, second: Finished, judge: str | None = None) -> Comparison:
    """Compare two runs on the questions and seeds that both have.

    With several seeds, the mean over the seeds of a question is one observation of the bootstrap. McNemar's test
    needs one verdict per question: it takes the first seed that both have.

    Args:
        first: The run that is subtracted.
        second: The other one.
        judge: Name of the judge; by default the first that both have.

    Raises:
        EvaluationError: If they share no question, seed or judge, or ask different things under one id.
    """
    common = [name for name in first.judges if name in second.judges]
    judge = judge if judge is not None else next(iter(common), None)
    if judge is None or judge not in common:
        raise EvaluationError(
            f"the runs share no judge {judge or ''}: the first has {first.judges}, the second {second.judges}; "
            "run 'vrag eval' again with the same --judge, which judges the episodes that are there"
        )
    seeds = tuple(sorted({seed for seed, _ in first.rows} & {seed for seed, _ in second.rows}))
    asked = [set(run.rows) for run in (first, second)]
    ids = [
        question_id
        for question_id in dict.fromkeys(question_id for _, question_id in first.rows)
        if all((seed, question_id) in keys for keys in asked for seed in seeds)
    ]
    if not seeds or not ids:
        raise EvaluationError("the runs have no question in common that both have played with the same seed")
    for question_id in ids:
        one, two = (run.rows[seeds[0], question_id]["question"]["text"] for run in (first, second))
        if one != two:
            raise EvaluationError(f"the runs ask different things under the id {question_id!r}: {one!r} and {two!r}")
    means, differences = {}, {}
    for name in MEASURES:
        pairs = _pairs(first, second, name, judge, seeds, ids)
        if pairs:
            one, two = ([pair[place] for pair in pairs] for place in (0, 1))
            means[name] = (sum(one) / len(one), sum(two) / len(two))
            differences[name] = mean_difference(one, two)
    verdicts = {
        question_id: tuple(run.value("accuracy", judge, seeds[0], question_id) for run in (first, second))
        for question_id in ids
    }
    by_pair = {
        pair: tuple(question_id for question_id, said in verdicts.items() if said == pair)
        for pair in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    }
    lost, won = by_pair[1.0, 0.0], by_pair[0.0, 1.0]
    everything = {question_id for keys in asked for _, question_id in keys}
    judged = differences["accuracy"].questions if "accuracy" in differences else 0
    return Comparison(
        first=first.name,
        second=second.name,
        judge=judge,
        questions=len(ids),
        seeds=seeds,
        left_out=len(everything) - len(ids),
        unjudged=len(ids) - judged,
        means=means,
        differences=differences,
        both_right=len(by_pair[1.0, 1.0]),
        only_first=len(lost),
        only_second=len(won),
        both_wrong=len(by_pair[0.0, 0.0]),
        p_value=mcnemar(len(lost), len(won)),
        lost=lost,
        won=won,
    )


def _pairs(
    first: Finished, second: Finished, name: str, judge: str, seeds: Sequence[int], ids: Sequence[str]
) -> list[tuple[float, float]]:
    """Return the means over seeds of both runs, for the questions to which a measure applies in both."""
    pairs = []
    for question_id in ids:
        values = [[run.value(name, judge, seed, question_id) for seed in seeds] for run in (first, second)]
        known = [[value for value in row if value is not None] for row in values]
        if all(len(row) == len(seeds) for row in known):
            one, two = (sum(row) / len(row) for row in known)
            pairs.append((one, two))
    return pairs
