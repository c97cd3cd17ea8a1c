"""SFT: imitation of demonstrations, the cold start before reinforcement learning.

The loss is the cross-entropy of the action tokens only; prompt and observation tokens are read, not learnt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Trajectory, collate


class SFT:
    """Supervised fine-tuning of a :class:`~vrag_agent.policy.VLMPolicy` on demonstrations.

    Args:
        policy: The policy to train; all parameters that require a gradient are trained.
        batch_size: Demonstrations per optimizer step.
        microbatch_size: Demonstrations per forward pass.
        learning_rate: Peak learning rate; falls to zero along a half cosine after the warm-up.
        warmup: Share of the steps in which the learning rate rises from zero.
        weight_decay: Of AdamW.
        max_grad_norm: Largest gradient norm.
        seed: Of the order.
    """

    def __init__(
        self,
        policy: VLMPolicy,
        *,
        batch_size: int = 16,
        microbatch_size: int = 16,
        learning_rate: float = 1e-5,
        warmup: float = 0.1,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.policy = policy
        self.batch_size = batch_size
        self.microbatch_size = microbatch_size
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.max_grad_norm = max_grad_norm
        head = {id(parameter) for parameter in policy.value_head.parameters()}
        self._backbone = [p for p in policy.parameters() if p.requires_grad and id(p) not in head]
        self.optimizer = torch.optim.AdamW(self._backbone, lr=learning_rate, weight_decay=weight_decay)
        self.shuffling = torch.Generator().manual_seed(seed)

    def learn(
        self,
        demonstrations: Sequence[Trajectory],
        epochs: int = 3,
        callback: Callable[[int, float], None] | None = None,
    ) -> list[float]:
        """Imitate.

        Args:
            demonstrations: Trajectories whose action segments are to be imitated.
            epochs: Passes over them.
            callback: Called after each optimizer step with its number (from 1) and its loss.

        Returns:
            The mean loss per action token of each optimizer step, in nats.
        """
        if not demonstrations:
            raise ValueError("there are no demonstrations to imitate")
        total = epochs * math.ceil(len(demonstrations) / self.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: _half_cosine(step, total, self.warmup)
        )
        losses: list[float] = []
        self.policy.train()
        for _ in range(epochs):
            order = torch.randperm(len(demonstrations), generator=self.shuffling).tolist()
            for start in range(0, len(order), self.batch_size):
                chosen = [demonstrations[i] for i in order[start : start + self.batch_size]]
                losses.append(self._update(chosen))
                schedule.step()
                if callback is not None:
                    callback(len(losses), losses[-1])
        self.policy.eval()
        return losses

    def _update(self, chosen: Sequence[Trajectory]) -> float:
        tokens = sum(len(action.token_ids) for t in chosen for action in t.actions)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, len(chosen), self.microbatch_size):
            batch = collate(chosen[start : start + self.microbatch_size], self.policy.family, self.policy.device)
            loss = -self.policy(batch).logprobs.sum() / tokens
            loss.backward()
            total += float(loss.detach())
        norm = float(nn.utils.clip_grad_norm_(self._backbone, self.max_grad_norm))
        if not (math.isfinite(norm) and math.isfinite(total)):
            raise FloatingPointError(
                f"loss {total} and gradient norm {norm}: this step updated nothing; look for tokens that the "
                "policy must never write (special tokens of the family), or lower the learning rate"
            )
        self.optimizer.step()
        return total


def _half_cosine(step: int, total: int, warmup: float) -> float:
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
