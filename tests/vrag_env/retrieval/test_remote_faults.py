"""Servers that stay wrong: each gives one clear error, soon."""

import json
import threading
import time
from typing import Any

import pytest
from retrieval_serving import Handler, good, healthy, misbehaving, saying, status

from vrag_env.errors import RetrieverError
from vrag_env.retrieval import remote as remote_module
from vrag_env.retrieval.remote import RemoteRetriever


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"<html>", b"{", b"\xff\xfe\x00", b"[" * 200_000, b"NaN", [], {}, None, "x", {"results": None},
        {"results": []}, {"results": [[], []]}, {"results": {"0": []}}, {"results": [None]}, {"results": ["ab"]},
        {"results": [[[]]]}, {"results": [[{"page_id": "a#1"}]]}, {"results": [[{"score": 1.0}]]},
        {"results": [[{"page_id": 1, "score": 1.0}]]}, {"results": [[{"page_id": "a#1", "score": "1"}]]},
        {"results": [[{"page_id": "a#1", "score": None}]]}, {"results": [[{"page_id": "a#1", "score": True}]]},
        {"results": [[{"page_id": "a#1", "score": float("nan")}]]},
        {"results": [[{"page_id": "a#1", "score": 10**400}]]},
        {"results": [[{"page_id": "a#1", "score": float("inf")}]]}, {"results": [[{"page_id": "a", "score": 1}] * 3]},
    ],
)  # fmt: skip
def test_wrong_answers_are_errors(answer: Any) -> None:
    with misbehaving(saying(answer)) as (url, seen):
        with pytest.raises(RetrieverError, match=f"{url} does not answer as a retrieval server: expected"):
            RemoteRetriever(url).search(["a"], 2)
        assert len(seen) == 2  # it would not get better


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "ill"}, {"fingerprint": None}, {"pages": "8"}, {"pages": True}, {"pages": -1}, {"limits": None},
        {"limits": {"max_queries": 0, "max_query_chars": 1, "max_k": 1}}, {"limits": {"max_queries": 1, "max_k": 1}},
    ],
)  # fmt: skip
def test_what_is_no_retrieval_server(changes: dict[str, Any]) -> None:
    with (
        misbehaving(good, lambda handler: healthy(handler, **changes)) as (url, _),
        pytest.raises(RetrieverError, match="does not answer as a retrieval server: /health"),
    ):
        RemoteRetriever(url)


def test_an_answer_without_fingerprint() -> None:
    def bare(handler: Handler, body: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "15")
        handler.end_headers()
        handler.wfile.write(b'{"results":[]} ')

    with misbehaving(bare) as (url, _), pytest.raises(RetrieverError, match="X-VRAG-Fingerprint is missing"):
        RemoteRetriever(url).search(["a"], 1)


def impatient(url: str, timeout: float) -> RemoteRetriever:
    """A client with a short time-out, which began only after /health had answered, however slow the machine is."""
    remote = RemoteRetriever(url)
    remote.close()
    remote._timeout = timeout
    return remote


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    done = threading.Event()
    with misbehaving(lambda *_: done.wait(200)) as (url, seen):
        remote = impatient(url, 0.3)
        with pytest.raises(RetrieverError, match=r"did not answer within 0\.3 seconds: raise the timeout"):
            remote.search(["a"], 1)
        assert len(seen) == 2 and not done.is_set()
        done.set()


def test_a_trickling_server_is_given_up_after_the_timeout() -> None:
    def trickle(handler: Handler, _: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(4000):  # never silent for long, and complete after minutes
            handler.wfile.write(b" ")
            time.sleep(0.05)

    with misbehaving(trickle) as (url, _):
        remote = impatient(url, 0.4)
        with pytest.raises(RetrieverError, match=r"did not answer within 0\.4 seconds"):
            remote.search(["a"], 1)


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "_MAX_ANSWER_BYTES", 2**20)
    sent = []

    def endless(handler: Handler, _: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(2000):
            sent.append(handler.wfile.write(b" " * 2**16))

    with misbehaving(endless) as (url, _), pytest.raises(RetrieverError, match="more than 1048576 bytes"):
        RemoteRetriever(url).search(["a"], 1)
    assert len(sent) < 2000


def test_a_compressed_answer_is_not_unpacked() -> None:
    import gzip

    bomb = gzip.compress(json.dumps({"results": [[]]}).encode() + b" " * 10_000_000)

    def packed(handler: Handler, _: Any) -> None:
        handler.say(bomb, Content_Encoding="gzip")

    with misbehaving(packed) as (url, seen), pytest.raises(RetrieverError, match="expected JSON"):
        RemoteRetriever(url).search(["a"], 1)
    assert seen[1][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("number", [301, 302, 307, 308])
def test_redirects_are_refused_and_the_token_stays(number: int) -> None:
    with misbehaving(good) as (elsewhere, strangers):
        with misbehaving(status(number, Location=f"{elsewhere}/search")) as (url, seen):
            with pytest.raises(RetrieverError, match="redirects elsewhere"):
                RemoteRetriever(url, token="s3cret").search(["a"], 1)
            assert [headers["Authorization"] for _, headers in seen] == ["Bearer s3cret"] * 2
        assert strangers == []
