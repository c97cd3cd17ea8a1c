"""Parallel: what the trainers need from data parallelism, and the one process that needs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch


class Parallel(Protocol):
    """The processes of a run, each with its own episodes.

    A trainer divides its losses by counts over all processes and sums the gradients, so that the update is that of
    one process with all episodes.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
        lockstep: Whether all processes must make the same number of forward passes, as with sharded weights.
    """

    rank: int
    size: int
    lockstep: bool

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all processes; the same shape and, on all of them, the same numbers."""
        ...

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients over all processes, in place, where that has not happened in the backward pass."""
        ...

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Stack the values of all processes, ``(size, ...)``, in the order of their ranks; on all of them."""
        ...


class SingleProcess:
    """One process: sums are what they are."""

    rank = 0
    size = 1
    lockstep = False

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Do nothing."""

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values with a leading axis."""
        return values[None]


def scalar(value: torch.Tensor) -> float:
    """Read a number that may be spread over processes, as a norm of sharded gradients is."""
    from torch.distributed.tensor import DTensor

    return float(value.full_tensor() if isinstance(value, DTensor) else value)
