"""The format of VRAG-RL's released ``search_sft.json``, read and written.

A list of ``{"messages": [{"role", "content"}...], "images": [path...]}``: the first user message is the prompt
with the question, each further one is ``<image>`` and what the environment says, and the images follow in the
order of their marks. LLaMA-Factory reads it as its ShareGPT layout.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from vrag_agent.demonstrations.record import Demonstration, Message, Part
from vrag_agent.demonstrations.store import DemonstrationStore
from vrag_env.actions import Answer, Crop, Invalid, Search, format_turn, parse
from vrag_env.errors import DemonstrationError
from vrag_env.views import PixelBudget

MARK = "<image>"
RELEASED_BOX_PIXELS = PixelBudget(56 * 56, 512 * 28 * 28)
"""Sizes in whose pixels the released boxes are written: the converter's smallest image is 56 by 56 pixels, while
the rollout enlarges images to at least 256 * 28 * 28. Boxes on small images are therefore scaled when read."""


@dataclass(frozen=True)
class Skipped:
    """An example that was not read or written.

    Attributes:
        name: Which one.
        reason: Why.
    """

    name: str
    reason: str


def write_released(
    demonstrations: Sequence[Demonstration], store: DemonstrationStore, path: str | Path
) -> list[Skipped]:
    """Write demonstrations in the released format, whole or not at all.

    Args:
        demonstrations: What is written.
        store: Where their images are; paths are written relative to the file where they can be.
        path: The JSON file.

    Returns:
        Those that were left out: whose text holds the image mark, so that marks and images would not agree.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    items: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    for demonstration in demonstrations:
        if any(MARK in message.text for message in demonstration.messages) or MARK in demonstration.system:
            skipped.append(Skipped(demonstration.question_id, f"its text holds {MARK}"))
            continue
        messages = []
        for index, message in enumerate(demonstration.messages):
            content = "".join(MARK if part.kind == "image" else part.value for part in message.parts)
            if index == 0 and demonstration.system:
                content = f"{demonstration.system}\n\n{content}"
            messages.append({"role": message.role, "content": content})
        images = [_relative(store.image_path(name), path.parent) for name in demonstration.images]
        items.append({"messages": messages, "images": images})
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(items, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
    return skipped


def _relative(image: Path, directory: Path) -> str:
    image, directory = image.resolve(), directory.resolve()
    return str(image.relative_to(directory)) if image.is_relative_to(directory) else str(image)


def read_released(
    path: str | Path,
    store: DemonstrationStore,
    *,
    images: str | Path | None = None,
    pixels: PixelBudget | None = None,
    box_pixels: PixelBudget = RELEASED_BOX_PIXELS,
) -> tuple[list[Demonstration], list[Skipped]]:
    """Read demonstrations in the released format; their images go into the store in the sizes of the environment.

    Args:
        path: The JSON file.
        store: Where the images go.
        images: Directory of the image paths; by default that of the file. Paths that lead out of it are refused.
        pixels: Sizes at which the environment shows images; boxes are scaled to them.
        box_pixels: Sizes in whose pixels the boxes are written.

    Returns:
        The demonstrations, and the examples that were left out: with a missing image, a turn that does not
        parse, or another layout.

    Raises:
        DemonstrationError: If the file is missing or is no JSON list.
    """
    path = Path(path)
    pixels = pixels if pixels is not None else PixelBudget()
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DemonstrationError(f"{path} can not be read as JSON ({error}): expected VRAG-RL's search_sft.json") from (
            error
        )
    if not isinstance(items, list):
        raise DemonstrationError(f"{path} holds a {type(items).__name__}: expected a list of examples")
    root = Path(images) if images is not None else path.parent
    found: list[Demonstration] = []
    skipped: list[Skipped] = []
    for number, item in enumerate(items):
        name = f"{path.stem}-{number}"
        try:
            found.append(_read(name, item, store, root, pixels, box_pixels))
        except (KeyError, TypeError, ValueError, OSError) as error:
            skipped.append(Skipped(name, f"{type(error).__name__}: {error}"))
    return found, skipped


def _read(
    name: str,
    item: Any,
    store: DemonstrationStore,
    root: Path,
    pixels: PixelBudget,
    box_pixels: PixelBudget,
) -> Demonstration:
    paths = list(item["images"])
    marks = sum(str(message["content"]).count(MARK) for message in item["messages"])
    if marks != len(paths):
        raise ValueError(f"{marks} image marks but {len(paths)} images")
    messages: list[Message] = []
    kinds: list[type] = []
    frame: tuple[tuple[int, int], tuple[int, int]] | None = None  # sizes of the last image: of its boxes, and shown
    for message in item["messages"]:
        content = message["content"]
        if message["role"] == "assistant":
            parsed = parse(content)
            if isinstance(parsed.action, Invalid):
                raise ValueError(f"a turn does not parse: {parsed.action.reason}")
            action = parsed.action
            if isinstance(action, Crop):
                if frame is None:
                    raise ValueError("a box before the first image")
                action = _scaled(action, *frame)
            kinds.append(type(action))
            messages.append(Message("assistant", (Part("text", format_turn(parsed.thought, action)),)))
            continue
        parts: list[Part] = []
        for index, text in enumerate(content.split(MARK)):
            if index:
                image = _load(root, paths.pop(0))
                frame = box_pixels.fit(*image.size), pixels.fit(*image.size)
                shown = image.resize(frame[1], PILImage.Resampling.BICUBIC) if image.size != frame[1] else image
                parts.append(Part("image", store.put_image(shown)))
            if text:
                parts.append(Part("text", text))
        messages.append(Message(message["role"], tuple(parts)))
    return Demonstration(
        question_id=name,
        expert="released",
        attempt=0,
        system="",  # the prompt stands in the first message
        messages=tuple(messages),
        is_success=True,
        answered=bool(kinds) and kinds[-1] is Answer,
        searches=kinds.count(Search),
        crops=kinds.count(Crop),
        rewards=(0.0,) * len(kinds),
    )


def _load(root: Path, path: str) -> PILImage.Image:
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ValueError(f"the image {path!r} lies outside {root}: name its directory with images=")
    with PILImage.open(file) as image:
        return image.convert("RGB")


def _scaled(action: Crop, source: tuple[int, int], target: tuple[int, int]) -> Crop:
    if source == target:
        return action
    x, y = target[0] / source[0], target[1] / source[1]
    x1, y1, x2, y2 = action.box
    return Crop((round(x1 * x), round(y1 * y), round(x2 * x), round(y2 * y)))
