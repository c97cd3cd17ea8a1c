from __future__ import annotations

import copy
import email.utils
import json
import logging
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from chat_server import wait_for
from judge_server import CORRECT, INCORRECT, JudgeServer, Reply, payload

import vrag_env
from vrag_env.episode import Episode
from vrag_env.errors import DependencyError, JudgeError, RewardError
from vrag_env.rewards import APIJudge, JudgeItem, Reward
from vrag_env.rewards.verdicts import MAX_ANSWER_CHARS

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VRAG_JUDGE_API_KEY", raising=False)
    running = JudgeServer()
    yield running
    running.close()


@pytest.fixture
def new_judge(server: JudgeServer) -> Iterator[Callable[..., APIJudge]]:
    made: list[APIJudge] = []

    def make(**options: Any) -> APIJudge:
        judge = APIJudge(**{"base_url": server.url, "model": "m", "backoff": 0.01, "max_wait": 5.0, **options})
        made.append(judge)
        return judge

    yield make
    for judge in made:
        judge.close()


NewJudge = Callable[..., APIJudge]


def item(answer: str = "58", **fields: Any) -> JudgeItem:
    known = {"question": "How many?", "references": ("58",), "answer_format": "Int", "answer": answer}
    return JudgeItem(**{**known, **fields})


def test_the_request_and_the_verdicts(server: JudgeServer, new_judge: NewJudge) -> None:
    server.script = lambda number, body: Reply(CORRECT if payload(body)["answer"] == "58" else INCORRECT)
    judge = new_judge(parameters={"seed": 3, "temperature": None})
    assert judge.judge([item("57"), item("58"), item("59")]) == [0.0, 1.0, 0.0]
    body = server.bodies[0]
    assert (body["path"], body["model"], body["seed"]) == ("/v1/chat/completions", "m", 3)
    assert "temperature" not in body and body["max_tokens"] == 1024
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert payload(body).keys() == {"question", "references", "answer"}
    assert "Authorization" not in server.headers[0]
    stats = judge.stats
    assert (stats.items, stats.calls, stats.retries, stats.prompt_tokens, stats.completion_tokens) == (3, 3, 0, 300, 21)
    assert (stats.cached, stats.unparsed, stats.failed) == (0, 0, 0) and stats.seconds > 0
    assert judge.judge([]) == [] and judge.stats.calls == 3


def test_equal_answers_of_a_batch_are_asked_about_once(server: JudgeServer, new_judge: NewJudge) -> None:
    judge = new_judge()
    assert judge.judge([item("58"), item("58"), item("60"), item("58")]) == [1.0] * 4
    assert len(server.bodies) == 2 and judge.stats.cached == 2
    judge.judge([item("58", question="How few?")])
    assert len(server.bodies) == 3


def test_429_waits_as_long_as_the_server_says(server: JudgeServer, new_judge: NewJudge) -> None:
    server.replies(Reply(status=429, headers={"Retry-After": "1"}), Reply())
    judge = new_judge()
    assert judge.judge([item()]) == [1.0]
    assert server.times[1] - server.times[0] > 0.95
    assert (judge.stats.calls, judge.stats.retries, judge.stats.failed) == (2, 1, 0)


def test_429_with_a_date_and_shortened_to_max_wait(server: JudgeServer, new_judge: NewJudge) -> None:
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    server.replies(Reply(status=429, headers={"Retry-After": date}), Reply())
    judge = new_judge(max_wait=0.3)
    assert judge.judge([item()]) == [1.0]
    assert server.times[1] - server.times[0] > 0.28  # and not an hour


def test_429_holds_back_the_other_requests(server: JudgeServer, new_judge: NewJudge) -> None:
    judge = new_judge(concurrency=2)

    def script(number: int, body: dict[str, Any]) -> Reply:
        if number == 0:
            return Reply(status=429, headers={"Retry-After": "1"})
        wait_for(lambda: judge.client._resume_at > 0)  # what is under way is answered when the pause is known
        return Reply()

    server.script = script
    judge.judge([item(str(number)) for number in range(8)])
    early = [moment for moment in server.times if moment - server.times[0] < 0.9]
    assert len(server.times) == 9 and len(early) <= 2


