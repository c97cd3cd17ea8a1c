"""Records, store, selection and the released format."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from vrag_agent.demonstrations import Demonstration, DemonstrationStore, Message, Part, balance, reason_to_reject
from vrag_agent.demonstrations.released import read_released, write_released
from vrag_env.actions import Crop, parse
from vrag_env.errors import DemonstrationError
from vrag_env.views import PixelBudget

SEARCH, CROP = "<think>a</think><search>b</search>", "<think>c</think><bbox>[1, 2, 30, 40]</bbox>"
ANSWER = "<think>d</think><answer>e</answer>"


def user(*parts: str) -> Message:
    return Message("user", tuple(Part("image" if len(part) == 64 else "text", part) for part in parts))


def assistant(text: str) -> Message:
    return Message("assistant", (Part("text", text),))


def demonstration(searches: int = 1, crops: int = 0, image: str = "", **fields: Any) -> Demonstration:
    messages = [user("Question: what?")]
    for number in range(searches + crops):
        messages += [assistant(SEARCH if number < searches else CROP), user(*([image] if image else []), "seen")]
    messages.append(assistant(ANSWER))
    values = {"is_success": True, "answered": True, "rewards": (0.0,) * (searches + crops) + (1.0,)}
    return Demonstration(
        "q", "oracle", 0, "Play.", tuple(messages), searches=searches, crops=crops, **{**values, **fields}
    )


def picture(size: tuple[int, int] = (56, 28), colour: str = "red") -> PILImage.Image:
    return PILImage.new("RGB", size, colour)


@pytest.fixture
def store(tmp_path: Path) -> DemonstrationStore:
    return DemonstrationStore(tmp_path / "demos")


def test_parquet_and_journal_give_back_what_was_written(store: DemonstrationStore) -> None:
    image = store.put_image(picture())
    written = [
        demonstration(1, 1, image, reward_terms=(("answer", 1.0), ("pattern", 0.5)), leak=True, prompt_tokens=2**40),
        demonstration(2, rejected="wrong answer", is_success=False),
    ]
    store.write(written)
    assert store.read() == written
    for one in written:
        store.append(one)
    assert store.journal() == written


def test_equal_images_are_kept_once_and_come_back_unchanged(store: DemonstrationStore) -> None:
    first, again, other = store.put_image(picture()), store.put_image(picture()), store.put_image(picture((28, 56)))
    assert first == again != other
    assert len(list(store.directory.rglob("*.png"))) == 2 and not list(store.directory.rglob("*.part"))
    assert store.image(other).tobytes() == picture((28, 56)).tobytes()
    picture((28, 56), "blue").save(store.image_path(other))
    with pytest.raises(DemonstrationError, match="not the one that was kept"):
        store.image(other)
    store.image_path(first).write_bytes(b"no image")
    with pytest.raises(DemonstrationError, match="damaged"):
        store.image(first)
    with pytest.raises(DemonstrationError, match="not the hash"):
        store.image("../../../etc/passwd")


def test_a_torn_line_is_dropped_and_a_damaged_one_is_named(store: DemonstrationStore) -> None:
    store.append(demonstration())
    journal = store.directory / "episodes.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:40])
    assert store.journal() == [demonstration()] and journal.read_bytes() == whole
    journal.write_bytes(whole + b'{"question_id": 3}\n' + whole)
    with pytest.raises(DemonstrationError, match="line 2"):
        store.journal()


def test_settings_are_kept_and_compared(store: DemonstrationStore) -> None:
    store.check_settings({"expert": "oracle", "seed": 0})
    store.check_settings({"expert": "oracle", "seed": 0})
    with pytest.raises(DemonstrationError, match=r"begun with seed 0 \(now 1\)"):
        store.check_settings({"expert": "oracle", "seed": 1})


def test_nothing_there(store: DemonstrationStore, tmp_path: Path) -> None:
    assert store.journal() == []
    with pytest.raises(DemonstrationError, match="vrag collect"):
        store.read()
    (tmp_path / "demos").mkdir()
    (tmp_path / "demos" / "demonstrations.parquet").write_bytes(b"PAR1")
    with pytest.raises(DemonstrationError, match="can not be read"):
        store.read()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"answered": False, "is_success": False, "invalid": 2}, "no answer"),
        ({"invalid": 1}, "invalid turn"),
        ({"is_success": False}, "wrong answer"),
    ],
)
def test_why_one_is_rejected(fields: dict[str, Any], reason: str) -> None:
    assert reason_to_reject(demonstration(**fields)) == reason


def test_balance_evens_out_turns_and_then_searches_and_crops() -> None:
    """Turns 2: 10 of one shape; turns 3: 8 + 2 of two shapes; turns 4: one. Six: 2 + 3 + 1 can not be, so 3 + 2 + 1."""
    many = [demonstration(1, 0)] * 10 + [demonstration(2, 0)] * 8 + [demonstration(1, 1)] * 2 + [demonstration(1, 2)]
    numbered = [replace(d, question_id=str(i)) for i, d in enumerate(many)]
    chosen = balance(numbered, 6)
    assert Counter(d.turns for d in chosen) == {2: 3, 3: 2, 4: 1}
    assert Counter((d.searches, d.crops) for d in chosen if d.turns == 3) == {(2, 0): 1, (1, 1): 1}
    assert [int(d.question_id) for d in chosen] == sorted(int(d.question_id) for d in chosen)
    assert [d.question_id for d in chosen if d.turns == 2] == ["0", "1", "2"]  # the first of each kind
    assert len(balance(numbered, 100)) == len(numbered) and balance([], 5) == []


def test_the_released_format_there_and_back(store: DemonstrationStore, tmp_path: Path) -> None:
    page, crop = store.put_image(picture((728, 532))), store.put_image(picture((728, 532), "blue"))
    messages = (user("Question: what?"), assistant(SEARCH), user(page, "seen"), assistant(CROP), user(crop))
    original = replace(demonstration(1, 1), messages=(*messages, assistant(ANSWER)))
    path = tmp_path / "search_sft.json"
    marked = replace(original, messages=(user("Question: <image>?"), *original.messages[1:]))
    [skipped] = write_released([original, marked], store, path)
    assert "<image>" in skipped.reason
    [item] = json.loads(path.read_text())
    assert [m["content"] for m in item["messages"]] == [
        "Play.\n\nQuestion: what?",
        SEARCH,
        "<image>seen",
        CROP,
        "<image>",
        ANSWER,
    ]
    assert [(path.parent / image).is_file() for image in item["images"]] == [True, True]
    [back], left = read_released(path, store)
    assert left == [] and back.images == original.images and (back.searches, back.crops) == (1, 1)
    assert back.messages[0].text == "Play.\n\nQuestion: what?" and back.messages[1:] == original.messages[1:]


def test_released_images_and_boxes_come_into_the_environments_sizes(store: DemonstrationStore, tmp_path: Path) -> None:
    """A page of 280 x 140 is shown at 644 x 336; a box on it is scaled by 2.3 and 2.4."""
    picture((280, 140)).save(tmp_path / "page.png")
    contents = ["Question: what?", SEARCH, "<image>", "<think>c</think><bbox>[10, 20, 100, 70]</bbox>", "", ANSWER]
    roles = ["user", "assistant"] * 3
    item = {
        "messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)],
        "images": ["page.png"],
    }
    bad = [
        {**item, "images": []},
        {**item, "images": ["../outside.png"]},
        {**item, "images": ["missing.png"]},
        {"messages": [*item["messages"][:-1], {"role": "assistant", "content": "42"}], "images": ["page.png"]},
        "text",
    ]
    path = tmp_path / "search_sft.json"
    path.write_text(json.dumps([item, *bad]))
    picture().save(tmp_path.parent / "outside.png")
    [found], skipped = read_released(path, store, pixels=PixelBudget())
    assert store.image(found.images[0]).size == PixelBudget().fit(280, 140) == (644, 336)
    assert parse(found.messages[3].text).action == Crop((23, 48, 230, 168))
    assert [s.name for s in skipped] == [f"search_sft-{number}" for number in range(1, 6)]
    assert "outside" in skipped[1].reason and "does not parse" in skipped[3].reason
    path.write_text("{}")
    with pytest.raises(DemonstrationError, match="list"):
        read_released(path, store)


def test_records_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="in turn"):
        replace(demonstration(), messages=(assistant(ANSWER), user("x")))
    with pytest.raises(ValueError, match="exactly one text"):
        Message("assistant", (Part("text", "a"), Part("text", "b")))
    with pytest.raises(DemonstrationError, match="no demonstration"):
        Demonstration.from_record({"question_id": "q"})
