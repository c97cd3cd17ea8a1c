import os
import pickle
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from retrieval_serving import Gate, Handler, good, in_turn, misbehaving, reset, serving, status

from vrag_env.env import VRAGEnv
from vrag_env.errors import RetrieverError
from vrag_env.players import make_player
from vrag_env.retrieval import Hit, LexicalRetriever
from vrag_env.retrieval import remote as remote_module
from vrag_env.retrieval.remote import RemoteRetriever, is_loopback
from vrag_env.retrieval.server import ServeLimits
from vrag_env.vector import VRAGVectorEnv


@pytest.fixture(scope="module")
def local(tiny_corpus: Any) -> LexicalRetriever:
    return LexicalRetriever(tiny_corpus)


@pytest.fixture(scope="module")
def remote(tiny_corpus: Any, local: LexicalRetriever) -> Iterator[RemoteRetriever]:
    with serving(tiny_corpus, local) as url:
        retriever = RemoteRetriever(url, fingerprint=tiny_corpus.fingerprint)
        yield retriever
        retriever.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not waited for."""
    seen: list[float] = []

    class Clock:
        monotonic = staticmethod(time.monotonic)
        sleep = staticmethod(seen.append)

    monkeypatch.setattr(remote_module, "time", Clock)
    return seen


# ---------------------------------------------------------------------- the same as local


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    queries=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=()), max_size=30),  # halves of surrogate pairs, too
            st.sampled_from(["amber report", "revenue north", "", "x" * 5000, "report " * 700 + "portugal"]),
        ),
        max_size=5,
    ),
    k=st.integers(1, 20),
    where=st.sampled_from([None, (), ("finance/amber.pdf",), {"travel/ivory.pdf", "none", "\x00'"}]),
)
def test_every_search_is_that_of_the_local_retriever(
    local: LexicalRetriever, remote: RemoteRetriever, queries: list[str], k: int, where: Any
) -> None:
    assert remote.search(queries, k, where) == local.search(queries, k, where)


@pytest.mark.parametrize("score", [0.1 + 0.2, 1 / 3, -1e-308, 5e-324, 1.7976931348623157e308, np.float32(0.1), 7, -0.0])
def test_scores_keep_every_bit(tiny_corpus: Any, score: Any) -> None:
    class Fixed:
        def search(self, queries: Any, k: int, where: Any = None) -> Any:
            return [[Hit("a#1", score)] for _ in queries]

    with serving(tiny_corpus, Fixed()) as url:
        [[hit]] = RemoteRetriever(url).search(["a"], 1)
    assert struct.pack("d", hit.score) == struct.pack("d", float(score)) and type(hit.score) is float


def played(env: VRAGEnv, player_name: str, episodes: int) -> list[Any]:
    """Everything that the episodes of a player give."""
    record: list[Any] = []
    player = make_player(player_name, seed=3)
    for episode in range(episodes):
        observation, info = env.reset(seed=7 if episode == 0 else None)
        record.append((observation, info))
        ended = False
        while not ended:
            action = player.act(env.episode)
            observation, reward, terminated, truncated, info = env.step(action)
            record.append((action, observation, reward, terminated, truncated, info))
            ended = terminated or truncated
    return record


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last byte; pickles would also differ by which objects are shared."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype == object:
            assert_same(one.tolist(), other.tolist())
        else:
            assert one.tobytes() == other.tobytes()
    elif isinstance(one, float):
        assert struct.pack("d", one) == struct.pack("d", other)
    else:
        assert one == other


@pytest.mark.parametrize("player", ["oracle", "random", "retrieve_then_answer"])
def test_episodes_are_the_same_byte_for_byte(
    tiny_corpus: Any, tiny_questions: Any, local: LexicalRetriever, remote: RemoteRetriever, player: str
) -> None:
    records = [
        played(VRAGEnv(corpus=tiny_corpus, questions=tiny_questions, retriever=retriever), player, 10)
        for retriever in (local, remote)
    ]
    assert len(records[0]) > 20 and any("<search>" in turn[0] for turn in records[0] if len(turn) == 6)
    assert_same(*records)


def test_a_vector_environment_is_the_same(
    tiny_corpus: Any, tiny_questions: Any, local: LexicalRetriever, remote: RemoteRetriever
) -> None:
    turns = [f"<think>a</think><search>{query}</search>" for query in ("report", "revenue north", "zzz")]
    turns.append("<think>a</think><answer>42.5</answer>")
    records = []
    for retriever in (local, remote):
        envs = VRAGVectorEnv(4, corpus=tiny_corpus, questions=tiny_questions, retriever=retriever)
        records.append([envs.reset(seed=1), *(envs.step([turns[(i + j) % 4] for j in range(4)]) for i in range(8))])
    assert_same(*records)


def test_asynchronous_environments(tiny_corpus: Any, tiny_questions: Any, remote: RemoteRetriever) -> None:
    def make() -> VRAGEnv:
        return VRAGEnv(corpus=str(tiny_corpus.path), questions=tiny_questions, retriever=remote)

    envs = AsyncVectorEnv([make, make], context="spawn", shared_memory=False)
    try:
        envs.reset(seed=0)
        *_, infos = envs.step(["<think>a</think><search>amber report</search>"] * 2)
    finally:
        envs.close()
    assert [pages[0] for pages in infos["pages_shown"]] == ["finance/amber.pdf#1"] * 2


# ---------------------------------------------------------------------- limits


def test_batches_are_split_and_repeated_queries_asked_once(tiny_corpus: Any) -> None:
    gate = Gate()
    with serving(tiny_corpus, gate, limits=ServeLimits(max_queries=3)) as url:
        queries = ["a", "b", "a", "c", "d", "b", "e", "f", "g"]
        found = RemoteRetriever(url).search(queries, 1)
    assert [hits[0].page_id for hits in found] == [f"{query}#1" for query in queries]
    assert [queries for queries, _, _ in gate.calls] == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_limits_that_can_not_be_split(tiny_corpus: Any, local: LexicalRetriever) -> None:
    with serving(tiny_corpus, local, limits=ServeLimits(max_k=8, max_query_chars=20)) as url:
        remote = RemoteRetriever(url)
        assert remote.search(["report"], 1000) == local.search(["report"], 1000)  # there are but 8 pages
        with pytest.raises(RetrieverError, match="start it with --max-query-chars 21"):
            remote.search(["x" * 21], 1)
    with serving(tiny_corpus, local, limits=ServeLimits(max_k=7)) as url:
        remote = RemoteRetriever(url)
        assert len(remote.search(["report"], 7)[0]) == 7
        with pytest.raises(
            RetrieverError, match="at most 7 pages per query, 8 were asked for: start it with --max-k 8"
        ):
            remote.search(["report"], 9)


def test_requests_are_checked_as_locally(remote: RemoteRetriever) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        remote.search(["a"], 0)
    with pytest.raises(ValueError, match=r"pass \['finance/amber\.pdf'\]"):
        remote.search(["a"], 1, "finance/amber.pdf")
    assert remote.search([], 1) == [] and remote.search(["report"], 1, []) == [[]]


def test_a_refusal_is_told_in_the_servers_words() -> None:
    with misbehaving(status(413)) as (url, seen):
        with pytest.raises(RetrieverError, match=f"{url} answered 413: not now"):
            RemoteRetriever(url).search(["a"], 1)
        assert len(seen) == 2  # /health and one attempt


# ---------------------------------------------------------------------- which corpus


def test_another_corpus_is_an_error(tiny_corpus: Any, local: LexicalRetriever) -> None:
    with serving(tiny_corpus, local) as url:
        with pytest.raises(RetrieverError, match=r"serves another corpus \(fingerprint .*expected 0000.*: serve the"):
            RemoteRetriever(url, fingerprint="0" * 64)
        assert RemoteRetriever(url).search(["amber"], 1)


def test_a_server_that_changes_its_corpus_is_noticed() -> None:
    def other(handler: Handler, body: Any) -> None:
        handler.say({"results": [[]]}, X_VRAG_Fingerprint="e" * 64)

    with misbehaving(in_turn(good, other)) as (url, _):
        remote = RemoteRetriever(url)
        assert remote.search(["a"], 1) == [[Hit("a#1", 0.1)]]
        with pytest.raises(RetrieverError, match="serves another corpus"):
            remote.search(["a"], 1)


# ---------------------------------------------------------------------- faults that pass


@pytest.mark.parametrize("fault", [status(429), status(502), status(503), status(504), reset])
def test_passing_faults_are_tried_again(pauses: list[float], fault: Any) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # a tuple in this form
    with misbehaving(in_turn(fault, fault, fault, good)) as (url, seen):
        assert RemoteRetriever(url).search(["a"], 1) == [[Hit("a#1", 0.1)]]
        assert len(seen) == 5
    for attempt, pause in enumerate(pauses):
        assert 0.1 * 2**attempt <= pause <= 0.15 * 2**attempt
    assert len(pauses) == 3
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # as above


def test_retry_after_is_honoured_up_to_a_cap(pauses: list[float]) -> None:
    asked = ("2", "999999", "99999999999999999999", "Wed, 21 Oct 2099 07:28:00 GMT", "-5", "nan", "")
    faults = [status(429, Retry_After=value) for value in asked]
    with misbehaving(in_turn(*faults, good)) as (url, _):
        assert RemoteRetriever(url).search(["a"], 1)
    least = [2.0, 30.0, 30.0, 0.8, 1.6, 3.2, 5.0]  # what can not be read falls back to 0.1 * 2**attempt, at most 5
    for pause, bound in zip(pauses, least, strict=True):
        assert bound <= pause <= 1.5 * bound


def test_a_storm_of_429_ends(pauses: list[float]) -> None:
    with misbehaving(status(429, Retry_After="1")) as (url, seen):
        remote = RemoteRetriever(url, retries=4)
        with pytest.raises(RetrieverError, match=r"answered 429 in 5 attempts \(not now\).*larger --max-queue"):
            remote.search(["a"], 1)
        assert len(seen) == 6 and len(pauses) == 4


def test_no_server_there(pauses: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RetrieverError, match=f"no connection to {url} after 4 attempts.*is 'vrag serve' running"):
            RemoteRetriever(url)
    assert len(pauses) == 3


def test_a_restart_in_between(tiny_corpus: Any, local: LexicalRetriever, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            tried.set()
            time.sleep(min(seconds, 0.1))

    monkeypatch.setattr(remote_module, "time", Clock)
    found: list[Any] = []
    with socket.socket() as reserved:  # bound and not listening: nobody else gets the port while no server has it
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with serving(tiny_corpus, local, port=port) as url:
            remote = RemoteRetriever(url, retries=1000)
            expected = remote.search(["amber"], 3)
        thread = threading.Thread(target=lambda: found.append(remote.search(["amber"], 3)))
        thread.start()
        assert tried.wait(100)
        with serving(tiny_corpus, local, port=port):
            thread.join(100)
    assert found == [expected]


def test_back_pressure_lets_everybody_through(tiny_corpus: Any) -> None:
    class Slow(Gate):
        def search(self, queries: Any, k: int, where: Any = None) -> Any:
            time.sleep(0.05)
            return super().search(queries, k, where)

    slow = Slow()
    with serving(tiny_corpus, slow, limits=ServeLimits(max_queue=1, max_batch=1, max_wait_ms=0)) as url:
        remote = RemoteRetriever(url, retries=20)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: remote.search([f"q{i}"], 1), range(8)))
        import httpx

        metrics = httpx.get(url + "/metrics", trust_env=False, timeout=100).text
    assert [hits[0][0].page_id for hits in found] == [f"q{i}#1" for i in range(8)]
    assert sorted(slow.searched()) == [f"q{i}" for i in range(8)]  # nothing was searched twice
    assert 'status="429"' in metrics


# ---------------------------------------------------------------------- token and address


def test_the_token_is_sent_and_never_shown(
    tiny_corpus: Any, local: LexicalRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VRAG_SERVE_TOKEN", raising=False)
    with serving(tiny_corpus, local, token="s3cret-word") as url:
        remote = RemoteRetriever(url, token="s3cret-word")
        assert remote.search(["amber"], 1) and "s3cret" not in repr(remote)
        monkeypatch.setenv("VRAG_SERVE_TOKEN", "s3cret-word")
        assert RemoteRetriever(url).search(["amber"], 1)
        monkeypatch.setenv("VRAG_SERVE_TOKEN", "wr0ng-word")
        for wrong in (RemoteRetriever(url), RemoteRetriever(url, token="wr0ng-word")):
            with pytest.raises(RetrieverError, match="refused the token: set the environment variable") as refused:
                wrong.search(["amber"], 1)
            assert "wr0ng" not in str(refused.value)
        with pytest.raises(RetrieverError, match="printable ASCII") as refused:
            RemoteRetriever(url, token="s3cret\r\nX-Evil: 1")
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://a", "file:///etc/passwd", "http://", "http://[::1", "http://a:99999",
            "http://a/?x=1", "http://a/#b", "http://a b", "http://\x00"],
)  # fmt: skip
def test_bad_addresses(url: str, pauses: list[float]) -> None:
    with pytest.raises(RetrieverError):
        RemoteRetriever(url)
    assert len(pauses) in (0, 3)


def test_a_password_in_the_address_is_not_repeated() -> None:
    with pytest.raises(RetrieverError, match="pass token= instead") as refused:
        RemoteRetriever("http://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in str(refused.value)


def test_a_slash_at_the_end_does_not_matter(remote: RemoteRetriever) -> None:
    assert RemoteRetriever(remote.url + "/").search(["amber"], 2) == remote.search(["amber"], 2)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"connect_timeout": -1}, {"retries": -1}, {"max_connections": 0}])
def test_senseless_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="timeouts must be positive"):
        RemoteRetriever("http://127.0.0.1:1", **options)


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("127.8.0.1", "::1", "[::1]", "LOCALHOST")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")] == [False] * 5


# ---------------------------------------------------------------------- threads and processes


def test_many_threads_share_a_few_connections(tiny_corpus: Any, local: LexicalRetriever) -> None:
    words = ["amber", "report", "revenue", "portugal", "zzz"]
    with serving(tiny_corpus, local) as url:
        remote = RemoteRetriever(url, max_connections=4)
        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(lambda i: remote.search([words[i % 5]], 1 + i % 3), range(200)))
    assert found == [local.search([words[i % 5]], 1 + i % 3) for i in range(200)]


def test_a_pickle_goes_on(remote: RemoteRetriever, local: LexicalRetriever) -> None:
    copy = pickle.loads(pickle.dumps(remote))
    assert copy.search(["amber report"], 3) == local.search(["amber report"], 3)
    assert repr(copy) == repr(remote)


def test_it_closes_and_opens_again(remote: RemoteRetriever, local: LexicalRetriever) -> None:
    remote.close()
    remote.close()
    assert remote.search(["amber"], 1) == local.search(["amber"], 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_processes_have_connections_of_their_own() -> None:
    ports: list[int] = []

    def noted(handler: Handler, body: Any) -> None:
        ports.append(handler.client_address[1])
        good(handler, body)

    with misbehaving(noted) as (url, _):
        remote = RemoteRetriever(url)
        remote.search(["a"], 1)  # leaves a connection open, which the children inherit
        remote._lock.acquire()  # as if another thread, which the children do not inherit, were opening one
        children = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                os._exit(0 if remote.search(["c"], 1) == [[Hit("c#1", 0.1)]] else 1)
            children.append(child)
        remote._lock.release()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
        assert remote.search(["d"], 1) == [[Hit("d#1", 0.1)]]
    assert len(set(ports)) == 3 and ports[0] == ports[3]  # the parent's connection goes on
