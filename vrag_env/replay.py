"""Replay: one episode as one HTML file that a person can open anywhere, and as one JSON record.

The file loads nothing and runs nothing: pictures are inside it, its policy forbids scripts and requests, and
every text of a question, a document or an agent is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from vrag_env.actions import Action, Answer, Crop, Invalid, Search
from vrag_env.corpus.records import Box
from vrag_env.episode import Episode, Turn
from vrag_env.render import printable
from vrag_env.replay_style import STYLE
from vrag_env.views import View, relative_to

RECORD_FORMAT = "vrag-episode/1"
MAX_IMAGE_BYTES = 2_400_000
"""Most bytes of all pictures as encoded, so that the file stays under 5 MB."""
MAX_TEXT_CHARS = 300_000
"""Most characters of all texts together."""
_QUALITY = ((1.0, 82), (1.0, 60), (0.7, 60), (0.5, 55), (0.35, 50), (0.2, 40), (0.1, 30))
"""Scales and WebP qualities to try, best first."""


def episode_to_record(episode: Episode) -> dict[str, Any]:
    """Return an episode as plain data, one line of a JSONL file.

    Args:
        episode: The episode, running or ended.

    Returns:
        ``format``, ``question`` (all its fields), ``turns`` (text, thought, action with its type, hits,
        views, message, reward, reward_terms), ``answer``, ``pages_shown``, ``pixels_spent``, ``return``,
        ``terminated``, ``truncated``; only values that ``json.dumps`` writes.
    """
    return {
        "format": RECORD_FORMAT,
        "question": _plain(asdict(episode.question)),
        "turns": [_turn_record(turn) for turn in episode.turns],
        "answer": episode.answer,
        "pages_shown": list(episode.pages_shown),
        "pixels_spent": episode.pixels_spent,
        "return": sum(turn.reward for turn in episode.turns),
        "terminated": episode.state.terminated,
        "truncated": episode.state.truncated,
    }


def write_replay(path: str | Path, episode: Episode, title: str = "VRAG episode") -> Path:
    """Write an episode as one HTML file.

    Args:
        path: Where to; its directory must exist.
        episode: The episode, ended or running.
        title: Title of the page.

    Returns:
        The path.
    """
    target = Path(path)
    target.write_text(replay_html(episode, title), encoding="utf-8")
    return target


def replay_html(episode: Episode, title: str = "VRAG episode") -> str:
    """Return the page that :func:`write_replay` writes.

    It stays under 5 MB: pictures are reduced, and long texts are cut and say so.
    """
    longest = max(200, min(20_000, MAX_TEXT_CHARS // (4 * len(episode.turns) + 8)))
    pictures = _pictures(episode)
    turns = "".join(
        _turn_html(episode, number, turn, pictures, longest) for number, turn in enumerate(episode.turns, 1)
    )
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    heading = _text(title, longest)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{heading}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n<main>\n"
        f'<p class="kicker">{heading}</p>\n<h1>{_text(episode.question.text, longest)}</h1>\n'
        f"{_outcome_html(episode, longest)}\n"
        f'<input type="checkbox" id="gold"><label for="gold">Show the gold evidence</label>\n'
        f"{_gold_html(episode, longest)}\n<ol>\n{turns}</ol>\n{_rewards_html(episode)}\n"
        f"</main>\n</body>\n</html>\n"
    )


# ---------------------------------------------------------------------- the record


def _turn_record(turn: Turn) -> dict[str, Any]:
    return {
        "text": turn.text,
        "thought": turn.thought,
        "action": {"type": _kind(turn.action), **_plain(asdict(turn.action))},
        "hits": [asdict(hit) for hit in turn.hits],
        "views": [_plain(asdict(view)) for view in turn.views],
        "message": turn.message,
        "reward": turn.reward,
        "reward_terms": dict(turn.reward_terms),
    }


def _kind(action: Action) -> str:
    return type(action).__name__.lower()


def _plain(value: Any) -> Any:
    """Turn tuples into lists, all the way down, so that a record equals itself after a trip through JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


# ---------------------------------------------------------------------- the parts of the page


