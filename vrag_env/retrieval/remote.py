"""RemoteRetriever: a retriever that runs elsewhere, behind ``vrag serve``."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vrag_env.errors import RetrieverError, missing_extra
from vrag_env.retrieval.base import Hit
from vrag_env.retrieval.queries import MAX_QUERY_CHARS, check_request

if TYPE_CHECKING:
    import httpx

TOKEN_VARIABLE = "VRAG_SERVE_TOKEN"
"""Environment variable with the bearer token, read by ``vrag serve`` and by :class:`RemoteRetriever`."""

_FINGERPRINT_HEADER = "X-VRAG-Fingerprint"
_BACKOFF = 0.1  # seconds before the second attempt, doubled for each further one
_MAX_BACKOFF = 5.0
_MAX_RETRY_AFTER = 30.0  # a server that asks for more is asked again after this
_FIRST_CONTACT_RETRIES = 3  # a mistyped address should not take the time that a restart of the server may
_RETRIED = frozenset({429, 502, 503, 504})
_MAX_ANSWER_BYTES = 256 * 2**20
_MAX_MESSAGE = 300  # characters of the server's own words in an error

_INSTANCES: weakref.WeakSet[RemoteRetriever] = weakref.WeakSet()


@dataclass(frozen=True)
class _Server:
    """What ``/health`` says."""

    pages: int
    fingerprint: str
    max_queries: int
    max_query_chars: int
    max_k: int


class RemoteRetriever:
    """Searches through a server started with ``vrag serve``.

    An episode goes exactly as it would with the server's retriever in the same process: scores come over with
    every bit, and a server that serves another corpus, or changes to another one, is an error. (The server
    batches queries as it likes: a model whose scores depend in their last bits on what else is in its batch
    keeps doing so.) It may be used from several threads, pickled, and used on in a forked process: each process
    has connections of its own.

    Args:
        url: Address of the server, such as ``http://127.0.0.1:8000``.
        fingerprint: :attr:`vrag_env.corpus.Corpus.fingerprint` of the corpus that has to be served. By default
            what is served now, which then must stay.
        token: The server's bearer token; by default from the environment variable ``VRAG_SERVE_TOKEN``. No
            message or representation shows it.
        timeout: Longest wait for one answer, in seconds.
        connect_timeout: Longest wait for a connection, in seconds.
        retries: Further attempts after a broken connection or an answer 429, 502, 503 or 504, after doubling
            pauses or as long as ``Retry-After`` asks for, at most 30 seconds. A timeout is not tried again: the
            server is too slow, and asking twice would not make it faster.
        max_connections: Most open connections; further threads wait for one.

    Raises:
        RetrieverError: If the address is no URL of a server, the server can not be reached, or it serves
            another corpus.
        DependencyError: If the extra ``serve`` is not installed.

    Example:
        >>> env = gym.make("VRAG-v0", corpus="runs/my_pdfs", retriever="http://127.0.0.1:8000")  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str,
        *,
        fingerprint: str | None = None,
        token: str | None = None,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        retries: int = 8,
        max_connections: int = 16,
    ) -> None:
        if timeout <= 0 or connect_timeout <= 0 or retries < 0 or max_connections < 1:
            raise ValueError(
                "timeouts must be positive, retries at least 0 and max_connections at least 1, got "
                f"{timeout}, {connect_timeout}, {retries}, {max_connections}"
            )
        self.url, self._trust_environment = _check_url(url)
        self._token = os.environ.get(TOKEN_VARIABLE) or None if token is None else token
        if self._token is not None and not (self._token.isascii() and self._token.isprintable()):
            raise RetrieverError("the token for the retrieval server must be of printable ASCII characters")
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._retries = retries
        self._max_connections = max_connections
        self._client: httpx.Client | None
        self._closing: weakref.finalize[..., RemoteRetriever] | None = None
        self._reset()
        _INSTANCES.add(self)
        self._server = self._hello(fingerprint)

    def __repr__(self) -> str:
        return f"RemoteRetriever({self.url!r}, {self._server.pages} pages)"

    def __getstate__(self) -> dict[str, Any]:
        own = ("_lock", "_client", "_closing", "_random")  # what belongs to this process
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()
        _INSTANCES.add(self)

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries; see :meth:`vrag_env.retrieval.base.Retriever.search`.

        Raises:
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
            RetrieverError: If the server can not be reached, refuses, or answers something else than hits.
        """
        check_request(k, where)
        # Retrievers cut queries themselves, so that this changes no result.
        texts = [query[:MAX_QUERY_CHARS] for query in queries]
        if not texts or (where is not None and not where):
            return [[] for _ in texts]
        server = self._server
        k = min(k, max(server.pages, 1))  # more than all pages can not come
        if k > server.max_k:
            raise RetrieverError(
                f"{self.url} gives at most {server.max_k} pages per query, {k} were asked for: start it with "
                f"--max-k {k}"
            )
        longest = max(map(len, texts))
        if longest > server.max_query_chars:
            raise RetrieverError(
                f"{self.url} takes queries of at most {server.max_query_chars} characters, got one of {longest}: "
                f"start it with --max-query-chars {longest}"
            )
        documents = None if where is None else sorted(where)
        different = list(dict.fromkeys(texts))  # the episodes of a vector environment often ask the same
        answers: dict[str, list[Hit]] = {}
        for start in range(0, len(different), server.max_queries):
            part = different[start : start + server.max_queries]
            answers.update(zip(part, self._search_part(part, k, documents), strict=True))
        return [list(answers[text]) for text in texts]

    def close(self) -> None:
        """Close the connections; a later search opens new ones."""
        with self._lock:
            self._client, closing = None, self._closing
        if closing is not None:
            closing()

    def _search_part(self, queries: list[str], k: int, where: list[str] | None) -> list[list[Hit]]:
        content, fingerprint = self._ask("POST", "/search", {"queries": queries, "k": k, "where": where})
        self._check_fingerprint(fingerprint, self._server.fingerprint)
        results = content.get("results") if isinstance(content, dict) else None
        if not isinstance(results, list) or len(results) != len(queries):
            raise self._no_server(f"expected {len(queries)} lists of results")
        return [self._hits(hits, k) for hits in results]

    def _hits(self, hits: Any, k: int) -> list[Hit]:
        if not isinstance(hits, list) or len(hits) > k:
            raise self._no_server(f"expected lists of at most {k} results")
        found = []
        for hit in hits:
            page_id, score = (hit.get("page_id"), hit.get("score")) if isinstance(hit, dict) else (None, None)
            if not isinstance(page_id, str) or isinstance(score, bool) or not isinstance(score, int | float):
                raise self._no_server("expected results with page_id and score")
            found.append(Hit(page_id, self._score(score)))
        return found

    def _score(self, score: int | float) -> float:
        try:
            value = float(score)
        except OverflowError:  # a whole number with hundreds of digits
            value = math.inf
        if not math.isfinite(value):
            raise self._no_server("expected finite scores")
        return value

    def _hello(self, fingerprint: str | None) -> _Server:
        """Ask the server what it serves."""
        content, _ = self._ask("GET", "/health", retries=min(self._retries, _FIRST_CONTACT_RETRIES))
        content = content if isinstance(content, dict) else {}
        limits = content.get("limits")
        limits = limits if isinstance(limits, dict) else {}
        served = content.get("fingerprint")
        if content.get("status") != "ok" or not isinstance(served, str):
            raise self._no_server("/health is not that of a retrieval server")
        self._check_fingerprint(served, fingerprint or served)
        return _Server(
            self._number(content, "pages", 0),
            served,
            *(self._number(limits, name, 1) for name in ("max_queries", "max_query_chars", "max_k")),
        )

    def _number(self, content: dict[str, Any], name: str, least: int) -> int:
        value = content.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._no_server(f"/health has no usable {name}")
        return value

    def _check_fingerprint(self, served: str | None, expected: str) -> None:
        if served is None:
            raise self._no_server(f"the header {_FINGERPRINT_HEADER} is missing")
        if served != expected:
            raise RetrieverError(
                f"{self.url} serves another corpus (fingerprint {served[:12]!a}..., expected {expected[:12]}...): "
                "serve the corpus that the environment uses, or open the one that is served"
            )

    def _ask(self, method: str, path: str, content: Any = None, retries: int | None = None) -> tuple[Any, str | None]:
        """Ask until there is an answer.

        Returns:
            The JSON of the answer, and the fingerprint in its header.
        """
        retries = self._retries if retries is None else retries
        body = None if content is None else json.dumps(content).encode()
        for attempt in range(retries + 1):
            status, headers, answer, fault = self._try(method, path, body)
            if status == 200:
                try:
                    return json.loads(answer), headers.get(_FINGERPRINT_HEADER.lower())
                except (ValueError, RecursionError) as error:
                    raise self._no_server("expected JSON") from error
            if status is not None and status not in _RETRIED:
                raise self._refused(status, headers, answer)
            if attempt < retries:
                time.sleep(self._pause(attempt, headers))
        if status is None:
            raise RetrieverError(
                f"no connection to {self.url} after {retries + 1} attempts ({fault}): is 'vrag serve' running there?"
            )
        raise RetrieverError(
            f"{self.url} answered {status} in {retries + 1} attempts ({_message(answer)}): it is overloaded or ending; "
            "ask from fewer processes, or start it with a larger --max-queue"
        )

    def _try(self, method: str, path: str, body: bytes | None) -> tuple[int | None, dict[str, str], bytes, str]:
        """Ask once.

        Returns:
            Status (``None`` if the connection broke), headers with names in lower case, body, and what broke.
        """
        import httpx

        deadline = time.monotonic() + self._timeout
        client = self._connections()
        try:
            with client.stream(method, self.url + path, content=body) as response:
                parts, size = [], 0
                for part in response.iter_raw():
                    size += len(part)
                    if size > _MAX_ANSWER_BYTES:
                        raise self._no_server(f"the answer has more than {_MAX_ANSWER_BYTES} bytes")
                    if time.monotonic() > deadline:  # httpx limits each read, not all of them together
                        raise httpx.ReadTimeout("the answer as a whole took too long")
                    parts.append(part)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return response.status_code, headers, b"".join(parts), ""
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise RetrieverError(
                f"{self.url} did not answer within {self._timeout:g} seconds: raise the timeout, send smaller batches, "
                "or serve from a faster machine"
            ) from error
        except httpx.PoolTimeout as error:
            raise RetrieverError(
                f"all {self._max_connections} connections to {self.url} were busy for {self._timeout:g} seconds: raise "
                "max_connections"
            ) from error
        except (httpx.ConnectTimeout, httpx.NetworkError, httpx.ProtocolError, httpx.ProxyError) as error:
            return None, {}, b"", f"{type(error).__name__}: {error}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetrieverError(f"asking {self.url!r} failed: {type(error).__name__}: {error}") from error

    def _pause(self, attempt: int, headers: dict[str, str]) -> float:
        """Return how long to wait; jitter keeps many clients from coming back at the same moment."""
        pause = min(_BACKOFF * 2**attempt, _MAX_BACKOFF)
        asked = headers.get("retry-after", "")
        if asked.isascii() and asked.isdigit():  # the other form, a date, would need both clocks to agree
            pause = max(pause, min(float(asked[:9]), _MAX_RETRY_AFTER))
        return pause * self._random.uniform(1.0, 1.5)

    def _refused(self, status: int, headers: dict[str, str], answer: bytes) -> RetrieverError:
        if status in (401, 403):
            return RetrieverError(
                f"{self.url} refused the token: set the environment variable {TOKEN_VARIABLE}, or pass token=, to "
                "what the server was started with"
            )
        if 300 <= status < 400:
            return RetrieverError(
                f"{self.url} redirects elsewhere (status {status}), which is not followed: give the address of the "
                "server itself"
            )
        return RetrieverError(f"{self.url} answered {status}: {_message(answer)}")

    def _no_server(self, what: str) -> RetrieverError:
        return RetrieverError(
            f"{self.url} does not answer as a retrieval server: {what}; is it 'vrag serve' of the same version?"
        )

    def _connections(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = self._open()
                # Also when nobody holds the retriever any more: environments come and go.
                self._closing = weakref.finalize(self, self._client.close)
                self._closing.atexit = False
            return self._client

    def _open(self) -> httpx.Client:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise missing_extra("httpx", "serve") from error
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}  # no bomb to unpack
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(self._timeout, connect=self._connect_timeout),
            limits=httpx.Limits(
                max_connections=self._max_connections,
                max_keepalive_connections=self._max_connections,
                keepalive_expiry=30.0,  # below the server's own, so that the server is not the one that hangs up
            ),
            follow_redirects=False,  # the token is for this server
            trust_env=self._trust_environment,
        )

    def _reset(self) -> None:
        """Start without connections: in the constructor, after unpickling, and in a forked process."""
        self._lock = threading.Lock()
        self._client = self._closing = None
        self._random = random.Random()  # its own, so that an experiment's seeds stay untouched


def _check_url(url: str) -> tuple[str, bool]:
    """Return the address without a slash at its end, and whether a proxy may stand before it."""
    problem = None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        problem = str(error)
    else:
        if parts.scheme not in ("http", "https") or not host:
            problem = "expected http://HOST:PORT or https://HOST:PORT"
        elif parts.username is not None or parts.password is not None:
            # Not shown: it would end up in logs.
            raise RetrieverError(f"the address of the server at {host} has a user name in it: pass token= instead")
        elif parts.query or parts.fragment:
            problem = "expected no query and no fragment"
    if problem is not None:
        raise RetrieverError(f"{url!r} is not the address of a retrieval server: {problem}")
    return url.rstrip("/"), not is_loopback(str(host))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, without asking a name server.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _message(answer: bytes) -> str:
    """Return the server's own words, made safe to print."""
    try:
        detail = json.loads(answer)["detail"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "without a message"
    text = detail if isinstance(detail, str) else json.dumps(detail)
    return text[:_MAX_MESSAGE].encode("unicode_escape").decode()


def _after_fork() -> None:
    # Connections can not be shared by two processes, and a lock may have been held by a thread that is not here.
    for retriever in list(_INSTANCES):
        if retriever._closing is not None:
            retriever._closing.detach()
        retriever._reset()


if os.name == "posix":
    os.register_at_fork(after_in_child=_after_fork)
