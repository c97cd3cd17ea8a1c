"""Bounded caches: the same few pages, queries and views come back in many episodes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Generic, TypeVar

from vrag_env.retrieval import Hit, Retriever

Value = TypeVar("Value")


class LRU(Generic[Value]):
    """Keeps the values used last; may be used from several threads.

    Args:
        size: Most values that are kept, at least 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a cache holds at least 1 value, got size={size}")
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made by ``make`` if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()  # not under the lock: it may take long, and another thread can make the same meanwhile
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._size:
                self._values.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._values)


class CachedRetriever:
    """A retriever that remembers its answers; right for a pinned corpus, whose pages never change.

    Args:
        retriever: Who is asked what is not remembered.
        size: Answers kept.
    """

    def __init__(self, retriever: Retriever, size: int = 1_024) -> None:
        self.retriever = retriever
        self._answers: LRU[tuple[Hit, ...]] = LRU(size)

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages; see :meth:`vrag_env.retrieval.base.Retriever.search`."""
        scope = None if where is None else tuple(sorted(where))

        def ask(query: str) -> list[Hit]:
            return list(
                self._answers.get((query, k, scope), lambda: tuple(self.retriever.search([query], k, where)[0]))
            )

        return [ask(query) for query in queries]
