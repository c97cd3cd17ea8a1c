"""ModelJudge: what all judges that ask a model share: cache, counters, and what to do without a verdict."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from vrag_env.errors import JudgeError
from vrag_env.rewards.cache import VerdictCache
from vrag_env.rewards.judges import JudgeItem
from vrag_env.rewards.verdicts import Prompt, build_prompt

ON_ERROR = ("raise", "zero")
_LOG = logging.getLogger(__name__)
_J = TypeVar("_J", bound="ModelJudge")


@dataclass(frozen=True)
class JudgeStats:
    """What a judge has done since it was made. Each process that judges has its own.

    Attributes:
        items: Answers that were to be judged.
        cached: Of these, answered by the cache or by an equal item of the same batch.
        unparsed: Of these, left without a verdict because the model's replies held none.
        failed: Of these, left without a verdict because the model did not reply.
        cut: Of these, too long and cut, see :mod:`vrag_env.rewards.verdicts`.
        calls: Requests sent, or rows put through a local model.
        retries: Requests that were repetitions, included in ``calls``.
        prompt_tokens: Tokens read, where the server tells.
        completion_tokens: Tokens written, where the server tells.
        seconds: Time spent in the judge, in seconds of wall clock.
    """

    items: int = 0
    cached: int = 0
    unparsed: int = 0
    failed: int = 0
    cut: int = 0
    calls: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came out of asking about one answer.

    Attributes:
        verdict: Whether the answer is right; ``None`` without a verdict.
        reason: Why there is none.
        replied: Whether the model replied at all.
    """

    verdict: bool | None
    reason: str = ""
    replied: bool = True


Keep = Callable[[int, Outcome], None]


class ModelJudge(ABC):
    """Base of the judges that ask a model: subclasses say how.

    Equal items of a batch are asked about once. Every verdict goes into the cache as soon as it is there, so
    that nothing that was paid for is lost to a later failure.

    Args:
        name: Which model judges, such as ``"api:qwen-max"``; part of the cache's keys.
        cache: File of verdicts, or ``None`` for no cache.
        on_error: What :meth:`judge` does about an answer without a verdict. ``"raise"``: it raises
            :class:`~vrag_env.errors.JudgeError`, and the step of the environment can be taken again. ``"zero"``:
            the answer scores 0, which is counted in :attr:`stats` and logged as a warning.
        max_failures_in_a_row: So many answers one after the other without a verdict raise an error under
            ``"zero"`` too: then the judge is broken, and zeros would train the policy on noise.

    Raises:
        JudgeError: If an argument does not fit, or the cache can not be used.
    """

    def __init__(
        self,
        name: str,
        *,
        cache: str | Path | VerdictCache | None = None,
        on_error: str = "raise",
        max_failures_in_a_row: int = 64,
    ) -> None:
        if on_error not in ON_ERROR:
            raise JudgeError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        if max_failures_in_a_row < 1:
            raise JudgeError(f"max_failures_in_a_row must be at least 1, got {max_failures_in_a_row}")
        self.name = name
        self.cache = VerdictCache(cache) if isinstance(cache, str | Path) else cache
        self.on_error = on_error
        self.max_failures_in_a_row = max_failures_in_a_row
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {field.name: field.default for field in fields(JudgeStats)}  # type: ignore[misc]  # every field has a number as its default
        self._in_a_row = 0

    # ------------------------------------------------------------------ what can be asked of it

    @property
    def stats(self) -> JudgeStats:
        """The counters as they are now."""
        with self._lock:
            return JudgeStats(**self._counts)  # type: ignore[arg-type]  # integers where the fields are

    def judge(self, items: Sequence[JudgeItem]) -> list[float]:
        """Judge a batch; see :meth:`vrag_env.rewards.judges.Judge.judge`.

        Raises:
            JudgeError: If an answer got no verdict and ``on_error`` is ``"raise"``, if too many in a row got
                none, or if the judge is set up wrongly. The verdicts that were reached are in the cache.
        """
        outcomes = self._outcomes(items)
        missing = [outcome for outcome in outcomes if outcome.verdict is None]
        if missing:
            message = f"{self.name} gave no verdict on {len(missing)} of {len(items)} answers: {missing[0].reason}"
            if self.on_error == "raise":
                raise JudgeError(f'{message}. Take the step again, or score such answers 0 with on_error="zero"')
            if self._in_a_row >= self.max_failures_in_a_row:
                raise JudgeError(f"{message}. These were {self._in_a_row} answers in a row: the judge is broken")
            _LOG.warning("%s; they score 0", message)
        return [float(outcome.verdict is True) for outcome in outcomes]

    def verdicts(self, items: Sequence[JudgeItem]) -> list[bool | None]:
        """Judge a batch and say openly where there is no verdict, whatever ``on_error`` says.

        Returns:
            One verdict per item, ``None`` where there is none.

        Raises:
            JudgeError: If the judge is set up wrongly.
        """
        return [outcome.verdict for outcome in self._outcomes(items)]

    # ------------------------------------------------------------------ what subclasses say

    @abstractmethod
    def _ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Ask the model and call ``keep(position, outcome)`` once for each prompt, in any order."""

    def _settings(self) -> Any:
        """Return what else changes a reply, as something that can be written as JSON."""
        return None

    # ------------------------------------------------------------------ private

    def _count(self, **increments: float) -> None:
        with self._lock:
            for name, value in increments.items():
                self._counts[name] += value

    def _outcomes(self, items: Sequence[JudgeItem]) -> list[Outcome]:
        start = time.monotonic()
        prompts = [build_prompt(item) for item in items]
        settings = self._settings()
        keys = [prompt.key(self.name, settings) for prompt in prompts]
        distinct = dict(zip(keys, prompts, strict=True))
        known = self.cache.get(list(distinct)) if self.cache is not None else {}
        outcomes = {key: Outcome(verdict) for key, verdict in known.items()}
        asked = [key for key in distinct if key not in outcomes]

        def keep(position: int, outcome: Outcome) -> None:
            outcomes[asked[position]] = outcome
            if self.cache is not None and outcome.verdict is not None:
                self.cache.put({asked[position]: outcome.verdict}, self.name)

        try:
            if asked:
                self._ask([distinct[key] for key in asked], keep)
        finally:
            self._count(
                items=len(items),
                cached=len(items) - len(asked),
                cut=sum(prompt.cut for prompt in prompts),
                seconds=time.monotonic() - start,
            )
        results = [outcomes[key] for key in keys]
        self._count(
            unparsed=sum(outcome.verdict is None and outcome.replied for outcome in results),
            failed=sum(outcome.verdict is None and not outcome.replied for outcome in results),
        )
        with self._lock:
            for key in asked:
                self._in_a_row = self._in_a_row + 1 if outcomes[key].verdict is None else 0
        return results

    def __deepcopy__(self: _J, memo: dict[int, Any]) -> _J:
        # A judge is a service with counters; Gymnasium copies the arguments of an environment with its spec.
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
