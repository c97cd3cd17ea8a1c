"""One episode as one HTML file that a person can open anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vrag_env.actions import Invalid
from vrag_env.episode import Episode
from vrag_env.replay.document import document, number, text
from vrag_env.replay.pictures import MAX_IMAGE_BYTES, Images, encode_views
from vrag_env.replay.record import EpisodeRecord
from vrag_env.replay.scripts import WALK
from vrag_env.replay.turns import TurnPage

MAX_TEXT_CHARS = 300_000
"""Most characters of all texts of a page together."""
KEYS = (
    '<p class="keys faint">Keys: <kbd>&rarr;</kbd> or <kbd>j</kbd> next turn, <kbd>&larr;</kbd> or <kbd>k</kbd> back, '
    "<kbd>g</kbd> gold evidence{heat}.</p>"
)


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
    """Return the page that :func:`write_replay` writes."""
    return record_html(EpisodeRecord.of(episode), episode.image, title)


def record_html(record: EpisodeRecord, images: Images, title: str = "VRAG episode", follow: bool = False) -> str:
    """Return the page of an episode.

    It stays under 5 MB: pictures are reduced, and long texts are cut and say so.

    Args:
        record: The episode.
        images: Draws its views, see :func:`vrag_env.replay.corpus_images`.
        title: Title of the page.
        follow: Open at the last turn, for an episode that is still running.
    """
    longest = longest_text(len(record.turns))
    pictures = encode_views(record.views, images, MAX_IMAGE_BYTES)
    heading = text(title, longest)
    body = (
        f'<p class="kicker">{heading}</p>\n<h1>{text(record.question.text, longest)}</h1>\n'
        f"{outcome_html(record, longest)}\n{switches_html([record])}\n{gold_html(record, longest)}\n"
        f"{TurnPage(record, pictures, longest).html()}\n{rewards_html(record) if record.weights else ''}"
    )
    return document(heading, body, WALK, follow)


def longest_text(turns: int) -> int:
    """Most characters of each text on a page of so many turns."""
    return max(200, min(20_000, MAX_TEXT_CHARS // (4 * turns + 8)))


def switches_html(records: Sequence[EpisodeRecord]) -> str:
    """The switches for what can be hidden, and the keys."""
    has_heat = any(any(record.sampled) for record in records)
    heat = '\n<input type="checkbox" id="heat" checked><label for="heat">Colour tokens by log-prob</label>'
    keys = KEYS.format(heat=", <kbd>h</kbd> colours" if has_heat else "")
    gold = '<input type="checkbox" id="gold"><label for="gold">Show the gold evidence</label>'
    return f"{keys}\n{gold}{heat if has_heat else ''}"


def outcome_html(record: EpisodeRecord, longest: int) -> str:
    """What was answered, what would have been right, and what it earned."""
    if record.answer is not None:
        answer = f"<dd>{text(record.answer, longest)}</dd>"
    else:
        answer = f'<dd class="faint">{"none, out of turns" if record.done else "none yet"}</dd>'
    known = text(record.question.answer, longest) or '<span class="faint">not known</span>'
    variants = " · ".join(text(variant, 200) for variant in record.question.answer_variants[:10])
    also = f' <span class="faint">also: {variants}</span>' if variants else ""
    verdict = dict(record.turns[-1].reward_terms).get("answer") if record.turns else None
    return (
        f'<dl class="outcome"><div><dt>Answer given</dt>{answer}</div>'
        f"<div><dt>Reference</dt><dd>{known}{also}</dd></div>"
        f'<div><dt>Return</dt><dd class="number">{record.total_reward:.3f}</dd></div>'
        f'<div><dt>Verdict on the answer</dt><dd class="number">{number(verdict)}</dd></div></dl>'
    )


def gold_html(record: EpisodeRecord, longest: int) -> str:
    """The gold pages, which the switch shows."""
    pages = record.question.gold_pages
    if not pages and not record.question.answer:
        return '<p class="gold-note">No gold evidence is known for this question.</p>'
    if not pages:
        return '<p class="gold-note">There is no gold page: these documents do not hold the answer.</p>'
    shown = set(record.pages_shown)
    items = "".join(
        f'<li>{text(page, longest)} <span class="faint">{"shown" if page in shown else "never shown"}</span></li>'
        for page in pages[:50]
    )
    boxes = len(record.question.evidence)
    note = f"{boxes} evidence box{'' if boxes == 1 else 'es'}, drawn dashed" if boxes else "no evidence boxes"
    return f'<div class="gold-note"><p>Gold pages ({note}):</p><ul>{items}</ul></div>'


def rewards_html(record: EpisodeRecord) -> str:
    """The table of the reward: a row per turn, a column per term."""
    names = list(dict.fromkeys(name for turn in record.turns for name, _ in turn.reward_terms))
    rows = _row("weight", [record.weights.get(name) for name in names], None)
    for position, turn in enumerate(record.turns, 1):
        terms = dict(turn.reward_terms)
        invalid = " (invalid)" if isinstance(turn.action, Invalid) else ""
        rows += _row(f"{position}{invalid}", [terms.get(name) for name in names], turn.reward)
    head = "".join(f"<th>{text(name, 100)}</th>" for name in ("Turn", *names, "Reward"))
    foot = f'<td colspan="{len(names) + 1}">Sum of the rewards</td><td class="number">{record.total_reward:.3f}</td>'
    return (
        f'<section><h2>Reward</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody><tfoot><tr>{foot}</tr></tfoot></table></div>"
        '<p class="faint">The terms are those after each turn; their weighted sum is paid when the episode '
        "ends. The weight of a term that does not apply to the question is spread over the others.</p>"
        "</section>"
    )


def _row(first: str, values: Sequence[float | None], last: float | None) -> str:
    cells = "".join(f'<td class="number">{number(value)}</td>' for value in (*values, last))
    return f'<tr><td class="number">{first}</td>{cells}</tr>'
