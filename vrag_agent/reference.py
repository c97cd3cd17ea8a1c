"""Reference: the policy as it was before training, for the KL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Batch


class Reference:
    """Scores tokens as the policy would have when this was made.

    A fresh adapter is switched off for that, which costs no memory. Otherwise, after a cold start too, a copy of the
    trained weights takes their place for the time of the pass; frozen weights are never copied.

    Args:
        policy: The policy, not trained yet.

    Attributes:
        weights: The copies by name; empty where the adapter is switched off instead.
    """

    def __init__(self, policy: VLMPolicy) -> None:
        self.policy = policy
        head = {id(parameter) for parameter in policy.value_head.parameters()}
        self._trained = {
            name: parameter
            for name, parameter in policy.named_parameters()
            if parameter.requires_grad and id(parameter) not in head
        }
        fresh = policy.adapter is not None and all(
            not parameter.any() for name, parameter in self._trained.items() if "lora_B" in name
        )
        self.weights: dict[str, torch.Tensor] = (
            {} if fresh else {name: parameter.detach().clone() for name, parameter in self._trained.items()}
        )

    @torch.no_grad()
    def logprobs(self, batch: Batch) -> torch.Tensor:
        """Log-probs of the action tokens, ``(N,)``."""
        if not self.weights:
            with self.policy.adapter_disabled():
                return self.policy(batch).logprobs
        with self._swapped():
            return self.policy(batch).logprobs

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        """Put the copies in the place of the trained weights, and back."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._trained.items():
            parameter.data, self.weights[name] = self.weights[name], parameter.data
