"""Reward: the weighted sum of named terms, with the presets of VRAG-RL and potential-based shaping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from vrag_env.actions import Invalid, Search
from vrag_env.errors import RewardError
from vrag_env.rewards.factory import make_judge
from vrag_env.rewards.judges import SUCCESS_THRESHOLD, Judge, JudgeItem, RuleJudge
from vrag_env.rewards.terms import TERMS

if TYPE_CHECKING:
    from vrag_env.episode import Episode

ANSWER = "answer"
Term = Callable[["Episode"], float | None]
"""A pure function of an episode's record, in [0, 1]; ``None`` where it does not apply to the question."""
_VRAG_WEIGHTS = {"retrieval": 0.2, ANSWER: 0.7, "pattern": 0.1}
PRESETS: dict[str, tuple[dict[str, float], bool]] = {
    "paper": (_VRAG_WEIGHTS, False),
    "released": (_VRAG_WEIGHTS, True),
    "outcome": ({ANSWER: 1.0}, False),
}
"""Name to weights and gate; see :meth:`Reward.preset`."""


@dataclass(frozen=True)
class Scored:
    """What the reward says of an episode after a turn.

    Attributes:
        reward: Reward of the turn.
        terms: The terms that are defined by now and apply to the question, by name, each in [0, 1].
        potential: Value of the shaping potential after the turn; 0 once the episode has ended.
        is_success: The episode has ended and its answer is right (the term ``answer`` is at least 0.5).
    """

    reward: float
    terms: dict[str, float]
    potential: float
    is_success: bool


