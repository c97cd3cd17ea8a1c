"""collect: lets an expert play questions, many at a time, and journals every episode as it ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from vrag_agent.demonstrations.record import Demonstration, Message, Part
from vrag_agent.demonstrations.select import reason_to_reject
from vrag_agent.demonstrations.store import DemonstrationStore
from vrag_agent.teacher import LeakingEpisode, Spent
from vrag_env.actions import Crop, Invalid, Search
from vrag_env.episode import Block, Episode, Text, step_many
from vrag_env.errors import ServerError
from vrag_env.json_client import Unanswered
from vrag_env.players import Player
from vrag_env.questions import Question

MAX_UNANSWERED_IN_A_ROW = 8
"""So many episodes one after the other that end without a reply end the run: then the server is down."""


class Session(Protocol):
    """One episode of an expert; see :class:`vrag_agent.teacher.TeacherSession`."""

    spent: Spent

    def prepare(self, blocks: Sequence[Block]) -> None:
        """Take in what the environment returned; called in the thread that steps the episodes."""
        ...

    def next_turn(self, stop: threading.Event) -> str:
        """Return the next turn; called in another thread, while the episode stands still."""
        ...


class Expert(Protocol):
    """Plays episodes.

    Attributes:
        name: For records.
        concurrency: How many episodes can wait for it at once.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # see the class

    @property
    def concurrency(self) -> int: ...  # noqa: D102  # see the class

    def open(self, episode: Episode, seed: int = 0) -> Session:
        """Begin to play a started episode."""
        ...


class ScriptedExpert:
    """A scripted player as an expert.

    Args:
        player: Who plays, such as the oracle.
        name: For records.
    """

    concurrency = 32

    def __init__(self, player: Player, name: str) -> None:
        self.player, self.name = player, name

    def open(self, episode: Episode, seed: int = 0) -> Session:
        """Begin to play an episode; the seed does not matter."""
        return _ScriptedSession(self.player, episode)


class _ScriptedSession:
    def __init__(self, player: Player, episode: Episode) -> None:
        self.player, self.episode = player, episode
        self.spent = Spent()
        self._turn = ""

    def prepare(self, blocks: Sequence[Block]) -> None:
        self._turn = self.player.act(self.episode)  # here, since it asks the retriever

    def next_turn(self, stop: threading.Event) -> str:
        return self._turn


@dataclass
class _Running:
    """An episode under way."""

    question: Question
    attempt: int
    episode: Episode
    session: Session
    messages: list[Message] = field(default_factory=list)


