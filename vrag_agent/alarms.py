"""Alarms: signs that a run goes wrong, told while there is still something to save.

The gap between sampler and trainer is a fault of the machinery. The others are known ways in which a policy collapses
or learns to earn reward without answering better; they compare the last iterations with the first ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from vrag_env.errors import VRAGError

WINDOW = 10
"""Iterations that are compared: the first ones with the last ones."""
COLLAPSED_ENTROPY = 0.1
"""Entropy below this share of what it was in the beginning has collapsed, unless most answers are right."""
MANY_VOID_TURNS = 0.5
"""Share of invalid turns that is alarming after the first iterations."""
MUCH_REPETITION = 0.5
"""Share of repeated runs of four tokens in actions that is alarming."""
HACKED_REWARD, HACKED_SUCCESS = 0.1, 0.05
"""The reward has risen by the first while the share of right answers has fallen by the second."""
MODES = ("stop", "warn", "off")

_WATCHED = (
    "rollout/ep_rew_mean",
    "rollout/ep_rew_std",
    "rollout/success_rate",
    "rollout/invalid_rate",
    "rollout/repetition",
    "train/entropy",
)


class AlarmError(VRAGError):
    """An alarm that was set to stop the run."""


class AlarmWarning(UserWarning):
    """An alarm that was set to warn."""


class Alarms:
    """Watches the metrics of a run.

    Args:
        mode: What happens on signs of collapse and reward hacking: ``stop``, ``warn`` (once per sign) or ``off``.
        parity: The same for the gap between sampler and trainer.
        sampler_gap: Largest mean gap, in nats per token.
    """

    def __init__(self, mode: str = "warn", parity: str = "stop", sampler_gap: float = 0.05) -> None:
        for value in (mode, parity):
            if value not in MODES:
                raise ValueError(f"an alarm must be one of {', '.join(MODES)}, got {value!r}")
        self.mode = mode
        self.parity = parity
        self.sampler_gap = sampler_gap
        self.fired: list[str] = []
        self._first: dict[str, list[float]] = {}
        self._last: dict[str, list[float]] = {}

    def check_sampler(self, gap: float) -> None:
        """Compare the mean gap between sampler and trainer with the limit, before anything is trained.

        Raises:
            AlarmError: If it is larger and the alarm stops the run.
        """
        if not gap <= self.sampler_gap:
            self._fire(
                "sampler_gap",
                f"the log-probs of sampler and trainer differ by {gap:.2e} nats per token on average (allowed "
                f"{self.sampler_gap:.0e}): they do not see the same tokens, pixels, positions or temperature",
                self.parity,
            )

    def observe(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """Look at the metrics of one iteration; return the signs that show, with what they mean."""
        for name in _WATCHED:
            value = metrics.get(name)
            if value is not None and value == value:
                first = self._first.setdefault(name, [])
                if len(first) < WINDOW:
                    first.append(value)
                self._last[name] = [*self._last.get(name, []), value][-WINDOW:]
        if self.mode == "off" or len(self._last.get("rollout/ep_rew_mean", ())) < WINDOW:
            return {}
        return self._signs()

    def act(self, signs: Mapping[str, str]) -> None:
        """Stop the run or warn, once the iteration has been written down.

        Raises:
            AlarmError: If there is a sign and the alarm stops the run.
        """
        for name, message in signs.items():
            self._fire(name, message, self.mode)

    def _signs(self) -> dict[str, str]:
        before = {name: fmean(values) for name, values in self._first.items()}
        now = {name: fmean(values) for name, values in self._last.items()}
        signs = {}
        right, entropy = now["rollout/success_rate"], now.get("train/entropy")
        if entropy is not None and right < 0.5 and entropy < COLLAPSED_ENTROPY * before["train/entropy"]:
            signs["entropy_collapse"] = (
                f"the entropy fell from {before['train/entropy']:.3f} to {entropy:.3f} nats with {right:.0%} right: "
                "the policy has stopped to explore; raise kl_coef, entropy_coef or clip_high, or lower learning_rate"
            )
        if right < 0.9 and now["rollout/ep_rew_std"] < 1e-6:
            signs["no_variance"] = (
                f"all episodes have earned the same for {WINDOW} iterations: there is nothing to learn from; look at "
                "the rollouts"
            )
        if now["rollout/invalid_rate"] > MANY_VOID_TURNS:
            signs["void_turns"] = (
                f"{now['rollout/invalid_rate']:.0%} of the turns are invalid: begin with a model that knows the "
                "grammar (vrag train sft)"
            )
        if now.get("rollout/repetition", 0.0) > MUCH_REPETITION:
            signs["repetition"] = f"{now['rollout/repetition']:.0%} of what the policy writes repeats itself"
        rise = now["rollout/ep_rew_mean"] - before["rollout/ep_rew_mean"]
        fall = before["rollout/success_rate"] - right
        if rise > HACKED_REWARD and fall > HACKED_SUCCESS:
            signs["reward_hacking"] = (
                f"the reward rose by {rise:.2f} while the share of right answers fell by {fall:.2f}: the policy earns "
                "it with something else; look at the rollouts and the weights of the reward"
            )
        return signs

    def _fire(self, name: str, message: str, mode: str) -> None:
        if mode == "stop":
            raise AlarmError(f"{name}: {message}")
        if mode == "warn" and name not in self.fired:
            self.fired.append(name)
            warnings.warn(f"{name}: {message}", AlarmWarning, stacklevel=3)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"first": self._first, "last": self._last, "fired": self.fired}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._first = {name: list(values) for name, values in state["first"].items()}
        self._last = {name: list(values) for name, values in state["last"].items()}
        self.fired = list(state["fired"])
