"""The page as a person uses it: a real browser, driven by Playwright, on a real server.

The browser is the one that the environment variable VRAG_CHROMIUM names, or Chromium on the path. Without one the
tests skip, unless VRAG_REQUIRE_BROWSER is set, as the gate sets it.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")

import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from vrag_agent.app.page import make_app
from vrag_agent.app.session import World
from vrag_env.corpus import Corpus
from vrag_env.episode import EpisodeConfig
from vrag_env.players import OraclePlayer
from vrag_env.questions import Question
from vrag_env.replay import EpisodeRecord, corpus_images, episode_to_record, record_html, write_run
from vrag_env.retrieval import make_retriever
from vrag_env.rewards import make_reward

pytestmark = pytest.mark.slow

WAIT = 120_000
"""Milliseconds to wait for the page: the machine may be busy."""
REVENUE = "What revenue does Amber Falcon report for the North region, in million?"
HOSTILE = (
    "</pre></script></iframe><script>parent.pwned = window.pwned = 1</script>"
    "<img src=x onerror='parent.pwned = window.pwned = 1'>\"'><svg onload=\"window.pwned = 1\">"
    "\u202e\u2066 javascript:1"
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Waiting:
    """An agent that does not answer until it is allowed to."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def act(self, episode: Any) -> str:
        self.asked.set()
        assert self.go.wait(120)
        return "<think>x</think><search>report</search>"