def collect_demonstrations(
    expert: Expert,
    questions: Sequence[Question],
    make_episode: Callable[[Question], Episode],
    store: DemonstrationStore,
    *,
    attempts: int = 1,
    seed: int = 0,
    on_episode: Callable[[Demonstration], None] | None = None,
) -> list[Demonstration]:
    """Play every question until a demonstration of it is accepted or its attempts are used up.

    What the journal holds is not played again, so that a killed run goes on where it was.

    Args:
        expert: Who plays.
        questions: What is played, in order.
        make_episode: Makes a fresh episode of a question.
        store: Where the episodes go.
        attempts: Most episodes per question; the first that is accepted is the last (rejection sampling).
        seed: Of the expert; every attempt at every question gets one of its own.
        on_episode: Called with every episode that has ended, after it is in the journal.

    Returns:
        The whole journal: all episodes in the order in which they ended.

    Raises:
        ServerError: If a model does not reply any more; the journal holds what was done.
        VRAGError: If key or address of a model are wrong, or a judge gives no verdict.
    """
    journal = store.journal()
    tasks = deque(_open_tasks(questions, journal, attempts))
    stop = threading.Event()
    failures = 0
    with ThreadPoolExecutor(expert.concurrency, "vrag-expert") as pool:
        running: dict[Future[str], _Running] = {}
        try:
            while tasks or running:
                while tasks and len(running) < expert.concurrency:
                    question, attempt = tasks.popleft()
                    begun = _begin(expert, question, attempt, make_episode, seed, store)
                    running[pool.submit(begun.session.next_turn, stop)] = begun
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                ready: list[tuple[_Running, str]] = []
                for future in ended:
                    play = running.pop(future)
                    try:
                        ready.append((play, future.result()))
                        failures = 0
                    except Unanswered as fault:  # this episode is left out, and played by the next run
                        failures += 1
                        if failures >= MAX_UNANSWERED_IN_A_ROW or stop.is_set():
                            raise ServerError(
                                f"{expert.name} did not reply in {failures} episodes in a row ({fault}); "
                                f"{len(journal)} episodes are kept: run the same command again to go on"
                            ) from fault
                results = step_many([play.episode for play, _ in ready], [text for _, text in ready])
                for (play, text), result in zip(ready, results, strict=True):
                    play.messages.append(Message("assistant", (Part("text", text),)))
                    if play.episode.done:
                        demonstration = _finish(expert, play)
                        store.append(demonstration)
                        journal.append(demonstration)
                        if demonstration.rejected and play.attempt + 1 < attempts:
                            tasks.append((play.question, play.attempt + 1))
                        if on_episode is not None:
                            on_episode(demonstration)
                    else:
                        _show(play, result.blocks, store)
                        running[pool.submit(play.session.next_turn, stop)] = play
        except BaseException:
            stop.set()  # requests under way end at their next pause
            for future in running:
                future.cancel()
            raise
    return journal


def _open_tasks(
    questions: Sequence[Question], journal: Sequence[Demonstration], attempts: int
) -> list[tuple[Question, int]]:
    """What is still to be played: questions without an accepted episode, at their next attempt."""
    tried: dict[str, int] = {}
    for done in journal:
        tried[done.question_id] = max(tried.get(done.question_id, 0), done.attempt + 1)
    accepted = {done.question_id for done in journal if not done.rejected}
    return [
        (question, tried.get(question.question_id, 0))
        for question in questions
        if question.question_id not in accepted and tried.get(question.question_id, 0) < attempts
    ]


def _begin(
    expert: Expert,
    question: Question,
    attempt: int,
    make_episode: Callable[[Question], Episode],
    seed: int,
    store: DemonstrationStore,
) -> _Running:
    episode = make_episode(question)
    blocks = episode.start(noise_seed=seed + attempt).blocks
    begun = _Running(question, attempt, episode, expert.open(episode, seed + attempt))
    _show(begun, blocks, store)
    return begun


def _show(play: _Running, blocks: Sequence[Block], store: DemonstrationStore) -> None:
    """Hand what the environment returned to the expert, and keep it."""
    parts = tuple(
        Part("text", block.text) if isinstance(block, Text) else Part("image", store.put_image(block.image))
        for block in blocks
    )
    play.messages.append(Message("user", parts))
    play.session.prepare(blocks)


def _finish(expert: Expert, play: _Running) -> Demonstration:
    episode, spent = play.episode, play.session.spent
    actions = [turn.action for turn in episode.turns]
    played = Demonstration(
        question_id=play.question.question_id,
        expert=expert.name,
        attempt=play.attempt,
        system=episode.instructions,
        messages=tuple(play.messages),
        box_frame=episode.config.box_frame,
        rewards=tuple(turn.reward for turn in episode.turns),
        reward_terms=episode.turns[-1].reward_terms,
        is_success=episode.is_success,
        answered=episode.state.terminated,
        searches=sum(isinstance(action, Search) for action in actions),
        crops=sum(isinstance(action, Crop) for action in actions),
        invalid=sum(isinstance(action, Invalid) for action in actions),
        leak=isinstance(episode, LeakingEpisode),
        requests=spent.requests,
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
    )
    return replace(played, rejected=reason_to_reject(played))
