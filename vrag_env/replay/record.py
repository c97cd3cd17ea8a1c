"""EpisodeRecord: all that is kept of an episode, and its form as one line of a JSONL file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vrag_env.actions import Action, Answer, Crop, Invalid, Search
from vrag_env.corpus.records import Box
from vrag_env.episode import Episode, Turn
from vrag_env.errors import VRAGError
from vrag_env.questions import Evidence, Injection, Question
from vrag_env.retrieval import Hit
from vrag_env.views import View

RECORD_FORMAT = "vrag-episode/1"
MAX_VIEW_PIXELS = 64_000_000
"""A record whose view is larger than this is refused: drawing it would take the machine's memory."""

_ACTIONS: dict[str, type[Search] | type[Crop] | type[Answer] | type[Invalid]] = {
    "search": Search,
    "crop": Crop,
    "answer": Answer,
    "invalid": Invalid,
}


@dataclass(frozen=True)
class Sampled:
    """The tokens of one turn as a model sampled them.

    Attributes:
        tokens: The text of each token.
        logprobs: Its log-probability (natural) when it was sampled.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.logprobs):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.logprobs)} log-probs")


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode, without its corpus: enough to replay it.

    Attributes:
        question: What was asked.
        turns: What happened.
        terminated: The policy has answered.
        truncated: The turns were used up without an answer.
        is_success: Whether it ended with an answer that was judged right.
        weights: Weight of each term of the reward.
        policy: Who played; empty if not known.
        sampled: The sampled tokens of each turn (``None`` where they are not known); empty if no turn has any.
        seconds: Wall time of each turn, likewise.
    """

    question: Question
    turns: tuple[Turn, ...]
    terminated: bool
    truncated: bool
    is_success: bool
    weights: Mapping[str, float] = field(default_factory=dict)
    policy: str = ""
    sampled: tuple[Sampled | None, ...] = ()
    seconds: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("sampled", self.sampled), ("seconds", self.seconds)):
            if values and len(values) != len(self.turns):
                raise ValueError(f"{len(self.turns)} turns but {len(values)} entries of {name}")

    @classmethod
    def of(
        cls,
        episode: Episode,
        policy: str = "",
        sampled: Sequence[Sampled | None] = (),
        seconds: Sequence[float | None] = (),
    ) -> EpisodeRecord:
        """Take the record of an episode, running or ended."""
        return cls(
            question=episode.question,
            turns=episode.turns,
            terminated=episode.state.terminated,
            truncated=episode.state.truncated,
            is_success=episode.is_success,
            weights=dict(episode.reward.weights),
            policy=policy,
            sampled=tuple(sampled),
            seconds=tuple(seconds),
        )

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self.terminated or self.truncated

    @property
    def views(self) -> tuple[View, ...]:
        """The views shown, by ``view_id - 1``."""
        return tuple(view for turn in self.turns for view in turn.views)

    @property
    def answer(self) -> str | None:
        """The answer given, or ``None``."""
        last = self.turns[-1].action if self.turns else None
        return last.text if isinstance(last, Answer) and self.terminated else None

    @property
    def pages_shown(self) -> tuple[str, ...]:
        """Ids of the distinct pages in the order in which they were shown."""
        return tuple(dict.fromkeys(view.page_id for view in self.views))

    @property
    def pixels_spent(self) -> int:
        """Pixels of all images shown."""
        return sum(view.size[0] * view.size[1] for view in self.views)

    @property
    def total_reward(self) -> float:
        """Sum of the rewards, undiscounted."""
        return sum(turn.reward for turn in self.turns)

    @property
    def outcome(self) -> str:
        """``"right"``, ``"wrong"``, ``"no answer"`` or ``"running"``."""
        if self.is_success:
            return "right"
        if self.terminated:
            return "wrong"
        return "no answer" if self.truncated else "running"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data, of values that ``json.dumps`` writes.

        ``format``, ``question`` (all its fields), ``turns`` (text, thought, action with its type, hits, views,
        message, reward, reward_terms, and where known sampled and seconds), ``weights``, ``policy``,
        ``terminated``, ``truncated``, ``is_success``; and, for readers that want no computing, ``answer``,
        ``pages_shown``, ``pixels_spent`` and ``return``.
        """
        sampled = self.sampled or (None,) * len(self.turns)
        seconds = self.seconds or (None,) * len(self.turns)
        return {
            "format": RECORD_FORMAT,
            "policy": self.policy,
            "question": _plain(asdict(self.question)),
            "turns": [_turn_to_json(*each) for each in zip(self.turns, sampled, seconds, strict=True)],
            "weights": dict(self.weights),
            "answer": self.answer,
            "pages_shown": list(self.pages_shown),
            "pixels_spent": self.pixels_spent,
            "return": self.total_reward,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "is_success": self.is_success,
        }

    @classmethod
    def from_json(cls, data: Any) -> EpisodeRecord:
        """Read what :meth:`to_json` wrote.

        Args:
            data: Any parsed JSON; not trusted.

        Raises:
            VRAGError: If it is not a record, or a field is missing or wrong.
        """
        if not isinstance(data, Mapping) or data.get("format") != RECORD_FORMAT:
            found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
            raise VRAGError(f"expected the record of an episode with format {RECORD_FORMAT!r}, got {found!r}")
        turns, sampled, seconds, views = [], [], [], 0
        for number, raw in enumerate(_get(data, "turns", list), 1):
            turn = _turn_from_json(raw, number, views)
            views += len(turn.views)
            turns.append(turn)
            sampled.append(_sampled_from_json(raw.get("sampled"), number))
            seconds.append(None if raw.get("seconds") is None else _number(raw, "seconds"))
        return cls(
            question=_question_from_json(_get(data, "question", dict)),
            turns=tuple(turns),
            terminated=_get(data, "terminated", bool),
            truncated=_get(data, "truncated", bool),
            is_success=_get(data, "is_success", bool),
            weights={str(name): _number(data["weights"], name) for name in _get(data, "weights", dict)},
            policy=_get(data, "policy", str),
            sampled=tuple(sampled) if any(sampled) else (),
            seconds=tuple(seconds) if any(value is not None for value in seconds) else (),
        )


def episode_to_record(
    episode: Episode,
    policy: str = "",
    sampled: Sequence[Sampled | None] = (),
    seconds: Sequence[float | None] = (),
) -> dict[str, Any]:
    """Return an episode as plain data, one line of a JSONL file; see :meth:`EpisodeRecord.to_json`.

    Args:
        episode: The episode, running or ended.
        policy: Who played.
        sampled: The sampled tokens of each turn, where they are known.
        seconds: Wall time of each turn, where it is known.
    """
    return EpisodeRecord.of(episode, policy, sampled, seconds).to_json()


def read_records(path: str | Path) -> Iterator[EpisodeRecord]:
    """Read a JSONL file of records, one at a time.

    Args:
        path: The file, such as the ``episodes.jsonl`` of an evaluation.

    Raises:
        VRAGError: If the file can not be read or a line is not a record; the message names the line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield EpisodeRecord.from_json(json.loads(line))
                except (ValueError, RecursionError) as error:  # VRAGError is one, as JSON's own is
                    raise VRAGError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise VRAGError(f"{path} can not be read ({error.strerror}): expected a file of episodes") from error


