"""Processes that :mod:`trainer_speed` starts: a trainer that makes a step when it is told to, or one measurement.

A worker prints one JSON object a line. A stepping worker says when it is ready and then waits for a line on its
standard input before each step, so that two of them can take turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _machine import peak_rss_mib, rss_mib

LIMIT_SECONDS = 460
"""A command that runs alone on a machine should not keep it longer than this."""


class Worker:
    """A process that steps when told to.

    Args:
        arguments: Of this module's :func:`main`.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._read()

    def step(self) -> dict[str, Any]:
        """Make one step and return what it says."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Wait for its end."""
        self.process.communicate(timeout=LIMIT_SECONDS)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                try:
                    return json.loads(line)
                except json.JSONDecodeError:
                    continue  # a trainer's own log
        raise RuntimeError(f"a worker ended with code {self.process.wait()}: see what it wrote above")


def say(**values: Any) -> None:
    """Print a line for the other side."""
    print(json.dumps(values), flush=True)


class Stopwatch:
    """Wall-clock and processor seconds of a step, told with the memory so far."""

    def __init__(self) -> None:
        self._before = rss_mib()
        self._started = (0.0, 0.0)

    def begin(self) -> None:
        """Wait for the word, then start."""
        if not sys.stdin.readline():
            raise SystemExit(0)
        self._started = time.perf_counter(), time.process_time()

    def end(self, counts: dict[str, Any]) -> None:
        """Stop and tell."""
        wall, processor = self._started
        say(
            seconds=time.perf_counter() - wall,
            processor_seconds=time.process_time() - processor,
            peak_mib=peak_rss_mib(),
            growth_mib=peak_rss_mib() - self._before,
            **counts,
        )


@contextmanager
def told_ready() -> Iterator[Stopwatch]:
    """Say that everything is loaded."""
    watch = Stopwatch()
    say(ready=True, rss_mib=rss_mib())
    yield watch


def step_ours(directory: Path, steps: int, **shape: Any) -> None:
    """GRPO of this package, step by step."""
    from _trainer_ours import Forced, counts, forced, scripts
    from _trainer_task import Shape, Task, one_thread

    from vrag_agent.config import GRPOConfig
    from vrag_agent.grpo import GRPO

    one_thread()
    task = Task(directory, Shape(**shape))
    size = task.shape
    config = GRPOConfig(
        n_episodes=size.episodes,
        group_size=size.copies,
        n_epochs=1,
        minibatch_size=size.episodes,
        microbatch_size=size.microbatch,
        learning_rate=1e-6,
        kl_coef=0.0,
        max_tokens=256,
        rollout_batch_size=size.episodes,
        skip_zero_variance=False,
    )
    at = [0]
    grpo = GRPO(
        task.policy(),
        lambda count: [task.fresh(task.question(at[0], number)) for number in range(count)],
        config,
    )
    with told_ready() as watch, forced(task):
        for step in range(steps):
            watch.begin()
            at[0] = step
            Forced.scripts = scripts(task, step)
            grpo.learn(1)
            watch.end(counts(grpo.last_rollout[1]))


def step_trl(directory: Path, steps: int, **shape: Any) -> None:
    """TRL's GRPO, step by step."""
    import _trainer_trl
    from _trainer_task import Shape, Task, one_thread

    one_thread()
    task = Task(directory, Shape(**shape))
    _trainer_trl.preload()
    with told_ready() as watch:
        _trainer_trl.run(task, steps, watch.begin, watch.end)


def update(directory: Path, variant: str, repeats: int) -> None:
    """Forward and backward passes over one rollout, in one of several ways."""
    import torch
    from _trainer_ours import counts, play
    from _trainer_task import Task, one_thread

    from vrag_agent.trajectory import collate

    one_thread()
    task = Task(directory)
    policy = task.policy()
    trajectories = play(task, policy, 0)
    policy.train()
    if variant == "gradient checkpointing":
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if variant == "LoRA of rank 8":
        import peft

        peft.get_peft_model(policy.model, peft.LoraConfig(r=8, target_modules=policy.family.lora_targets))
    if variant == "bfloat16":
        policy.model.to(torch.bfloat16)
    if "32,768" in variant:
        policy.model.resize_token_embeddings(32_768, mean_resizing=False)
        policy.forbidden = torch.arange(32_768) >= policy.family.vocab_size
    plain = variant.endswith("all logits")

    def score(batch: Any) -> torch.Tensor:
        if not plain:
            return policy(batch).logprobs
        from vrag_agent.attention import packed_spans

        hidden = policy.hidden(batch.input_ids, batch.position_ids, batch.images, spans=packed_spans(batch.lengths))[0]
        logp = policy.log_distribution(hidden)
        places = batch.places(batch.rows, batch.columns)
        return logp[places - 1].gather(-1, batch.action_ids[:, None]).squeeze(-1)

    size = task.shape.microbatch
    before = rss_mib()
    spent = []
    for _ in range(repeats + 1):
        started = time.perf_counter(), time.process_time()
        for start in range(0, len(trajectories), size):
            batch = collate(trajectories[start : start + size], policy.family, packed=variant != "padded")
            (-score(batch).mean()).backward()
        spent.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        policy.zero_grad(set_to_none=True)
    say(
        variant=variant,
        seconds=[wall for wall, _ in spent[1:]],
        processor_seconds=[processor for _, processor in spent[1:]],
        growth_mib=peak_rss_mib() - before,
        **counts(trajectories),
    )


def main(arguments: list[str]) -> None:
    """``ours|trl DIRECTORY STEPS``, or ``update DIRECTORY VARIANT REPEATS``."""
    kind, directory, *rest = arguments
    if kind == "update":
        update(Path(directory), rest[0], int(rest[1]))
    else:
        {"ours": step_ours, "trl": step_trl}[kind](Path(directory), int(rest[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
