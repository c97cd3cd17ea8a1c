import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from retrieval_serving import Gate, serving, until

from vrag_env.retrieval import LexicalRetriever
from vrag_env.retrieval import server as server_module
from vrag_env.retrieval.server import FINGERPRINT_HEADER, ServeLimits
from vrag_env.views import cut

PAGE = "finance/amber.pdf#1"
IMAGE = f"/pages/{quote(PAGE)}/image"


@pytest.fixture(scope="module")
def retriever(tiny_corpus: Any) -> LexicalRetriever:
    return LexicalRetriever(tiny_corpus)


@pytest.fixture(scope="module")
def client(tiny_corpus: Any, retriever: LexicalRetriever) -> Iterator[httpx.Client]:
    """A client of a server with the default limits."""
    with serving(tiny_corpus, retriever, name="lexical") as url, httpx.Client(base_url=url, trust_env=False) as http:
        yield http


def detail(answer: httpx.Response) -> str:
    text = answer.json()["detail"]
    assert isinstance(text, str)
    return text


def picture(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


# ---------------------------------------------------------------------- search


@pytest.mark.parametrize("where", [None, [], ["finance/amber.pdf"], ["no such document", "it's; DROP", "\x00"]])
def test_search_is_exact(client: httpx.Client, retriever: LexicalRetriever, where: list[str] | None) -> None:
    queries = ["amber report", "north revenue", "", "zzz", "北 \ud83d\x00", "report"]
    answer = client.post("/search", content=json.dumps({"queries": queries, "k": 3, "where": where}))
    assert answer.status_code == 200
    found = [[(hit["page_id"], hit["score"]) for hit in hits] for hits in answer.json()["results"]]
    assert found == [[(hit.page_id, hit.score) for hit in hits] for hits in retriever.search(queries, 3, where)]
    assert any(found) == (where is None or "finance/amber.pdf" in where)


def test_search_names_the_corpus_and_has_defaults(client: httpx.Client, tiny_corpus: Any) -> None:
    answer = client.post("/search", json={"queries": ["report"]})
    assert answer.headers[FINGERPRINT_HEADER] == tiny_corpus.fingerprint
    assert len(answer.json()["results"][0]) == 8  # k is 10, all 8 pages have the word
    assert client.post("/search", json={"queries": []}).json() == {"results": []}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "body: expected JSON"),
        (b"{", 422, "body: expected JSON"),
        (b"\xff\xfe", 422, "body: expected JSON"),
        (b"[" * 100_000, 422, "body: expected JSON"),
        (b'{"queries": ["a"], "k": ' + b"9" * 5000 + b"}", 422, "body: expected JSON"),
        (b"[]", 422, "body: expected an object"),
        (b"{}", 422, "body: expected an object"),
        (b'{"queries": "a"}', 422, "queries: expected a list"),
        (b'{"queries": null}', 422, "queries: expected a list"),
        (b'{"queries": ["a", 1]}', 422, "queries[1]: expected a text"),
        (json.dumps({"queries": ["a", "b" * 4097]}).encode(), 413, "queries[1]: at most 4096 characters, got 4097"),
        (json.dumps({"queries": ["a"] * 129}).encode(), 413, "queries: at most 128 in one request, got 129"),
        (b'{"queries": ["a"], "k": 0}', 422, "k: expected a whole number from 1 to 1000"),
        (b'{"queries": ["a"], "k": 1001}', 422, "k: expected"),
        (b'{"queries": ["a"], "k": true}', 422, "k: expected"),
        (b'{"queries": ["a"], "k": 2.0}', 422, "k: expected"),
        (b'{"queries": ["a"], "k": NaN}', 422, "k: expected"),
        (b'{"queries": ["a"], "k": "3"}', 422, "k: expected"),
        (b'{"queries": ["a"], "where": "finance/amber.pdf"}', 422, "where: expected a list"),
        (b'{"queries": ["a"], "where": [1]}', 422, "where: expected a list"),
        (b'{"queries": ["a"], "top_k": 3}', 422, "'top_k': no such field; known are queries, k and where"),
    ],
)
def test_bad_requests_name_the_field(client: httpx.Client, body: bytes, status: int, message: str) -> None:
    answer = client.post("/search", content=body)
    assert (answer.status_code, detail(answer)[: len(message)]) == (status, message)


def test_limits_are_inclusive(client: httpx.Client) -> None:
    answer = client.post("/search", json={"queries": ["x" * 4096] * 128, "k": 1000})
    assert answer.status_code == 200 and len(answer.json()["results"]) == 128


