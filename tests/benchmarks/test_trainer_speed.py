"""The trainer's benchmark at a tiny size: both trainers do the same, and the documentation shows what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from _trainer_ours import Forced, Recomputing, counts, play, scripts
from _trainer_report import _least_squares, document, readme_block, tables
from _trainer_task import Shape, Task
from trainer_speed import RESULTS

ROOT = Path(__file__).parents[2]
TINY = Shape(questions=2, copies=2, microbatch=2, turns=3, words=(2, 6))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return Task(tmp_path_factory.mktemp("task"), TINY)


def test_the_written_actions_are_what_is_played_with_or_without_a_cache(task: Task) -> None:
    """The same tokens, images and rewards, and log-probs of one model whichever way they were computed."""
    from vrag_agent.parity import check_rollout

    policy = task.policy()
    runs = {sampler: play(task, policy, 0, sampler, rows=3) for sampler in (Forced, Recomputing)}
    for trajectories in runs.values():
        assert [[list(a.token_ids) for a in t.actions] for t in trajectories] == scripts(task, 0)
        assert counts(trajectories)["images"] == 4 * 2  # a page and a crop in each episode
        assert check_rollout(trajectories, policy, 1e-4).tokens == counts(trajectories)["action_tokens"]
        rewards = [sum(t.rewards) for t in trajectories]
        assert rewards[0] > rewards[1] and rewards[2] > rewards[3]  # every second answer is wrong


@pytest.mark.slow
def test_trl_does_the_same(task: Task) -> None:
    """One step of TRL's trainer: as many trajectories, tokens and images, and the same rewards."""
    pytest.importorskip("trl")
    import _trainer_trl

    seen: list[dict[str, Any]] = []
    rewards: list[float] = []
    build = _trainer_trl.environment

    def watched(task: Task) -> type:
        kind = build(task)
        finish = kind._finish

        def finished(self: Any, text: str) -> float:
            rewards.append(finish(self, text))
            return rewards[-1]

        kind._finish = finished
        return kind

    _trainer_trl.environment = watched
    try:
        _trainer_trl.run(task, 1, lambda: None, seen.append)
    finally:
        _trainer_trl.environment = build
    ours = play(task, task.policy(), 0)
    assert seen == [counts(ours)]
    assert rewards == pytest.approx([sum(t.rewards) for t in ours])


def test_a_straight_line_by_hand() -> None:
    assert _least_squares([1.0, 2.0, 3.0], [5.0, 7.0, 9.0]) == pytest.approx((3.0, 2.0, 1.0))
    intercept, slope, explained = _least_squares([0.0, 1.0, 2.0], [0.0, 3.0, 0.0])
    assert (intercept, slope, explained) == pytest.approx((1.0, 0.0, 0.0))


def test_the_documentation_shows_the_results() -> None:
    """``python benchmarks/trainer_speed.py --write`` was run after the last measurement."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert readme_block(results) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert document(results) == (ROOT / "docs" / "trainer_speed.md").read_text(encoding="utf-8")
    assert 1 <= len(tables(results)) <= 5
