"""What ``vrag judge`` does: judge recorded episodes again, and say how far two judges agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrag_agent.evaluate import write_json
from vrag_agent.replay_command import EPISODES
from vrag_env.errors import VRAGError
from vrag_env.replay import read_records
from vrag_env.rewards import Judge, JudgeItem, make_judge
from vrag_env.rewards.agreement import Agreement, compare, scores_of
from vrag_env.rewards.api_judge import APIJudge
from vrag_env.rewards.judges import SUCCESS_THRESHOLD
from vrag_env.rewards.model_judge import ModelJudge

RECORDED = "recorded"
_BATCH = 64


@dataclass(frozen=True)
class Recorded:
    """An answer as it was recorded.

    Attributes:
        question_id: The question.
        item: The answer beside its reference.
        score: What the judge of that time said.
    """

    question_id: str
    item: JudgeItem
    score: float


def run_judge(
    source: Path,
    judge: str | Judge,
    *,
    against: str | Judge = RECORDED,
    out: Path | None = None,
    limit: int | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Agreement:
    """Judge the answers of recorded episodes and compare two judges.

    Args:
        source: An ``episodes.jsonl`` as ``vrag eval`` writes it, or the directory that holds it.
        judge: The judge, see :func:`vrag_env.rewards.make_judge`.
        against: The judge that it is compared with; ``"recorded"``: the scores in the file.
        out: JSON file for the counts and the scores of every answer.
        limit: Only the first episodes.
        progress: Show progress bars.
        say: Prints a text.

    Returns:
        How far they agree on the answers given. Episodes without an answer are not judged; they count as wrong in
        the accuracies that are printed.

    Raises:
        VRAGError: If the file can not be read or is no record of episodes, a name or a place does not fit, or a
            judge gives no verdict on a whole batch of answers.
    """
    if out is not None and not out.parent.is_dir():  # before a model is paid for
        raise VRAGError(f"there is no directory {out.parent} for {out.name}: make it first")
    first = None if against == RECORDED else make_judge(against)
    second = make_judge(judge)
    episodes, answers = read_answers(source, limit)
    items = [answer.item for answer in answers]
    scores_a: Sequence[float | None]
    try:
        if first is None:
            scores_a = [answer.score for answer in answers]
        else:
            scores_a = _judge(first, items, f"A: {against}", progress)
        scores_b = _judge(second, items, f"B: {judge}", progress)
    finally:
        for asked in (first, second):
            if isinstance(asked, APIJudge):
                asked.close()
    found = compare(items, scores_a, scores_b, RECORDED if first is None else repr(first), repr(second))
    accuracies = {
        name: sum(score is not None and score >= SUCCESS_THRESHOLD for score in scores) / episodes
        for name, scores in (("a", scores_a), ("b", scores_b))
    }
    say(str(found))
    say(f"accuracy over {episodes} episodes: A {accuracies['a']:.3f}, B {accuracies['b']:.3f}")
    if len(items) < episodes:
        say(f"episodes without an answer, which count as wrong: {episodes - len(items)}")
    for side, used in (("A", first), ("B", second)):
        if isinstance(used, ModelJudge):
            say(f"{side} asked the model {used.stats.calls} times; {used.stats.cached} answers were known")
    if out is not None:
        write_json(out, _summary(found, episodes, accuracies, answers, scores_a, scores_b))
        say(f"{out} written")
    return found


def read_answers(source: Path, limit: int | None = None) -> tuple[int, list[Recorded]]:
    """Read the answers of recorded episodes.

    Args:
        source: The file, or the directory with ``episodes.jsonl``.
        limit: Only the first episodes.

    Returns:
        The number of episodes, and the answers of those that gave one.

    Raises:
        VRAGError: If the file can not be read, or a line is no record of an episode.
    """
    path = source / EPISODES if source.is_dir() else source
    count, answers = 0, []
    for record in islice(read_records(path), limit):
        count += 1
        if record.answer is not None:
            score = dict(record.turns[-1].reward_terms).get("answer")
            if score is None:
                raise VRAGError(f"{path}: episode {record.question.question_id!r} has an answer that was never judged")
            item = JudgeItem.of(record.question, record.answer)
            answers.append(Recorded(record.question.question_id, item, score))
    if not count:
        raise VRAGError(f"{path} holds no episode: 'vrag eval --out DIR' writes them")
    return count, answers


def _judge(judge: Judge, items: Sequence[JudgeItem], name: str, progress: bool) -> list[float | None]:
    """Judge in batches, which show progress; the verdicts of a model are in its cache after each."""
    scores: list[float | None] = []
    with tqdm(desc=name, total=len(items), unit="answer", dynamic_ncols=True, disable=not progress) as bar:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            found = scores_of(judge, batch)
            if isinstance(judge, ModelJudge) and not any(score is not None for score in found):
                stats = judge.stats
                raise VRAGError(
                    f"{judge!r} gave no verdict on any of {len(batch)} answers in a row ({stats.unparsed} replies held "
                    f"none, {stats.failed} answers got no reply): check the model and its address. What was judged "
                    "before is in the cache, so that the same command goes on from there"
                )
            scores += found
            bar.update(len(batch))
    return scores


def _summary(
    found: Agreement,
    episodes: int,
    accuracies: dict[str, float],
    answers: Sequence[Recorded],
    scores_a: Sequence[float | None],
    scores_b: Sequence[float | None],
) -> dict[str, Any]:
    counts = {name: value for name, value in asdict(found).items() if name != "disagreements"}
    rows = [
        {
            "question_id": answer.question_id,
            "answer": answer.item.answer,
            "references": list(answer.item.references),
            "a": score_a,
            "b": score_b,
        }
        for answer, score_a, score_b in zip(answers, scores_a, scores_b, strict=True)
    ]
    return {
        **counts,
        "agreement": found.agreement,
        "kappa": found.kappa,
        "episodes": episodes,
        "answers": len(answers),
        "accuracy_a": accuracies["a"],
        "accuracy_b": accuracies["b"],
        "scores": rows,
    }
