"""JSONClient: asks a server over HTTP for JSON, many requests at once, and lives with what servers do.

Shared by everything that talks to a model behind a server: the judge, the teacher, the player, the sampler.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from vrag_env.errors import ServerError, VRAGError, missing_extra

if TYPE_CHECKING:
    import httpx

MAX_BODY_BYTES = 1 << 20
"""A longer reply is given up, unless the client is told otherwise: what a model writes has some kilobytes."""

_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})  # may work a moment later
_SETUP = frozenset({401, 402, 403, 404, 405})  # wrong for every request alike
_MAX_BACKOFF_SECONDS = 30.0
_SHOWN_CHARS = 200
_UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)

T = TypeVar("T")


class Unanswered(Exception):
    """A request got no usable reply.

    Attributes:
        reason: Why, for people; never shows the key.
        status: The server's last status code; ``None`` if there was none.
        tries: How often it was asked.
    """

    def __init__(self, reason: str, status: int | None = None, tries: int = 1) -> None:
        super().__init__(f"{reason} ({tries} tries)" if tries > 1 else reason)
        self.reason, self.status, self.tries = reason, status, tries


class _Fault(Exception):
    """One attempt without a usable reply; ``after`` is the server's Retry-After in seconds."""

    def __init__(self, reason: str, retry: bool = True, after: float = 0.0, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.after, self.status = reason, retry, after, status


@dataclass(frozen=True)
class Usage:
    """What a client has used since it was made.

    Attributes:
        requests: Requests sent.
        retries: Of these, repetitions after a fault.
        prompt_tokens: Tokens read, where the server tells.
        completion_tokens: Tokens written, where the server tells.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def cost(self, prompt_price: float, completion_price: float) -> float:
        """Return what the tokens cost.

        Args:
            prompt_price: Price of a million tokens read.
            completion_price: Price of a million tokens written.
        """
        return (self.prompt_tokens * prompt_price + self.completion_tokens * completion_price) / 1e6


@dataclass(frozen=True, repr=False)
class APIKey:
    """An API key that never shows itself: not in ``repr``, not in a pickle.

    Attributes:
        value: The key; ``None`` where there is none.
        variable: The environment variable that it is read from, also in another process.
    """

    value: str | None
    variable: str

    def __repr__(self) -> str:
        return "<no key>" if self.value is None else "<hidden>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _key_from, (None, self.variable, VRAGError)  # another process reads its own environment


def _key_from(given: str | None, variable: str, error: type[VRAGError]) -> APIKey:
    value = given if given is not None else os.environ.get(variable)
    value = value.strip() if value is not None else None
    if value is not None and (not value.isascii() or not value.isprintable() or " " in value):
        raise error(f"the API key (api_key= or ${variable}) holds blanks or characters that no key has")
    return APIKey(value or None, variable)


class JSONClient:
    """Asks one server, with bounded concurrency and bounded patience.

    A reply that is late, cut off or unusable, a lost connection, and the codes 408, 409, 425, 429 and most of
    5xx are tried again, after a pause that doubles (with jitter), or as long as the server's ``Retry-After``
    says, which holds back all requests of this client. A wrong key or address (401 to 405, a redirection) is an
    error at once.

    It may be used from several threads, pickled, and used on in a forked process: each process has connections
    of its own. The key goes into the header of the requests and nowhere else: not into ``repr``, errors, logs
    or a pickle.

    Args:
        base_url: Address in front of every path.
        api_key: The key; by default the environment variable, if it is set.
        api_key_variable: Name of that variable; one of its own for each use, so that a key for one server never
            goes to another.
        concurrency: Most requests at once.
        timeout: Seconds for one request, from connecting to the last byte.
        max_retries: Repetitions of a failed request.
        backoff: Seconds before the first repetition.
        max_wait: Longest pause in seconds; a longer ``Retry-After`` is shortened to it.
        max_body_bytes: A longer reply is a fault.
        error: Class of the errors that it raises about arguments and set-up.

    Raises:
        DependencyError: If httpx is not installed (extra ``serve``).
        VRAGError: Of class ``error``, if an argument does not fit.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        api_key_variable: str,
        concurrency: int = 16,
        timeout: float = 60.0,
        max_retries: int = 5,
        backoff: float = 0.5,
        max_wait: float = 60.0,
        max_body_bytes: int = MAX_BODY_BYTES,
        error: type[VRAGError] = ServerError,
    ) -> None:
        _import_httpx()
        self.error = error
        self.base_url = _check_url(base_url, error)
        for name, value, least in (("concurrency", concurrency, 1), ("max_retries", max_retries, 0)):
            if value < least:
                raise error(f"{name} must be at least {least}, got {value}")
        for name, seconds in (("timeout", timeout), ("max_wait", max_wait), ("backoff", backoff)):
            if not 0 < seconds < float("inf"):
                raise error(f"{name} must be a number of seconds above 0, got {seconds}")
        self.concurrency, self.timeout, self.max_retries = concurrency, timeout, max_retries
        self.backoff, self.max_wait, self.max_body_bytes = backoff, max_wait, max_body_bytes
        self._key = _key_from(api_key, api_key_variable, error)
        self._counts = {"requests": 0, "retries": 0, "prompt_tokens": 0, "completion_tokens": 0}
        self._start()

    def _start(self) -> None:
        """Make what belongs to one process."""
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._process = os.getpid()
        self._slots = threading.BoundedSemaphore(self.concurrency)
        self._resume_at = 0.0

    def close(self) -> None:
        """Close the connections; the client can still be used and then opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_lock", "_client", "_slots", "_resume_at", "_process")
        return {name: value for name, value in self.__dict__.items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    # ------------------------------------------------------------------ what can be asked of it

    @property
    def usage(self) -> Usage:
        """The counters as they are now."""
        with self._lock:
            return Usage(**self._counts)

    def post(
        self,
        path: str,
        body: Any,
        read: Callable[[bytes], T],
        what: str = "what was asked for",
        stop: threading.Event | None = None,
    ) -> T:
        """Send a request, again and again if need be.

        Args:
            path: Path behind ``base_url``, with its leading slash.
            body: What is sent, as JSON.
            read: Makes the result out of the body of a reply; a ``ValueError``, ``TypeError`` or failed look-up
                in it means that the reply is unusable.
            what: What a usable reply is, for the message about one that is not.
            stop: Once set, nothing is sent or waited for any more; set by an error that concerns all requests.

        Returns:
            What ``read`` returns.

        Raises:
            Unanswered: If all tries failed, the server refused this request, or ``stop`` was set.
            VRAGError: Of class ``error``, if key or address are wrong.
        """
        stop = stop if stop is not None else threading.Event()
        content = json.dumps(body).encode("ascii")
        faults = 0
        while True:
            try:
                return self._attempt(path, content, read, what, stop)
            except _Fault as fault:
                if not fault.retry or faults >= self.max_retries or stop.is_set():
                    raise Unanswered(fault.reason, fault.status, faults + 1) from None
                stop.wait(self._pause(faults, fault.after))
                faults += 1
                self._count(retries=1)

    def quote(self, text: str) -> str:
        """Show the beginning of a text from outside, without the key if the server sent it back."""
        if self._key.value is not None:
            text = text.replace(self._key.value, "<key>")
        return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")

    # ------------------------------------------------------------------ private

    def _count(self, **increments: int) -> None:
        with self._lock:
            for name, value in increments.items():
                self._counts[name] += value

    def _pause(self, faults: int, after: float) -> float:
        """Return the seconds before the next try; a Retry-After holds back this and all other requests instead."""
        if after > 0:
            with self._lock:
                self._resume_at = max(self._resume_at, time.monotonic() + min(after, self.max_wait))
            return 0.0
        pause = min(self.backoff * 2.0**faults, _MAX_BACKOFF_SECONDS, self.max_wait)
        return pause * random.uniform(0.5, 1.0)

    def _attempt(self, path: str, content: bytes, read: Callable[[bytes], T], what: str, stop: threading.Event) -> T:
        with self._slots:  # the wait for a slot does not count as time of the request
            held = self._resume_at - time.monotonic()
            if held > 0:
                stop.wait(held)
            if stop.is_set():
                raise _Fault("another request of the batch failed for good", retry=False)
            self._count(requests=1)
            status, headers, body = self._send(path, content)
        if status == 200:
            try:
                return read(body)
            except _UNREADABLE:
                raise _Fault(f"the reply is not {what}: {self.quote(body.decode('utf-8', 'replace'))}") from None
        reason = f"the server answered {status} {self.quote(body.decode('utf-8', 'replace'))}"
        if status in _SETUP or 300 <= status < 400:
            stop.set()
            remedy = {
                401: f"set ${self._key.variable} or api_key=",
                404: "check the model's name, and what base_url ends with",
            }.get(status, "check base_url, model and key")
            raise self.error(f"{self!r}: {reason}: {remedy}")
        raise _Fault(reason, status in _BUSY, _retry_after(headers.get("retry-after", "")), status)

    def _send(self, path: str, content: bytes) -> tuple[int, Mapping[str, str], bytes]:
        httpx = _import_httpx()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self._key.value is not None:
            headers["Authorization"] = f"Bearer {self._key.value}"
        end = time.monotonic() + self.timeout
        parts: list[bytes] = []
        size = 0
        try:
            with self._connection().stream(
                "POST", f"{self.base_url}{path}", content=content, headers=headers
            ) as response:
                for part in response.iter_bytes():
                    size += len(part)
                    if size > self.max_body_bytes:
                        raise _Fault(f"the reply is longer than {self.max_body_bytes} bytes")
                    if time.monotonic() > end:
                        raise _Fault(f"the reply was not complete after {self.timeout:g} seconds")
                    parts.append(part)
                return response.status_code, response.headers, b"".join(parts)
        except httpx.TimeoutException as error:
            raise _Fault(f"no reply within {self.timeout:g} seconds ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise _Fault(f"{type(error).__name__}: {self.quote(str(error))}") from None

    def _connection(self) -> httpx.Client:
        with self._lock:
            if self._process != os.getpid():  # forked: sockets shared with the parent would mix up replies
                self._client, self._process = None, os.getpid()
            if self._client is None:
                httpx = _import_httpx()
                limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
                self._client = httpx.Client(timeout=self.timeout, limits=limits)
            return self._client


def _check_url(base_url: str, error: type[VRAGError]) -> str:
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (ValueError, AttributeError, TypeError):
        fits = False
    if not fits:
        raise error('base_url must be an address such as "http://localhost:8000/v1"')  # may hold a password
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise error("base_url must not hold a user, a password, a query or a fragment; the key is api_key=")
    return base_url.rstrip("/")


def _retry_after(value: str) -> float:
    """Read a Retry-After header: seconds, or a date; 0 if it is neither."""
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return seconds if 0 < seconds < float("inf") else 0.0
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _import_httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise missing_extra("httpx", "serve") from error
    return httpx