class Reward:
    """Scores episodes: a weighted sum of terms when an episode ends, and optional shaping in every turn.

    Weights of terms that do not apply to a question (``region`` without boxes, or a term of your own that is
    ``None``) are spread over the others in proportion, so that every question can reach the sum of the weights.
    If none applies the reward is 0. ``retrieval`` always applies: without gold pages it asks for one search.

    Shaping adds ``shaping * (potential after - potential before)`` in every turn, where the potential is the
    term ``retrieval`` and is 0 at the start and after the end. Undiscounted, it sums to 0 over an episode, so
    that it does not change which policy is best (Ng, Harada and Russell, "Policy invariance under reward
    transformations", 1999).

    Args:
        weights: Weight by name of the term: ``retrieval``, ``answer``, ``pattern``, ``region``, ``cost`` or one
            of ``terms``; not negative, sum above 0 and at most 1.
        judge: Judge of the term ``answer``; default :class:`~vrag_env.rewards.judges.RuleJudge`.
        gate: Whether an episode that lacks a search, an answer, or a valid action in any turn gets 0 instead
            of the weighted sum.
        shaping: Coefficient of the shaping; 0 for none.
        terms: Terms of your own by name, called after every turn and shown in ``info["reward_terms"]``, with a
            weight or without one.

    Raises:
        RewardError: If a weight, the coefficient or the name of a term does not fit.

    Example:
        >>> Reward({"answer": 0.9, "cost": 0.1}).weights
        {'answer': 0.9, 'cost': 0.1}
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        judge: Judge | None = None,
        gate: bool = False,
        shaping: float = 0.0,
        terms: Mapping[str, Term] | None = None,
    ) -> None:
        self.terms: dict[str, Term] = {**TERMS, **_check_terms(terms or {})}
        self.weights = _check(weights, (*self.terms, ANSWER))
        self.judge = judge if judge is not None else RuleJudge()
        if not isinstance(self.judge, Judge):
            raise RewardError(
                f"judge needs a method judge(items), got {type(judge).__name__}; make_judge() makes one of a name"
            )
        self.gate = gate
        if not _is_number(shaping) or shaping < 0:
            raise RewardError(f"shaping must be a finite number, 0 or more, got {shaping!r}")
        self.shaping = float(shaping)

    @classmethod
    def preset(cls, name: str, judge: Judge | None = None, shaping: float = 0.0) -> Reward:
        """Return one of the known rewards.

        - ``"paper"``: 0.2 retrieval + 0.7 answer + 0.1 pattern, added up as in VRAG-RL (arXiv 2505.22019).
          The paper gives no numbers for the first two weights: these are of its released code.
        - ``"released"``: the same sum behind the gate of the released code, which pays nothing unless the
          episode searched and answered. There the gate looks for tags anywhere in the text, so that empty
          tags or the environment's own hint about the grammar open it. Here it asks for what was executed: at
          least one search, an answer with at least one letter or digit, and no Invalid turn.
        - ``"outcome"``: the answer only.

        Args:
            name: Name of the preset.
            judge: See :class:`Reward`.
            shaping: See :class:`Reward`.

        Raises:
            RewardError: If there is no such preset.
        """
        if name not in PRESETS:
            raise RewardError(f"unknown reward preset {name!r}: choose one of {', '.join(PRESETS)}")
        weights, gate = PRESETS[name]
        return cls(weights, judge=judge, gate=gate, shaping=shaping)

    def score(self, episodes: Sequence[Episode]) -> list[Scored]:
        """Score episodes after a turn, with at most one call of the judge.

        Args:
            episodes: Running or ended episodes; their ``state.potential`` must be that of the turn before.

        Returns:
            One record per episode, in the same order. The reward of a running episode is its shaping alone.

        Raises:
            RewardError: If the judge returns another number of verdicts, or the judge or a term a value outside
                [0, 1].
        """
        verdicts = self._judge(episodes)
        return [self._score(episode, verdicts.get(index, 0.0)) for index, episode in enumerate(episodes)]

    def _judge(self, episodes: Sequence[Episode]) -> dict[int, float]:
        """Return the verdicts by position; an episode without an answer is not judged."""
        items = {
            index: JudgeItem.of(episode.question, episode.answer)
            for index, episode in enumerate(episodes)
            if episode.done and episode.answer is not None
        }
        if not items:
            return {}
        verdicts = self.judge.judge(list(items.values()))
        if len(verdicts) != len(items):
            raise RewardError(f"{self.judge!r} returned {len(verdicts)} verdicts for {len(items)} answers")
        for verdict in verdicts:
            if not _is_number(verdict) or not 0 <= verdict <= 1:
                raise RewardError(f"{self.judge!r} returned {verdict!r}: a verdict is a number from 0 to 1")
        return dict(zip(items, map(float, verdicts), strict=True))

    def _score(self, episode: Episode, verdict: float) -> Scored:
        values = {name: _value(name, term(episode)) for name, term in self.terms.items()}
        terms = {name: value for name, value in values.items() if value is not None}
        potential = 0.0 if episode.done else terms.get("retrieval", 0.0)
        reward = self.shaping * (potential - episode.state.potential)
        if episode.done:
            terms[ANSWER] = verdict
            reward += self._weighted_sum(episode, terms)
        return Scored(reward, terms, potential, episode.done and verdict >= SUCCESS_THRESHOLD)

    def _weighted_sum(self, episode: Episode, terms: Mapping[str, float]) -> float:
        if self.gate and not _passes_gate(episode):
            return 0.0
        applicable = {name: weight for name, weight in self.weights.items() if name in terms}
        share = sum(applicable.values()) / sum(self.weights.values())
        if share == 0:
            return 0.0
        # Sums of weights such as 0.2 + 0.7 + 0.1 are off by a rounding error, which must not lead beyond 1.
        return min(sum(weight * terms[name] for name, weight in applicable.items()) / share, 1.0)

    def __repr__(self) -> str:
        return f"Reward(weights={self.weights}, judge={self.judge!r}, gate={self.gate}, shaping={self.shaping})"


def make_reward(spec: str | Mapping[str, float] | Reward, judge: str | Judge | None = None) -> Reward:
    """Build a reward from what a user may pass to ``gym.make``.

    Args:
        spec: Name of a preset, weights by name of the term, or a finished reward.
        judge: Name or object, see :func:`~vrag_env.rewards.factory.make_judge`; by default
            :class:`~vrag_env.rewards.judges.RuleJudge`. A finished reward has its own.

    Raises:
        RewardError: If it is none of these, the name or the weights are wrong, or a finished reward and a judge
            are given.
    """
    if isinstance(spec, Reward):
        if judge is not None:
            raise RewardError("the reward has its judge already: pass judge= to Reward(...), or weights as reward=")
        return spec
    if isinstance(spec, str):
        Reward.preset(spec)  # a wrong name is reported before a model is loaded
        return Reward.preset(spec, judge=None if judge is None else make_judge(judge))
    if isinstance(spec, Mapping):
        Reward(spec)
        return Reward(spec, judge=None if judge is None else make_judge(judge))
    raise RewardError(
        f"a reward is one of {', '.join(PRESETS)}, a mapping of weights, or a Reward; got {type(spec).__name__}"
    )


def _passes_gate(episode: Episode) -> bool:
    actions = [turn.action for turn in episode.turns]
    answered = episode.answer is not None and any(map(str.isalnum, episode.answer))
    searched = any(isinstance(action, Search) for action in actions)
    return answered and searched and not any(isinstance(action, Invalid) for action in actions)


def _is_number(value: object) -> bool:
    # Real takes in the numbers of NumPy, and bool.
    return isinstance(value, Real) and value is not True and value is not False and math.isfinite(value)


def _value(name: str, value: object) -> float | None:
    """Check what a term says."""
    if value is None:
        return None
    if not isinstance(value, Real) or not _is_number(value) or not 0 <= float(value) <= 1:
        raise RewardError(f"the reward term {name!r} returned {value!r}: a term is a number from 0 to 1, or None")
    return float(value)


def _check_terms(terms: Mapping[str, Term]) -> dict[str, Term]:
    for name, term in terms.items():
        if name in TERMS or name == ANSWER or not isinstance(name, str) or not name.strip():
            raise RewardError(f"a term of your own needs a name of its own, got {name!r}")
        if not callable(term):
            raise RewardError(f"the reward term {name!r} must be a function of an Episode, got {type(term).__name__}")
    return dict(terms)


def _check(weights: Mapping[str, float], known: Sequence[str]) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in known:
            raise RewardError(f"unknown reward term {name!r}: choose from {', '.join(known)}")
        if not _is_number(weight) or weight < 0:
            raise RewardError(f"the weight of {name!r} must be a finite number, 0 or more, got {weight!r}")
    total = sum(weights.values())
    if not 0 < total <= 1 + 1e-9:
        raise RewardError(f"the weights must sum to more than 0 and at most 1, they sum to {total:g}")
    return {name: float(weight) for name, weight in weights.items()}
