"""The server: a retriever and the pages of its corpus behind HTTP, for many trainers and agents.

Routes:

- ``POST /search`` with ``{"queries": [...], "k": 10, "where": [document ids] or null}`` answers
  ``{"results": [[{"page_id": ..., "score": ...}, ...], ...]}``. Scores keep every bit.
- ``GET /search?queries=a&queries=b`` is the form of VRAG-RL's released engine: one list per query of
  ``{"idx": place from 0, "image_file": ...}``, ten pages each. Where that engine names a file of its own disk,
  ``image_file`` is a URL of this server, whose last part is ``{file}_{page}.jpg``, the name by which the released
  reward joins a page with the labels.
- ``GET /pages/{id}/image`` with ``box=x0,y0,x1,y1`` and ``max_pixels=`` or ``width=``, ``height=``.
- ``GET /pages/{id}``: number, size, text and hash of one page.
- ``GET /health`` and ``GET /metrics`` (Prometheus).

A page id stands in a URL percent-encoded: ``report.pdf#3`` is ``/pages/report.pdf%233``. Nothing that a caller
sends is ever used as a path of the server, and no answer holds one.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import vrag_env
from vrag_env.corpus.store import Corpus
from vrag_env.errors import missing_extra
from vrag_env.retrieval.base import Hit, Retriever
from vrag_env.retrieval.batching import BatcherClosed, MicroBatcher, QueueFull
from vrag_env.retrieval.page_images import MEDIA_TYPES, BadImageRequest, ImageRequest
from vrag_env.retrieval.queries import MAX_QUERY_CHARS

try:
    from fastapi import FastAPI, HTTPException, Request, Response
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from starlette.datastructures import MutableHeaders
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ModuleNotFoundError as missing:
    raise missing_extra(missing.name or "fastapi", "serve") from missing

__all__ = ["FINGERPRINT_HEADER", "ServeLimits", "create_app"]

FINGERPRINT_HEADER = "X-VRAG-Fingerprint"
"""Names the corpus that an answer of ``/search`` comes from, so that a client notices another one."""
_RELEASED_K = 10  # pages per query of the released engine
_IMAGE_THREADS = 4
_MAX_IMAGES_WAITING = 64
_HANG_UP = {"Connection": "close"}  # where the rest of a body would otherwise be received for nothing
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class ServeLimits:
    """How much one caller, and all of them together, may ask for.

    Attributes:
        max_queries: Queries of one request.
        max_query_chars: Characters of one query.
        max_k: Pages per query.
        max_batch: Queries of one call of the retriever.
        max_wait_ms: Longest time that a request waits for company, in milliseconds.
        max_queue: Queries that wait before requests are turned away with 429.
    """

    max_queries: int = 128
    max_query_chars: int = MAX_QUERY_CHARS
    max_k: int = 1000
    max_batch: int = 64
    max_wait_ms: float = 2.0
    max_queue: int = 1024

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (value >= 0 if name == "max_wait_ms" else value >= 1):
                raise ValueError(f"{name} is too small: {value}")

    @property
    def max_body(self) -> int:
        """Most bytes of a request: every character escaped as two halves of six, and a mebibyte of document ids."""
        return self.max_queries * self.max_query_chars * 12 + 2**20


def create_app(
    corpus: Corpus,
    retriever: Retriever,
    *,
    name: str = "custom",
    limits: ServeLimits | None = None,
    token: str | None = None,
    hosts: frozenset[str] | None = None,
) -> FastAPI:
    """Build the ASGI application.

    Args:
        corpus: The pages that are served, as they are now.
        retriever: A retriever of that corpus; only one thread calls it.
        name: What ``/health`` calls the retriever.
        limits: See :class:`ServeLimits`.
        token: Bearer token that everything but ``/health`` asks for; ``None`` asks for none.
        hosts: Names under which the server may be called; ``None`` allows all. A server without a token should
            name its own: a web page could otherwise read it through a name that it points here.

    Returns:
        The application; it has a thread that searches, which ends with the application's lifespan.
    """
    limits = limits or ServeLimits()
    metrics = _Metrics()
    batcher = MicroBatcher(
        retriever,
        max_batch=limits.max_batch,
        max_wait=limits.max_wait_ms / 1000,
        max_queue=limits.max_queue,
        on_batch=metrics.batch,
    )
    metrics.queue.set_function(lambda: batcher.depth)
    service = _Service(corpus, batcher, name, limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)
        service.threads.shutdown(cancel_futures=True)

    # The pages of documentation would load scripts from elsewhere.
    app = FastAPI(title="vrag", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(_Guard, token=token, hosts=hosts, metrics=metrics)
    app.add_api_route("/search", service.search, methods=["POST"])
    app.add_api_route("/search", service.search_released, methods=["GET"])
    app.add_api_route("/health", service.health, methods=["GET"])
    app.add_api_route("/metrics", service.metrics, methods=["GET"])
    app.add_api_route("/pages/{page_id:path}/image/{file_name}", service.image, methods=["GET"])
    app.add_api_route("/pages/{page_id:path}/image", service.image, methods=["GET"])
    app.add_api_route("/pages/{page_id:path}", service.page, methods=["GET"])
    return app


class _Metrics:
    """What ``/metrics`` shows, in a registry of its own: several servers may live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("vrag_requests", "Requests.", ["route", "method", "status"], registry=registry)
        self.seconds = Histogram("vrag_request_seconds", "Time to answer.", ["route"], registry=registry)
        self.rejected = Counter("vrag_rejected", "Requests turned away.", ["reason"], registry=registry)
        self.queue = Gauge("vrag_queue_queries", "Queries that wait.", registry=registry)
        sizes = [2**power for power in range(11)]
        self.batch_queries = Histogram("vrag_batch_queries", "Queries per call.", buckets=sizes, registry=registry)
        self.batch_requests = Histogram("vrag_batch_requests", "Requests per call.", buckets=sizes, registry=registry)
        self.search_seconds = Histogram("vrag_search_seconds", "Time of one call of the retriever.", registry=registry)

    def batch(self, requests: int, queries: int, seconds: float) -> None:
        self.batch_requests.observe(requests)
        self.batch_queries.observe(queries)
        self.search_seconds.observe(seconds)


