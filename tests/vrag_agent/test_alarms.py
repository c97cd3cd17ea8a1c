"""Alarms: each sign shows on a made-up course of metrics that has it, and not on a good one."""

from collections.abc import Callable

import pytest

from vrag_agent.alarms import WINDOW, AlarmError, Alarms, AlarmWarning

GOOD = {
    "rollout/ep_rew_mean": 0.5,
    "rollout/ep_rew_std": 0.3,
    "rollout/success_rate": 0.4,
    "rollout/invalid_rate": 0.1,
    "rollout/repetition": 0.1,
    "train/entropy": 1.0,
}
LATER = {
    "entropy_collapse": {"train/entropy": 0.05},
    "no_variance": {"rollout/ep_rew_std": 0.0},
    "void_turns": {"rollout/invalid_rate": 0.7},
    "repetition": {"rollout/repetition": 0.8},
    "reward_hacking": {"rollout/ep_rew_mean": 0.8, "rollout/success_rate": 0.2},
}


def course(alarms: Alarms, later: dict[str, float]) -> None:
    for change in ({}, later):
        for _ in range(WINDOW):
            alarms.act(alarms.observe(GOOD | change))


@pytest.mark.parametrize("sign", LATER)
def test_each_sign_stops_warns_or_passes(sign: str) -> None:
    with pytest.raises(AlarmError, match=f"^{sign}"):
        course(Alarms("stop"), LATER[sign])
    with pytest.warns(AlarmWarning, match=f"^{sign}") as told:
        course(Alarms("warn"), LATER[sign])
    assert len(told) == 1  # once, not in every iteration
    course(Alarms("off"), LATER[sign])


@pytest.mark.parametrize(
    "later",
    [
        {},
        {"rollout/ep_rew_mean": 0.9, "rollout/success_rate": 0.8},
        {"train/entropy": 0.05, "rollout/success_rate": 0.8},  # it knows what it does
        {"rollout/ep_rew_std": 0.0, "rollout/success_rate": 1.0},
    ],
)
def test_a_good_course_is_left_alone(later: dict[str, float]) -> None:
    course(Alarms("stop"), later)


def test_a_metric_that_is_missing_or_nan_is_no_sign() -> None:
    alarms = Alarms("stop")
    for _ in range(3 * WINDOW):
        alarms.act(alarms.observe({n: v for n, v in GOOD.items() if not n.startswith("train/")}))
        alarms.act(alarms.observe(GOOD | {"train/entropy": float("nan")}))


@pytest.mark.parametrize("gap", [0.06, float("nan"), float("inf")])
def test_the_gap_has_a_switch_of_its_own(gap: float) -> None:
    with pytest.raises(AlarmError, match="sampler_gap"):
        Alarms("off", "stop", 0.05).check_sampler(gap)
    with pytest.warns(AlarmWarning):
        Alarms("off", "warn", 0.05).check_sampler(gap)
    Alarms("stop", "off", 0.05).check_sampler(gap)
    Alarms("stop", "stop", 0.05).check_sampler(0.05)


def test_a_resumed_run_goes_on_watching() -> None:
    def run(between: Callable[[Alarms], Alarms]) -> str:
        alarms = Alarms("stop")
        for _ in range(WINDOW):
            alarms.act(alarms.observe(GOOD))
        alarms = between(alarms)
        with pytest.raises(AlarmError) as told:
            for _ in range(WINDOW + 1):
                alarms.act(alarms.observe(GOOD | LATER["void_turns"]))
        return f"{len(alarms.state()['last']['train/entropy'])} {told.value}"

    def resumed(alarms: Alarms) -> Alarms:
        fresh = Alarms("stop")
        fresh.load_state(alarms.state())
        return fresh

    assert run(resumed) == run(lambda alarms: alarms)


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="stop, warn, off"):
        Alarms("ignore")