@pytest.mark.parametrize(
    "fault",
    [
        Reply(name="500", status=500, body=b"oops"),
        Reply(name="503", status=503),
        Reply(name="truncated", body=b'{"choices": [{"message": {"con'),
        Reply(name="short", promised=10_000),
        Reply(name="no choice", body=b'{"choices": []}'),
        Reply(name="nested", body=b"[" * 100_000),
        Reply(name="no UTF-8", body=b"\xff\xfe"),
        Reply(name="null", body=b"null"),
        Reply(name="text", body=b'{"choices": ["x"]}'),
        Reply(name="huge", body=Reply().body + b" " * 2_000_000),
        Reply(name="reset", reset=True),
        Reply(name="slow", delay=1.5),
        Reply(name="drip", drip=0.05),
    ],
    ids=lambda fault: fault.name,
)
def test_faults_are_tried_again_and_then_reported(server: JudgeServer, new_judge: NewJudge, fault: Reply) -> None:
    server.replies(fault, Reply())
    judge = new_judge(timeout=0.4, max_retries=100)  # a busy machine may be late more than once
    assert judge.judge([item()]) == [1.0]
    assert judge.stats.retries >= 1 and judge.stats.calls == judge.stats.retries + 1 == len(server.bodies)

    server.replies(fault)
    judge = new_judge(timeout=0.4, max_retries=1)
    with pytest.raises(JudgeError, match=r"no verdict on 1 of 1 answers.*2 tries"):
        judge.judge([item("60")])
    assert (judge.stats.calls, judge.stats.failed, judge.stats.unparsed) == (2, 1, 0)
    assert judge.verdicts([item("60")]) == [None]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_item_is_not_tried_again(server: JudgeServer, new_judge: NewJudge, status: int) -> None:
    server.script = lambda number, body: Reply(status=status if payload(body)["answer"] == "bad" else 200)
    judge = new_judge(on_error="zero")
    assert judge.judge([item(), item("bad")]) == [1.0, 0.0]
    assert (judge.stats.calls, judge.stats.failed) == (2, 1)


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_wrong_setup_is_an_error_at_once(server: JudgeServer, new_judge: NewJudge, status: int) -> None:
    server.replies(Reply(status=status, body=b"no", headers={"Location": "http://127.0.0.1:1/"}))
    judge = new_judge(on_error="zero", concurrency=1)
    with pytest.raises(JudgeError, match=str(status)):
        judge.judge([item(str(number)) for number in range(20)])
    assert len(server.bodies) == 1


UNPARSED = [
    "",
    None,
    "I believe the answer is correct.",
    "True",
    "<verdict>maybe</verdict>",
    f"{CORRECT} or {INCORRECT}",
    f"{CORRECT} {CORRECT}",
    "<verdict>correct",
    "<judge>True</judge>",
    f"<think>{CORRECT}",  # cut off in its thought
    f"<verdict>maybe</verdict> {CORRECT}",
]


@pytest.mark.parametrize("text", UNPARSED)
def test_a_reply_without_a_verdict_is_counted_and_never_guessed(
    server: JudgeServer, new_judge: NewJudge, text: str | None
) -> None:
    server.replies(Reply(text))
    judge = new_judge()
    with pytest.raises(JudgeError, match="no single verdict in the reply"):
        judge.judge([item()])
    assert (judge.stats.calls, judge.stats.unparsed, judge.stats.failed) == (2, 1, 0)
    if text:
        assert "no single verdict" in server.bodies[1]["messages"][-1]["content"]  # it was reminded
    lenient = new_judge(on_error="zero")
    assert lenient.judge([item()]) == [0.0] and lenient.stats.unparsed == 1


def test_a_thought_without_end_names_the_remedy(server: JudgeServer, new_judge: NewJudge) -> None:
    server.replies(Reply(None, finish="length"))
    with pytest.raises(JudgeError, match="raise max_tokens"):
        new_judge(max_tokens=5).judge([item()])


def test_a_reminder_can_help(server: JudgeServer, new_judge: NewJudge) -> None:
    server.replies(Reply("Well."), Reply(INCORRECT))
    judge = new_judge()
    assert judge.judge([item()]) == [0.0]
    assert (judge.stats.unparsed, judge.stats.retries) == (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "<verdict>CORRECT</verdict>",
        "<Verdict> Correct. </VERDICT>\n",
        f"The numbers agree.\n\n{CORRECT}\nHave a nice day!",
        f"<think>Perhaps {INCORRECT}? No.</think>\n{CORRECT}",
        "Correct.",
        "**correct**",
    ],
)
def test_case_and_prose_do_not_matter(server: JudgeServer, new_judge: NewJudge, text: str) -> None:
    server.replies(Reply(text))
    assert new_judge().judge([item()]) == [1.0]