def _text(text: str, longest: int) -> str:
    cut = text if len(text) <= longest else f"{text[:longest]} … ({len(text)} characters)"
    return escape(printable(cut), quote=True)


def _outcome_html(episode: Episode, longest: int) -> str:
    if episode.answer is not None:
        answer = f"<dd>{_text(episode.answer, longest)}</dd>"
    else:
        answer = f'<dd class="faint">{"none, out of turns" if episode.done else "none yet"}</dd>'
    variants = " · ".join(_text(variant, 200) for variant in episode.question.answer_variants[:10])
    also = f' <span class="faint">also: {variants}</span>' if variants else ""
    total = sum(turn.reward for turn in episode.turns)
    verdict = dict(episode.turns[-1].reward_terms).get("answer") if episode.turns else None
    return (
        f'<dl class="outcome"><div><dt>Answer given</dt>{answer}</div>'
        f"<div><dt>Reference</dt><dd>{_text(episode.question.answer, longest)}{also}</dd></div>"
        f'<div><dt>Return</dt><dd class="number">{total:.3f}</dd></div>'
        f'<div><dt>Verdict on the answer</dt><dd class="number">{_number(verdict)}</dd></div></dl>'
    )


def _gold_html(episode: Episode, longest: int) -> str:
    pages = episode.question.gold_pages
    if not pages:
        return '<p class="gold-note">There is no gold page: these documents do not hold the answer.</p>'
    shown = set(episode.pages_shown)
    items = "".join(
        f'<li>{_text(page, longest)} <span class="faint">{"shown" if page in shown else "never shown"}</span></li>'
        for page in pages[:50]
    )
    boxes = len(episode.question.evidence)
    note = f"{boxes} evidence box{'' if boxes == 1 else 'es'}, drawn dashed" if boxes else "no evidence boxes"
    return f'<div class="gold-note"><p>Gold pages ({note}):</p><ul>{items}</ul></div>'


def _turn_html(episode: Episode, number: int, turn: Turn, pictures: Mapping[int, bytes], longest: int) -> str:
    kind = _kind(turn.action)
    thought = f'<p class="thought">{_text(turn.thought, longest)}</p>' if turn.thought else ""
    figures = "".join(_figures_html(episode, view, pictures) for view in turn.views)
    message = f'<p class="message">{_text(turn.message, longest)}</p>' if turn.message else ""
    return (
        f'<li class="turn {kind}"><header><span class="step">{number}</span>'
        f'<span class="kind">{kind}</span>{_action_html(turn.action, longest)}</header>\n'
        f"{thought}{figures}{message}{_hits_html(turn)}"
        f"<details><summary>As written</summary><pre>{_text(turn.text, longest)}</pre></details></li>\n"
    )


def _action_html(action: Action, longest: int) -> str:
    if isinstance(action, Search):
        return f'<span class="body">{_text(action.query, longest)}</span>'
    if isinstance(action, Crop):
        corners = ", ".join(f"{value:g}" for value in action.box)
        return f'<span class="body number">[{corners}]</span>'
    if isinstance(action, Answer):
        return f'<span class="body">{_text(action.text, longest)}</span>'
    return f'<span class="body">{_text(action.reason, longest)}</span>'


def _hits_html(turn: Turn) -> str:
    if not turn.hits:
        return ""
    shown = {view.page_id for view in turn.views}
    rows = "".join(
        f'<tr{" class=shown" if hit.page_id in shown else ""}><td class="number">{rank}</td>'
        f'<td>{_text(hit.page_id, 300)}</td><td class="number">{hit.score:.3f}</td></tr>'
        for rank, hit in enumerate(turn.hits[:10], 1)
    )
    head = "<thead><tr><th>Rank</th><th>Page</th><th>Score</th></tr></thead>"
    return (
        f"<details><summary>What the search found ({len(turn.hits)})</summary>"
        f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div></details>'
    )


