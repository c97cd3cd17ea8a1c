"""A real HTTP server that behaves like a model behind OpenAI's protocol, and misbehaves as told."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Reply:
    """One reply of the server.

    Args:
        text: What the model writes; ``None`` for a null content.
        status: The status code.
        headers: Further headers.
        body: The whole body instead of one around ``text``.
        delay: Seconds before it is sent.
        drip: Seconds between single bytes of the body.
        reset: Whether the connection is torn down instead.
        promised: Content-Length instead of the true one.
        finish: Why the model stopped.
        name: Name of the case in a test.
    """

    def __init__(
        self,
        text: str | None = "Hello.",
        status: int = 200,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        delay: float = 0.0,
        drip: float = 0.0,
        reset: bool = False,
        promised: int | None = None,
        finish: str = "stop",
        name: str = "",
    ) -> None:
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        message = {"choices": [choice]}
        usage = {"prompt_tokens": 100, "completion_tokens": 7}
        self.body = body if body is not None else json.dumps({**message, "usage": usage}).encode()
        self.status, self.headers, self.delay, self.drip = status, headers or {}, delay, drip
        self.reset, self.promised, self.name = reset, promised, name


Script = Callable[[int, dict[str, Any]], Reply]


class ChatServer:
    """The server; ``script(number of the request from 0, its body)`` says what it replies."""

    def __init__(self) -> None:
        self.script: Script = lambda number, body: Reply()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.running = self.most_running = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append({"path": self.path, **body})
                    outer.headers.append(dict(self.headers))
                    outer.times.append(time.monotonic())
                    outer.running += 1
                    outer.most_running = max(outer.most_running, outer.running)
                try:
                    self._send(outer.script(number, body))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client has given up
                finally:
                    with lock:
                        outer.running -= 1

            def _send(self, reply: Reply) -> None:
                time.sleep(reply.delay)
                if reply.reset:
                    linger = struct.pack("ii", 1, 0)  # close with RST
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(reply.promised or len(reply.body)))
                self.end_headers()
                if reply.drip:
                    for byte in reply.body:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        time.sleep(reply.drip)
                else:
                    self.wfile.write(reply.body)
                if reply.promised:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # torn down on purpose
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def replies(self, *replies: Reply) -> None:
        """Give these replies one after the other; the last one again and again."""
        self.script = lambda number, body: replies[min(number, len(replies) - 1)]

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
