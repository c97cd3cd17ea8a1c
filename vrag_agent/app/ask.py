"""The part of the page in which an agent is asked and watched, and can be taken over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from vrag_agent.app import box
from vrag_agent.app.drawing import data_url, frame, status
from vrag_agent.app.session import MAX_QUESTION_CHARS, Session, World
from vrag_env.errors import VRAGError
from vrag_env.replay import record_html

DOCUMENTS = ("the corpus", "mine")
_EMPTY = '<p class="hint">The turns appear here: what the agent thinks, the pages that it finds, what it cuts out.</p>'
Shown = tuple[Any, Any, Any]


def ask_tab(world: World, session: gr.State) -> None:
    """Add the controls and what they do.

    Args:
        world: What all visitors share.
        session: The visitor's :class:`~vrag_agent.app.session.Session`.
    """
    known = [(question.text, question.question_id) for question in world.questions.values()]
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            mine = gr.Radio(DOCUMENTS, value=DOCUMENTS[0], label="Documents")
            choice = gr.Dropdown(
                known, value=None, label="Questions with a known answer", filterable=True, visible=bool(known)
            )
            question = gr.Textbox(label="Question", lines=2, max_length=MAX_QUESTION_CHARS, elem_id="question")
            agents = list(world.agents)
            agent = gr.Radio(agents, value=agents[0], label="Agent")
            with gr.Row():
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
                step = gr.Button("One turn", elem_id="step")
                stop = gr.Button("Stop", elem_id="stop")
            told = gr.HTML(status("Choose or type a question."), elem_id="told")
            with gr.Accordion("Take over", open=False):
                gr.Markdown("Act in place of the agent. With no episode running, this begins one.")
                with gr.Row():
                    query = gr.Textbox(label="Query", max_length=1_000, scale=4, elem_id="query")
                    do_search = gr.Button("Search", scale=1, elem_id="do-search")
                board = gr.HTML(
                    "",
                    html_template=box.TEMPLATE,
                    css_template=box.CSS,
                    js_on_load=box.SCRIPT,
                    image="",
                    width=1,
                    height=1,
                    elem_id="board",
                )
                with gr.Row():
                    corners = gr.Textbox(
                        label="Box",
                        info="x0, y0, x1, y1 in pixels of the image",
                        max_length=100,
                        scale=4,
                        elem_id="box",
                    )
                    do_crop = gr.Button("Cut out", scale=1, elem_id="do-crop")
                with gr.Row():
                    answer = gr.Textbox(label="Answer", max_length=10_000, scale=4, elem_id="answer")
                    do_answer = gr.Button("Answer", scale=1, elem_id="do-answer")
        with gr.Column(scale=3, min_width=320):
            episode = gr.HTML(_EMPTY, elem_id="episode")

    outputs = [episode, told, board]
    begins = [session, question, mine, choice, agent]

    def of_id(question_id: str | None) -> str:
        return world.questions[question_id].text if question_id else ""

    def play(session: Session, text: str, whose: str, known_id: str | None, name: str) -> Iterator[Shown]:
        try:
            session.begin(text, whose == DOCUMENTS[1], known_id)
            yield (*show(session)[:1], status(f"{name} is thinking ..."), board_of(session))
            for _ in session.play(name):
                yield show(session)
        except VRAGError as error:
            yield failed(session, error)

    def one_turn(session: Session, text: str, whose: str, known_id: str | None, name: str) -> Shown:
        def act() -> None:
            begin_if_needed(session, text, whose, known_id)
            session.let(name)

        return attempt(session, act)

    def person(act: Callable[[Session, str], None]) -> Callable[..., Shown]:
        def run(session: Session, text: str, whose: str, known_id: str | None, name: str, words: str) -> Shown:
            def both() -> None:
                begin_if_needed(session, text, whose, known_id)
                act(session, words)

            return attempt(session, both)

        return run

    def halt(session: Session) -> str:
        session.stop.set()
        return status("Stopping after this turn.")

    choice.change(of_id, choice, question, api_visibility="private")
    play_event: Any = {"inputs": begins, "outputs": outputs, "api_visibility": "private", "show_progress": "minimal"}
    gr.on([ask.click, question.submit], play, **play_event)
    step.click(one_turn, **play_event)
    stop.click(halt, session, told, queue=False, api_visibility="private")
    board.change(lambda value: value, board, corners, queue=False, api_visibility="private")
    for button, field, act in (
        (do_search, query, Session.take_search),
        (do_crop, corners, lambda session, words: session.take_crop(box.parse_box(words))),
        (do_answer, answer, Session.take_answer),
    ):
        gr.on([button.click, field.submit], person(act), **{**play_event, "inputs": [*begins, field]})


def begin_if_needed(session: Session, text: str, whose: str, known_id: str | None) -> None:
    """Begin an episode unless one of the same question runs."""
    running = session.episode
    if running is None or running.done or (text.strip() and text.strip() != running.question.text):
        session.begin(text, whose == DOCUMENTS[1], known_id)


def attempt(session: Session, act: Callable[[], None]) -> Shown:
    """Do something and show the episode, or what was wrong."""
    try:
        act()
    except VRAGError as error:
        return failed(session, error)
    return show(session)


def failed(session: Session, error: VRAGError) -> Shown:
    """Leave the episode as it is and say what was wrong."""
    return gr.skip(), status(str(error), bad=True), board_of(session)


def show(session: Session) -> Shown:
    """Draw the episode, what to say of it, and the image that the next box refers to."""
    episode = session.episode
    assert episode is not None
    record = session.record()
    html = record_html(record, episode.image, f"played by {session.agent or 'nobody yet'}", follow=bool(record.turns))
    return frame(html, "The episode"), status(_summary(session)), board_of(session)


def board_of(session: Session) -> Any:
    """The image that the next box refers to, with no box on it."""
    episode, view = session.episode, session.view
    if episode is None or view is None:
        return gr.HTML("", image="", width=1, height=1)
    return gr.HTML("", image=data_url(episode.image(view)), width=view.size[0], height=view.size[1])


def _summary(session: Session) -> str:
    record = session.record()
    if record.answer is not None:
        judged = f" It was judged {record.outcome}." if session.known else ""
        return f"Answer: {record.answer}.{judged}"
    if record.truncated:
        return "The turns are used up without an answer."
    return f"Turns taken: {len(record.turns)}."