def test_zero_is_logged_and_a_dead_server_ends_the_run(
    server: JudgeServer, new_judge: NewJudge, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = lambda number, body: Reply(status=400 if payload(body)["answer"].startswith("x") else 200)
    judge = new_judge(on_error="zero", max_failures_in_a_row=3)
    with caplog.at_level(logging.WARNING):
        assert judge.judge([item("x1"), item("x2")]) == [0.0, 0.0]
    assert "2 of 2 answers" in caplog.text and "score 0" in caplog.text
    assert judge.judge([item("58")]) == [1.0]  # the row is broken
    assert judge.judge([item("x1"), item("x2")]) == [0.0, 0.0]
    with pytest.raises(JudgeError, match="3 answers in a row"):
        judge.judge([item("x3")])


def test_concurrency_is_used_and_bounded(server: JudgeServer, new_judge: NewJudge) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        wait_for(lambda: server.most_running >= 4)  # as many as may run at once do
        return Reply(delay=0.05)  # and here a fifth would come

    server.script = script
    judge = new_judge(concurrency=4)
    threads = [
        threading.Thread(target=judge.judge, args=([item(f"{k}-{number}") for number in range(8)],)) for k in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.bodies) == 16
    assert server.most_running == 4  # also for two callers at once


def test_waiting_in_line_is_not_the_time_of_a_request(server: JudgeServer, new_judge: NewJudge) -> None:
    server.replies(Reply(delay=0.5))
    judge = new_judge(concurrency=1, timeout=3.0)  # the last one waits longer than that
    threads = [threading.Thread(target=judge.judge, args=([item(str(number))],)) for number in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (judge.stats.calls, judge.stats.retries, server.most_running) == (7, 0, 1)


def test_a_kept_verdict_needs_no_request(server: JudgeServer, new_judge: NewJudge, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verdicts.sqlite"
    server.script = lambda number, body: Reply(CORRECT if payload(body)["answer"] == "58" else INCORRECT)
    assert new_judge(cache=path).judge([item("58"), item("59")]) == [1.0, 0.0]
    again = new_judge(cache=path)
    assert again.judge([item("59"), item("58"), item("58")]) == [0.0, 1.0, 1.0]
    assert len(server.bodies) == 2 and again.stats.cached == 3 and again.stats.calls == 0
    # Another model, other settings, another reference, another format of the same text: asked anew or not at all.
    new_judge(cache=path, model="n").judge([item("58")])
    new_judge(cache=path, max_tokens=9).judge([item("58")])
    new_judge(cache=path).judge([item("58", references=("58", "59"))])
    assert len(server.bodies) == 5


def test_what_was_paid_for_survives_a_failure(server: JudgeServer, new_judge: NewJudge, tmp_path: Path) -> None:
    server.script = lambda number, body: Reply(status=400 if payload(body)["answer"] == "bad" else 200)
    judge = new_judge(cache=tmp_path / "v.sqlite")
    for _ in range(2):
        with pytest.raises(JudgeError):
            judge.judge([item("1"), item("bad"), item("2")])
    assert len(server.bodies) == 4  # the second time only the bad one


def test_no_verdict_is_never_kept(server: JudgeServer, new_judge: NewJudge, tmp_path: Path) -> None:
    server.replies(Reply("?"))
    judge = new_judge(cache=tmp_path / "v.sqlite", on_error="zero")
    assert judge.judge([item()]) == [0.0]
    assert judge.cache is not None and len(judge.cache) == 0
    server.replies(Reply())
    assert judge.judge([item()]) == [1.0]


def test_long_texts_are_cut_and_said_to_be(server: JudgeServer, new_judge: NewJudge) -> None:
    judge = new_judge()
    judge.judge([item("x" * 10_000)])
    sent = payload(server.bodies[0])
    assert sent["answer"] == "x" * MAX_ANSWER_CHARS
    assert sent["answer_cut_at"] == "2000 of 10000 characters"
    assert judge.stats.cut == 1


def test_the_key_is_sent_and_shown_nowhere(
    server: JudgeServer, new_judge: NewJudge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": f"bad key Bearer {KEY}"}).encode()
    judge = new_judge(api_key=f" {KEY}\n", cache=tmp_path / "v.sqlite", on_error="zero", max_retries=1)
    server.replies(Reply())
    judge.judge([item()])
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    shown = [repr(judge), str(judge.stats), repr(Reward.preset("paper", judge)), repr(vars(judge))]
    server.replies(Reply(status=400, body=echo))
    judge.judge([item("2")])
    server.replies(Reply(f"I saw {KEY}"))
    judge.judge([item("3")])
    server.replies(Reply(status=500, body=echo))
    judge.judge([item("4")])
    server.replies(Reply(status=401, body=echo))
    with pytest.raises(JudgeError, match="VRAG_JUDGE_API_KEY") as caught:
        judge.judge([item("5")])
    shown += [str(caught.value), repr(caught.value.__context__), caplog.text]
    assert not any(KEY in text for text in shown)
    assert KEY.encode() not in pickle.dumps(judge)
    assert KEY.encode() not in (tmp_path / "v.sqlite").read_bytes()


def test_a_judge_in_another_process_reads_its_own_environment(
    server: JudgeServer, new_judge: NewJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pickle.dumps(new_judge(api_key=KEY))
    judge = pickle.loads(data)
    judge.judge([item()])
    judge.close()
    assert "Authorization" not in server.headers[0]
    monkeypatch.setenv("VRAG_JUDGE_API_KEY", "other")
    judge = pickle.loads(data)
    judge.judge([item()])
    assert server.headers[1]["Authorization"] == "Bearer other"
    judge.close()
    assert copy.deepcopy(judge) is judge


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "ftp://x/v1"}, "base_url"),
        ({"base_url": "http://user:geheim@x/v1"}, "password"),
        ({"base_url": "http://x/v1?key=geheim"}, "query"),
        ({"base_url": "http://x:geheim/v1"}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"model": " "}, "model"),
        ({"api_key": "geheim\nX-Evil: 1"}, "API key"),
        ({"api_key": "gehe\u00efm"}, "API key"),
        ({"concurrency": 0}, "concurrency"),
        ({"max_retries": -1}, "max_retries"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"backoff": float("nan")}, "backoff"),
        ({"on_error": "guess"}, "raise, zero"),
        ({"max_failures_in_a_row": 0}, "max_failures_in_a_row"),
        ({"parameters": {"messages": []}}, "messages"),
        ({"parameters": {"x": object()}}, "JSON"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JudgeError, match=message) as caught:
        APIJudge(**{"base_url": "http://localhost:1/v1", "model": "m", **options})
    assert "geheim" not in str(caught.value)


def test_the_address_may_be_the_whole_endpoint() -> None:
    assert APIJudge("http://h/v1/chat/completions/", "m").base_url == "http://h/v1"


def test_without_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(DependencyError, match=r"vrag-gym\[serve\]"):
        APIJudge("http://h/v1", "m")


def test_nobody_listens(new_judge: NewJudge, server: JudgeServer) -> None:
    judge = new_judge(base_url="http://127.0.0.1:1/v1", max_retries=1)
    with pytest.raises(JudgeError, match=r"ConnectError.*2 tries"):
        judge.judge([item()])


def test_an_episode_waits_for_its_verdict(
    server: JudgeServer, new_judge: NewJudge, new_episode: Callable[..., Episode]
) -> None:
    server.replies(Reply(status=400), Reply())
    episode = new_episode(Reward.preset("outcome", new_judge()))
    turn = "<think></think><answer>fifty-eight</answer>"
    with pytest.raises(RewardError, match="Take the step again"):
        episode.step_text(turn)
    assert not episode.done
    result = episode.step_text(turn)
    assert result.reward == 1.0 and result.info["is_success"]


def test_gym_make_with_a_judge(server: JudgeServer, tiny_corpus: Any, tiny_questions: Any) -> None:
    assert vrag_env.__version__
    server.replies(Reply(INCORRECT), Reply(CORRECT))
    options = {"corpus": tiny_corpus, "questions": tiny_questions, "reward": "outcome"}
    env = gym.make("VRAG-v0", **options, judge=f"api:m@{server.url}")
    for expected in (0.0, 1.0):
        env.reset(seed=0)
        # An answer of its own each time: the verdicts of named judges are kept.
        _, reward, terminated, _, info = env.step(f"<think></think><answer>{expected} {time.time_ns()}</answer>")
        assert (reward, terminated, info["reward_terms"]["answer"]) == (expected, True, expected)
    env.unwrapped.reward.judge.close()  # type: ignore[attr-defined]  # known to be a VRAGEnv
    envs = gym.make_vec("VRAG-v0", num_envs=3, vectorization_mode="vector_entry_point", **options, judge="token_f1")
    envs.reset(seed=0)
    assert envs.step(["<think></think><answer>x</answer>"] * 3)[1].tolist() == [0.0] * 3
    with pytest.raises(RewardError, match="has its judge"):
        gym.make("VRAG-v0", **{**options, "reward": Reward.preset("paper")}, judge="rule")
    with pytest.raises(RewardError, match="unknown judge"):
        gym.make("VRAG-v0", **options, judge="gpt")
