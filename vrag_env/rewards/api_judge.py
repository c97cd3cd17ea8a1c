"""APIJudge: asks any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, Ollama, hosted APIs."""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vrag_env.errors import JudgeError, missing_extra
from vrag_env.rewards.cache import VerdictCache
from vrag_env.rewards.model_judge import Keep, ModelJudge, Outcome
from vrag_env.rewards.verdicts import REMINDER, Prompt, read_verdict

if TYPE_CHECKING:
    import httpx

API_KEY_VARIABLE = "VRAG_JUDGE_API_KEY"
"""Environment variable of the key; a name of its own, so that a key for one server never goes to another."""
MAX_BODY_BYTES = 1 << 20
"""A longer reply is given up: a verdict has a few bytes."""

_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})  # may work a moment later
_SETUP = frozenset({401, 402, 403, 404, 405})  # wrong for every item alike
_MAX_BACKOFF_SECONDS = 30.0
_SHOWN_CHARS = 200
_RESERVED = ("model", "messages", "stream", "n")


class _Fault(Exception):
    """A request without a usable reply; ``after`` is the server's Retry-After in seconds."""

    def __init__(self, reason: str, retry: bool = True, after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.after = reason, retry, after


@dataclass(frozen=True)
class _Reply:
    """What a model wrote, and whether it came to the end of its tokens."""

    text: str
    cut_off: bool


@dataclass(frozen=True, repr=False)
class _Key:
    """An API key that never shows itself: not in ``repr``, not in a pickle."""

    value: str | None
    variable: str

    def __repr__(self) -> str:
        return "<no key>" if self.value is None else "<hidden>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _key_from, (None, self.variable)  # another process reads its own environment


def _key_from(given: str | None, variable: str) -> _Key:
    value = given if given is not None else os.environ.get(variable)
    value = value.strip() if value is not None else None
    if value is not None and (not value.isascii() or not value.isprintable() or " " in value):
        raise JudgeError(f"the API key (api_key= or ${variable}) holds blanks or characters that no key has")
    return _Key(value or None, variable)


class APIJudge(ModelJudge):
    """Judges by asking a model behind HTTP, many answers at once.

    A reply that is late, cut off or no JSON, a lost connection, and the codes 408, 409, 425, 429 and most of
    5xx are tried again, after a pause that doubles (with jitter), or as long as the server's ``Retry-After``
    says, which holds back all requests of this judge. A reply without a verdict is asked for once more, with a
    reminder. What still has no verdict is handled as ``on_error`` says. A wrong key, URL or model (401 to 405)
    is an error at once, whatever ``on_error`` says.

    The key goes into the header of the requests and nowhere else: not into ``repr``, errors, logs, the cache
    or a pickle; a judge that is sent to another process reads the environment variable there.

    Args:
        base_url: Address up to before ``/chat/completions``, such as ``"http://localhost:8000/v1"``.
        model: The model's name there.
        api_key: The key; by default the environment variable, if it is set.
        api_key_variable: Name of that variable.
        concurrency: Most requests at once.
        timeout: Seconds for one request, from connecting to the last byte.
        max_retries: Repetitions of a failed request.
        backoff: Seconds before the first repetition.
        max_wait: Longest pause in seconds; a longer ``Retry-After`` is shortened to it.
        max_tokens: Most tokens of a reply; a model that thinks first needs more.
        parameters: Further fields of the request, which replace the defaults ``temperature=0`` and
            ``max_tokens``; ``None`` as a value leaves a field out.
        cache: File of verdicts, see :class:`~vrag_env.rewards.cache.VerdictCache`.
        on_error: ``"raise"`` or ``"zero"``, see :class:`~vrag_env.rewards.model_judge.ModelJudge`.
        max_failures_in_a_row: See :class:`~vrag_env.rewards.model_judge.ModelJudge`.

    Raises:
        DependencyError: If httpx is not installed (extra ``serve``).
        JudgeError: If an argument does not fit.

    Example:
        >>> judge = APIJudge("http://localhost:8000/v1", "Qwen/Qwen2.5-7B-Instruct")  # doctest: +SKIP
        >>> env = gym.make("VRAG-v0", reward="paper", judge=judge)  # doctest: +SKIP
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        api_key_variable: str = API_KEY_VARIABLE,
        concurrency: int = 16,
        timeout: float = 60.0,
        max_retries: int = 5,
        backoff: float = 0.5,
        max_wait: float = 60.0,
        max_tokens: int = 1024,
        parameters: Mapping[str, Any] | None = None,
        cache: str | Path | VerdictCache | None = None,
        on_error: str = "raise",
        max_failures_in_a_row: int = 64,
    ) -> None:
        if not isinstance(model, str) or not model.strip():
            raise JudgeError(f"the judge needs the name of a model, got {model!r}")
        super().__init__(f"api:{model}", cache=cache, on_error=on_error, max_failures_in_a_row=max_failures_in_a_row)
        _import_httpx()
        self.base_url = _check_url(base_url)
        self.model = model
        for name, value, least in (("concurrency", concurrency, 1), ("max_retries", max_retries, 0)):
            if value < least:
                raise JudgeError(f"{name} must be at least {least}, got {value}")
        for name, seconds in (("timeout", timeout), ("max_wait", max_wait), ("backoff", backoff)):
            if not 0 < seconds < float("inf"):
                raise JudgeError(f"{name} must be a number of seconds above 0, got {seconds}")
        wrong = sorted(set(parameters or {}) & set(_RESERVED))
        if wrong:
            raise JudgeError(f"parameters can not hold {', '.join(wrong)}: the judge sets them")
        self.concurrency, self.timeout, self.max_retries = concurrency, timeout, max_retries
        self.backoff, self.max_wait = backoff, max_wait
        fields = {"temperature": 0, "max_tokens": max_tokens, **(parameters or {})}
        self.parameters = {name: value for name, value in fields.items() if value is not None}
        try:
            json.dumps(self.parameters)
        except (TypeError, ValueError) as error:
            raise JudgeError(f"parameters must be something that JSON can hold: {error}") from error
        self._key = _key_from(api_key, api_key_variable)
        self._start()

    def _start(self) -> None:
        """Make what belongs to one process."""
        self._client: httpx.Client | None = None
        self._process = os.getpid()
        self._slots = threading.BoundedSemaphore(self.concurrency)
        self._resume_at = 0.0

    def close(self) -> None:
        """Close the connections; the judge can still be used and then opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __repr__(self) -> str:
        return f"APIJudge(base_url={self.base_url!r}, model={self.model!r}, on_error={self.on_error!r})"

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_client", "_slots", "_resume_at", "_process")
        return {name: value for name, value in super().__getstate__().items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start()

    # ------------------------------------------------------------------ asking

    def _settings(self) -> Any:
        return self.parameters

    def _ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        stop = threading.Event()
        with ThreadPoolExecutor(min(self.concurrency, len(prompts)), "vrag-judge") as pool:
            positions = {pool.submit(self._ask_one, prompt, stop): index for index, prompt in enumerate(prompts)}
            try:
                for future in as_completed(positions):
                    keep(positions[future], future.result())
            except BaseException:
                stop.set()
                for future in positions:
                    future.cancel()
                raise

    def _ask_one(self, prompt: Prompt, stop: threading.Event) -> Outcome:
        messages = [*prompt.messages]
        faults = 0
        reminded = False
        while True:
            try:
                reply = self._request(messages, stop)
            except _Fault as fault:
                if not fault.retry or faults >= self.max_retries or stop.is_set():
                    tries = f" ({faults + 1} tries)" if faults else ""
                    return Outcome(None, f"{fault.reason}{tries}", replied=False)
                stop.wait(self._pause(faults, fault.after))
                faults += 1
                self._count(retries=1)
                continue
            verdict = read_verdict(reply.text)
            if verdict is not None:
                return Outcome(verdict)
            if reminded or stop.is_set():
                cut = " (cut off: raise max_tokens)" if reply.cut_off else ""
                return Outcome(None, f"no single verdict in the reply {self._quote(reply.text)}{cut}")
            reminded = True
            if reply.text.strip():
                messages.append({"role": "assistant", "content": reply.text[:2000]})
                messages.append({"role": "user", "content": REMINDER})
            self._count(retries=1)

    def _pause(self, faults: int, after: float) -> float:
        """Return the seconds before the next try; a Retry-After holds back this and all other requests instead."""
        if after > 0:
            with self._lock:
                self._resume_at = max(self._resume_at, time.monotonic() + min(after, self.max_wait))
            return 0.0
        pause = min(self.backoff * 2.0**faults, _MAX_BACKOFF_SECONDS, self.max_wait)
        return pause * random.uniform(0.5, 1.0)

    def _request(self, messages: Sequence[Mapping[str, str]], stop: threading.Event) -> _Reply:
        """Send one request and return what the model wrote."""
        with self._slots:  # the wait for a slot does not count as time of the request
            held = self._resume_at - time.monotonic()
            if held > 0:
                stop.wait(held)
            if stop.is_set():
                raise _Fault("another request of the batch failed for good", retry=False)
            self._count(calls=1)
            status, headers, body = self._post({"model": self.model, "messages": list(messages), **self.parameters})
        if status == 200:
            return self._read(body)
        reason = f"the server answered {status} {self._quote(body.decode('utf-8', 'replace'))}"
        if status in _SETUP or 300 <= status < 400:
            stop.set()
            remedy = {
                401: f"set ${self._key.variable} or api_key=",
                404: "check the model's name, and that base_url ends before /chat/completions",
            }.get(status, "check base_url, model and key")
            raise JudgeError(f"{self!r}: {reason}: {remedy}")
        raise _Fault(reason, status in _BUSY, _retry_after(headers.get("retry-after", "")))

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        httpx = _import_httpx()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self._key.value is not None:
            headers["Authorization"] = f"Bearer {self._key.value}"
        end = time.monotonic() + self.timeout
        content = json.dumps(body).encode("ascii")
        parts: list[bytes] = []
        size = 0
        try:
            with self._connection().stream(
                "POST", f"{self.base_url}/chat/completions", content=content, headers=headers
            ) as response:
                for part in response.iter_bytes():
                    size += len(part)
                    if size > MAX_BODY_BYTES:
                        raise _Fault(f"the reply is longer than {MAX_BODY_BYTES} bytes")
                    if time.monotonic() > end:
                        raise _Fault(f"the reply was not complete after {self.timeout:g} seconds")
                    parts.append(part)
                return response.status_code, response.headers, b"".join(parts)
        except httpx.TimeoutException as error:
            raise _Fault(f"no reply within {self.timeout:g} seconds ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise _Fault(f"{type(error).__name__}: {self._quote(str(error))}") from None

    def _connection(self) -> httpx.Client:
        with self._lock:
            if self._process != os.getpid():  # forked: sockets shared with the parent would mix up replies
                self._client, self._process = None, os.getpid()
            if self._client is None:
                httpx = _import_httpx()
                limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
                self._client = httpx.Client(timeout=self.timeout, limits=limits)
            return self._client

    def _read(self, body: bytes) -> _Reply:
        """Take the text out of a reply, and count its tokens."""
        try:
            reply = json.loads(body)
            choice = reply["choices"][0]
            content, cut_off = choice["message"]["content"], choice.get("finish_reason") == "length"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise _Fault(f"the reply is no chat completion: {self._quote(body.decode('utf-8', 'replace'))}") from None
        usage = reply.get("usage")
        if isinstance(usage, dict):
            tokens = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
            self._count(**{name: value for name, value in tokens.items() if type(value) is int and value >= 0})
        # null: the model refused, called a tool, or came to the end of its tokens while it thought.
        return _Reply(content if isinstance(content, str) else "", cut_off)

    def _quote(self, text: str) -> str:
        """Show the beginning of a text from outside, without the key if the server sent it back."""
        if self._key.value is not None:
            text = text.replace(self._key.value, "<key>")
        return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _check_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (ValueError, AttributeError, TypeError):
        fits = False
    if not fits:
        raise JudgeError('base_url must be an address such as "http://localhost:8000/v1"')  # may hold a password
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise JudgeError("base_url must not hold a user, a password, a query or a fragment; the key is api_key=")
    url = base_url.rstrip("/")
    return url.removesuffix("/chat/completions")


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
