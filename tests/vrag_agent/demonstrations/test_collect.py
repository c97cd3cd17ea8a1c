"""Collecting: rejection, attempts, faults of the server, and going on after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply
from teaching import play, texts, turn

from vrag_agent.demonstrations import Demonstration, DemonstrationStore
from vrag_agent.demonstrations.collect import MAX_UNANSWERED_IN_A_ROW, ScriptedExpert, collect_demonstrations
from vrag_agent.teacher import Teacher
from vrag_env.chat import ChatClient
from vrag_env.episode import Episode, Image
from vrag_env.errors import ServerError
from vrag_env.players import OraclePlayer
from vrag_env.questions import Question, save_questions

MakeEpisode = Callable[..., Episode]
NewTeacher = Callable[..., Teacher]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = ChatServer()
    running.script = play
    yield running
    running.close()


@pytest.fixture
def store(tmp_path: Path) -> DemonstrationStore:
    return DemonstrationStore(tmp_path / "demos")


@pytest.fixture
def teacher(server: ChatServer) -> Iterator[Callable[..., Teacher]]:
    made: list[ChatClient] = []

    def make(**options: Any) -> Teacher:
        settings = {"backoff": 0.01, "max_retries": 4, "concurrency": 3, "timeout": 30.0, **options}
        made.append(ChatClient(server.url, "m", api_key_variable="VRAG_TEST_KEY", **settings))
        return Teacher(made[-1])

    yield make
    for client in made:
        client.close()


def fresh(make_episode: MakeEpisode) -> Callable[[Question], Episode]:
    return lambda question: make_episode(question.question_id)


def test_the_oracles_episodes_are_kept_as_they_were_shown(
    store: DemonstrationStore, make_episode: MakeEpisode, tiny_questions: Sequence[Question]
) -> None:
    journal = collect_demonstrations(
        ScriptedExpert(OraclePlayer(), "oracle"), tiny_questions, fresh(make_episode), store
    )
    assert sorted(done.question_id for done in journal) == sorted(q.question_id for q in tiny_questions)
    for done in journal:
        assert done.is_success and not done.rejected and done.expert == "oracle" and done.requests == 0
        episode = make_episode(done.question_id)
        blocks = episode.start().blocks
        for index in range(done.turns):
            user, assistant = done.messages[2 * index : 2 * index + 2]
            images = [block.image for block in blocks if isinstance(block, Image)]
            assert [store.image(name).tobytes() for name in user.images] == [image.tobytes() for image in images]
            assert user.text == "".join(block.text for block in blocks if not isinstance(block, Image))
            result = episode.step_text(assistant.text)
            assert done.rewards[index] == result.reward
            blocks = result.blocks
        assert episode.done and (done.turns, done.invalid) == (len(episode.turns), 0)
        assert dict(done.reward_terms) == dict(episode.turns[-1].reward_terms)
        assert done.system == episode.instructions
    assert store.journal() == journal


def test_a_teacher_through_a_server_that_misbehaves(
    server: ChatServer,
    teacher: NewTeacher,
    store: DemonstrationStore,
    make_episode: MakeEpisode,
    tiny_questions: Sequence[Question],
) -> None:
    """Slow, 429, 500, cut JSON, torn down: each of the first requests has its fault, and all episodes come out."""
    faults = [
        Reply(status=429, headers={"Retry-After": "0.05"}),
        Reply(status=500),
        Reply(body=b'{"choices": [{"message": {"con'),
        Reply(reset=True),
        Reply(promised=100_000),
        Reply(delay=0.2),
    ]

    def script(number: int, body: dict[str, Any]) -> Reply:
        return faults[number] if number < len(faults) - 1 else play(number, body)

    server.script = script
    expert = teacher()
    ended: list[Demonstration] = []
    journal = collect_demonstrations(expert, tiny_questions, fresh(make_episode), store, on_episode=ended.append)
    assert journal == ended and len(journal) == 5
    assert all(done.is_success and not done.rejected for done in journal)
    assert expert.writer.usage.retries == 5
    assert sum(done.requests for done in journal) == 10 == expert.writer.usage.requests - 5
    assert sum(done.prompt_tokens for done in journal) == 1000
    assert server.most_running <= 3


def test_rejected_ones_are_tried_again_until_one_is_accepted(
    server: ChatServer,
    teacher: NewTeacher,
    store: DemonstrationStore,
    make_episode: MakeEpisode,
    tiny_questions: Sequence[Question],
) -> None:
    """The first attempt answers wrongly, the second (another seed) is invalid to its end, the third is right."""

    def script(number: int, body: dict[str, Any]) -> Reply:
        if body["seed"] == 10:
            return Reply("<think>a</think><answer>nonsense</answer>")
        return Reply("No.") if body["seed"] == 11 else play(number, body)

    server.script = script
    run = (tiny_questions[:2], fresh(make_episode), store)
    journal = collect_demonstrations(teacher(), *run, attempts=4, seed=10)
    reasons = {(done.question_id, done.attempt): done.rejected for done in journal}
    assert reasons == {
        (question.question_id, attempt): reason
        for question in tiny_questions[:2]
        for attempt, reason in enumerate(["wrong answer", "no answer", ""])
    }
    asked = len(server.bodies)
    assert collect_demonstrations(teacher(), *run, attempts=4, seed=10) == journal  # nothing is left to do
    assert len(server.bodies) == asked


def test_an_interrupted_run_goes_on_where_it_was(
    server: ChatServer,
    teacher: NewTeacher,
    store: DemonstrationStore,
    make_episode: MakeEpisode,
    tiny_questions: Sequence[Question],
) -> None:
    def interrupt(done: Demonstration) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_demonstrations(teacher(concurrency=1), tiny_questions, fresh(make_episode), store, on_episode=interrupt)
    [kept] = store.journal()
    with (store.directory / "episodes.jsonl").open("a") as file:
        file.write('{"question_id": "cobalt-st')  # what a kill may leave
    journal = collect_demonstrations(teacher(), tiny_questions, fresh(make_episode), store)
    assert journal[0] == kept
    assert sorted(done.question_id for done in journal) == sorted(q.question_id for q in tiny_questions)
    first = [text for body in server.bodies for text in texts(body)[1:2] if len(body["messages"]) == 2]
    assert first.count(f"Question: {tiny_questions[0].text}") == 1
    assert len(store.journal()) == 5


def test_a_server_that_dies_ends_the_run_with_what_was_done(
    server: ChatServer,
    teacher: NewTeacher,
    store: DemonstrationStore,
    make_episode: MakeEpisode,
    tiny_questions: Sequence[Question],
) -> None:
    questions = [replace(tiny_questions[i % 5], question_id=f"{i}") for i in range(40)]
    by_id = {question.question_id: tiny_questions[i % 5].question_id for i, question in enumerate(questions)}
    server.script = lambda number, body: play(number, body) if number < 6 else Reply(reset=True)
    expert = teacher(max_retries=1, concurrency=1)

    def make(question: Question) -> Episode:
        episode = make_episode(by_id[question.question_id])
        return Episode(question, episode.corpus, episode.retriever, episode.reward, episode.config)

    with pytest.raises(ServerError, match=rf"{MAX_UNANSWERED_IN_A_ROW} episodes in a row.*3 episodes are kept"):
        collect_demonstrations(expert, questions, make, store)
    assert len(store.journal()) == 3
    server.script = play
    assert len(collect_demonstrations(teacher(), questions, make, store)) == 40


def test_a_wrong_key_ends_the_run_at_once(
    server: ChatServer,
    teacher: NewTeacher,
    store: DemonstrationStore,
    make_episode: MakeEpisode,
    tiny_questions: Sequence[Question],
) -> None:
    server.replies(Reply(status=401))
    with pytest.raises(ServerError, match="VRAG_TEST_KEY"):
        collect_demonstrations(teacher(concurrency=1), tiny_questions, fresh(make_episode), store)
    assert len(server.bodies) == 1


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill(
    server: ChatServer, tmp_path: Path, tiny_corpus_path: Path, tiny_questions: Sequence[Question]
) -> None:
    """SIGKILL while a request hangs; the same command then asks only for what is missing."""
    save_questions(tmp_path / "questions.json", tiny_questions)
    hanging, released = threading.Event(), threading.Event()

    def script(number: int, body: dict[str, Any]) -> Reply:
        if number == 5:  # two episodes of two turns each are through, the third has begun
            hanging.set()
            released.wait(120)
        return Reply(turn(body))

    server.script = script
    out = tmp_path / "demos"
    command = [sys.executable, "-m", "vrag_agent", "collect", "--expert", f"api:m@{server.url}", "--out", str(out)]
    command += ["--corpus", str(tiny_corpus_path), "--questions", str(tmp_path / "questions.json")]
    command += ["--concurrency", "1", "--price", "2", "10", "--released", str(tmp_path / "search_sft.json")]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert hanging.wait(120)
        process.send_signal(signal.SIGKILL)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()
        released.set()
    assert len(DemonstrationStore(out).journal()) == 2
    assert not (out / "demonstrations.parquet").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "holds 2 episodes already" in done.stdout and "5 kept" in done.stdout
    assert "10 requests, 1000 + 70 tokens, 0.0027 in the currency" in done.stdout
    demonstrations = DemonstrationStore(out).read()
    assert [d.question_id for d in demonstrations] == [q.question_id for q in tiny_questions]
    released_items = json.loads((tmp_path / "search_sft.json").read_text())
    assert [len(item["messages"]) for item in released_items] == [4] * 5
    other = subprocess.run([*command, "--leak"], env=environment, capture_output=True, text=True, timeout=300)
    assert other.returncode == 2 and "was begun with leak False" in other.stderr
