"""The same work in one process or, started by torchrun, in several: what ``test_distributed.py`` compares.

``torchrun ... distributed_work.py DIRECTORY`` writes ``RANK.json`` there: the metrics of each case.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":  # as a program it does not go through pytest, which would set the path
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from conversations import build_policy, converse, scripts

from vrag_agent.config import GRPOConfig, PPOConfig
from vrag_agent.distributed import Sharded, ShardedReference, distribute, finish, gathered, start
from vrag_agent.grpo import GRPO
from vrag_agent.parallel import Parallel, SingleProcess
from vrag_agent.policy import VLMPolicy
from vrag_agent.ppo import PPO
from vrag_agent.sft import SFT
from vrag_agent.trajectory import Trajectory
from vrag_env.episode import Episode

WAYS = ("replicated", "sharded", "adapter")
LEARNING = {"learning_rate": 1e-3, "max_grad_norm": 1e9, "kl_coef": 0.1, "microbatch_size": 1, "n_epochs": 2}


def no_episodes(count: int) -> Sequence[Episode]:
    """These trainers are given their trajectories."""
    raise AssertionError


def with_adapter(seed: int = 0) -> VLMPolicy:
    """A policy with a fresh adapter."""
    import peft

    policy = build_policy()
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=policy.family.lora_targets, init_lora_weights=False)
    policy._adapter[0] = peft.get_peft_model(policy.model, config)
    return policy.eval()


def played() -> list[Trajectory]:
    """Four conversations of uneven length in two groups, the same everywhere; images of each other's no one sees."""
    trajectories = converse(build_policy(), [scripts()[i] for i in (0, 1, 3, 2)])
    ends = (0.0, 2.0, 1.0, -0.5)
    out = []
    for trajectory, end in zip(trajectories, ends, strict=True):
        segments = [replace(s, logprobs=()) if s.kind == "action" else s for s in trajectory.segments]
        last = max(i for i, s in enumerate(segments) if s.kind == "action")
        segments[last] = replace(segments[last], reward=end)
        out.append(replace(trajectory, segments=tuple(segments)))
    return out


def run(way: str, parallel: Parallel) -> dict[str, Any]:
    """SFT, PPO and GRPO: two optimizer steps each; their metrics, and what the weights have become."""
    trajectories = played()
    size, rank = parallel.size, parallel.rank

    def policy_of() -> VLMPolicy:
        # Another start in each process, to see that the first one's is taken.
        policy = with_adapter(rank) if way == "adapter" else build_policy(seed=0)
        distribute(policy, parallel)
        return policy

    def reference(policy: VLMPolicy) -> Any:
        return ShardedReference(policy) if isinstance(parallel, Sharded) else None

    found: dict[str, Any] = {}
    policy = policy_of()
    sft = SFT(policy, batch_size=3, microbatch_size=1, learning_rate=1e-3, max_grad_norm=1e9, parallel=parallel)
    before = sft.evaluate(trajectories)
    norms: list[float] = []
    losses = sft.learn(trajectories, 1, lambda step, loss: norms.append(sft.grad_norm))  # 3, then 1: uneven shares
    found["sft"] = {"before": before, "losses": losses, "norms": norms, "weights": weights(policy)}

    share = len(trajectories) // size
    own = trajectories[rank * share : (rank + 1) * share]  # group after group
    common: dict[str, Any] = {"n_episodes": 4, "minibatch_size": 4, **LEARNING}
    policy = policy_of()
    ppo = PPO(
        policy, no_episodes, PPOConfig(**common, kl_estimator="k2"), reference=reference(policy), parallel=parallel
    )
    found["ppo"] = {**keep(ppo.train(own)), "weights": weights(policy), "head": head(policy)}
    policy = policy_of()
    grpo = GRPO(policy, no_episodes, GRPOConfig(**common, group_size=2), reference=reference(policy), parallel=parallel)
    found["grpo"] = {**keep(grpo.train(own)), "weights": weights(policy)}
    # Sampling after an update, with another number of conversations in each process.
    with gathered(policy):
        found["sampled"] = [list(t.token_ids) for t in converse(policy, scripts()[: 1 + rank])]
    found["logprob"] = float(policy_logprob(policy, trajectories))
    return found


def keep(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics of the update that are sums over all processes."""
    names = ("grad_norm", "value_grad_norm", "policy_gradient_loss", "value_loss", "approx_kl", "entropy")
    return {name: metrics[f"train/{name}"] for name in names if f"train/{name}" in metrics}


def weights(policy: VLMPolicy) -> list[float]:
    """A few numbers that any difference in the trained weights would change."""
    with gathered(policy):
        return [float(p.double().square().sum()) for p in policy.model.parameters() if p.requires_grad]


def head(policy: VLMPolicy) -> list[float]:
    """The same of the value head."""
    return [float(p.double().square().sum()) for p in policy.value_head.parameters()]


@torch.no_grad()
def policy_logprob(policy: VLMPolicy, trajectories: Sequence[Trajectory]) -> torch.Tensor:
    """A forward pass after all the gathering."""
    from vrag_agent.trajectory import collate

    return policy(collate(trajectories, policy.family)).logprobs.mean()


def main(directory: Path) -> None:
    """Do all of it in this process of several."""
    torch.set_num_threads(1)
    found = {}
    joined: Parallel = SingleProcess()
    for way in WAYS:
        joined = start(sharded=way == "sharded")
        assert joined.size == int(os.environ["WORLD_SIZE"]) == 2
        found[way] = run(way, joined)
    finish(joined)
    (directory / f"{joined.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