class _Service:
    """The routes."""

    def __init__(
        self, corpus: Corpus, batcher: MicroBatcher, name: str, limits: ServeLimits, metrics: _Metrics
    ) -> None:
        self._corpus = corpus
        self._batcher = batcher
        self._limits = limits
        self._metrics = metrics
        self._fingerprint = corpus.fingerprint
        self._hashes = corpus.content_hashes()
        self._documents = corpus.page_documents()
        self._images_waiting = 0
        self.threads = ThreadPoolExecutor(_IMAGE_THREADS, thread_name_prefix="vrag-pages")
        self._health = {
            "status": "ok",
            "retriever": name,
            "pages": len(self._hashes),
            "fingerprint": self._fingerprint,
            "version": vrag_env.__version__,
            "limits": {key: asdict(limits)[key] for key in ("max_queries", "max_query_chars", "max_k")},
        }

    async def health(self) -> Response:
        return _json(self._health)

    async def metrics(self) -> Response:
        return Response(generate_latest(self._metrics.registry), media_type="text/plain; version=0.0.4")

    async def search(self, request: Request) -> Response:
        queries, k, where = _search_request(await self._body(request), self._limits)
        found = await self._search(request, queries, k, where)
        results = [[{"page_id": hit.page_id, "score": float(hit.score)} for hit in hits] for hits in found]
        return _json({"results": results}, {FINGERPRINT_HEADER: self._fingerprint})

    async def search_released(self, request: Request) -> Response:
        queries = _queries(request.query_params.getlist("queries"), self._limits)
        found = await self._search(request, queries, min(_RELEASED_K, self._limits.max_k), None)
        return _json(
            [
                [
                    {"idx": place, "image_file": self._url(request, hit.page_id, named=True)}
                    for place, hit in enumerate(hits)
                ]
                for hits in found
            ]
        )

    async def page(self, request: Request, page_id: str) -> Response:
        self._check_page(page_id)
        page = await self._in_thread(lambda: self._corpus.page(page_id))
        fields = ("page_id", "doc_id", "number", "width", "height", "text", "content_hash")
        values = {field: getattr(page, field) for field in fields}
        return _json({**values, "image": self._url(request, page_id)})

    async def image(self, request: Request, page_id: str, file_name: str = "") -> Response:
        self._check_page(page_id)
        content_hash = self._hashes[page_id]
        version = request.query_params.get("v")
        if version not in (None, content_hash):
            raise HTTPException(404, "v: the page has another content now")
        accepted = request.headers.get("accept", "")
        png = file_name.endswith(".png") or ("image/png" in accepted and "image/jpeg" not in accepted)
        try:
            wanted = ImageRequest.parse(
                page_id, self._corpus.page_size(page_id), dict(request.query_params), "png" if png else "jpeg"
            )
        except BadImageRequest as error:
            raise HTTPException(422, str(error)) from error
        etag = wanted.etag(content_hash)
        # What is under a URL with the page's hash in it never changes; any other has to be asked for again.
        caching = "no-cache" if version is None else "private, max-age=31536000, immutable"
        headers = {"ETag": etag, "Cache-Control": caching, "Vary": "Accept"}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        encoded = await self._in_thread(lambda: wanted.render(self._corpus))
        return Response(encoded, media_type=MEDIA_TYPES[wanted.format], headers=headers)

    def _check_page(self, page_id: str) -> None:
        if page_id not in self._hashes:
            raise HTTPException(404, "page_id: no such page in this corpus")

    def _url(self, request: Request, page_id: str, named: bool = False) -> str:
        """Return the URL of a page's picture; ``named`` puts the file name of VRAG-RL's page images at its end."""
        document, number = self._documents[page_id], page_id.rpartition("#")[2]
        last = f"/{quote(f'{PurePosixPath(document).stem}_{number}.jpg', safe='')}" if named else ""
        return f"{request.base_url}pages/{quote(page_id)}/image{last}?v={quote(self._hashes[page_id])}"

    async def _body(self, request: Request) -> bytes:
        """Read the body, as far as it may go."""
        too_large = HTTPException(413, f"body: at most {self._limits.max_body} bytes are read", _HANG_UP)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self._limits.max_body:
            self._metrics.rejected.labels("body").inc()
            raise too_large
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._limits.max_body:
                self._metrics.rejected.labels("body").inc()
                raise too_large
            parts.append(part)
        return b"".join(parts)

    async def _search(
        self, request: Request, queries: Sequence[str], k: int, where: Sequence[str] | None
    ) -> list[list[Hit]]:
        if not queries:
            return []
        try:
            future = self._batcher.submit(queries, k, where)
        except QueueFull as error:
            self._metrics.rejected.labels("queue").inc()
            message = "too many queries are waiting: try again later"
            raise HTTPException(429, message, {"Retry-After": str(error.retry_after)}) from error
        except BatcherClosed as error:
            raise HTTPException(503, "the server is ending") from error
        try:
            return await _unless_gone(request, future)
        except Exception as error:
            if isinstance(error, HTTPException):
                raise
            _LOG.exception("the retriever failed on a request of %d queries", len(queries))
            raise HTTPException(500, "the retriever failed; the server's log says why") from error

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Read or draw in one of few threads; turn callers away when too many wait."""
        if self._images_waiting >= _MAX_IMAGES_WAITING:
            self._metrics.rejected.labels("images").inc()
            raise HTTPException(429, "too many pages are being read: try again later", {"Retry-After": "1"})
        self._images_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, work)
        except Exception as error:
            _LOG.exception("a page could not be read")
            raise HTTPException(500, "the page could not be read; the server's log says why") from error
        finally:
            self._images_waiting -= 1


class _Guard:
    """Refuses callers without the token or under a strange host name, and counts what is answered."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[str] | None, metrics: _Metrics) -> None:
        self._app = app
        self._secret = None if token is None else f"Bearer {token}".encode()
        self._hosts = hosts
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = asyncio.get_running_loop().time()
        status = 500  # what the server answers to an error that nobody caught

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        headers = dict(scope["headers"])
        try:
            if self._hosts is not None and _host(headers.get(b"host", b"")) not in self._hosts:
                self._metrics.rejected.labels("host").inc()
                refusal = _json({"detail": "host: this server answers only under its own name"}, _HANG_UP, 421)
                await refusal(scope, receive, watched)
            elif self._secret is not None and scope["path"] != "/health" and not self._knows(headers):
                self._metrics.rejected.labels("token").inc()
                detail = "authorization: expected the header 'Authorization: Bearer TOKEN' with this server's token"
                refusal = _json({"detail": detail}, {"WWW-Authenticate": "Bearer", **_HANG_UP}, 401)
                await refusal(scope, receive, watched)
            else:
                await self._app(scope, receive, watched)
        finally:
            # The route's pattern and not the path, of which there are as many as callers care to invent.
            found = scope.get("route")
            route, method = (found.path, scope["method"]) if isinstance(found, Route) else ("other", "other")
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.seconds.labels(route).observe(asyncio.get_running_loop().time() - started)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        return self._secret is not None and hmac.compare_digest(headers.get(b"authorization", b""), self._secret)


