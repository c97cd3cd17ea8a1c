"""The server when too many ask at once, or hang up."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from retrieval_serving import Gate, serving, until

from vrag_env.retrieval.server import ServeLimits


def test_a_full_queue_is_429_until_it_has_room(tiny_corpus: Any) -> None:
    gate = Gate(shut=True)
    with serving(tiny_corpus, gate, limits=ServeLimits(max_queue=2)) as url, ThreadPoolExecutor(4) as pool:

        def ask(query: str) -> httpx.Response:
            return httpx.post(url + "/search", json={"queries": [query], "k": 1}, trust_env=False, timeout=100)

        running = pool.submit(ask, "first")
        until(lambda: len(gate.calls) == 1)
        waiting = [pool.submit(ask, "second"), pool.submit(ask, "third")]
        until(lambda: "vrag_queue_queries 2.0" in httpx.get(url + "/metrics", trust_env=False, timeout=100).text)
        refused = ask("fourth")
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
        assert "too many queries" in refused.json()["detail"]
        gate.open.set()
        assert [future.result().status_code for future in (running, *waiting)] == [200] * 3
        assert ask("fourth").status_code == 200
        assert (
            'vrag_rejected_total{reason="queue"} 1.0' in httpx.get(url + "/metrics", trust_env=False, timeout=100).text
        )


def test_who_hangs_up_is_not_searched_for(tiny_corpus: Any) -> None:
    gate = Gate(shut=True)
    with serving(tiny_corpus, gate) as url:
        body = {"queries": ["first"], "k": 1}
        thread = threading.Thread(target=lambda: httpx.post(url + "/search", json=body, trust_env=False, timeout=100))
        thread.start()
        until(lambda: len(gate.calls) == 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                url + "/search",
                json={"queries": ["gone"], "k": 1},
                trust_env=False,
                timeout=httpx.Timeout(100, read=0.3),
            )
        until(lambda: 'status="499"' in httpx.get(url + "/metrics", trust_env=False, timeout=100).text)
        gate.open.set()
        thread.join(100)
        httpx.post(url + "/search", json={"queries": ["last"], "k": 1}, trust_env=False, timeout=100)
    assert gate.searched() == ["first", "last"]
