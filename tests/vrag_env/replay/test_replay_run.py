"""The list of a run, and two episodes side by side."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vrag_env.errors import VRAGError
from vrag_env.replay import EpisodeRecord, comparison_html, corpus_images, write_comparison, write_run

SEARCH = "<think>I look for it.</think><search>ambrosia</search>"
RIGHT = "<think>There.</think><answer>42.5</answer>"
CROP = "<think>Too small.</think><bbox>[73, 133, 655, 186]</bbox>"
WRONG = "<think>There.</think><answer>7</answer>"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e'


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def played(make_episode: Callable[..., Any]) -> Callable[..., Any]:
    def run(*actions: str, question: str = "amber-revenue", **config: Any) -> Any:
        episode = make_episode(question, **config)
        for action in actions:
            episode.step_text(action)
        return episode

    return run


def test_a_run_is_a_list_with_a_page_per_episode(played: Callable[..., Any], tmp_path: Path) -> None:
    episodes = [played(SEARCH, RIGHT), played(SEARCH, "junk", WRONG), played("", "", max_turns=1)]
    records = [EpisodeRecord.of(episode, "player & co") for episode in episodes]
    done: list[int] = []
    index = write_run(tmp_path / "out", records, corpus_images(episodes[0].corpus), "A run", done.append)
    rows = [row for row in Elements(index.read_text()).all("tr") if "data-outcome" in row]
    assert [row["data-outcome"] for row in rows] == ["right", "wrong", "no answer"]
    assert [(row["data-turns"], row["data-invalid"]) for row in rows] == [("2", "0"), ("3", "1"), ("2", "2")]
    links = [a["href"] or "" for a in Elements(index.read_text()).all("a")]
    assert links == [f"episodes/0000{n}.html" for n in (1, 2, 3)]
    assert all("player &amp; co" in (tmp_path / "out" / link).read_text() for link in links)
    assert len(done) == 3


def test_a_hostile_run_stays_text(played: Callable[..., Any], tmp_path: Path) -> None:
    episode = played(SEARCH, f"<think>x</think><answer>{HOSTILE}</answer>")
    record = EpisodeRecord.of(episode, HOSTILE)
    index = write_run(tmp_path, [record], corpus_images(episode.corpus), HOSTILE)
    page = Elements(index.read_text())
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert "\u202e" not in index.read_text()
    [row] = [row for row in page.all("tr") if "data-policy" in row]
    assert (row["data-policy"] or "").startswith('"><script>alert(1)')


def test_two_episodes_side_by_side(played: Callable[..., Any], tmp_path: Path) -> None:
    left, right = played(SEARCH, RIGHT), played(SEARCH, CROP, WRONG)
    records = EpisodeRecord.of(left, "ppo"), EpisodeRecord.of(right, "sft")
    path = write_comparison(tmp_path / "both.html", *records, corpus_images(left.corpus))
    page = Elements(path.read_text())
    assert [turn["id"] for turn in page.all("li") if "turn" in (turn.get("class") or "")] == [
        "left-1",
        "left-2",
        "right-1",
        "right-2",
        "right-3",
    ]
    assert len(page.all("img")) == 1 + 3
    assert "ppo and sft" in path.read_text()
    other = EpisodeRecord.of(played(SEARCH, question="olive-price"))
    with pytest.raises(VRAGError, match="two episodes of one question"):
        comparison_html(records[0], other, corpus_images(left.corpus))
