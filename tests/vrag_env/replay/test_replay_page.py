"""The replay: one safe, self-contained page, and a record that survives JSON."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vrag_env.questions import Evidence
from vrag_env.replay import (
    EpisodeRecord,
    Sampled,
    corpus_images,
    episode_to_record,
    record_html,
    replay_html,
    write_replay,
)
from vrag_env.views import PixelBudget

HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\x1b\ud800 javascript:"
SEARCH = "<think>I look for it.</think><search>ambrosia</search>"
CROP = "<think>Too small.</think><bbox>[73, 133, 655, 186]</bbox>"
ANSWER = "<think>There.</think><answer>42.5</answer>"
VOID = {"meta", "img", "input", "rect"}


class Page(HTMLParser):
    """Reads a page: its elements with their attributes, its text, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def play(make_episode: Callable[..., Any]) -> Callable[..., Any]:
    def run(*actions: str, question: str = "amber-revenue", **config: Any) -> Any:
        episode = make_episode(question, **config)
        for action in actions:
            episode.step_text(action)
        return episode

    return run


def test_the_page_tells_the_episode(play: Callable[..., Any], tmp_path: Path) -> None:
    episode = play(SEARCH, CROP, "gibberish", ANSWER)
    path = write_replay(tmp_path / "replay.html", episode, title="A & B")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    for words in (
        "A & B",
        episode.question.text,
        "I look for it.",
        "ambrosia",
        "[73, 133, 655, 186]",
        "gibberish",
        "Invalid turn: a turn starts with a thought",
        "42.5",
        "0.975",
        "finance/amber.pdf#1",
        "Sum of the rewards",
        "pattern",
    ):
        assert words in page.text
    assert len(page.all("img")) == 3  # the page; the page once more beside the crop
    assert path.stat().st_size < 1_000_000


def test_boxes_are_drawn_in_the_frame_of_the_image(play: Callable[..., Any]) -> None:
    page = Page(replay_html(play(SEARCH, CROP, ANSWER)))
    crops = [rect for rect in page.all("rect") if rect["class"] == "crop"]
    assert [(r["x"], r["y"], r["width"], r["height"]) for r in crops] == [("73.0", "133.0", "582.0", "53.0")]
    gold = [rect for rect in page.all("rect") if rect["class"] == "gold"]
    # Evidence (0.1, 0.25, 0.9, 0.35) on the page of 728 x 532, twice; and on the crop, clipped to it.
    expected = ("72.8", "133.0", "582.4", "53.2")
    assert [(r["x"], r["y"], r["width"], r["height"]) for r in gold[:2]] == [expected] * 2
    assert len(gold) == 3
    viewboxes = [svg["viewbox"] for svg in page.all("svg")]
    assert viewboxes[:2] == ["0 0 728 532"] * 2


def test_a_gold_box_elsewhere_is_not_drawn(play: Callable[..., Any]) -> None:
    episode = play(SEARCH, "<think>a</think><bbox>[0, 300, 700, 500]</bbox>")
    page = Page(replay_html(episode))
    assert len([r for r in page.all("rect") if r["class"] == "gold"]) == 2  # the page twice, not the crop
    episode.question = replace(episode.question, evidence=(Evidence("travel/ivory.pdf#1", (0, 0, 1, 1)),))
    assert [r for r in Page(replay_html(episode)).all("rect") if r["class"] == "gold"] == []


def test_pictures_are_the_views(play: Callable[..., Any]) -> None:
    episode = play(SEARCH, CROP, ANSWER)
    sources = [image["src"] or "" for image in Page(replay_html(episode)).all("img")]
    decoded = []
    for source in sources:
        assert source.startswith("data:image/webp;base64,")
        decoded.append(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))
    page, crop = episode.image(episode.views[0]), episode.image(episode.views[1])
    for picture, original in zip(decoded, [page, page, crop], strict=True):
        assert picture.size == original.size
        assert np.abs(np.asarray(picture, int) - np.asarray(original, int)).mean() < 4


def test_nothing_is_requested_or_run(play: Callable[..., Any]) -> None:
    html = replay_html(play(SEARCH, CROP, ANSWER))
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "iframe", "object", "embed", "a", "form", "base", "video", "audio"}
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("style", "href", "srcset") for name in attributes)
        if "src" in attributes:
            assert tag == "img"
            assert (attributes["src"] or "").startswith("data:image/webp;base64,")
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    policy = next(m["content"] or "" for m in page.all("meta") if "content-security-policy" in str(m).lower())
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):  # one of each, with its digest, else the browser would refuse it
        [source] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_texts_stay_texts(play: Callable[..., Any]) -> None:
    episode = play(SEARCH, f"<think>{HOSTILE}</think><search>{HOSTILE}</search>", HOSTILE)
    episode.step_text(f"<think>{HOSTILE}</think><answer>{HOSTILE}</answer>")
    episode.question = replace(
        episode.question,
        text=HOSTILE,
        answer=HOSTILE,
        answer_variants=(HOSTILE,),
        gold_pages=(HOSTILE,),
        evidence=(Evidence(HOSTILE, (0, 0, 1, 1)),),
    )
    html = replay_html(episode, title=HOSTILE)
    page = Page(html)
    assert page.open == []
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert {a["src"] for a in page.all("img")} & {"x"} == set()
    assert page.text.count("alert(1)") >= 8
    html.encode()
    assert "\x00" not in html
    assert "\x1b" not in html


