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

from vrag_agent.distributed import DistributedError, distribute, gathered, start
from vrag_agent.parallel import SingleProcess

TIMEOUT = 900


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes found, started as a user starts them; torchrun takes a free port of its own."""
    directory = tmp_path_factory.mktemp("distributed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(Path(distributed_work.__file__)), str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    with (directory / "log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(TIMEOUT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log.seek(0)
        assert code == 0, log.read()[-5000:]
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
