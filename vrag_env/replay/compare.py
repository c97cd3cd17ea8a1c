"""Two episodes of one question, side by side."""

from __future__ import annotations

from pathlib import Path

from vrag_env.errors import VRAGError
from vrag_env.replay.document import document, text
from vrag_env.replay.page import gold_html, longest_text, outcome_html, rewards_html, switches_html
from vrag_env.replay.pictures import MAX_IMAGE_BYTES, Images, encode_views
from vrag_env.replay.record import EpisodeRecord
from vrag_env.replay.scripts import WALK
from vrag_env.replay.turns import TurnPage


def write_comparison(
    path: str | Path,
    left: EpisodeRecord,
    right: EpisodeRecord,
    images: Images,
    names: tuple[str, str] | None = None,
) -> Path:
    """Write two episodes of one question as one HTML file; see :func:`comparison_html`."""
    target = Path(path)
    target.write_text(comparison_html(left, right, images, names), encoding="utf-8")
    return target


def comparison_html(
    left: EpisodeRecord, right: EpisodeRecord, images: Images, names: tuple[str, str] | None = None
) -> str:
    """Return a page with two episodes of one question side by side, below each other on a narrow screen.

    Args:
        left: One episode.
        right: Another one, of the same question.
        images: Draws the views of both.
        names: How to call them; by default their policies.

    Raises:
        VRAGError: If the questions differ.
    """
    if left.question.question_id != right.question.question_id:
        raise VRAGError(
            f"two episodes of one question are needed, got {left.question.question_id!r} and "
            f"{right.question.question_id!r}"
        )
    longest = longest_text(len(left.turns) + len(right.turns))
    called = names or (left.policy or "left", right.policy or "right")
    columns = ""
    for side, record, name in (("left", left, called[0]), ("right", right, called[1])):
        pictures = encode_views(record.views, images, MAX_IMAGE_BYTES // 2)
        columns += (
            f'<div class="column"><h2>{text(name, 200)} <span class="faint">{record.outcome}</span></h2>'
            f"{outcome_html(record, longest)}\n{TurnPage(record, pictures, longest, side).html()}\n"
            f"{rewards_html(record)}</div>\n"
        )
    heading = text(f"{called[0]} and {called[1]}", 400)
    body = (
        f'<p class="kicker">{heading}</p>\n<h1>{text(left.question.text, longest)}</h1>\n'
        f"{switches_html([left, right])}\n{gold_html(left, longest)}\n"
        f'<div class="columns">{columns}</div>'
    )
    return document(heading, body, WALK)
