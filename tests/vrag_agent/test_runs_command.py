"""vrag runs: the numbers of a table worked out by hand, and what is not a run."""

import json
import math
from pathlib import Path

import pytest

from vrag_agent.runs_command import find_runs, headline, run_runs
from vrag_env.errors import VRAGError


def make_run(directory: Path, rewards: list[float], iterations: int, finished: bool = False) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(f"run: {{algorithm: grpo, iterations: {iterations}}}\n")
    lines = [
        {
            "iteration": number,
            "rollout/ep_rew_mean": reward,
            "rollout/success_rate": reward / 2,
            "rollout/invalid_rate": None,
            "time/rollout": 1000.0,
            "time/train": 800.0,
        }
        for number, reward in enumerate(rewards, 1)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (directory / "model").mkdir()
    return directory


def test_the_headline_by_hand(tmp_path: Path) -> None:
    # Means over the last five: 0.2, 0.3, 0.4, 0.5, 0.6 = 0.4 at the end; 0.9 alone in the beginning was the best.
    run = make_run(tmp_path / "run", [0.9, 0.2, 0.3, 0.4, 0.5, 0.6], 6, finished=True)
    row = headline(run)
    assert row["reward"] == pytest.approx(0.4) and row["best"] == 0.9 and row["right"] == pytest.approx(0.2)
    assert math.isnan(row["invalid"]) and row["hours"] == pytest.approx(3.0)
    assert (row["algorithm"], row["state"], row["iterations"]) == ("grpo", "finished", "6/6")


def test_runs_are_listed_with_the_best_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "b" / "good", [0.8, 0.9], 10)
    make_run(tmp_path / "a", [0.1], 1, finished=True)
    make_run(tmp_path / "never", [], 5)
    assert [path.name for path in find_runs(tmp_path)] == ["a", "good", "never"]
    rows = run_runs([tmp_path, tmp_path / "a"], tmp_path / "plots" / "all.png")
    assert [Path(row["run"]).name for row in rows] == ["never", "a", "good"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["run", "algorithm", "state", "iterations"] and len(lines) == 5
    assert "no checkpoint" in lines[1] and " - " in lines[1] and "finished" in lines[2]
    assert (tmp_path / "plots" / "all.png").read_bytes()[:4] == b"\x89PNG"


def test_a_line_that_a_kill_has_cut_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [0.5, 0.7], 3)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "rollout/ep_rew')
    assert headline(run)["iterations"] == "2/3"


def test_nothing_to_list_or_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(VRAGError, match="there is no run in"):
        run_runs([tmp_path], None)
    make_run(tmp_path / "never", [], 5)
    with pytest.raises(VRAGError, match="nothing to draw"):
        run_runs([tmp_path], tmp_path / "all.png")
