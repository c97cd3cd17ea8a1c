"""The whole page: its parts, its look, and the policy that keeps the browser on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from vrag_agent.app.ask import ask_tab
from vrag_agent.app.documents import add_tab, search_tab
from vrag_agent.app.runs import runs_tab
from vrag_agent.app.session import MAX_UPLOAD_BYTES, Session, World

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: data: blob:; worker-src 'self' blob:; "
    "frame-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Gradio needs inline scripts and eval; what documents and models say is only shown as escaped text, or in a frame
without an origin whose own policy allows one known script."""
CSS = """
.gradio-container { max-width: 1600px !important; }
iframe.episode { width: 100%; height: 82vh; border: 1px solid var(--border-color-primary); border-radius: 8px; }
.status { margin: 0; padding: 6px 10px; border-left: 4px solid var(--color-accent); overflow-wrap: anywhere; }
.status.bad { border-left-color: #d0251b; }
.hint { color: var(--body-text-color-subdued); padding: 12px; }
@media (max-width: 640px) { iframe.episode { height: 70vh; } }
"""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
SESSION_SECONDS = 4 * 3600
"""How long what a visitor added is kept if the browser never says goodbye."""


def make_blocks(world: World, runs: Path) -> gr.Blocks:
    """Build the page.

    Args:
        world: What all visitors share.
        runs: Directory of recorded runs.
    """
    with gr.Blocks(title="VRAG-Gym", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        session = gr.State(None, time_to_live=SESSION_SECONDS, delete_callback=_forget)
        gr.Markdown("# VRAG-Gym\nAn agent answers questions over document pages: it searches, cuts out, answers.")
        with gr.Tab("Ask"):
            ask_tab(world, session)
        with gr.Tab("Search and pages"):
            search_tab(session)
        with gr.Tab("Documents"):
            add_tab(session)
        with gr.Tab("Runs"):
            runs_tab(runs, world.corpus)
        blocks.load(lambda: Session(world), None, session, api_visibility="private")
    # Slow agents must not keep searches, or other visitors, waiting.
    return blocks.queue(default_concurrency_limit=16, max_size=128, api_open=False)


def _forget(session: Session | None) -> None:
    if session is not None:
        session.close()


def make_app(world: World, runs: Path, *, loopback: bool = True, auth: tuple[str, str] | None = None) -> FastAPI:
    """Build the web application.

    Args:
        world: What all visitors share.
        runs: Directory of recorded runs.
        loopback: Only answer to the names of this machine, so that no other site can reach it through the browser.
        auth: ``(name, password)`` that visitors must give; ``None`` for none.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    if loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    system = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    options: dict[str, Any] = {
        "auth": auth,
        "max_file_size": MAX_UPLOAD_BYTES,
        "show_error": False,
        "ssr_mode": False,
        "footer_links": [],
        "css": CSS,
        "theme": gr.themes.Default(font=system, font_mono=["ui-monospace", "Consolas", "monospace"]),
    }
    return gr.mount_gradio_app(app, make_blocks(world, runs), path="/", **options)
