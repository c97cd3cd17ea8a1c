"""Servers for the tests, all over real HTTP on loopback: the real one, and ones that misbehave."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import uvicorn

from vrag_env.retrieval import Hit
from vrag_env.retrieval.server import FINGERPRINT_HEADER, create_app

FINGERPRINT = "f" * 64


@contextmanager
def serving(corpus: Any, retriever: Any, *, port: int = 0, **options: Any) -> Iterator[str]:
    """Serve in a thread; gives the address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the caller holds it reserved
    listener.bind(("127.0.0.1", port))
    app = create_app(corpus, retriever, **options)
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=30, http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(100)
        listener.close()
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 100.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


class Handler(BaseHTTPRequestHandler):
    """Answers /health as a server would, and leaves /search to a function."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        self.server.health(self)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers)))
        self.server.search(self, json.loads(body))

    def say(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {FINGERPRINT_HEADER: FINGERPRINT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def healthy(handler: Handler, **changes: Any) -> None:
    limits = {"max_queries": 100, "max_query_chars": 4096, "max_k": 100}
    handler.say({"status": "ok", "pages": 1000, "fingerprint": FINGERPRINT, "limits": limits, **changes})


@contextmanager
def misbehaving(
    search: Callable[[Handler, Any], None], health: Callable[[Handler], None] = healthy
) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """Serve by functions; gives the address and the list of requests seen (path, headers)."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    server.search, server.health, server.seen = search, health, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.seen
    finally:
        server.shutdown()
        server.server_close()


class Gate:
    """A retriever that notes its calls, waits while it is shut, and fails on the query "poison"."""

    def __init__(self, shut: bool = False) -> None:
        self.calls: list[tuple[list[str], int, Collection[str] | None]] = []
        self.open = threading.Event()
        if not shut:
            self.open.set()

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        self.calls.append((list(queries), k, where))
        assert self.open.wait(100)
        if "poison" in queries:
            raise OSError("can not read /secret/place/of/the/index")
        return [[Hit(f"{query}#{rank}", 1 / (rank + len(query))) for rank in range(1, k + 1)] for query in queries]

    def searched(self) -> list[str]:
        return [query for queries, _, _ in self.calls for query in queries]


def good(handler: Handler, body: Any) -> None:
    handler.say({"results": [[{"page_id": f"{query}#1", "score": 0.1}] for query in body["queries"]]})


def in_turn(*answers: Callable[[Handler, Any], None]) -> Callable[[Handler, Any], None]:
    """Give one answer after the other, the last one for ever."""
    left = list(answers)
    return lambda handler, body: (left.pop(0) if len(left) > 1 else left[0])(handler, body)


def status(number: int, **headers: str) -> Callable[[Handler, Any], None]:
    return lambda handler, _: handler.say({"detail": "not now"}, number, **headers)


def reset(handler: Handler, _: Any) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def saying(content: Any) -> Callable[[Handler, Any], None]:
    return lambda handler, _: handler.say(content)