# ---------------------------------------------------------------------- to JSON


def _turn_to_json(turn: Turn, sampled: Sampled | None, seconds: float | None) -> dict[str, Any]:
    return {
        "text": turn.text,
        "thought": turn.thought,
        "action": {"type": action_kind(turn.action), **_plain(asdict(turn.action))},
        "hits": [asdict(hit) for hit in turn.hits],
        "views": [_plain(asdict(view)) for view in turn.views],
        "message": turn.message,
        "reward": turn.reward,
        "reward_terms": dict(turn.reward_terms),
        **({} if sampled is None else {"sampled": _plain(asdict(sampled))}),
        **({} if seconds is None else {"seconds": seconds}),
    }


def action_kind(action: Action) -> str:
    """``search``, ``crop``, ``answer`` or ``invalid``."""
    return type(action).__name__.lower()


def _plain(value: Any) -> Any:
    """Turn tuples into lists, all the way down, so that a record equals itself after a trip through JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


# ---------------------------------------------------------------------- from JSON


def _get(data: Any, name: str, kind: type) -> Any:
    if not isinstance(data, Mapping):
        raise VRAGError(f"expected an object with {name!r}, got {type(data).__name__}")
    value = data.get(name)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise VRAGError(f"{name!r} must be {kind.__name__}, got {type(value).__name__}")
    return value


def _number(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise VRAGError(f"{name!r} must be a finite number, got {value!r}")
    return float(value)


def _strings(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = _get(data, name, list)
    if not all(isinstance(value, str) for value in values):
        raise VRAGError(f"{name!r} must be a list of texts")
    return tuple(values)


def _box(data: Mapping[str, Any], name: str = "box") -> Box:
    values = _get(data, name, list)
    if len(values) != 4:
        raise VRAGError(f"{name!r} must have four numbers, got {len(values)}")
    x0, y0, x1, y1 = (_number({name: value}, name) for value in values)
    return x0, y0, x1, y1


def _question_from_json(data: Mapping[str, Any]) -> Question:
    known: dict[str, Any] = {}
    for each in fields(Question):
        if each.name not in data:
            continue  # written before the field existed
        if each.name == "evidence":
            boxes = _get(data, "evidence", list)
            known["evidence"] = tuple(Evidence(_get(item, "page_id", str), _box(item)) for item in boxes)
        elif each.name in ("answer_variants", "gold_pages", "scope"):
            known[each.name] = None if data[each.name] is None else _strings(data, each.name)
        elif each.name == "hops":
            known["hops"] = _get(data, "hops", int)
        elif each.name == "injection":
            known["injection"] = _injection(data["injection"])
        elif isinstance(each.default, str) or each.default is MISSING:
            known[each.name] = _get(data, each.name, str)
        else:
            raise AssertionError(f"no reader for the field {each.name} of a question")
    missing = {"question_id", "text", "answer"} - known.keys()
    if missing:
        raise VRAGError(f"the question has no {', '.join(sorted(missing))}")
    return Question(**known)


def _injection(data: Any) -> Injection | None:
    return None if data is None else Injection(_get(data, "page_id", str), _get(data, "answer", str))


def _turn_from_json(data: Any, number: int, views_before: int) -> Turn:
    action = _get(data, "action", dict)
    kind = _get(action, "type", str)
    if kind not in _ACTIONS:
        raise VRAGError(f"turn {number}: unknown action {kind!r}, expected one of {', '.join(_ACTIONS)}")
    made: Action
    if kind == "crop":
        made = Crop(_box(action))
    elif kind == "search":
        made = Search(_get(action, "query", str))
    elif kind == "answer":
        made = Answer(_get(action, "text", str))
    else:
        made = Invalid(_get(action, "reason", str))
    terms = _get(data, "reward_terms", dict)
    return Turn(
        text=_get(data, "text", str),
        thought=_get(data, "thought", str),
        action=made,
        hits=tuple(Hit(_get(hit, "page_id", str), _number(hit, "score")) for hit in _get(data, "hits", list)),
        views=tuple(_view(raw, views_before + n) for n, raw in enumerate(_get(data, "views", list), 1)),
        message=_get(data, "message", str),
        reward=_number(data, "reward"),
        reward_terms=tuple((str(name), _number(terms, name)) for name in terms),
    )


def _view(data: Any, expected_id: int) -> View:
    view_id, parent = _get(data, "view_id", int), data.get("parent_id")
    if view_id != expected_id:
        raise VRAGError(f"view {view_id} stands where view {expected_id} was expected")
    if parent is not None and not (isinstance(parent, int) and 1 <= parent < view_id):
        raise VRAGError(f"view {view_id} can not be cut from view {parent!r}")
    box = _box(data)
    if not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise VRAGError(f"view {view_id}: {list(box)} is not a region of a page")
    size = _get(data, "size", list)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise VRAGError(f"view {view_id}: its size must be two positive whole numbers, got {size}")
    if size[0] * size[1] > MAX_VIEW_PIXELS:
        raise VRAGError(f"view {view_id}: {size[0]} x {size[1]} is over the limit of {MAX_VIEW_PIXELS} pixels")
    return View(view_id, _get(data, "page_id", str), box, parent, (size[0], size[1]))


def _sampled_from_json(data: Any, number: int) -> Sampled | None:
    if data is None:
        return None
    logprobs = _get(data, "logprobs", list)
    try:
        return Sampled(_strings(data, "tokens"), tuple(_number({"logprobs": value}, "logprobs") for value in logprobs))
    except ValueError as error:
        raise VRAGError(f"turn {number}: {error}") from error