def _figures_html(episode: Episode, view: View, pictures: Mapping[int, bytes]) -> str:
    if view.parent_id is None:
        return f'<div class="figures">{_figure(episode, view, pictures, None, f"Image {view.view_id}")}</div>'
    parent = episode.views[view.parent_id - 1]
    where = _figure(episode, parent, pictures, view.box, f"Where: image {parent.view_id}")
    crop = _figure(episode, view, pictures, None, f"Image {view.view_id}, enlarged")
    return f'<div class="figures pair">{where}{crop}</div>'


def _figure(episode: Episode, view: View, pictures: Mapping[int, bytes], crop: Box | None, caption: str) -> str:
    width, height = view.size
    gold = "".join(
        _rect(view, evidence.box, "gold") for evidence in episode.question.evidence if evidence.page_id == view.page_id
    )
    drawn = _rect(view, crop, "crop") if crop is not None else ""
    data = base64.b64encode(pictures[view.view_id]).decode("ascii")
    page = _text(view.page_id, 300)
    return (
        f'<figure><div class="frame"><img src="data:image/webp;base64,{data}" width="{width}" '
        f'height="{height}" alt="{caption}: {page}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{drawn}{gold}'
        f'</svg></div><figcaption>{caption} <span class="faint">{page} · {width} &times; {height}</span>'
        "</figcaption></figure>"
    )


def _rect(view: View, box: Box, name: str) -> str:
    """Draw a box of the page on a view, clipped to it; nothing where they do not meet."""
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in relative_to(view.box, box))
    if x0 >= x1 or y0 >= y1:
        return ""
    width, height = view.size
    return (
        f'<rect class="{name}" x="{x0 * width:.1f}" y="{y0 * height:.1f}" '
        f'width="{(x1 - x0) * width:.1f}" height="{(y1 - y0) * height:.1f}"/>'
    )


def _rewards_html(episode: Episode) -> str:
    names = list(dict.fromkeys(name for turn in episode.turns for name, _ in turn.reward_terms))
    weights = episode.reward.weights
    rows = _row("weight", [weights.get(name) for name in names], None)
    for number, turn in enumerate(episode.turns, 1):
        terms = dict(turn.reward_terms)
        invalid = " (invalid)" if isinstance(turn.action, Invalid) else ""
        rows += _row(f"{number}{invalid}", [terms.get(name) for name in names], turn.reward)
    head = "".join(f"<th>{_text(name, 100)}</th>" for name in ("Turn", *names, "Reward"))
    total = sum(turn.reward for turn in episode.turns)
    foot = f'<td colspan="{len(names) + 1}">Sum of the rewards</td><td class="number">{total:.3f}</td>'
    return (
        f'<section><h2>Reward</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody><tfoot><tr>{foot}</tr></tfoot></table></div>"
        '<p class="faint">The terms are those after each turn; their weighted sum is paid when the episode '
        "ends. The weight of a term that does not apply to the question is spread over the others.</p>"
        "</section>"
    )


def _row(first: str, values: Sequence[float | None], last: float | None) -> str:
    cells = "".join(f'<td class="number">{_number(value)}</td>' for value in (*values, last))
    return f'<tr><td class="number">{first}</td>{cells}</tr>'


def _number(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.3f}"


# ---------------------------------------------------------------------- the pictures


def _pictures(episode: Episode) -> dict[int, bytes]:
    """Encode every view once, at the best quality at which the page stays small enough.

    Returns:
        WebP files by view id. A parent is shown once more beside each of its crops, so its size counts again.
    """
    uses = {view.view_id: 1 for view in episode.views}
    for view in episode.views:
        if view.parent_id is not None:
            uses[view.parent_id] += 1
    for scale, quality in _QUALITY:
        encoded: dict[int, bytes] = {}
        room = MAX_IMAGE_BYTES
        for view in episode.views:
            data = _encode(episode.image(view), scale, quality)
            room -= len(data) * uses[view.view_id]
            if room < 0:
                break
            encoded[view.view_id] = data
        if room >= 0:
            return encoded
    blank = _encode(PILImage.new("RGB", (1, 1), "white"), 1.0, 50)
    return dict.fromkeys(uses, blank)


def _encode(image: PILImage.Image, scale: float, quality: int) -> bytes:
    if scale < 1:
        smaller = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(smaller, PILImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()
