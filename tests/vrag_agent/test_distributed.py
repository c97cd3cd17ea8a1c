"""Two processes over gloo do what one process does: SFT, PPO and GRPO, replicated, sharded and with an adapter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_work
import pytest
import torch
from conversations import build_policy

from vrag_agent.checkpoint import save_checkpoint
from vrag_agent.distributed import DistributedError, distribute, gathered, start
from vrag_agent.parallel import SingleProcess
from vrag_env.questions import save_questions

TIMEOUT = 900


def started(command: list[str], log: Path, code: int = 0) -> str:
    """Run a command to its end and return what it said; nothing of it is left behind if it hangs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w+") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            ended = process.wait(TIMEOUT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        file.seek(0)
        said = file.read()
    assert ended == code, said[-5000:]
    return said


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes found, started as a user starts them; torchrun takes a free port of its own."""
    directory = tmp_path_factory.mktemp("distributed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(Path(distributed_work.__file__)), str(directory)]
    started(command, directory / "log")
    return [json.loads((directory / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """What one process finds."""
    return {way: distributed_work.run(way, SingleProcess()) for way in ("replicated", "adapter")}


@pytest.mark.slow
@pytest.mark.parametrize("way", distributed_work.WAYS)
@pytest.mark.parametrize("algorithm", ["sft", "ppo", "grpo"])
def test_two_processes_make_the_update_of_one(
    both: list[dict[str, Any]], alone: dict[str, dict[str, Any]], way: str, algorithm: str
) -> None:
    expected = alone["adapter" if way == "adapter" else "replicated"][algorithm]
    for found in both:
        assert found[way][algorithm].keys() == expected.keys()
        for name, value in expected.items():
            # Sums of float32 in another order; the gradient norm itself agrees to about 1e-7.
            assert found[way][algorithm][name] == pytest.approx(value, rel=2e-4, abs=1e-6), name


@pytest.mark.slow
def test_both_have_the_same_weights_and_sample_the_same(
    both: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    for way in distributed_work.WAYS:
        first, second = both[0][way], both[1][way]
        assert first["grpo"]["weights"] == second["grpo"]["weights"]
        assert first["sampled"][0] == second["sampled"][0]
        assert (len(first["sampled"]), len(second["sampled"])) == (1, 2)
        assert first["logprob"] == second["logprob"]
        expected = alone["adapter" if way == "adapter" else "replicated"]
        assert first["logprob"] == pytest.approx(expected["logprob"], rel=1e-4)


def test_one_process_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    parallel = start()
    assert isinstance(parallel, SingleProcess)
    policy = build_policy()
    distribute(policy, parallel)
    with gathered(policy):
        assert torch.equal(parallel.sum(torch.ones(2)), torch.ones(2))


def test_processes_that_do_not_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world size without the rest of what torchrun sets: accelerate would go on alone, or take a port by guess."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DistributedError, match=r"2 processes.*MASTER_PORT.*torchrun"):
        start()


@pytest.mark.slow
def test_vrag_train_under_torchrun_and_resumed(tmp_path: Path, tiny_corpus_path: Path, tiny_questions: Any) -> None:
    """An iteration in two processes, and another one after a restart; only the first process writes."""
    save_checkpoint(build_policy(), tmp_path / "tiny", {"min_pixels": 3136, "max_pixels": 12544}, 4)
    save_questions(tmp_path / "questions.json", tiny_questions)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "vrag_agent", "train", "grpo", "--out", str(tmp_path / "run")]
    options = ["--model", str(tmp_path / "tiny"), "--lora", "2", "--iterations", "1", "--track", "none"]
    options += ["--corpus", str(tiny_corpus_path), "--questions", str(tmp_path / "questions.json"), "--max-turns", "1"]
    hyper = {"n_episodes": 4, "group_size": 2, "minibatch_size": 4, "max_tokens": 3, "skip_zero_variance": "false"}
    options += [part for name, value in hyper.items() for part in ("--set", f"{name}={value}")]
    first = started([*command, *options], tmp_path / "first.log")
    assert first.count("evaluate it with") == 1
    again = started([*command, "--resume", "--iterations", "2"], tmp_path / "second.log")
    assert "goes on after iteration 1 of 2" in again
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2]
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == "000002"
