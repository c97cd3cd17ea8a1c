"""The HTML of one turn: thought, action, pages with rank and boxes, sampled tokens, and what it cost."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from vrag_env.actions import Action, Answer, Crop, Search
from vrag_env.corpus.records import Box
from vrag_env.episode import Turn
from vrag_env.replay.document import text
from vrag_env.replay.record import EpisodeRecord, Sampled, action_kind
from vrag_env.views import View, relative_to

MAX_TOKENS = 4_000
"""Most tokens of a turn whose heat is drawn."""
HEAT = (0.05, 0.2, 0.7, 1.6, 3.0, 5.0)
"""Surprise (minus the log-prob, in nats) from which a token gets the next darker colour."""


@dataclass(frozen=True)
class TurnPage:
    """What the HTML of the turns of one episode needs.

    Attributes:
        record: The episode.
        pictures: WebP files by view id.
        longest: Most characters of one text.
        prefix: Distinguishes the anchors of two episodes on one page.
    """

    record: EpisodeRecord
    pictures: Mapping[int, bytes]
    longest: int
    prefix: str = "turn"

    def html(self) -> str:
        """Return the list of all turns."""
        return "<ol>\n" + "".join(self._turn(index) for index in range(len(self.record.turns))) + "</ol>"

    def _turn(self, index: int) -> str:
        record, longest = self.record, self.longest
        turn = record.turns[index]
        sampled = record.sampled[index] if record.sampled else None
        seconds = record.seconds[index] if record.seconds else None
        kind = action_kind(turn.action)
        thought = f'<p class="thought">{text(turn.thought, longest)}</p>' if turn.thought else ""
        figures = "".join(self._figures(turn, view) for view in turn.views)
        message = f'<p class="message">{text(turn.message, longest)}</p>' if turn.message else ""
        written = f"<details><summary>As written</summary><pre>{text(turn.text, longest)}</pre></details>"
        return (
            f'<li class="turn {kind}" id="{self.prefix}-{index + 1}" tabindex="-1">'
            f'<header><span class="step">{index + 1}</span>'
            f'<span class="kind">{kind}</span>{_action(turn.action, longest)}</header>\n'
            f"{thought}{figures}{message}{_hits(turn)}"
            f"{written if sampled is None else _heat(sampled, longest)}{_cost(turn, sampled, seconds)}</li>\n"
        )

    def _figures(self, turn: Turn, view: View) -> str:
        if view.parent_id is None:
            ranks = {hit.page_id: (rank, hit.score) for rank, hit in reversed(list(enumerate(turn.hits, 1)))}
            found = ""
            if view.page_id in ranks:
                rank, score = ranks[view.page_id]
                found = f", rank {rank}, score {score:.3f}"
            return f'<div class="figures">{self._figure(view, None, f"Image {view.view_id}{found}")}</div>'
        parent = self.record.views[view.parent_id - 1]
        where = self._figure(parent, view.box, f"Where: image {parent.view_id}")
        crop = self._figure(view, None, f"Image {view.view_id}, enlarged")
        return f'<div class="figures pair">{where}{crop}</div>'

    def _figure(self, view: View, crop: Box | None, caption: str) -> str:
        width, height = view.size
        evidence = self.record.question.evidence
        gold = "".join(_rect(view, item.box, "gold") for item in evidence if item.page_id == view.page_id)
        drawn = _rect(view, crop, "crop") if crop is not None else ""
        data = base64.b64encode(self.pictures[view.view_id]).decode("ascii")
        page = text(view.page_id, 300)
        return (
            f'<figure><div class="frame"><img src="data:image/webp;base64,{data}" width="{width}" '
            f'height="{height}" alt="{caption}: {page}">'
            f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{drawn}{gold}'
            f'</svg></div><figcaption>{caption} <span class="faint">{page} · {width} &times; {height}</span>'
            "</figcaption></figure>"
        )


def _action(action: Action, longest: int) -> str:
    if isinstance(action, Search):
        return f'<span class="body">{text(action.query, longest)}</span>'
    if isinstance(action, Crop):
        corners = ", ".join(f"{value:g}" for value in action.box)
        return f'<span class="body number">[{corners}]</span>'
    if isinstance(action, Answer):
        return f'<span class="body">{text(action.text, longest)}</span>'
    return f'<span class="body">{text(action.reason, longest)}</span>'


def _hits(turn: Turn) -> str:
    if not turn.hits:
        return ""
    shown = {view.page_id for view in turn.views}
    rows = "".join(
        f'<tr{" class=shown" if hit.page_id in shown else ""}><td class="number">{rank}</td>'
        f'<td>{text(hit.page_id, 300)}</td><td class="number">{hit.score:.3f}</td></tr>'
        for rank, hit in enumerate(turn.hits[:10], 1)
    )
    head = "<thead><tr><th>Rank</th><th>Page</th><th>Score</th></tr></thead>"
    return (
        f"<details><summary>What the search found ({len(turn.hits)})</summary>"
        f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div></details>'
    )


def _heat(sampled: Sampled, longest: int) -> str:
    """Draw the sampled tokens, the darker the more surprising; tokens of one colour share an element."""
    runs: list[tuple[int, str]] = []
    left = longest
    tokens = list(zip(sampled.tokens, sampled.logprobs, strict=True))[:MAX_TOKENS]
    drawn = 0
    for token, logprob in tokens:
        if len(token) > left:
            break
        left -= len(token)
        drawn += 1
        runs.append((sum(-logprob >= edge for edge in HEAT), token))
    spans = "".join(f'<span class="heat{level}">{text(token, longest)}</span>' for level, token in runs)
    rest = f" … ({len(sampled.tokens)} tokens)" if drawn < len(sampled.tokens) else ""
    total = sum(sampled.logprobs)
    return (
        f"<details open><summary>As sampled, log-prob {total:.2f}</summary>"
        f'<pre class="sampled">{spans}{rest}</pre></details>'
    )


def _cost(turn: Turn, sampled: Sampled | None, seconds: float | None) -> str:
    parts = []
    if sampled is not None:
        parts.append(f"{len(sampled.tokens)} tokens")
    if turn.views:
        parts.append(f"{sum(view.size[0] * view.size[1] for view in turn.views):,} pixels")
    if seconds is not None:
        parts.append(f"{seconds:.2f} s")
    return f'<p class="cost">{" · ".join(parts)}</p>' if parts else ""


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