def test_large_bodies_are_refused_before_they_are_read(tiny_corpus: Any) -> None:
    limits = ServeLimits(max_queries=2, max_query_chars=10)
    assert limits.max_body == 2 * 10 * 12 + 2**20
    with serving(tiny_corpus, Gate(), limits=limits) as url:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        for length in (b"2000000", b"9" * 19):  # announced: refused without a byte of it
            with socket.create_connection((host, port)) as raw:
                raw.sendall(b"POST /search HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b"\r\n\r\n")
                assert raw.recv(100).startswith(b"HTTP/1.1 413")
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            while sent < 200 * 2**20:
                sent += 2**16
                yield b" " * 2**16

        with suppress(httpx.NetworkError):  # not announced: refused once there is too much, by hanging up
            answer = httpx.post(url + "/search", content=endless(), trust_env=False, timeout=100)
            assert answer.status_code == 413 and detail(answer).startswith("body: at most")
        assert sent < 50 * 2**20
        assert httpx.post(url + "/search", json={"queries": ["a"]}, trust_env=False, timeout=100).status_code == 200
        metrics = httpx.get(url + "/metrics", trust_env=False, timeout=100).text
        assert 'vrag_rejected_total{reason="body"} 3.0' in metrics


def test_fifty_clients_get_what_one_gets(client: httpx.Client, retriever: LexicalRetriever) -> None:
    words = ["amber", "report", "north revenue", "portugal", "staff", "nothing", "", "olive seasons"]
    asked = [
        {"queries": [words[i % 8], words[(i * 3) % 8]], "k": 1 + i % 5, "where": [None, ["travel/olive.pdf"]][i % 2]}
        for i in range(150)
    ]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda body: client.post("/search", json=body).json()["results"], asked))
    for body, results in zip(asked, together, strict=True):
        alone: Any = retriever.search(**body)  # type: ignore[arg-type]  # the values differ in type
        assert results == [[{"page_id": hit.page_id, "score": hit.score} for hit in hits] for hits in alone]


def test_a_failing_retriever_is_a_plain_500_and_harms_nobody_else(tiny_corpus: Any) -> None:
    gate = Gate(shut=True)
    with serving(tiny_corpus, gate) as url, ThreadPoolExecutor(4) as pool:

        def ask(query: str) -> httpx.Response:
            return httpx.post(url + "/search", json={"queries": [query], "k": 1}, trust_env=False, timeout=100)

        first = pool.submit(ask, "first")
        until(lambda: len(gate.calls) == 1)
        rest = [pool.submit(ask, query) for query in ("a", "poison", "b")]
        until(lambda: "vrag_queue_queries 3.0" in httpx.get(url + "/metrics", trust_env=False, timeout=100).text)
        gate.open.set()
        answers = [future.result() for future in (first, *rest)]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert detail(answers[2]) == "the retriever failed; the server's log says why"
    assert sorted(gate.calls[1][0]) == ["a", "b", "poison"]


def test_scores_that_are_no_numbers_are_not_sent(tiny_corpus: Any) -> None:
    from vrag_env.retrieval import Hit

    class Odd:
        def search(self, queries: Any, k: int, where: Any = None) -> Any:
            return [[Hit(PAGE, float("nan"))] for _ in queries]

    with serving(tiny_corpus, Odd()) as url:
        answer = httpx.post(url + "/search", json={"queries": ["a"]}, trust_env=False, timeout=100)
    assert answer.status_code == 500 and "nan" not in answer.text.lower() and "Traceback" not in answer.text


# ---------------------------------------------------------------------- who may ask


def test_the_token(tiny_corpus: Any) -> None:
    with serving(tiny_corpus, Gate(), token="s3cret") as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert http.get("/health").status_code == 200
        strange: list[dict[Any, Any]] = [
            {}, {"Authorization": "s3cret"}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Bearer s3cret "},
            {"Authorization": "Basic s3cret"}, {b"Authorization": b"Bearer \xff\xfe"},
        ]  # fmt: skip
        for headers in strange[:3] + strange[4:]:
            for method, path in (("POST", "/search"), ("GET", "/search"), ("GET", IMAGE), ("GET", "/metrics")):
                answer = http.request(method, path, headers=headers)
                assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
                assert "s3cret" not in answer.text
            assert http.get("/nowhere", headers=headers).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert http.get(IMAGE, headers=right).status_code == 200
        assert http.post("/search", headers=right, json={"queries": ["a"]}).status_code == 200
        assert http.get("/health", headers={"Authorization": "Bearer wrong"}).status_code == 200


