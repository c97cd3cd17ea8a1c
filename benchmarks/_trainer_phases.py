"""Where the time of a step goes: processor seconds of each phase, and the operations that they did."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from _trainer_ours import episodes, forced, scripts
from _trainer_task import Task

from vrag_agent import rollout, trainer
from vrag_agent.config import GRPOConfig
from vrag_agent.grpo import GRPO


def _attention_flops(query: Sequence[int], key: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Two products over all pairs of tokens, of which a causal kernel skips half: given are shapes."""
    batch, heads, new, width = query
    return 2 * 2 * batch * heads * new * key[2] * width // (2 if new == key[2] > 1 else 1)


def _attention_backward_flops(grad: Any, query: Sequence[int], key: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Five products in the place of two."""
    return 5 * _attention_flops(query, key) // 2


class Phases:
    """Times the parts of a step.

    Args:
        task: What is trained on.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        size = task.shape
        self.grpo = GRPO(
            task.policy(),
            lambda count: episodes(task, self.at)[:: size.copies],
            GRPOConfig(
                n_episodes=size.episodes,
                group_size=size.copies,
                minibatch_size=size.episodes,
                microbatch_size=size.microbatch,
                n_epochs=1,
                kl_coef=0.0,
                max_tokens=256,
                rollout_batch_size=size.episodes,
                skip_zero_variance=False,
            ),
        )
        self.at = 0
        self._spent: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def _enter(self, phase: str) -> None:
        now = time.process_time()
        if self._open:
            self._spent[self._open[-1]] = self._spent.get(self._open[-1], 0.0) + now - self._since
        self._open.append(phase)
        self._since = now

    def _leave(self) -> None:
        now = time.process_time()
        phase = self._open.pop()
        self._spent[phase] = self._spent.get(phase, 0.0) + now - self._since
        self._since = now

    def timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call; its time counts for a phase, without that of phases inside of it."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            self._enter(phase)
            try:
                return call(*args, **kwargs)
            finally:
                self._leave()

        return inside

    def _step(self) -> None:
        self.grpo.learn(1)
        self.at += 1

    def measure(self, repeats: int) -> dict[str, Any]:
        """Median seconds per phase over some steps, and the operations of one."""
        from torch.utils.flop_counter import FlopCounterMode

        family = self.grpo.policy.family
        runs: list[dict[str, float]] = []
        with ExitStack() as stack:
            sampler = stack.enter_context(forced(self.task))
            for owner, name, phase in (
                (rollout, "step_many", "environment: retrieval, pages, crops, reward"),
                (family, "observation", "writing observations, preparing images"),
                (family, "prompt", "writing observations, preparing images"),
                (family, "features", "vision tower"),
                (sampler, "extend", "rollout: reading observations"),
                (sampler, "run", "rollout: sampling tokens"),
                (trainer, "collate", "update: batches"),
                (self.grpo, "forward", "update: forward"),
                (torch.Tensor, "backward", "update: backward"),
                (self.grpo, "step", "update: optimizer"),
                (self.grpo, "clip", "update: optimizer"),
            ):
                stack.enter_context(patch.object(owner, name, self.timed(phase, getattr(owner, name))))
            for _ in range(repeats + 1):
                sampler.scripts = scripts(self.task, self.at)
                self.grpo.policy.features.clear()
                self._spent = {}
                self.timed("other", self._step)()
                runs.append(self._spent)
            # The counter knows the kernels of GPUs; that of CPUs takes the same arguments.
            attention = {
                torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
                torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
            }
            with FlopCounterMode(display=False, custom_mapping=attention) as counter:
                sampler.scripts = scripts(self.task, self.at)
                self.grpo.policy.features.clear()
                self._step()
        phases = {name: median(run.get(name, 0.0) for run in runs[1:]) for name in runs[-1]}
        return {"processor_seconds": phases, "flops": counter.get_total_flops()}