def _host(header: bytes) -> str | None:
    try:
        return urlsplit("//" + header.decode("latin-1")).hostname
    except ValueError:  # such as an unclosed bracket
        return None


def _json(content: Any, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    # ASCII only: half of a surrogate pair in a page's id survives, too.
    return Response(json.dumps(content, allow_nan=False).encode(), status, headers, "application/json")


def _search_request(body: bytes, limits: ServeLimits) -> tuple[list[str], int, list[str] | None]:
    """Check the body of a search.

    Read by the standard library and not by FastAPI's models: those refuse the halves of surrogate pairs that an
    agent can write and that a local retriever bears.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "body: expected JSON in UTF-8") from error
    if not isinstance(content, dict) or "queries" not in content:
        raise HTTPException(422, 'body: expected an object such as {"queries": ["..."], "k": 10, "where": null}')
    if unknown := set(content) - {"queries", "k", "where"}:
        raise HTTPException(422, f"{min(unknown)[:40]!a}: no such field; known are queries, k and where")
    k = content.get("k", 10)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= limits.max_k:
        raise HTTPException(422, f"k: expected a whole number from 1 to {limits.max_k}")
    where = content.get("where")
    if where is not None and not (isinstance(where, list) and all(isinstance(document, str) for document in where)):
        raise HTTPException(422, "where: expected a list of document ids, or null for all documents")
    return _queries(content["queries"], limits), k, where


def _queries(queries: object, limits: ServeLimits) -> list[str]:
    if not isinstance(queries, list):
        raise HTTPException(422, "queries: expected a list of texts")
    if len(queries) > limits.max_queries:
        raise HTTPException(413, f"queries: at most {limits.max_queries} in one request, got {len(queries)}")
    for place, query in enumerate(queries):
        if not isinstance(query, str):
            raise HTTPException(422, f"queries[{place}]: expected a text")
        if len(query) > limits.max_query_chars:
            raise HTTPException(413, f"queries[{place}]: at most {limits.max_query_chars} characters, got {len(query)}")
    return queries


async def _unless_gone(request: Request, future: Future[_T]) -> _T:
    """Wait for an answer; a caller who hangs up first takes the request out of the queue."""
    answer = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_gone(request))
    both: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(499, "the caller hung up")
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
