"""The parts of the page for documents: search them, look at their pages, add some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from vrag_agent.app.ask import DOCUMENTS
from vrag_agent.app.drawing import page_with_boxes, status, thumbnail
from vrag_agent.app.session import MAX_UPLOADS, SIGNATURES, Session
from vrag_env.corpus.records import page_id_of
from vrag_env.errors import VRAGError

MOST = 24


def search_tab(session: gr.State) -> None:
    """Search without an agent, and look at pages with their text boxes."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            mine = gr.Radio(DOCUMENTS, value=DOCUMENTS[0], label="Documents")
            query = gr.Textbox(label="Query", max_length=1_000, elem_id="look-for")
            count = gr.Slider(1, MOST, value=8, step=1, label="Pages")
            find = gr.Button("Search", variant="primary", elem_id="find")
            told = gr.HTML(status("Type a query."), elem_id="found")
            gallery = gr.Gallery(label="Found pages", columns=2, object_fit="contain", elem_id="gallery")
        with gr.Column(scale=3, min_width=320):
            document = gr.Dropdown([], label="Document", elem_id="document", filterable=True)
            with gr.Row():
                number = gr.Number(1, minimum=1, precision=0, label="Page", elem_id="number")
                boxes = gr.Checkbox(False, label="Boxes of the text")
                open_it = gr.Button("Show", elem_id="show-page")
            picture = gr.Image(label="Page", interactive=False, type="pil", elem_id="page", buttons=["fullscreen"])
    found: Any = gr.State([])

    def search(session: Session, words: str, k: float, whose: str) -> tuple[Any, Any, Any]:
        try:
            corpus = session.corpus(whose == DOCUMENTS[1])
            if not words.strip():
                raise VRAGError("type a query first")
            hits = session.search(words, int(k), whose == DOCUMENTS[1])
        except VRAGError as error:
            return gr.skip(), status(str(error), bad=True), gr.skip()
        pictures = [
            (thumbnail(corpus, hit.page_id), f"{rank}. {hit.page_id} ({hit.score:.3f})")
            for rank, hit in enumerate(hits, 1)
        ]
        said = f"{len(hits)} pages found." if hits else "No page matches."
        return pictures, status(said), [hit.page_id for hit in hits]

    def choices(session: Session, whose: str) -> Any:
        try:
            documents = list(session.corpus(whose == DOCUMENTS[1]).doc_ids())
        except VRAGError:
            documents = []  # the visitor has none; the search says so in words
        return gr.Dropdown(documents, value=documents[0] if documents else None)

    def show(session: Session, name: str | None, page: float, with_boxes: bool, whose: str) -> tuple[Any, Any]:
        try:
            corpus = session.corpus(whose == DOCUMENTS[1])
            if not name:
                raise VRAGError("choose a document first")
            page_id = page_id_of(name, int(page))
            if not corpus.has_page(page_id):
                raise VRAGError(f"{name} has no page {int(page)}")
            return page_with_boxes(corpus, page_id, with_boxes), status(f"Page {int(page)} of {name}.")
        except VRAGError as error:
            return gr.skip(), status(str(error), bad=True)

    def choose(event: gr.SelectData, session: Session, pages: list[str], whose: str) -> tuple[Any, Any]:
        name, _, page = pages[event.index].rpartition("#")
        documents = list(session.corpus(whose == DOCUMENTS[1]).doc_ids())
        return gr.Dropdown(documents, value=name), int(page)

    private: Any = {"api_visibility": "private"}
    gr.on([find.click, query.submit], search, [session, query, count, mine], [gallery, told, found], **private)
    shown = ([session, document, number, boxes, mine], [picture, told])
    for event in (open_it.click, boxes.input, number.submit):
        event(show, *shown, **private)
    gallery.select(choose, [session, found, mine], [document, number], **private).then(show, *shown, **private)
    mine.change(choices, [session, mine], document, **private)
    document.focus(choices, [session, mine], document, **private)


def add_tab(session: gr.State) -> None:
    """Add documents that only this visitor sees, until they leave."""
    gr.Markdown(
        f"PDFs and page images ({', '.join(SIGNATURES)}), at most {MAX_UPLOADS}. They are read into a corpus of this "
        "session, which nobody else sees and which is removed when you leave."
    )
    files = gr.File(file_count="multiple", file_types=list(SIGNATURES), label="Documents", elem_id="files")
    add = gr.Button("Add", variant="primary", elem_id="add")
    told = gr.HTML(status("Nothing has been added yet."), elem_id="added")

    def read(session: Session, paths: list[str] | None, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        def tell(done: int, expected: int) -> None:
            progress((done, max(expected, done)), unit="pages")

        try:
            report = session.add(paths or [], tell)
        except VRAGError as error:
            return status(str(error), bad=True)
        left_out = "; ".join(f"{Path(name).name}: {reason}" for name, reason in report.failures)
        said = f"{0 if session.own is None else len(session.own)} pages are yours now."
        if left_out:
            return status(f"{said} Left out: {left_out}", bad=True)
        return status(f"{said} Ask about them: choose 'mine' as the documents.")

    add.click(read, [session, files], told, api_visibility="private")
