"""GRPO over multi-turn episodes: a group of episodes per question takes the place of the critic.

One iteration: play each question several times, score every sampled token with the training forward pass, compare
the return of each episode with those of its group, give that advantage to all action tokens of the episode, and
make a few passes of clipped updates. Groups in which all episodes earned the same are left out.

    grpo = GRPO(policy, QuestionStream(env), GRPOConfig(group_size=8, n_episodes=64))
    grpo.learn(100)

The loop, the scoring and the loss of one micro-batch are in :mod:`vrag_agent.trainer`, shared with PPO. Dr. GRPO,
RLOO and batch-normalised REINFORCE are other baselines (``advantage``), GSPO another ratio (``ratio_level``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vrag_agent.advantages import dr_grpo, grpo, reinforce, rloo
from vrag_agent.config import GRPOConfig
from vrag_agent.parallel import Parallel
from vrag_agent.policy import VLMPolicy
from vrag_agent.rollout import collect
from vrag_agent.trainer import Evaluated, Player, ReferencePolicy, Statistics, Trainer, copies
from vrag_agent.trajectory import Trajectory
from vrag_env.episode import Episode


@dataclass(frozen=True)
class Scored:
    """A rollout with its advantages: one tensor per trajectory in each list.

    Attributes:
        logprobs: ``(tokens,)`` log-probs before the update; empty where the update's own pass gives them.
        ref_logprobs: ``(tokens,)`` log-probs of the reference; empty as well then.
        advantages: ``(tokens,)``, all equal: the advantage of the episode.
        flat: Whether all returns of the trajectory's group are equal.
        metrics: KL to the reference, the gap between sampler and trainer, and the share of such groups.
    """

    logprobs: list[torch.Tensor]
    ref_logprobs: list[torch.Tensor]
    advantages: list[torch.Tensor]
    flat: list[bool]
    metrics: dict[str, float]


class GRPO(Trainer):
    """Group-relative policy optimisation (arXiv 2402.03300) for a :class:`~vrag_agent.policy.VLMPolicy`.

    Args:
        policy: The policy to train; all parameters that require a gradient are trained.
        episodes: Called with a number, returns that many fresh episodes: one per group.
        config: Hyper-parameters; each is documented in :class:`~vrag_agent.config.GRPOConfig`.
        reference: What the KL is measured from. ``None`` takes the policy as it is now.
        play: Who plays the episodes.
        parallel: The processes of the run; each has whole groups.
    """

    def __init__(
        self,
        policy: VLMPolicy,
        episodes: Callable[[int], Sequence[Episode]],
        config: GRPOConfig | None = None,
        *,
        reference: ReferencePolicy | None = None,
        play: Player = collect,
        parallel: Parallel | None = None,
    ) -> None:
        self.config = config or GRPOConfig()
        super().__init__(policy, episodes, self.config, reference=reference, play=play, parallel=parallel)
        if self.n_episodes % self.config.group_size:
            raise ValueError(f"{self.n_episodes} episodes per process are not whole groups of {self.config.group_size}")

    def fresh_episodes(self) -> Sequence[Episode]:
        """The episodes of one iteration: group after group."""
        size = self.config.group_size
        return copies(self.episodes(self.n_episodes // size), size)

    def train(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Update the policy from one rollout.

        Args:
            trajectories: Group after group, ``group_size`` of each question.

        Raises:
            ParityError: If the first ratios are not 1, or the sampler saw something else.
            FloatingPointError: If a gradient is not finite.
        """
        self.prepare()
        self.log_ratios = []
        scored = self.score(trajectories)
        statistics = Statistics()
        for epoch in range(self.config.n_epochs):
            for number, chosen in enumerate(self.minibatches(len(trajectories))):
                first = epoch == 0 and number == 0
                statistics.add(self._update(trajectories, scored, chosen, first))
        self.policy.version += 1
        return statistics.means() | scored.metrics

    def one_pass(self, count: int) -> bool:
        """Whether the update's forward pass over ``count`` trajectories is the scoring of them, too.

        So it is where it makes one step only, measures no KL, and weighs nothing by what the sampler said: the
        log-probs before the step are its own.
        """
        once = self.config.n_epochs == 1 and self.minibatch_size >= count
        return once and self.reference is None and not self.config.importance_cap

    @torch.no_grad()
    def score(self, trajectories: Sequence[Trajectory]) -> Scored:
        """Score a rollout with the training forward pass and compare the episodes of each group.

        Raises:
            ValueError: If the trajectories are not whole groups.
        """
        size = self.config.group_size
        if len(trajectories) % size or not trajectories:
            raise ValueError(f"{len(trajectories)} trajectories are not whole groups of {size}")
        lengths = [sum(len(action.token_ids) for action in t.actions) for t in trajectories]
        returns = torch.tensor([sum(t.rewards) for t in trajectories], device=self.policy.device)
        evaluated = None
        if not self.one_pass(len(trajectories)):
            evaluated = self.evaluate(trajectories)
            returns = returns - torch.stack([row.sum() for row in self.kl_penalties(evaluated)])
        returns = returns.view(-1, size)
        if self.config.advantage == "reinforce":
            advantages = reinforce(returns, self.parallel.sum)
        else:
            advantages = {"grpo": grpo, "dr_grpo": dr_grpo, "rloo": rloo}[self.config.advantage](returns)
        spread = [a.expand(length) for a, length in zip(advantages.flatten(), lengths, strict=True)]
        earned = torch.tensor([sum(t.rewards) for t in trajectories]).view(-1, size)
        flat = (earned == earned[:, :1]).all(dim=1)
        metrics = {} if evaluated is None else self.score_metrics(trajectories, evaluated)
        metrics["train/zero_variance_groups"] = float(flat.float().mean())
        return Scored(
            [] if evaluated is None else evaluated.logprobs,
            [] if evaluated is None else evaluated.ref_logprobs,
            spread if evaluated is None else self.corrected(trajectories, evaluated, spread),
            flat.repeat_interleave(size).tolist(),
            metrics,
        )

    def _update(
        self,
        trajectories: Sequence[Trajectory],
        scored: Scored,
        chosen: Sequence[int],
        first: bool,
    ) -> dict[str, float]:
        """One optimizer step on one mini-batch, accumulated over micro-batches.

        The loss is a weighted sum over tokens with weights of the whole mini-batch, so that the gradient does not
        depend on how it is cut into micro-batches.
        """

        def kept(index: int) -> bool:
            skipped = self.config.skip_zero_variance and self.config.advantage != "reinforce" and scored.flat[index]
            return not skipped and self.kept(trajectories[index])

        self.optimizer.zero_grad(set_to_none=True)
        weights = self.weigh(trajectories, chosen, kept)
        stats = dict.fromkeys(("policy_gradient_loss", "entropy", "approx_kl", "clip_fraction"), 0.0)
        gap = 0.0
        seen: list[int] = []
        own = Evaluated([], [], [], [])
        for part in self.microbatches(chosen, weights.trains):
            batch, out = self.forward([trajectories[i] for i in part])
            if scored.logprobs:
                old = torch.cat([scored.logprobs[i] for i in part])
                reference = torch.cat([scored.ref_logprobs[i] for i in part])
            else:
                old = reference = out.logprobs.detach()
                seen += part
                own.logprobs.append(old)
                own.ref_logprobs.append(reference)
            loss, share = self.policy_loss(
                batch,
                out,
                old,
                reference,
                torch.cat([scored.advantages[i] for i in part]),
                weights,
                part,
            )
            loss.backward()
            for name, value in share.items():
                stats[name] += value
            gap = max(gap, float(((out.logprobs.detach() - old).exp() - 1).abs().max()))
        if seen:  # before the step, as where the scoring is a pass of its own
            scored.metrics.update(self.score_metrics([trajectories[i] for i in seen], own))
        if first:
            self.check_ratio(gap)
        if weights.tokens == 0:  # a mini-batch of nothing must not move the policy by the optimizer's momentum
            return {}
        norms = {"grad_norm": self.clip("grad_norm", self.trained, weights.tokens)}
        self.step()
        totals = self.parallel.sum(torch.tensor(list(stats.values()), dtype=torch.float64)).tolist()
        return dict(zip(stats, totals, strict=True)) | norms

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside policy, optimizer and reference."""
        return super().state() | {"algorithm": "grpo"}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        if state["algorithm"] != "grpo":
            raise ValueError(f"this is the state of {state['algorithm']}, not of grpo")
        super().load_state(state)
