"""What ``vrag serve`` does: checks, binds, says where it is, and serves until it is told to end."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from vrag_env.corpus import Corpus
from vrag_env.errors import VRAGError, missing_extra
from vrag_env.retrieval import make_retriever
from vrag_env.retrieval.remote import TOKEN_VARIABLE, is_loopback

_KEEP_ALIVE = 75  # seconds that an idle connection stays open, above the 30 of RemoteRetriever
_GRACE = 10  # seconds that running requests get at the end
_MAX_CONNECTIONS = 1024
_MAX_HEADER_BYTES = 2**18  # the released engine's form has up to a hundred queries in its URL


class ServeError(VRAGError):
    """The server can not be started as asked for."""


def serve(
    *,
    corpus: Path,
    retriever: str,
    host: str,
    port: int,
    token_file: Path | None,
    limits: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Serve a corpus until SIGINT or SIGTERM.

    Args:
        corpus: Directory of the corpus.
        retriever: See :func:`vrag_env.retrieval.make_retriever`.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        token_file: File with the bearer token; by default the environment variable ``VRAG_SERVE_TOKEN``.
        limits: Fields of :class:`vrag_env.retrieval.server.ServeLimits`.
        say: Told one line when requests are answered, and one at the end.

    Raises:
        ServeError: If another machine could reach the server and there is no token, if the token is unusable,
            or if the address is not to be had.
        DependencyError: If the extra ``serve`` is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise missing_extra("uvicorn", "serve") from error
    from vrag_env.retrieval.server import ServeLimits, create_app

    token = read_token(token_file)
    loopback = is_loopback(host)
    if token is None and not loopback:
        raise ServeError(
            f"{host} can be reached from other machines, and there is no token: pass --token-file FILE or set "
            f"{TOKEN_VARIABLE} to a secret (python -c 'import secrets; print(secrets.token_urlsafe())'), or keep to "
            "--host 127.0.0.1"
        )
    listener = _listen(host, port)  # before a model is loaded for nothing
    store = Corpus.open(corpus)
    hosts = frozenset({"localhost", "127.0.0.1", "::1", host.strip("[]").lower()}) if token is None else None
    app = create_app(
        store,
        make_retriever(retriever, store),
        name=_public_name(retriever),
        limits=ServeLimits(**limits),
        token=token,
        hosts=hosts,
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # queries are nobody's business
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        http="h11",
        ws="none",
    )

    class Announcing(uvicorn.Server):
        """Says where it is once it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            address, number = listener.getsockname()[:2]
            url = f"http://[{address}]:{number}" if ":" in address else f"http://{address}:{number}"
            guard = "no token" if token is None else "with token"
            say(f"serving {corpus} ({len(store)} pages, retriever {retriever}, {guard}) at {url}")

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    # uvicorn ends in good order at the first signal, then raises it again: a clean end, and not one by a signal.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        Announcing(config).run(sockets=[listener])
    finally:
        listener.close()
        say("stopped")


def read_token(path: Path | None) -> str | None:
    """Read the bearer token from a file or the environment; ``None`` if there is none.

    Raises:
        ServeError: If the file can not be read, or holds no token that a header can carry.
    """
    source = f"the environment variable {TOKEN_VARIABLE}" if path is None else str(path)
    if path is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            return None
    else:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ServeError(f"the token file {path} can not be read: {error}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ServeError(f"{source} holds no token: expected one line of ASCII characters without spaces")
    return token


def _listen(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    # Named as TCP, since asyncio turns off Nagle's algorithm only then; with it every answer took 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # where it would let a second server take the same port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bare, port))
    except OSError as error:
        listener.close()
        raise ServeError(
            f"can not listen at {host}:{port}: {error.strerror or error}; choose another --port (0 takes a free one) "
            "or --host"
        ) from error
    return listener


def _public_name(retriever: str) -> str:
    """Return what callers may know of a retriever's name: no directory, and no address of another server."""
    if "://" in retriever:
        return "remote"
    return re.sub(r"[^+*:]*[/\\](?=[^/\\+*:])", "", retriever)