class Hostile:
    """An agent that writes what should never run."""

    def act(self, episode: Any) -> str:
        if not episode.turns:
            return f"<think>{HOSTILE}{'long ' * 200_000}</think><search>report {HOSTILE}</search>"
        return f"<think>{HOSTILE}</think><answer>{HOSTILE}</answer>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("VRAG_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        assert not os.environ.get("VRAG_REQUIRE_BROWSER"), "VRAG_REQUIRE_BROWSER is set but there is no Chromium"
        pytest.skip("no Chromium on the path, and VRAG_CHROMIUM names none")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def address(tiny_corpus: Corpus, tiny_questions: Sequence[Question], waiting: Waiting, runs: Path) -> Iterator[str]:
    world = World(
        corpus=tiny_corpus,
        retriever=make_retriever("lexical", tiny_corpus),
        questions={question.question_id: question for question in tiny_questions},
        reward=make_reward("paper"),
        config=EpisodeConfig(),
        agents={"oracle": OraclePlayer(), "waiting": waiting, "hostile": Hostile()},
        long_side=400,
    )
    server = uvicorn.Server(uvicorn.Config(make_app(world, runs), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server has not started"
        thread.join(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    waiting.go.set()
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Open the page; at the end, say what it asked for elsewhere and what went wrong in it."""
    opened, faults = [], []

    def open_page(url: str = address, width: int = 1280, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(WAIT)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: faults.append(request.url) if _elsewhere(request.url, address) else None)
        page.goto(url)
        if url == address:
            page.locator("#ask").wait_for()
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert faults == []


def _elsewhere(url: str, address: str) -> bool:
    return not url.startswith((address, address.replace("http", "ws"), "data:", "blob:", "about:", "file:"))


def told(page: Page, words: str, where: str = "#told") -> None:
    expect(page.locator(where)).to_contain_text(words, timeout=WAIT)


def field(page: Page, name: str) -> Any:
    return page.locator(f"{name} textarea, {name} input").first


def test_ask_and_watch_with_the_keyboard_alone(visit: Callable[..., Page]) -> None:
    page = visit()
    page.get_by_label("Questions with a known answer").focus()
    page.keyboard.type("North region, in")
    page.keyboard.press("Enter")
    expect(field(page, "#question")).to_have_value(REVENUE, timeout=WAIT)
    page.locator("#ask").focus()
    page.keyboard.press("Enter")
    told(page, "Answer: 42.5. It was judged right.")
    episode = page.frame_locator("#episode iframe")
    expect(episode.locator("li.turn")).to_have_count(3)
    expect(episode.locator("img").first).to_have_js_property("naturalWidth", 728)
    episode.locator("#turn-1").press("g")
    expect(episode.locator("rect.gold").first).to_be_visible()


def test_draw_a_box_and_answer_yourself(visit: Callable[..., Page]) -> None:
    page = visit()
    field(page, "#question").fill("Who employs whom?")
    page.get_by_text("Take over").click()
    field(page, "#query").fill("badminton")
    page.locator("#do-search").click()
    told(page, "Turns taken: 1")
    board = page.locator("#board img")
    board.scroll_into_view_if_needed()
    place = board.bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + place["width"] * 0.75, place["y"] + place["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] * 0.25, place["y"] + place["height"] * 0.25, steps=4)
    page.mouse.up()
    box = field(page, "#box")
    expect(box).not_to_have_value("", timeout=WAIT)
    corners = [float(part) for part in box.input_value().split(",")]
    assert corners == pytest.approx([728 * 0.25, 532 * 0.25, 728 * 0.75, 532 * 0.5], abs=3)
    assert float(page.locator("#board rect").get_attribute("width") or 0) == pytest.approx(728 * 0.5, abs=3)
    page.locator("#do-crop").click()
    told(page, "Turns taken: 2")
    box.fill("not a box")
    page.locator("#do-crop").click()
    told(page, "a box is four numbers")
    field(page, "#answer").fill("1,250")
    page.locator("#do-answer").click()
    told(page, "Answer: 1,250.")
    episode = page.frame_locator("#episode iframe")
    expect(episode.locator("li.crop")).to_have_count(1)
    expect(episode.get_by_text("Where: image 1")).to_be_visible()


def test_add_a_document_and_ask_about_it(visit: Callable[..., Page], tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "quince <b>.pdf"
    canvas = Canvas(str(path), pagesize=(400, 300))
    canvas.drawString(50, 150, "quince jam costs 7 euros")
    canvas.save()
    (tmp_path / "bad.pdf").write_bytes(b"MZ this is no PDF")
    page = visit()
    page.get_by_role("tab", name="Documents", exact=True).click()
    page.locator("#files input[type=file]").set_input_files(tmp_path / "bad.pdf")
    expect(page.locator("#files")).to_contain_text("bad", timeout=WAIT)
    page.locator("#add").click()
    told(page, "bad.pdf is not a PDF", "#added")
    page.get_by_role("tab", name="Ask").click()
    other = visit()
    other.get_by_role("tab", name="Documents", exact=True).click()
    other.locator("#files input[type=file]").set_input_files(path)
    expect(other.locator("#files")).to_contain_text("quince", timeout=WAIT)
    other.locator("#add").click()
    told(other, "1 pages are yours now", "#added")
    other.get_by_role("tab", name="Ask").click()
    other.get_by_label("mine").first.check()
    field(other, "#question").fill("What does quince jam cost?")
    other.get_by_text("Take over").click()
    field(other, "#query").fill("quince jam")
    other.locator("#do-search").click()
    told(other, "Turns taken: 1")
    expect(other.frame_locator("#episode iframe").locator("img")).to_have_count(1)
    # What one visitor has added, another does not see.
    page.get_by_label("mine").first.check()
    field(page, "#question").fill("What does quince jam cost?")
    page.locator("#step").click()
    told(page, "you have not added a document yet")


def test_search_pages_and_boxes(visit: Callable[..., Page]) -> None:
    page = visit()
    page.get_by_role("tab", name="Search and pages").click()
    field(page, "#look-for").fill("gondola")
    page.locator("#find").click()
    told(page, "1 pages found", "#found")
    page.locator("#gallery button:has(img)").first.click()
    told(page, "Page 1 of travel/olive.pdf", "#found")
    expect(page.locator("#page img").first).to_be_visible()
    page.get_by_label("Boxes of the text").check()
    expect(page.locator("#page img").first).to_be_visible()
    field(page, "#number").fill("99")
    page.locator("#show-page").click()
    told(page, "has no page 99", "#found")


def test_a_slow_agent_blocks_nobody_and_can_be_stopped(visit: Callable[..., Page], waiting: Waiting) -> None:
    waiting.asked.clear()
    waiting.go.clear()
    page = visit()
    field(page, "#question").fill("How long?")
    page.get_by_label("waiting").check()
    page.locator("#ask").click()
    assert waiting.asked.wait(120)
    other = visit()
    other.get_by_role("tab", name="Search and pages").click()
    field(other, "#look-for").fill("gondola")
    other.locator("#find").click()
    told(other, "1 pages found", "#found")
    page.locator("#stop").click()
    told(page, "Stopping")
    waiting.go.set()
    told(page, "Turns taken: 1")
    expect(page.frame_locator("#episode iframe").locator("li.turn")).to_have_count(1)


def test_look_through_runs_and_compare(
    visit: Callable[..., Page], runs: Path, make_episode: Callable[..., Any]
) -> None:
    for name, answer in (("good", "42.5"), ("bad", "7")):
        episode = make_episode("amber-revenue")
        episode.step_text("<think>a</think><search>ambrosia</search>")
        episode.step_text(f"<think>a</think><answer>{answer}</answer>")
        other = make_episode("olive-price")
        other.step_text("<think>a</think><answer>Not answerable</answer>")
        (runs / name).mkdir(exist_ok=True)
        lines = [json.dumps(episode_to_record(each, name)) for each in (episode, other)]
        (runs / name / "episodes.jsonl").write_text("\n".join(lines))
    page = visit()
    page.get_by_role("tab", name="Runs").click()
    run = page.get_by_label("Run", exact=True)
    run.click()
    page.get_by_role("option", name="bad").click()
    told(page, "2 of 2 episodes", "#runs-told")
    page.locator("#outcome input").click()
    page.get_by_role("option", name="wrong").click()
    told(page, "1 of 2 episodes", "#runs-told")
    page.locator("#show-episode").click()
    expect(page.frame_locator("#replay iframe").locator("h1")).to_contain_text("Amber Falcon", timeout=WAIT)
    page.locator("#other input").click()
    page.get_by_role("option", name="good").click()
    page.locator("#show-episode").click()
    both = page.frame_locator("#replay iframe")
    expect(both.locator(".column")).to_have_count(2, timeout=WAIT)
    expect(both.locator("#right-2")).to_contain_text("42.5")


def test_what_is_hostile_runs_nowhere(visit: Callable[..., Page]) -> None:
    page = visit()
    field(page, "#question").fill(HOSTILE)
    page.get_by_label("hostile").check()
    page.locator("#ask").click()
    told(page, "Answer:")
    episode = page.frame_locator("#episode iframe")
    expect(episode.locator("li.turn")).to_have_count(2)
    expect(episode.locator("h1")).to_contain_text("<script>parent.pwned", timeout=WAIT)
    assert page.evaluate("window.pwned") is None
    assert all(frame.evaluate("window.pwned") is None for frame in page.frames)
    assert "\u202e" not in episode.locator("body").inner_text()


def test_pages_of_a_replay(visit: Callable[..., Page], make_episode: Callable[..., Any], tmp_path: Path) -> None:
    episode = make_episode("amber-revenue")
    episode.step_text(f"<think>{HOSTILE}</think><search>ambrosia</search>")
    episode.step_text("<think>b</think><bbox>[73, 133, 655, 186]</bbox>")
    episode.step_text(f"<think>{HOSTILE}</think><answer>{HOSTILE}</answer>")
    record = EpisodeRecord.of(episode, HOSTILE)
    write_run(tmp_path, [record, record], corpus_images(episode.corpus), HOSTILE)
    page = visit(f"file://{tmp_path}/index.html")
    expect(page.locator("#shown")).to_have_text("2")
    page.locator("select[name=outcome]").select_option("wrong")
    page.locator("input[name=words]").fill("nothing holds these words")
    expect(page.locator("#shown")).to_have_text("0")
    page.locator("input[name=words]").fill("")
    page.locator("tbody a").first.click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "turn-2"
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.id") == "turn-1"
    expect(page.locator("rect.gold").first).not_to_be_visible()
    page.keyboard.press("g")
    expect(page.locator("rect.gold").first).to_be_visible()
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (400, "light"), (400, "dark")])
def test_nothing_is_cut_off(
    visit: Callable[..., Page], make_episode: Callable[..., Any], tmp_path: Path, width: int, scheme: str
) -> None:
    page = visit(width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    episode = make_episode("amber-revenue")
    episode.step_text("<think>b</think><search>ambrosia</search>")
    (tmp_path / "page.html").write_text(record_html(EpisodeRecord.of(episode), episode.image))
    page = visit(f"file://{tmp_path}/page.html", width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(int(part) for part in colour[4:-1].split(",")) / 3 for colour in (ink, paper)]
    assert (light[0] < light[1]) == (scheme == "light")
    assert abs(light[0] - light[1]) > 120