def test_a_strange_host_name_is_refused(tiny_corpus: Any) -> None:
    own = frozenset({"localhost", "127.0.0.1", "::1"})
    with serving(tiny_corpus, Gate(), hosts=own) as url, httpx.Client(base_url=url, trust_env=False) as http:
        for host, status in {
            "localhost:9": 200, "127.0.0.1": 200, "[::1]:80": 200, "evil.example": 421,
            "localhost.evil.example:80": 421, "[::1": 421,
        }.items():  # fmt: skip
            assert http.get("/health", headers={"Host": host}).status_code == status, host


def test_nothing_but_the_routes(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/pages", "/search/"):
        assert client.get(path).status_code in (404, 405, 307), path
    cross = client.options("/search", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"})
    assert cross.status_code == 405
    answer = client.post("/search", json={"queries": ["a"]}, headers={"Origin": "https://a.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_huge_headers_are_refused_and_the_server_lives(client: httpx.Client) -> None:
    with suppress(httpx.NetworkError):  # the server may hang up while we are still sending
        assert client.get("/health", headers={"X-Large": "x" * 2**20}).status_code in (400, 431)
    assert client.get("/health").status_code == 200


# ---------------------------------------------------------------------- pages


HOSTILE = (
    "../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%252e%252e%252f", "\x00", "a\x00b",
    "finance/amber.pdf", "finance/amber.pdf#0", "finance/amber.pdf#1\x00", "finance/../finance/amber.pdf#1",
    "finance//amber.pdf#1", "FINANCE/amber.pdf#1", "'; DROP TABLE pages", "\ud7ff\ue000", "x" * 5000, "pages.lance",
    "\\\\host\\share",
)  # fmt: skip


@pytest.mark.parametrize("page_id", HOSTILE)
def test_only_pages_of_the_corpus(client: httpx.Client, page_id: str) -> None:
    address = urlsplit(str(client.base_url))
    for path in (
        f"/pages/{quote(page_id, safe='')}/image",
        f"/pages/{quote(page_id)}/image",
        f"/pages/{quote(page_id)}",
    ):
        with socket.create_connection((address.hostname, address.port)) as raw:  # no client tidies the path
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := raw.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
        assert b"root:" not in answer


def test_raw_bytes_in_a_path(client: httpx.Client) -> None:
    for path in ("/pages/%ff%fe/image", "/pages/%/image", "/pages/%zz%", "/pages/..;/image"):
        assert client.get(path).status_code == 404


def test_the_whole_page(client: httpx.Client, tiny_corpus: Any) -> None:
    stored = tiny_corpus.image(PAGE)
    exact = picture(client.get(IMAGE, params={"format": "png"}))
    assert exact.format == "PNG" and exact.size == stored.size == (896, 672)
    assert np.array_equal(np.asarray(exact), np.asarray(stored))
    plain = client.get(IMAGE)
    assert plain.headers["Content-Type"] == "image/jpeg" and picture(plain).size == stored.size
    difference = np.abs(np.asarray(picture(plain), np.int16) - np.asarray(stored, np.int16))
    assert difference.mean() < 2
    asked = client.get(IMAGE, headers={"Accept": "image/png"})
    assert asked.headers["Content-Type"] == "image/png" and asked.content == client.get(f"{IMAGE}/x.png").content


@pytest.mark.parametrize(
    ("parameters", "box", "size"),
    [
        ({"box": "0.25,0.5,0.75,1"}, (0.25, 0.5, 0.75, 1.0), (448, 336)),
        ({"box": "0.1,0.25,0.9,0.35", "width": "300", "height": "40"}, (0.1, 0.25, 0.9, 0.35), (300, 40)),
        ({"width": "448"}, (0.0, 0.0, 1.0, 1.0), (448, 336)),
        ({"height": "1344"}, (0.0, 0.0, 1.0, 1.0), (1792, 1344)),
        ({"max_pixels": "150528"}, (0.0, 0.0, 1.0, 1.0), (448, 336)),  # a quarter of 896 x 672
        ({"max_pixels": "16000000"}, (0.0, 0.0, 1.0, 1.0), (896, 672)),  # never enlarged
        ({"max_pixels": "1"}, (0.0, 0.0, 1.0, 1.0), (1, 1)),
    ],
)
def test_regions_and_sizes(
    client: httpx.Client, tiny_corpus: Any, parameters: dict[str, str], box: Any, size: tuple[int, int]
) -> None:
    shown = picture(client.get(IMAGE, params={**parameters, "format": "png"}))
    assert shown.size == size
    assert np.array_equal(np.asarray(shown), np.asarray(cut(tiny_corpus.image(PAGE), box, size)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        *(({"box": box}, "box: expected x0,y0,x1,y1") for box in (
            "", "0,0,1", "0,0,1,1,1", "a,b,c,d", "0.5,0,0.5,1", "0,0.6,1,0.5", "-0.1,0,1,1", "0,0,1,1.01", "nan,0,1,1",
            "0,0,inf,1", "0" * 10_000,
        )),
        ({"box": "0.5,0.5,0.5000001,1"}, "box: the region is smaller"),
        *(({"width": width}, "width: expected a whole number from 1 to 16384") for width in (
            "0", "-1", "1e3", "16385", "9" * 5000, "٣", "", "1.0",
        )),
        ({"width": "10000"}, "width: the image would have 10000 x 7500 pixels"),
        ({"height": "16384", "width": "16384"}, "width: the image would have"),
        ({"max_pixels": "0"}, "max_pixels: expected"),
        ({"max_pixels": "16777217"}, "max_pixels: expected a whole number from 1 to 16777216"),
        ({"max_pixels": "100", "width": "10"}, "max_pixels: not together"),
        ({"format": "gif"}, "format: expected one of jpeg, png"),
        ({"path": "/etc/passwd"}, "path: no such parameter"),
        ({"file_name": "a.png"}, "file_name: no such parameter"),
    ],
)  # fmt: skip
def test_bad_image_requests_name_the_parameter(client: httpx.Client, parameters: dict[str, str], message: str) -> None:
    answer = client.get(IMAGE, params=parameters)
    assert (answer.status_code, detail(answer)[: len(message)]) == (422, message)


def test_caching_by_content(client: httpx.Client, tiny_corpus: Any) -> None:
    first = client.get(IMAGE)
    etag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "no-cache"  # the page may have another content after a restart
    for known in (etag, f'"x", W/{etag}', "*"):
        again = client.get(IMAGE, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert client.get(IMAGE, headers={"If-None-Match": '"x"'}).status_code == 200
    others = [
        client.get(IMAGE, params=p).headers["ETag"] for p in ({"width": "9"}, {"format": "png"}, {"box": "0,0,1,.5"})
    ]
    others.append(client.get(IMAGE.replace("%231", "%232")).headers["ETag"])
    assert len({etag, *others}) == 5
    content = tiny_corpus.content_hashes()[PAGE]
    lasting = client.get(IMAGE, params={"v": content})
    assert "immutable" in lasting.headers["Cache-Control"] and lasting.headers["ETag"] == etag
    assert client.get(IMAGE, params={"v": "0" * 64}).status_code == 404


def test_a_page_without_its_picture(client: httpx.Client, tiny_corpus: Any) -> None:
    page = client.get(f"/pages/{quote(PAGE)}").json()
    known = tiny_corpus.page(PAGE)
    assert page.pop("image").startswith(f"{client.base_url}/pages/finance/amber.pdf%231/image?v=")
    assert page == {
        name: getattr(known, name)
        for name in ("page_id", "doc_id", "number", "width", "height", "text", "content_hash")
    }
    assert "42.5 million" in page["text"]


# ---------------------------------------------------------------------- the released engine's form


def test_the_form_of_the_released_engine(client: httpx.Client, retriever: LexicalRetriever) -> None:
    answer = client.get("/search", params={"queries": ["revenue north", "portugal", "zzz"], "id": "7"})
    lists = answer.json()
    expected = retriever.search(["revenue north", "portugal", "zzz"], 10)
    assert [len(results) for results in lists] == [len(hits) for hits in expected] == [2, 1, 0]
    for results, hits in zip(lists, expected, strict=True):
        for idx, (result, hit) in enumerate(zip(results, hits, strict=True)):
            assert set(result) == {"idx", "image_file"} and result["idx"] == idx
            assert result["image_file"].startswith(f"{client.base_url}/pages/{quote(hit.page_id)}/image/")
            shown = client.get(result["image_file"])
            assert picture(shown).size == (896, 672) and "immutable" in shown.headers["Cache-Control"]
    # the released reward joins on the last part of the path up to the dot: {file}_{page}
    assert lists[0][0]["image_file"].split("/")[-1].split(".")[0] == "amber_1"
    assert client.get("/search").json() == []
    assert len(client.get("/search", params={"queries": ["report"] * 100}).json()) == 100
    refused = client.get("/search", params={"queries": "x" * 4097})
    assert refused.status_code == 413 and detail(refused).startswith("queries[0]: at most 4096")


# ---------------------------------------------------------------------- operation


def test_health(client: httpx.Client, tiny_corpus: Any) -> None:
    import vrag_env

    assert client.get("/health").json() == {
        "status": "ok",
        "retriever": "lexical",
        "pages": 8,
        "fingerprint": tiny_corpus.fingerprint,
        "version": vrag_env.__version__,
        "limits": {"max_queries": 128, "max_query_chars": 4096, "max_k": 1000},
    }


def test_metrics(tiny_corpus: Any, retriever: LexicalRetriever) -> None:
    with serving(tiny_corpus, retriever) as url, httpx.Client(base_url=url, trust_env=False) as http:
        for _ in range(3):
            http.post("/search", json={"queries": ["a", "b"]})
        http.post("/search", content=b"{")
        for place in range(20):
            http.request(f"METHOD{place}", f"/nowhere/{place}")
        lines = http.get("/metrics").text.splitlines()
    assert 'vrag_requests_total{method="POST",route="/search",status="200"} 3.0' in lines
    assert 'vrag_requests_total{method="POST",route="/search",status="422"} 1.0' in lines
    assert 'vrag_requests_total{method="other",route="other",status="404"} 20.0' in lines  # one line, whoever asks
    assert 'vrag_request_seconds_count{route="/search"} 4.0' in lines
    assert "vrag_batch_queries_sum 6.0" in lines and "vrag_batch_requests_sum 3.0" in lines
    assert "vrag_queue_queries 0.0" in lines and "vrag_search_seconds_count 3.0" in lines


def test_no_answer_holds_a_path_of_the_server(tiny_corpus: Any, tiny_corpus_path: Path) -> None:
    home = str(tiny_corpus_path.parent)
    with serving(tiny_corpus, Gate()) as url, httpx.Client(base_url=url, trust_env=False) as http:
        answers = [
            http.get("/health"),
            http.get("/metrics"),
            http.get(IMAGE),
            http.get(f"/pages/{quote(PAGE)}"),
            http.get("/pages/none%231"),
            http.get("/pages/none%231/image"),
            http.get(IMAGE, params={"box": "x"}),
            http.post("/search", json={"queries": ["poison"]}),
            http.post("/search", content=b"{"),
            http.get("/nowhere"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 404, 422, 500, 422, 404]
    for answer in answers:
        whole = answer.content + repr(answer.headers.raw).encode()
        assert home.encode() not in whole and b"/secret/" not in whole and b"Traceback" not in whole


def test_a_damaged_picture_is_a_plain_500(tmp_path: Path) -> None:
    from vrag_env.corpus import Corpus, Page

    corpus = Corpus.create(tmp_path / "corpus")
    corpus.add([(Page("a.pdf#1", "a.pdf", 1, 10, 10, "text", (), "hash"), b"no picture", "png")])
    with serving(corpus, Gate()) as url:
        answer = httpx.get(f"{url}/pages/a.pdf%231/image", trust_env=False, timeout=100)
    assert (answer.status_code, detail(answer)) == (500, "the page could not be read; the server's log says why")


def test_too_many_pages_at_once_are_429(tiny_corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow:
        """The corpus, with pictures that take their time."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tiny_corpus, name)

        def image(self, page_id: str) -> Image.Image:
            reading.set()
            assert go_on.wait(100)
            return tiny_corpus.image(page_id)

    monkeypatch.setattr(server_module, "_MAX_IMAGES_WAITING", 1)
    with serving(Slow(), Gate()) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.get, url + IMAGE, trust_env=False, timeout=100)
        assert reading.wait(100)
        refused = httpx.get(url + IMAGE, trust_env=False, timeout=100)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert httpx.get(url + "/health", trust_env=False, timeout=100).status_code == 200
        go_on.set()
        assert (
            first.result().status_code == 200
            and httpx.get(url + IMAGE, trust_env=False, timeout=100).status_code == 200
        )


@pytest.mark.parametrize("name", ["max_queries", "max_query_chars", "max_k", "max_batch", "max_queue"])
def test_limits_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ServeLimits(**{name: 0})


def test_the_end_waits_for_who_is_being_served(tiny_corpus: Any) -> None:
    gate = Gate(shut=True)
    got: list[int] = []
    with serving(tiny_corpus, gate) as url:
        body = {"queries": ["a"], "k": 1}
        thread = threading.Thread(
            target=lambda: got.append(httpx.post(url + "/search", json=body, trust_env=False, timeout=100).status_code)
        )
        thread.start()
        until(lambda: len(gate.calls) == 1)
        threading.Thread(target=lambda: (time.sleep(0.3), gate.open.set())).start()
    thread.join(100)
    assert got == [200]
