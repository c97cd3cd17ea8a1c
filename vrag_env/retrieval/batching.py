"""Micro-batching: many callers, one thread that searches for all of them at once.

A retriever on a GPU answers 32 queries in little more time than one, and none of the retrievers has to bear
several threads. So callers hand in requests, and one worker gathers what has come in within a short while.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from vrag_env.retrieval.base import Hit, Retriever
from vrag_env.retrieval.queries import check_request

_LOG = logging.getLogger(__name__)
_MAX_RETRY_AFTER = 30  # seconds
_SMOOTHING = 0.2  # weight of the newest batch in the estimate of the time per query

Answer = list[list[Hit]]


class QueueFull(Exception):
    """Too many queries are waiting.

    Attributes:
        retry_after: Whole seconds after which the queue should have room again, at least 1.
    """

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} queries are waiting already")
        self.retry_after = retry_after


class BatcherClosed(Exception):
    """The batcher was closed and takes no more requests."""


@dataclass(frozen=True)
class _Request:
    queries: tuple[str, ...]
    k: int
    where: frozenset[str] | None
    arrived: float
    future: Future[Answer] = field(default_factory=Future)


class MicroBatcher:
    """Merges the requests of many threads into few calls of a retriever.

    Requests are served in the order of arrival. Only requests with the same ``k`` and ``where`` share a call,
    so that each gets what it would have got alone. Where a shared call fails, its requests are tried one by
    one, and only those that fail again get the error.

    Args:
        retriever: Called from one thread of the batcher's own, and from no other.
        max_batch: Most queries of one call; a larger request goes alone and whole.
        max_wait: Longest time in seconds that a request waits for company. Time spent waiting for the call
            before counts, so that nothing waits under load; and after a request that was alone in its batch the
            next one does not wait, so that a single caller is not slowed down.
        max_queue: Most waiting queries; a larger request is taken only if nothing else waits.
        on_batch: Told after every call: number of requests, number of queries, seconds.

    Raises:
        ValueError: If a limit is out of range.

    Example:
        >>> batcher = MicroBatcher(retriever)  # doctest: +SKIP
        >>> [hits] = batcher.submit(["revenue by region"], k=10).result()  # doctest: +SKIP
    """

    def __init__(
        self,
        retriever: Retriever,
        *,
        max_batch: int = 64,
        max_wait: float = 0.002,
        max_queue: int = 1024,
        on_batch: Callable[[int, int, float], None] | None = None,
    ) -> None:
        if max_batch < 1 or max_queue < 1 or not 0 <= max_wait < math.inf:
            raise ValueError(
                "max_batch and max_queue must be at least 1 and max_wait at least 0, "
                f"got {max_batch}, {max_queue}, {max_wait}"
            )
        self._retriever = retriever
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._max_queue = max_queue
        self._on_batch = on_batch
        self._waiting: deque[_Request] = deque()
        self._depth = 0
        self._closed = False
        self._company = False  # whether the last batch had several requests
        self._seconds_per_query: float | None = None
        self._changed = threading.Condition()
        # A daemon: a retriever that hangs must not keep the process from ending.
        self._worker = threading.Thread(target=self._run, name="vrag-search", daemon=True)
        self._worker.start()

    @property
    def depth(self) -> int:
        """Number of queries that wait."""
        return self._depth

    def submit(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> Future[Answer]:
        """Hand in a request; see :meth:`vrag_env.retrieval.base.Retriever.search` for the arguments.

        Returns:
            The future of the answer. Cancelling it before its turn takes the request out.

        Raises:
            QueueFull: If too many queries are waiting.
            BatcherClosed: After :meth:`close`.
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
        """
        check_request(k, where)
        request = _Request(tuple(queries), k, None if where is None else frozenset(where), time.monotonic())
        with self._changed:
            if self._closed:
                raise BatcherClosed("the batcher is closed")
            if self._waiting and self._depth + len(request.queries) > self._max_queue:
                seconds = math.ceil(self._depth * (self._seconds_per_query or 0.0))
                raise QueueFull(self._depth, min(max(seconds, 1), _MAX_RETRY_AFTER))
            self._waiting.append(request)
            self._depth += len(request.queries)
            self._changed.notify()
        return request.future

    def close(self, timeout: float | None = 10.0) -> None:
        """Take no more requests, answer those that wait, and end the worker.

        Args:
            timeout: Longest wait for the worker in seconds; ``None`` waits for ever.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join(timeout)

    def _run(self) -> None:
        while batch := self._next_batch():
            groups: dict[tuple[int, frozenset[str] | None], list[_Request]] = {}
            for request in batch:
                if request.future.set_running_or_notify_cancel():
                    groups.setdefault((request.k, request.where), []).append(request)
            for group in groups.values():
                self._serve(group)

    def _next_batch(self) -> list[_Request]:
        """Wait for requests and take as many as fit; none means that the batcher was closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return []
            deadline = self._waiting[0].arrived + (self._max_wait if self._company else 0.0)
            while self._depth < self._max_batch and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch: list[_Request] = []
            size = 0
            while self._waiting and (not batch or size + len(self._waiting[0].queries) <= self._max_batch):
                batch.append(self._waiting.popleft())
                size += len(batch[-1].queries)
            self._depth -= size
            self._company = len(batch) > 1
            return batch

    def _serve(self, group: list[_Request]) -> None:
        try:
            answers = self._search(group)
        except Exception as error:
            if len(group) > 1:
                _LOG.warning("a shared call failed (%s); its %d requests are tried alone", error, len(group))
                for request in group:
                    self._serve([request])
            else:
                group[0].future.set_exception(error)
            return
        for request, answer in zip(group, answers, strict=True):
            request.future.set_result(answer)

    def _search(self, group: list[_Request]) -> list[Answer]:
        queries = [query for request in group for query in request.queries]
        started = time.perf_counter()
        found = self._retriever.search(queries, group[0].k, group[0].where)
        seconds = time.perf_counter() - started
        if len(found) != len(queries):
            raise RuntimeError(f"the retriever gave {len(found)} lists for {len(queries)} queries")
        newest = seconds / max(len(queries), 1)
        before = newest if self._seconds_per_query is None else self._seconds_per_query
        self._seconds_per_query = before + _SMOOTHING * (newest - before)
        if self._on_batch is not None:
            self._on_batch(len(group), len(queries), seconds)
        answers, start = [], 0
        for request in group:
            answers.append(found[start : start + len(request.queries)])
            start += len(request.queries)
        return answers
