"""Render modes: text without control characters, pictures of one shape with the box where it belongs."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vrag_env.env import VRAGEnv
from vrag_env.render import printable, render_ansi, render_rgb

RED = np.array([0xD0, 0x34, 0x2C])


@pytest.fixture
def episode(make_episode: Callable[..., Any]) -> Any:
    return make_episode("amber-revenue")


def step(episode: Any, *actions: str) -> Any:
    for action in actions:
        episode.step_text(action)
    return episode


SEARCH = "<think>I look for it.</think><search>ambrosia</search>"
CROP = "<think>Too small.</think><bbox>[364, 0, 728, 266]</bbox>"
ANSWER = "<think>There.</think><answer>42.5</answer>"


def test_the_conversation(episode: Any) -> None:
    text = render_ansi(step(episode, SEARCH, CROP, "gibberish", ANSWER))
    assert text.splitlines() == [
        "Question: What revenue does Amber Falcon report for the North region, in million?",
        "",
        "Turn 1",
        "  thought  I look for it.",
        "  search   ambrosia",
        "  reply    Image 1: 728 x 532.",
        "  image    1: page finance/amber.pdf#1",
        text.splitlines()[7],
        "",
        "Turn 2",
        "  thought  Too small.",
        "  crop     [364, 0, 728, 266]",
        f"  reply    Image 2: {episode.views[1].size[0]} x {episode.views[1].size[1]}.",
        "  image    2: cut from image 1, page finance/amber.pdf#1, region [0.500, 0.000, 1.000, 0.500]",
        text.splitlines()[14],
        "",
        "Turn 3",
        "  invalid  gibberish",
        "  reply    Invalid turn: a turn starts with a thought in think tags.",
        text.splitlines()[19],
        "",
        "Turn 4",
        "  thought  There.",
        "  answer   42.5",
        text.splitlines()[24],
        "",
        "End: answered, return 0.975",  # 0.2 + 0.7 + 0.1 * 3 of 4 turns
    ]
    assert text.splitlines()[7].startswith("  reward 0.000 (")
    assert "retrieval 1.000" in text.splitlines()[24]
    assert "pattern 0.750" in text.splitlines()[24]


def test_an_end_without_an_answer(make_episode: Callable[..., Any]) -> None:
    assert "End: out of turns, return" in render_ansi(step(make_episode(max_turns=1), "", ""))


def test_no_control_character_reaches_the_terminal(episode: Any) -> None:
    step(episode, "<think>\x1b[2J\x07a\r\u202eb\ud800</think><answer>\x1b]0;title\x07</answer>")
    text = render_ansi(episode)
    assert all(char.isprintable() or char == "\n" for char in text)
    text.encode()
    assert printable("a\tb\x00c\nd é中🙂") == "a\ufffdb\ufffdc\nd é中🙂"


def test_pictures_have_one_shape_in_every_state(episode: Any) -> None:
    frames = [render_rgb(episode)]
    for action in (SEARCH, CROP, "gibberish", ANSWER):
        frames.append(render_rgb(step(episode, action)))
    for frame in frames:
        assert frame.shape == (720, 1280, 3)
        assert frame.dtype == np.uint8
        assert frame.flags.writeable
    for before, after in itertools.pairwise(frames):
        assert (before != after).any()


def red_box(frame: np.ndarray) -> tuple[int, int, int, int]:
    """Corners of the box in the left panel, in pixels of the frame."""
    rows, columns = np.nonzero((frame[:, :644] == RED).all(axis=-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_the_box_is_drawn_where_it_was_cut(episode: Any) -> None:
    step(episode, SEARCH)
    assert not (render_rgb(episode) == RED).all(axis=-1).any()
    frame = render_rgb(step(episode, CROP))
    # The page of 728 x 532 is as wide as its panel allows: 604 pixels from x = 32, so 441 high, centred in
    # y = 100 ... 682, from 170. The crop is its upper right quarter.
    np.testing.assert_allclose(red_box(frame), (32 + 302, 170, 32 + 604, 170 + 221), atol=3)


def test_a_crop_of_a_crop_is_drawn_on_its_parent(episode: Any) -> None:
    step(episode, SEARCH, CROP)
    width, height = episode.view.size
    frame = render_rgb(step(episode, f"<think>a</think><bbox>[0, {height // 2}, {width // 2}, {height}]</bbox>"))
    left, top, right, bottom = red_box(frame)
    # The lower left quarter of the parent, whatever its place on the page.
    scale = min(604 / width, 582 / height)
    shown = (round(width * scale), round(height * scale))
    assert right - left == pytest.approx(shown[0] / 2, abs=4)
    assert bottom - top == pytest.approx(shown[1] / 2, abs=4)
    assert left == pytest.approx(32 + (604 - shown[0]) / 2, abs=3)
    assert bottom == pytest.approx(100 + (582 + shown[1]) / 2, abs=3)


@pytest.mark.parametrize("text", ["x" * 20_000, "wörter 中文 🙂 \x00 \ud800", "", "a\n" * 500, " " * 3000])
def test_any_text_can_be_drawn(episode: Any, text: str) -> None:
    from vrag_env.episode import Episode

    episode.question = replace(episode.question, text=text)
    step(episode, SEARCH, f"<think>{text}</think><answer>{text[:9000]}.</answer>")
    assert isinstance(episode, Episode)
    assert render_rgb(episode).shape == (720, 1280, 3)
    render_ansi(episode).encode()


def test_through_the_environment(tiny_corpus: Any, tiny_questions: Any) -> None:
    for mode, kind in (("ansi", str), ("rgb_array", np.ndarray)):
        env = VRAGEnv(tiny_corpus, tiny_questions, render_mode=mode)
        env.reset(seed=0)
        assert isinstance(env.render(), kind)
    env = VRAGEnv(tiny_corpus, tiny_questions)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None
