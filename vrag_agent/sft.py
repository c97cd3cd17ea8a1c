"""SFT: imitation of demonstrations, the cold start before reinforcement learning.

The loss is the cross-entropy of the action tokens only; prompt and observation tokens are read, not learnt. Forward
passes are packed: demonstrations stand one behind the other in one row, without padding, and those of similar
length together where a pass is limited by its tokens.

    policy = load_policy("Qwen/Qwen2.5-VL-3B-Instruct", lora_rank=32)
    sft = SFT(policy, learning_rate=1e-4)
    sft.learn(trajectories, epochs=3)

A run goes on after a kill: load policy and optimizer, give :meth:`SFT.load_state` what :meth:`SFT.state` said, and
call :meth:`SFT.learn` with the same demonstrations; the steps that follow are the same, bit for bit on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vrag_agent.parallel import Parallel, SingleProcess, scalar
from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Trajectory, collate


class SFT:
    """Supervised fine-tuning of a :class:`~vrag_agent.policy.VLMPolicy` on demonstrations.

    Args:
        policy: The policy to train; all parameters that require a gradient are trained, all weights or an adapter.
        batch_size: Demonstrations per optimizer step, over all processes.
        microbatch_size: Most demonstrations per forward pass; the gradient does not depend on it.
        microbatch_tokens: Most tokens per forward pass, but always one demonstration; ``None`` for no limit.
        learning_rate: Peak learning rate; falls to zero along a half cosine after the warm-up.
        warmup: Share of the steps in which the learning rate rises from zero.
        weight_decay: Of AdamW.
        max_grad_norm: Largest gradient norm.
        seed: Of the order.
        parallel: The processes of the run.

    Attributes:
        steps: Optimizer steps of the run so far.
    """

    def __init__(
        self,
        policy: VLMPolicy,
        *,
        batch_size: int = 16,
        microbatch_size: int = 16,
        microbatch_tokens: int | None = None,
        learning_rate: float = 1e-5,
        warmup: float = 0.1,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        seed: int = 0,
        parallel: Parallel | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("microbatch_size", microbatch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.policy = policy
        self.batch_size = batch_size
        self.microbatch_size = microbatch_size
        self.microbatch_tokens = microbatch_tokens
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.max_grad_norm = max_grad_norm
        self.parallel = parallel or SingleProcess()
        head = {id(parameter) for parameter in policy.value_head.parameters()}
        self._backbone = [p for p in policy.parameters() if p.requires_grad and id(p) not in head]
        self.optimizer = torch.optim.AdamW(self._backbone, lr=learning_rate, weight_decay=weight_decay)
        self.shuffling = torch.Generator().manual_seed(seed)
        self.steps = 0
        self.grad_norm = 0.0
        self._before_run = self.shuffling.get_state()

    def learn(
        self,
        demonstrations: Sequence[Trajectory],
        epochs: int = 3,
        callback: Callable[[int, float], None] | None = None,
    ) -> list[float]:
        """Imitate.

        Args:
            demonstrations: Trajectories whose action segments are to be imitated; the same in all processes.
            epochs: Passes over them.
            callback: Called after each optimizer step with its number (from 1) and its loss; may save the state.

        Returns:
            The mean loss per action token of each optimizer step of this call, in nats.

        Raises:
            FloatingPointError: If a loss or gradient is not finite; that step has updated nothing.
        """
        if not demonstrations:
            raise ValueError("there are no demonstrations to imitate")
        total = epochs * math.ceil(len(demonstrations) / self.batch_size)
        losses: list[float] = []
        self._prepare()
        if self.steps == 0:
            self._before_run = self.shuffling.get_state()
        number = 0
        for _ in range(epochs):
            order = torch.randperm(len(demonstrations), generator=self.shuffling).tolist()
            for start in range(0, len(order), self.batch_size):
                number += 1
                if number <= self.steps:  # done before the kill
                    continue
                chosen = [demonstrations[i] for i in order[start : start + self.batch_size]]
                for group in self.optimizer.param_groups:
                    group["lr"] = self.learning_rate * _half_cosine(number - 1, total, self.warmup)
                losses.append(self._update(chosen))
                self.steps = number
                if callback is not None:
                    callback(number, losses[-1])
        self.steps = 0  # the run is over; the next one begins a new schedule
        self.policy.eval()
        return losses

    @torch.no_grad()
    def evaluate(self, demonstrations: Sequence[Trajectory]) -> float:
        """Return the mean loss per action token, in nats; nothing is learnt."""
        if not demonstrations:
            raise ValueError("there are no demonstrations to evaluate on")
        was_training = self.policy.training
        self.policy.eval()
        total = 0.0
        parts = self._parts(demonstrations)
        for chosen, counts in parts[self.parallel.rank]:
            batch = collate(chosen, self.policy.family, self.policy.device)
            total -= float(self.policy(batch).logprobs.sum()) * counts
        self.policy.train(was_training)
        return float(self.parallel.sum(torch.tensor(total, dtype=torch.float64))) / _action_tokens(demonstrations)

    def _prepare(self) -> None:
        """Dropout off, so that the demonstrations are learnt as they will be sampled; recomputation on."""
        self.policy.eval()
        for module in self.policy.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = True

    def _parts(self, chosen: Sequence[Trajectory]) -> list[list[tuple[list[Trajectory], float]]]:
        """Cut a batch into the forward passes of each process, each with its weight.

        Every process knows the passes of all. Where processes go in step (sharded weights), those with fewer repeat
        their last pass, or one of the first process, with weight 0.
        """
        size = self.parallel.size
        parts = [[(one, 1.0) for one in self._microbatches(chosen[rank::size])] for rank in range(size)]
        if self.parallel.lockstep:
            most = max(map(len, parts))
            for part in parts:
                filler = (part or parts[0])[-1][0]
                part += [(filler, 0.0)] * (most - len(part))
        return parts

    def _microbatches(self, chosen: Sequence[Trajectory]) -> list[list[Trajectory]]:
        if self.microbatch_tokens is None:
            size = self.microbatch_size
            return [list(chosen[start : start + size]) for start in range(0, len(chosen), size)]
        passes: list[list[Trajectory]] = []
        tokens = 0
        for trajectory in sorted(chosen, key=lambda one: len(one.token_ids), reverse=True):
            length = len(trajectory.token_ids)
            full = not passes or len(passes[-1]) == self.microbatch_size or tokens + length > self.microbatch_tokens
            if full:
                passes.append([])
                tokens = 0
            passes[-1].append(trajectory)
            tokens += length
        return passes

    def _update(self, chosen: Sequence[Trajectory]) -> float:
        """One optimizer step: losses are sums over tokens divided by the count of the whole batch."""
        tokens = _action_tokens(chosen)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part, weight in self._parts(chosen)[self.parallel.rank]:
            batch = collate(part, self.policy.family, self.policy.device)
            loss = -self.policy(batch).logprobs.sum() * (weight / tokens)
            loss.backward()
            total += float(loss.detach())
        self.parallel.sum_gradients(self._backbone)
        total = float(self.parallel.sum(torch.tensor(total, dtype=torch.float64)))
        norm = nn.utils.clip_grad_norm_(self._backbone, self.max_grad_norm)
        self.grad_norm = scalar(norm)
        if not (math.isfinite(self.grad_norm) and math.isfinite(total)):
            raise FloatingPointError(
                f"loss {total} and gradient norm {self.grad_norm}: this step updated nothing; look for tokens that "
                "the policy must never write (special tokens of the family), or lower the learning rate"
            )
        self.optimizer.step()
        return total

    # ------------------------------------------------------------------ resuming

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimizers by name."""
        return {"policy": self.optimizer}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside policy and optimizer; JSON and tensors only."""
        return {"algorithm": "sft", "steps": self.steps, "shuffling": self._before_run}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state` with the next call of :meth:`learn`."""
        if state["algorithm"] != "sft":
            raise ValueError(f"this is the state of {state['algorithm']}, not of sft")
        self.steps = int(state["steps"])
        self._before_run = state["shuffling"]
        self.shuffling.set_state(state["shuffling"])


def _action_tokens(chosen: Sequence[Trajectory]) -> int:
    return sum(len(action.token_ids) for trajectory in chosen for action in trajectory.actions)


def _half_cosine(step: int, total: int, warmup: float) -> float:
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