def test_a_hostile_file_name_stays_text(tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    from vrag_env.corpus import Corpus, ingest
    from vrag_env.episode import Episode
    from vrag_env.questions import Question
    from vrag_env.retrieval import make_retriever
    from vrag_env.rewards import make_reward

    name = 'a" onerror="alert(1)" x=\'<b>&.pdf'
    canvas = Canvas(str(tmp_path / name), pagesize=(300, 300))
    canvas.drawString(50, 150, "quince")
    canvas.save()
    corpus = Corpus.create(tmp_path / "corpus")
    ingest([tmp_path / name], corpus, long_side=300, workers=1, progress=False)
    question = Question("q", "What?", "quince", gold_pages=(f"{name}#1",))
    episode = Episode(question, corpus, make_retriever("lexical", corpus), make_reward("paper"))
    episode.start()
    episode.step_text("<think>a</think><search>quince</search>")
    page = Page(replay_html(episode))
    assert (page.all("img")[0]["alt"] or "").endswith(f": {name}#1")
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert page.all("b") == []


def test_a_huge_episode_stays_small(play: Callable[..., Any], tmp_path: Path) -> None:
    big = PixelBudget(min_pixels=2_000_000, max_pixels=4_000_000)
    episode = play(max_turns=30, pages_per_search=8, pixels=big, box_frame="1000")
    episode.step_text("<think>all</think><search>report</search>")
    for _ in range(20):
        episode.step_text(f"<think>{'&<中' * 30_000}</think><bbox>[0, 0, 1000, 1000]</bbox>")
    episode.step_text(f"<think>x</think><answer>{'<' * 10_000}</answer>")
    path = write_replay(tmp_path / "big.html", episode)
    assert path.stat().st_size < 5_000_000
    assert len(Page(path.read_text(encoding="utf-8")).all("img")) == 8 + 2 * 20


@pytest.mark.parametrize("limit", [20_000, 5_000, 1_000])
def test_pictures_shrink_to_the_limit(play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("vrag_env.replay.page.MAX_IMAGE_BYTES", limit)
    images = Page(replay_html(play(SEARCH, CROP, ANSWER))).all("img")
    sizes = [len(base64.b64decode((image["src"] or "").partition(",")[2])) for image in images]
    assert len(sizes) == 3
    assert sum(sizes) <= limit
    assert (images[0]["width"], images[0]["height"]) == ("728", "532")  # shown as large as before


def test_states_without_an_end(play: Callable[..., Any]) -> None:
    assert "none yet" in replay_html(play(SEARCH))
    assert "none, out of turns" in replay_html(play("", "", max_turns=1))
    unanswerable = play("<think>a</think><answer>Not answerable</answer>", question="olive-price")
    assert "There is no gold page" in replay_html(unanswerable)
    empty = Page(replay_html(play()))
    assert empty.open == []
    assert empty.all("img") == []


def test_a_page_from_its_record_and_corpus_is_the_same(play: Callable[..., Any]) -> None:
    episode = play(SEARCH, CROP, "gibberish", ANSWER)
    record = EpisodeRecord.from_json(json.loads(json.dumps(episode_to_record(episode))))
    assert record_html(record, corpus_images(episode.corpus)) == replay_html(episode)


def test_rank_and_score_of_a_page(play: Callable[..., Any]) -> None:
    episode = play("<think>a</think><search>report</search>", "<think>again</think><search>report</search>")
    first, second = Page(replay_html(episode)).all("img")
    hits = episode.turns[1].hits
    assert (first["alt"] or "").startswith("Image 1, rank 1, score ")
    assert (second["alt"] or "").startswith(f"Image 2, rank 2, score {hits[1].score:.3f}")


def test_sampled_tokens_time_and_pixels(play: Callable[..., Any]) -> None:
    episode = play(SEARCH, ANSWER)
    sampled = Sampled(("<think>", "sure", "ly</think>"), (-0.01, -0.3, -9.0))
    page = Page(record_html(EpisodeRecord.of(episode, sampled=(sampled, None), seconds=(1.25, None)), episode.image))
    classes = [span["class"] for span in page.all("span") if (span["class"] or "").startswith("heat")]
    assert classes == ["heat0", "heat2", "heat6"]
    assert "3 tokens · 387,296 pixels · 1.25 s" in page.text
    assert "log-prob -9.31" in page.text
    assert any(box["id"] == "heat" for box in page.all("input"))
    assert all(box["id"] != "heat" for box in Page(replay_html(episode)).all("input"))
