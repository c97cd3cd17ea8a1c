"""The engine: plays questions with a policy, many at a time, and keeps each episode as soon as it has ended.

Scripts of the policy (:mod:`vrag_agent.evaluation.protocol`) run side by side. All turns that are due are taken by one
:func:`~vrag_env.episode.step_many`, which makes one retrieval call, and all conversations that are due are continued by
one call of the model. Episodes that are in the journal already are not played again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrag_agent.evaluation.episodes import PlayedEpisode
from vrag_agent.evaluation.journal import EvaluationError, Journal, Row
from vrag_agent.evaluation.measures import VERSION, measure
from vrag_agent.evaluation.protocol import Ask, Model, Policy, Reply, Request, Script, Turn
from vrag_env.corpus import Corpus
from vrag_env.episode import Episode, EpisodeConfig, StepResult, step_many
from vrag_env.questions import Question
from vrag_env.replay import episode_to_record
from vrag_env.retrieval import Retriever
from vrag_env.rewards import Reward

Progress = Callable[[Episode], None]
_NO_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True)
class Setting:
    """Where a policy plays.

    Attributes:
        corpus: The pages.
        retriever: What a search asks.
        reward: What pays; its judge should be one by rules, since it is asked in every step.
        config: The rules of the environment.
    """

    corpus: Corpus
    retriever: Retriever
    reward: Reward
    config: EpisodeConfig


@dataclass(eq=False)
class _Running:
    """An episode that is being played, with what it has used so far."""

    episode: PlayedEpisode
    script: Script
    seed: int
    pending: Request | None = None
    seconds: float = 0.0
    turn_seconds: list[float] = field(default_factory=list)
    calls: int = 0
    failed: int = 0
    tokens: dict[str, int | None] = field(default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0})

    def usage(self, asks: bool) -> dict[str, float | None]:
        """Return what was used; a policy that asks no model has used no tokens, which is not the same as 0."""
        used: dict[str, float | None] = {"seconds": self.seconds}
        if asks:
            used |= {"model_calls": self.calls, "failed_calls": self.failed, **self.tokens}
        return used


def play_all(
    policy: Policy,
    setting: Setting,
    questions: Sequence[Question],
    journal: Journal,
    *,
    seeds: Sequence[int] = (0,),
    batch_size: int = 64,
    progress: Progress | None = None,
) -> None:
    """Play every question with every seed, unless the journal has it.

    Args:
        policy: Who plays.
        setting: Where.
        questions: What is asked.
        journal: Where finished episodes go.
        seeds: Each plays all questions once: it seeds sampling and the noise of retrieval.
        batch_size: Episodes played at the same time.
        progress: Called with each episode that has ended.

    Raises:
        EvaluationError: If the journal holds another question under the same id.
    """
    by_id = {question.question_id: question for question in questions}
    for row in journal.rows.values():
        asked = by_id.get(row["question_id"])
        if asked is not None and row["question"]["text"] != asked.text:
            raise EvaluationError(
                f"{journal.directory} holds another question with the id {asked.question_id!r}: begin with --fresh"
            )
    rules = policy.rules(setting.config)
    for seed in seeds:
        for group in _groups(policy.model, questions, seed, journal, batch_size):
            _play(policy, setting, rules, group, seed, journal, batch_size, progress)


def _groups(
    model: Model | None, questions: Sequence[Question], seed: int, journal: Journal, batch_size: int
) -> Iterator[list[Question]]:
    """Yield what is played together; a model that takes fixed groups gets whole ones, finished episodes included."""
    if model is None or model.refills:
        yield [question for question in questions if (seed, question.question_id) not in journal.rows]
        return
    for start in range(0, len(questions), batch_size):
        group = list(questions[start : start + batch_size])
        if any((seed, question.question_id) not in journal.rows for question in group):
            yield group


def _play(
    policy: Policy,
    setting: Setting,
    rules: EpisodeConfig,
    questions: Sequence[Question],
    seed: int,
    journal: Journal,
    batch_size: int,
    progress: Progress | None,
) -> None:
    waiting = list(reversed(questions))
    live: list[_Running] = []
    while waiting or live:
        while waiting and len(live) < batch_size:
            live.append(_begin(policy, setting, rules, waiting.pop(), seed))
        _take_turns([running for running in live if isinstance(running.pending, Turn)])
        if policy.model is not None:
            _ask(policy.model, [running for running in live if isinstance(running.pending, Ask)])
        for running in live:
            if running.episode.done:
                running.script.close()
                if (seed, running.episode.question.question_id) not in journal.rows:
                    journal.add(_row(policy, running, seed))
                    if progress is not None:
                        progress(running.episode)
        live = [running for running in live if not running.episode.done]


def _begin(policy: Policy, setting: Setting, rules: EpisodeConfig, question: Question, seed: int) -> _Running:
    episode = PlayedEpisode(
        question,
        setting.corpus,
        setting.retriever,
        setting.reward,
        rules,
        draws=policy.sees_images,
        crops=policy.crops,
    )
    own = _number(seed, question.question_id, "episode")
    running = _Running(episode, policy.play(episode, episode.start(own), own), own)
    _go_on(running, None)
    return running


def _go_on(running: _Running, value: StepResult | str | None) -> None:
    """Give a script what it waits for, and take its next request."""
    if running.episode.done:
        running.pending = None
        return
    try:
        running.pending = running.script.send(value)
    except StopIteration as end:
        raise RuntimeError("the script of a policy ended before its episode did: it must go on to the end") from end


def _take_turns(due: Sequence[_Running]) -> None:
    if not due:
        return
    started = time.perf_counter()
    results = step_many([running.episode for running in due], [_text(running.pending) for running in due])
    for running, result in zip(due, results, strict=True):
        _go_on(running, result)
    _share(due, started)
    for running in due:
        running.turn_seconds.append(running.seconds - sum(running.turn_seconds))


def _text(pending: Any) -> str:
    return _storable(pending.text)


def _storable(text: str) -> str:
    """Replace halves of surrogate pairs, which a server can send and no file can hold."""
    return text if text.isascii() else text.translate(_NO_SURROGATES)


def _ask(model: Model, due: Sequence[_Running]) -> None:
    if not due:
        return
    started = time.perf_counter()
    conversations = [running.pending.conversation for running in due if isinstance(running.pending, Ask)]
    replies = model.reply(conversations, [_number(running.seed, running.calls) for running in due])
    for running, conversation, reply in zip(due, conversations, replies, strict=True):
        text = _storable(reply.text)
        conversation.assistant(text)
        _count(running, reply)
        _go_on(running, text)
    _share(due, started)


def _count(running: _Running, reply: Reply) -> None:
    running.calls += 1
    running.failed += bool(reply.fault)
    for name, more in (("prompt_tokens", reply.prompt_tokens), ("completion_tokens", reply.completion_tokens)):
        so_far = running.tokens[name]
        running.tokens[name] = None if so_far is None or more is None else so_far + more


def _share(due: Sequence[_Running], started: float) -> None:
    spent = (time.perf_counter() - started) / len(due)
    for running in due:
        running.seconds += spent


def _number(*parts: object) -> int:
    """Return a number of 31 bits that depends on the parts alone, for a seed of its own for everything."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


def _row(policy: Policy, running: _Running, seed: int) -> Row:
    """Return the line that is kept of a finished episode: its record, and what was measured on it."""
    episode = running.episode
    return {
        **episode_to_record(episode, policy.name, seconds=running.turn_seconds),
        "seed": seed,
        "question_id": episode.question.question_id,
        "measures_version": VERSION,
        "measures": measure(episode, running.usage(policy.model is not None)),
    }
