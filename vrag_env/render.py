"""The two render modes: the conversation as text, and one picture of what the agent sees and where it is."""

from __future__ import annotations

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from vrag_env.actions import Action, Answer, Crop, Invalid, Search
from vrag_env.episode import Episode, Turn
from vrag_env.views import View, relative_to

CANVAS = (1280, 720)
"""``(width, height)`` of every picture, so that the frames of an episode make a video."""

_MARGIN, _HEADER, _LINE = 24, 92, 24
_LEFT = (_MARGIN, _HEADER, 644, 690)
_RIGHT = (668, _HEADER, 1256, 690)
_BACKGROUND, _PANEL, _INK, _FAINT, _ACCENT = "#f4f5f7", "#dde1e6", "#1b1f24", "#667080", "#d0342c"
_LONGEST = 4_000
"""Most characters of one text that are laid out; no more fits on the canvas."""


def printable(text: str) -> str:
    """Replace control characters, which could steer a terminal, and surrogates, which can not be encoded."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def describe_action(action: Action) -> str:
    """Say in one line what a turn did, for people."""
    if isinstance(action, Search):
        return f"search: {action.query}"
    if isinstance(action, Crop):
        return f"crop: [{', '.join(f'{value:g}' for value in action.box)}]"
    if isinstance(action, Answer):
        return f"answer: {action.text}"
    return f"invalid: {action.reason}"


def describe_terms(turn: Turn) -> str:
    """Write the reward of a turn and its terms in one line."""
    terms = ", ".join(f"{name} {value:.3f}" for name, value in turn.reward_terms)
    return f"reward {turn.reward:.3f}" + (f" ({terms})" if terms else "")


def render_ansi(episode: Episode) -> str:
    """Write the conversation so far: the question, and of each turn thought, action, reply and reward.

    Args:
        episode: The episode, running or ended.

    Returns:
        Lines of plain text that end with a line break. Control characters of questions and agents are
        replaced.
    """
    lines = [f"Question: {episode.question.text}"]
    for number, turn in enumerate(episode.turns, start=1):
        lines += ["", f"Turn {number}"]
        if turn.thought:
            lines.append(f"  thought  {turn.thought}")
        name, _, body = describe_action(turn.action).partition(": ")
        lines.append(f"  {name:<7}  {turn.text if isinstance(turn.action, Invalid) else body}")
        if turn.message:
            lines.append(f"  reply    {turn.message}")
        for view in turn.views:
            lines.append(f"  image    {view.view_id}: {_where(view)}")
        lines.append(f"  {describe_terms(turn)}")
    if episode.done:
        how = "answered" if episode.state.terminated else "out of turns"
        lines += ["", f"End: {how}, return {sum(turn.reward for turn in episode.turns):.3f}"]
    return printable("\n".join(lines)) + "\n"


def render_rgb(episode: Episode) -> np.ndarray:
    """Draw the state: the question, the page or parent view with the last box, the crop, the last turn.

    Args:
        episode: The episode, running or ended.

    Returns:
        ``uint8`` array ``(720, 1280, 3)``, whatever the state.
    """
    canvas = PILImage.new("RGB", CANVAS, _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    _write(draw, episode.question.text, (_MARGIN, 16, CANVAS[0] - _MARGIN, _HEADER - 8), 20, _INK)
    view = episode.view
    draw.rounded_rectangle(_LEFT, 8, _PANEL)
    text_top = _RIGHT[1]
    if view is None:
        _write(draw, "No page has been shown yet.", _inside(_LEFT), 18, _FAINT)
    elif view.parent_id is None:
        _paste(canvas, episode, view, _LEFT)
    else:
        parent = episode.views[view.parent_id - 1]
        at = _paste(canvas, episode, parent, _LEFT)
        x0, y0, x1, y1 = relative_to(parent.box, view.box)
        left, top, width, height = at
        box = (left + x0 * width, top + y0 * height, left + x1 * width, top + y1 * height)
        draw.rectangle(box, outline=_ACCENT, width=3)
        upper = (_RIGHT[0], _RIGHT[1], _RIGHT[2], 430)
        draw.rounded_rectangle(upper, 8, _PANEL)
        _paste(canvas, episode, view, upper)
        text_top = 446
    _write(draw, _last_turn(episode), (_RIGHT[0], text_top, _RIGHT[2], _RIGHT[3]), 17, _INK)
    return np.array(canvas)


def _where(view: View) -> str:
    if view.parent_id is None:
        return f"page {view.page_id}"
    corners = ", ".join(f"{value:.3f}" for value in view.box)
    return f"cut from image {view.parent_id}, page {view.page_id}, region [{corners}]"


def _last_turn(episode: Episode) -> str:
    status = f"{len(episode.turns)} turns, return {sum(turn.reward for turn in episode.turns):.3f}"
    if episode.view is not None:
        status = f"Image {episode.view.view_id}: {_where(episode.view)}\n{status}"
    if not episode.turns:
        return status
    turn = episode.turns[-1]
    parts = [turn.thought, describe_action(turn.action), turn.message, describe_terms(turn)]
    return "\n".join([*(part[:600] for part in parts if part), "", status])


def _inside(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return box[0] + 16, box[1] + 16, box[2] - 16, box[3] - 16


def _paste(
    canvas: PILImage.Image, episode: Episode, view: View, box: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Paste a view as large as it fits, centred, and return ``(left, top, width, height)``."""
    left, top, right, bottom = box[0] + 8, box[1] + 8, box[2] - 8, box[3] - 8
    scale = min((right - left) / view.size[0], (bottom - top) / view.size[1])
    width, height = max(1, round(view.size[0] * scale)), max(1, round(view.size[1] * scale))
    at = (left + (right - left - width) // 2, top + (bottom - top - height) // 2)
    canvas.paste(episode.image(view).resize((width, height), PILImage.Resampling.LANCZOS), at)
    return *at, width, height


def _write(draw: ImageDraw.ImageDraw, text: str, box: tuple[int, int, int, int], size: int, colour: str) -> None:
    """Write text into a box, wrapped; what does not fit is cut off."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = box
    for line in _wrap(draw, printable(text[:_LONGEST]), font, right - left):
        if top + size > bottom:
            return
        draw.text((left, top), line, colour, font)
        top += max(_LINE, size + 4)


def _wrap(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            joined = f"{line} {word}" if line else word
            if draw.textlength(joined, font) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            while draw.textlength(word, font) > width:  # one word wider than the box: break it anywhere
                fits = max(1, int(len(word) * width / draw.textlength(word, font)))
                lines.append(word[:fits])
                word = word[fits:]
            line = word
        lines.append(line)
    return lines
