"""What the agent's tests share: one thread for torch, and a tiny policy that is built once."""

import pytest
import torch
from conversations import build_policy, converse, scripts

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Trajectory

torch.set_num_threads(1)  # more threads than free cores make these small models many times slower


@pytest.fixture(scope="session")
def shared_policy() -> VLMPolicy:
    """A tiny policy in evaluation mode; read only."""
    return build_policy()


@pytest.fixture(scope="session")
def sampled(shared_policy: VLMPolicy) -> list[Trajectory]:
    """Conversations of 2 to 4 turns with images here and there, sampled by ``shared_policy``; read only."""
    return converse(shared_policy, scripts(), generator=torch.Generator().manual_seed(7))
