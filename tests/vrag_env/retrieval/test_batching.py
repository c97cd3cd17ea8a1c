import math
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from retrieval_serving import Gate, until

from vrag_env.retrieval import Hit, LexicalRetriever
from vrag_env.retrieval.batching import BatcherClosed, MicroBatcher, QueueFull


def batcher_behind_a_shut_gate(**options: Any) -> tuple[Gate, MicroBatcher, Any]:
    """A batcher whose worker is busy with the query "first" until the gate opens."""
    gate = Gate(shut=True)
    batcher = MicroBatcher(gate, **{"max_wait": 0.0, **options})
    first = batcher.submit(["first"], 1)
    until(lambda: len(gate.calls) == 1)
    return gate, batcher, first


def test_answers_are_those_of_the_retriever() -> None:
    gate = Gate()
    batcher = MicroBatcher(gate)
    found = batcher.submit(["ab", "c"], 2).result(60)
    assert found == [[Hit("ab#1", 1 / 3), Hit("ab#2", 1 / 4)], [Hit("c#1", 1 / 2), Hit("c#2", 1 / 3)]]
    batcher.close()


def test_what_waits_together_is_searched_together_in_order() -> None:
    seen: list[tuple[int, int]] = []
    gate, batcher, first = batcher_behind_a_shut_gate(on_batch=lambda r, q, s: seen.append((r, q)))
    futures = [batcher.submit(queries, 3) for queries in (["a"], ["b", "c"], ["d"])]
    assert batcher.depth == 4
    gate.open.set()
    assert [[hits[0].page_id for hits in future.result(60)] for future in futures] == [["a#1"], ["b#1", "c#1"], ["d#1"]]
    assert first.result(60) == [[Hit("first#1", 1 / 6)]]
    assert [queries for queries, _, _ in gate.calls] == [["first"], ["a", "b", "c", "d"]]
    batcher.close()
    assert seen == [(1, 1), (3, 4)]
    assert batcher.depth == 0


def test_only_equal_k_and_where_share_a_call() -> None:
    gate, batcher, _ = batcher_behind_a_shut_gate()
    asked: list[tuple[str, int, list[str] | None]] = [
        ("a", 3, None), ("b", 2, None), ("c", 3, ["x", "y"]), ("d", 3, None), ("e", 3, ["y", "x"]), ("f", 3, []),
    ]  # fmt: skip
    futures = [batcher.submit([query], k, where) for query, k, where in asked]
    gate.open.set()
    for (query, k, _), future in zip(asked, futures, strict=True):
        assert [hit.page_id for hit in future.result(60)[0]] == [f"{query}#{rank}" for rank in range(1, k + 1)]
    assert gate.calls[1:] == [
        (["a", "d"], 3, None),
        (["b"], 2, None),
        (["c", "e"], 3, frozenset("xy")),
        (["f"], 3, frozenset()),
    ]
    batcher.close()


def test_batches_are_bounded_and_a_larger_request_goes_whole() -> None:
    gate, batcher, _ = batcher_behind_a_shut_gate(max_batch=4)
    sizes = [1, 2, 2, 9, 1, 3]
    futures = [batcher.submit(["q"] * size, 1) for size in sizes]
    gate.open.set()
    assert [len(future.result(60)) for future in futures] == sizes
    assert [len(queries) for queries, _, _ in gate.calls] == [1, 3, 2, 9, 4]
    batcher.close()


def test_a_full_queue_turns_away_and_says_for_how_long() -> None:
    gate, batcher, _ = batcher_behind_a_shut_gate(max_queue=3)
    large = batcher.submit(["a"] * 5, 1)  # nothing else waits: it could never be taken otherwise
    with pytest.raises(QueueFull, match="5 queries") as refused:
        batcher.submit(["b"], 1)
    assert refused.value.retry_after == 1  # nothing is known of the speed yet
    gate.open.set()
    assert len(large.result(60)) == 5
    assert batcher.submit(["b"], 1).result(60)
    batcher.close()


def test_the_wait_is_estimated_from_the_speed_so_far() -> None:
    class Slow(Gate):
        def search(self, queries: Any, k: int, where: Any = None) -> Any:
            time.sleep(0.1 * len(queries))
            return super().search(queries, k, where)

    slow = Slow()
    seconds: list[float] = []
    batcher = MicroBatcher(slow, max_queue=25, max_batch=1, max_wait=0, on_batch=lambda r, q, s: seconds.append(s))
    batcher.submit(["a"], 1).result(60)
    slow.open.clear()
    batcher.submit(["b"], 1)
    until(lambda: batcher.depth == 0)
    waiting = [batcher.submit(["c"], 1) for _ in range(25)]
    with pytest.raises(QueueFull) as refused:
        batcher.submit(["d"], 1)
    assert seconds[0] >= 0.1 and refused.value.retry_after == math.ceil(25 * seconds[0])
    for future in waiting:
        future.cancel()
    slow.open.set()
    batcher.close()


