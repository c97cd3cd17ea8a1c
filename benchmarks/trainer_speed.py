"""Speed of the trainer: rollouts, one whole step against TRL, cost against turns and images, and where time goes.

    python benchmarks/trainer_speed.py                    # all parts, about 20 minutes on one quiet core
    python benchmarks/trainer_speed.py --again step       # one part again: rollout, update, step, cost, phases
    python benchmarks/trainer_speed.py --table            # print the tables of the last results
    python benchmarks/trainer_speed.py --write            # put them into README.md and docs/trainer_speed.md

All parts use the same tiny Qwen2.5-VL (1.2 million parameters, random), the same questions over a generated corpus
and the same tokens: actions are written beforehand and forced on the samplers, see ``_trainer_task.py``. Ways that
are compared take turns, so that a change of the machine's load hits all of them; the number given is the median.

Left out: GPUs, half precision on hardware that has it, several processes, vLLM. A tiny model spends more of its time
outside of matrix products than a large one; the shares of the last part say how much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _machine import machine
from _trainer_worker import Worker

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "trainer_speed.json"
PARTS = ("rollout", "update", "step", "cost", "phases")
UPDATES = (
    "packed",
    "padded",
    "gradient checkpointing",
    "LoRA of rank 8",
    "bfloat16",
    "vocabulary of 32,768",
    "vocabulary of 32,768, all logits",
)


def measure_rollout(directory: Path, repeats: int) -> dict[str, Any]:
    """Action tokens per second of rollouts, each means switched off in turn: 16 episodes in 8 rows."""
    import torch
    from _trainer_ours import Forced, Recomputing, counts, play
    from _trainer_task import Task, one_thread

    from vrag_agent import rollout

    one_thread()
    task = Task(directory)
    policy, half = task.policy(), task.policy()
    half.model.to(torch.bfloat16)
    rows = 8

    def in_step() -> list[Any]:
        """Every row waits for the longest action, and nobody takes the place of one who is done."""
        share, rollout.WAITING_SHARE = rollout.WAITING_SHARE, 1
        kept, task.shape = task.shape, task.shape.__class__(questions=1, copies=rows)
        try:
            out = []
            for number in range(kept.episodes // rows):
                out += play(task, policy, number, Forced, rows)
            return out
        finally:
            rollout.WAITING_SHARE, task.shape = share, kept

    def seeing_again() -> list[Any]:
        policy.model.model.visual.requires_grad_(True)  # a tower that learns is not remembered
        try:
            return play(task, policy, 0, Forced, rows)
        finally:
            policy.model.model.visual.requires_grad_(False)

    ways: dict[str, Callable[[], list[Any]]] = {
        "as it is": lambda: play(task, policy, 0, Forced, rows),
        "no key-value cache between turns": lambda: play(task, policy, 0, Recomputing, rows),
        "no continuous batching": in_step,
        "no feature cache": seeing_again,
        "bfloat16": lambda: play(task, half, 0, Forced, rows),
    }
    found: dict[str, dict[str, Any]] = {name: {"seconds": [], "processor_seconds": []} for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            policy.features.clear()
            half.features.clear()
            started = time.perf_counter(), time.process_time()
            trajectories = way()
            if turn:  # the first call counts nowhere: it loads what is loaded on first use
                found[name]["seconds"].append(time.perf_counter() - started[0])
                found[name]["processor_seconds"].append(time.process_time() - started[1])
            found[name] |= counts(trajectories)
    return {"rows": rows, "ways": found}


def measure_update(directory: Path, repeats: int) -> dict[str, Any]:
    """Tokens per second and memory of forward and backward passes, each way in a process of its own."""
    ways = []
    for variant in UPDATES:
        command = [sys.executable, str(ROOT / "_trainer_worker.py"), "update", str(directory), variant, str(repeats)]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        ways.append(json.loads(next(line for line in reversed(lines) if line.startswith("{"))))
    return {"ways": ways}


def measure_step(directory: Path, repeats: int) -> dict[str, Any]:
    """Whole steps of this package and of TRL, in turn; the first of each counts nowhere."""
    workers = {name: Worker([name, str(directory), str(repeats + 1)]) for name in ("ours", "trl")}
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for _ in range(repeats + 1):
        for name, worker in workers.items():
            steps[name].append(worker.step())
            print(f"{name}: {steps[name][-1]}", file=sys.stderr)
    for worker in workers.values():
        worker.close()
    for ours, theirs in zip(steps["ours"], steps["trl"], strict=True):
        for name in ("trajectories", "tokens", "action_tokens", "images"):
            if ours[name] != theirs[name]:
                raise RuntimeError(f"the trainers did not do the same: {name} {ours[name]} and {theirs[name]}")
    return {name: found[1:] for name, found in steps.items()}


def measure_cost(directory: Path, repeats: int) -> dict[str, Any]:
    """Seconds of rollout and update of 8 episodes, against turns and against images per episode."""
    from _trainer_ours import counts, play
    from _trainer_task import Shape, Task, one_thread

    from vrag_agent.trajectory import collate

    one_thread()
    tasks = {("turns", n): Shape(questions=2, copies=4, turns=n, words=(20, 20)) for n in range(1, 11)}
    tasks |= {("images", n): Shape(questions=2, copies=4, turns=2, pages=n, words=(20, 20)) for n in range(1, 9)}
    made = {key: Task(directory, shape) for key, shape in tasks.items()}
    policies = {key: task.policy() for key, task in made.items()}
    found: dict[tuple[str, int], dict[str, Any]] = {key: {"rollout": [], "update": []} for key in made}
    for turn in range(repeats + 1):
        for key, task in made.items():
            policy = policies[key]
            policy.features.clear()
            started = time.process_time()
            trajectories = play(task, policy, 0)
            played = time.process_time()
            (-policy(collate(trajectories, policy.family)).logprobs.mean()).backward()
            policy.zero_grad(set_to_none=True)
            if turn:
                found[key]["rollout"].append(played - started)
                found[key]["update"].append(time.process_time() - played)
            found[key] |= counts(trajectories)
    return {
        what: [{"number": n, **values} for (kind, n), values in found.items() if kind == what]
        for what in ("turns", "images")
    }


def measure_phases(directory: Path, repeats: int) -> dict[str, Any]:
    """Processor seconds per phase of a step, its floating-point operations, and this core's rate."""
    import torch
    from _trainer_phases import Phases
    from _trainer_task import Task, one_thread

    one_thread()
    matrix = torch.randn(1024, 1024)
    rates = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(10):
            matrix @ matrix
        rates.append(10 * 2 * 1024**3 / (time.process_time() - started))
    return {"matrix_flops_per_second": max(rates), **Phases(Task(directory)).measure(repeats)}


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", choices=PARTS, help="measure only this part; the others stay as they were")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each way (default 5)")
    parser.add_argument("--table", action="store_true", help="print the tables of the last results")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md and docs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results are kept")
    parser.add_argument("--work", type=Path, help="directory for the generated corpus; by default a temporary one")
    given = parser.parse_args(arguments)
    from _trainer_report import tables, write

    if not (given.table or given.write):
        results = json.loads(given.results.read_text(encoding="utf-8")) if given.results.exists() else {}
        with tempfile.TemporaryDirectory() as temporary:
            directory = given.work or Path(temporary)
            for part in [given.again] if given.again else PARTS:
                print(f"{part} ...", file=sys.stderr)
                measured = globals()[f"measure_{part}"](directory, given.repeats)
                results[part] = {"machine": machine(1), "repeats": given.repeats, **measured}
                given.results.parent.mkdir(exist_ok=True)
                given.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    results = json.loads(given.results.read_text(encoding="utf-8"))
    if given.write:
        write(results, ROOT.parent)
    print("\n\n".join(tables(results)))


if __name__ == "__main__":
    main(sys.argv[1:])
