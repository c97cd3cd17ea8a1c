"""Distributed: the processes that ``torchrun`` has started, each with its own episodes.

``torchrun --nproc_per_node 8 -m vrag_agent train ...`` runs this. Two ways to share the work:

- :class:`Replicated`: every process holds the policy; gradients are summed after the last backward pass of a step.
  The way for adapters, whose gradients are small.
- :class:`Sharded`: FSDP2 (``fully_shard``): weights, gradients and optimizer state of full fine-tuning are spread
  over the processes, which then make their forward passes in step.

``accelerate`` finds backend and device. Its DDP wrapper is not used: it wants a backward pass of every process for
every micro-batch, while episodes are of uneven length, and what has to be summed is known here. Losses are divided
by counts over all processes, so that the sum of the gradients is the gradient of one process with all episodes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from vrag_agent.parallel import Parallel, SingleProcess
from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Batch
from vrag_env.errors import VRAGError, missing_extra


class DistributedError(VRAGError):
    """The processes of a run do not fit what it was asked to do."""


class Replicated:
    """Processes that each hold the whole policy.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
        lockstep: Whether all processes must make the same number of forward passes.
        device: Where this process computes.
    """

    lockstep = False

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all processes; the same numbers on all of them."""
        total = values.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over all processes; a parameter without one in any process stays without."""
        whole = [p for p in parameters if not isinstance(p, DTensor)]
        if not whole:
            return
        used = self.sum(torch.tensor([float(p.grad is not None) for p in whole])) > 0
        by_type: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter, has_gradient in zip(whole, used.tolist(), strict=True):
            if has_gradient:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                by_type.setdefault(parameter.dtype, []).append(parameter)
        for group in by_type.values():
            gradients = [p.grad for p in group if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Stack the values of all processes, ``(size, ...)``."""
        own = values.detach().to(self.device).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        return torch.stack(parts).to(values.device)


class Sharded(Replicated):
    """Processes that share the weights among them (FSDP2).

    The gradients of sharded weights are summed in the backward pass; those of what is not sharded, the value head,
    are summed as in :class:`Replicated`.
    """

    lockstep = True


def start(sharded: bool = False) -> Parallel:
    """Join the processes of this run; one process alone needs nothing.

    Args:
        sharded: Whether the weights will be sharded.

    Raises:
        DistributedError: If torchrun has started several processes but they do not find each other.
    """
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted == 1:
        return SingleProcess()
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise DistributedError(
            f"the environment says that there are {wanted} processes (WORLD_SIZE), but not {', '.join(missing)}: start "
            "them with torchrun"
        )
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise missing_extra("accelerate", "agent") from error
    state = PartialState(cpu=not torch.cuda.is_available())
    # accelerate has been seen to go on alone without saying so.
    if state.num_processes != wanted or not dist.is_initialized():
        raise DistributedError(
            f"torchrun has started {wanted} processes, but accelerate joined {state.num_processes} of them "
            f"({state.distributed_type}): check ACCELERATE_* variables in the environment"
        )
    return Sharded(state.device) if sharded else Replicated(state.device)


def finish(parallel: Parallel) -> None:
    """Leave the processes of the run."""
    if isinstance(parallel, Replicated):
        dist.destroy_process_group()


def distribute(policy: VLMPolicy, parallel: Parallel) -> None:
    """Make the policies of all processes one policy: that of the first. Before a trainer is made.

    Raises:
        DistributedError: If an adapter is to be sharded, or the model holds weights of several types.
    """
    if not isinstance(parallel, Replicated):
        return
    with torch.no_grad():
        for tensor in [*(p for p in policy.parameters() if p.requires_grad), *policy.value_head.buffers()]:
            dist.broadcast(tensor.data, src=0)
    if isinstance(parallel, Sharded):
        if policy.adapter is not None:
            raise DistributedError("sharding is for all weights; an adapter is trained with every process its own copy")
        _shard(policy, parallel)


def _shard(policy: VLMPolicy, parallel: Sharded) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    types = {p.dtype for p in policy.model.parameters()}
    if len(types) > 1:
        raise DistributedError(f"sharding wants all weights in one type, the model has {sorted(map(str, types))}")
    mesh = init_device_mesh(parallel.device.type, (parallel.size,))
    for layer in policy.family.language_model(policy.model).layers:  # type: ignore[union-attr]  # all families' text models have layers
        fully_shard(layer, mesh=mesh)
    # Embeddings, head (which may be one tensor) and vision tower stay together. They are given back after a forward
    # pass, too: a pass without a backward one would else leave weights behind that the next update does not reach.
    fully_shard(policy, mesh=mesh, ignored_params=set(policy.value_head.parameters()), reshard_after_forward=True)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum, as losses are divided by counts over all processes
            module.set_force_sum_reduction_for_comms(True)


@contextmanager
def gathered(policy: VLMPolicy) -> Iterator[None]:
    """Hold all weights in every process for a time, for sampling (where processes go out of step) and saving.

    Nothing happens to a policy that is not sharded. Weights must not be changed inside.
    """
    from torch.distributed.fsdp import FSDPModule

    modules = [module for module in policy.modules() if isinstance(module, FSDPModule)]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(True, recurse=False)


class ShardedReference:
    """:class:`vrag_agent.reference.Reference` for a sharded policy: copies of the shards, swapped in place.

    FSDP2 keeps views of the shards of its own, so that a parameter's tensor must not be replaced.

    Args:
        policy: The policy, sharded and not trained yet.
    """

    def __init__(self, policy: VLMPolicy) -> None:
        self.policy = policy
        self._shards = [p.to_local() for p in policy.parameters() if p.requires_grad and isinstance(p, DTensor)]
        self.weights = [shard.detach().clone() for shard in self._shards]

    @torch.no_grad()
    def logprobs(self, batch: Batch) -> torch.Tensor:
        """Log-probs of the action tokens, ``(N,)``."""
        self._swap()
        try:
            return self.policy(batch).logprobs
        finally:
            self._swap()

    def _swap(self) -> None:
        for shard, weight in zip(self._shards, self.weights, strict=True):
            kept = shard.clone()
            shard.copy_(weight)
            weight.copy_(kept)