def test_one_bad_request_does_not_harm_the_others() -> None:
    gate, batcher, _ = batcher_behind_a_shut_gate()
    futures = [batcher.submit([query], 1) for query in ("a", "poison", "b")]
    gate.open.set()
    assert futures[0].result(60)[0][0].page_id == "a#1" and futures[2].result(60)[0][0].page_id == "b#1"
    with pytest.raises(OSError, match="can not read"):
        futures[1].result(60)
    assert [queries for queries, _, _ in gate.calls[1:]] == [["a", "poison", "b"], ["a"], ["poison"], ["b"]]
    assert batcher.submit(["c"], 1).result(60)  # the worker lives
    batcher.close()


def test_a_retriever_that_loses_a_query_is_an_error() -> None:
    class Forgetful:
        def search(self, queries: Any, k: int, where: Any = None) -> Any:
            return [[]] * (len(queries) - 1)

    batcher = MicroBatcher(Forgetful())
    with pytest.raises(RuntimeError, match="1 lists for 2 queries"):
        batcher.submit(["a", "b"], 1).result(60)
    batcher.close()


def test_a_cancelled_request_is_not_searched() -> None:
    gate, batcher, _ = batcher_behind_a_shut_gate()
    gone, stays = batcher.submit(["gone"], 1), batcher.submit(["stays"], 1)
    assert gone.cancel()
    gate.open.set()
    assert stays.result(60)
    with pytest.raises(CancelledError):
        gone.result(60)
    assert gate.searched() == ["first", "stays"]
    batcher.close()


def after_company(**options: Any) -> tuple[Gate, MicroBatcher]:
    """A batcher whose last batch had two requests."""
    gate, batcher, _ = batcher_behind_a_shut_gate(**options)
    both = [batcher.submit(["x"], 1), batcher.submit(["y"], 1)]
    gate.open.set()
    assert all(future.result(60) for future in both)
    assert gate.calls.pop()[0] == ["x", "y"]
    return gate, batcher


def test_requests_wait_for_company_until_the_batch_is_full() -> None:
    gate, batcher = after_company(max_batch=2, max_wait=10_000)
    one, two = batcher.submit(["a"], 1), batcher.submit(["b"], 1)
    assert one.result(60) and two.result(60)  # full: nothing to wait for
    assert gate.calls[-1][0] == ["a", "b"]
    batcher.close()


def test_requests_wait_no_longer_than_told_and_a_single_caller_not_at_all() -> None:
    gate, batcher = after_company(max_wait=0.5)
    started = time.monotonic()
    assert batcher.submit(["c"], 1).result(60)
    assert time.monotonic() - started >= 0.5
    batcher._max_wait = 10_000
    assert batcher.submit(["d"], 1).result(60)  # nobody came the last time
    assert gate.searched() == ["first", "c", "d"]
    batcher.close()


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    gate, batcher, first = batcher_behind_a_shut_gate()
    waiting = batcher.submit(["a"], 1)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gate.open.set()
    closing.join(60)
    assert not closing.is_alive()
    assert first.result(0) and waiting.result(0)
    with pytest.raises(BatcherClosed):
        batcher.submit(["b"], 1)


@pytest.mark.parametrize("limits", [{"max_batch": 0}, {"max_queue": 0}, {"max_wait": -1}, {"max_wait": float("nan")}])
def test_senseless_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="max_wait at least 0"):
        MicroBatcher(Gate(), **limits)


def test_bad_requests_are_refused_at_once() -> None:
    batcher = MicroBatcher(Gate())
    with pytest.raises(ValueError, match="k must be at least 1"):
        batcher.submit(["a"], 0)
    with pytest.raises(ValueError, match="pass \\['doc'\\]"):
        batcher.submit(["a"], 1, "doc")
    batcher.close()


def test_fifty_threads_get_what_one_gets(tiny_corpus: Any) -> None:
    retriever = LexicalRetriever(tiny_corpus)
    words = ["amber", "report", "north revenue", "portugal", "staff", "nothing at all", "", "olive seasons"]
    asked: list[tuple[list[str], int, list[str] | None]] = [
        ([words[i % 8], words[(i * 3) % 8]], 1 + i % 5, None if i % 3 else ["finance/amber.pdf", "travel/olive.pdf"])
        for i in range(200)
    ]
    alone = [retriever.search(queries, k, where) for queries, k, where in asked]
    batcher = MicroBatcher(retriever, max_wait=0.001)
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda request: batcher.submit(*request).result(100), asked))
    batcher.close()
    assert together == alone
