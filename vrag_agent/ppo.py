"""PPO over multi-turn episodes: token-level ratios, turn-level advantages, a critic detached from the policy.

One iteration: play episodes, score every sampled token with the training forward pass (never with the
sampler's), take the KL to the reference off the rewards, estimate advantages turn by turn (or token by token), and
make a few passes of clipped updates. Only action tokens are trained; what the environment wrote has no loss.

    policy = load_policy("runs/start")
    ppo = PPO(policy, QuestionStream(env), PPOConfig(learning_rate=2e-5, n_episodes=64))
    ppo.learn(100)

The loop, the scoring and the loss of one micro-batch are in :mod:`vrag_agent.trainer`, shared with GRPO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vrag_agent.advantages import bilevel_gae, explained_variance, gae, token_rewards, whiten
from vrag_agent.config import PPOConfig
from vrag_agent.parallel import Parallel
from vrag_agent.policy import VLMPolicy
from vrag_agent.rollout import collect
from vrag_agent.trainer import Evaluated, Player, ReferencePolicy, Statistics, Trainer
from vrag_agent.trajectory import Trajectory
from vrag_env.episode import Episode


@dataclass(frozen=True)
class Scored:
    """A rollout with its advantages: one tensor per trajectory in each list.

    Attributes:
        logprobs: ``(tokens,)`` log-probs before the update.
        ref_logprobs: ``(tokens,)`` log-probs of the reference.
        advantages: ``(tokens,)``; with turn-level GAE a turn's tokens all have the turn's.
        returns: ``(turns,)`` or, at token level, ``(tokens,)``: what the critic should say.
        values: The same shape: what it says.
        metrics: KL to the reference, and the gap between sampler and trainer.
    """

    logprobs: list[torch.Tensor]
    ref_logprobs: list[torch.Tensor]
    advantages: list[torch.Tensor]
    returns: list[torch.Tensor]
    values: list[torch.Tensor]
    metrics: dict[str, float]

    @property
    def ref_kl(self) -> float:
        """Mean k1 estimate of the KL to the reference per token."""
        return self.metrics["train/ref_kl"]


class PPO(Trainer):
    """Proximal policy optimisation (arXiv 1707.06347) for a :class:`~vrag_agent.policy.VLMPolicy`.

    Args:
        policy: The policy to train; all parameters that require a gradient are trained.
        episodes: Called with a number, returns that many fresh episodes.
        config: Hyper-parameters; each is documented in :class:`~vrag_agent.config.PPOConfig`.
        reference: What the KL is measured from. ``None`` takes the policy as it is now.
        play: Who plays the episodes.
        parallel: The processes of the run.
    """

    def __init__(
        self,
        policy: VLMPolicy,
        episodes: Callable[[int], Sequence[Episode]],
        config: PPOConfig | None = None,
        *,
        reference: ReferencePolicy | None = None,
        play: Player = collect,
        parallel: Parallel | None = None,
    ) -> None:
        self.config = config or PPOConfig()
        super().__init__(policy, episodes, self.config, reference=reference, play=play, parallel=parallel)
        self.head = list(policy.value_head.parameters())
        self.value_optimizer = torch.optim.AdamW(self.head, lr=self.config.value_learning_rate, weight_decay=0.0)

    def train(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Update policy and critic from one rollout.

        Raises:
            ParityError: If the first ratios are not 1, or the sampler saw something else.
            FloatingPointError: If a gradient is not finite.
        """
        self.prepare()
        self.log_ratios = []
        scored = self.score(trajectories)
        warming = self.iteration < self.config.critic_warmup
        statistics = Statistics()
        for epoch in range(self.config.n_epochs):
            for number, chosen in enumerate(self.minibatches(len(trajectories))):
                first = epoch == 0 and number == 0
                statistics.add(self._update(trajectories, scored, chosen, warming, first))
        if not warming:
            self.policy.version += 1
        metrics = statistics.means() | scored.metrics
        metrics["train/explained_variance"] = explained_variance(torch.cat(scored.values), torch.cat(scored.returns))
        return metrics

    @torch.no_grad()
    def score(self, trajectories: Sequence[Trajectory]) -> Scored:
        """Score a rollout with the training forward pass and estimate its advantages."""
        evaluated = self.evaluate(trajectories)
        if self.config.advantage == "turn_gae":
            advantages, returns, values = self._turn_level(trajectories, evaluated)
        else:
            advantages, returns, values = self._token_level(trajectories, evaluated)
        if self.config.normalize_advantages:
            flat = torch.cat(advantages)
            flat = whiten(flat, torch.ones_like(flat), total=self.parallel.sum)
            advantages = list(flat.split([len(row) for row in advantages]))
        advantages = self.corrected(trajectories, evaluated, advantages)
        return Scored(
            evaluated.logprobs,
            evaluated.ref_logprobs,
            advantages,
            returns,
            values,
            self.score_metrics(trajectories, evaluated),
        )

    def _turn_level(
        self, trajectories: Sequence[Trajectory], evaluated: Evaluated
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """One step per turn (VL-DAC, arXiv 2508.04280); a turn's tokens share its advantage."""
        config, advantages, returns = self.config, [], []
        for trajectory, values, penalty in zip(
            trajectories, evaluated.values, self.kl_penalties(evaluated), strict=True
        ):
            lengths = _lengths(trajectory, values.device)
            turns = torch.arange(len(lengths), device=values.device).repeat_interleave(lengths)
            # The KL of a turn's tokens is taken off the reward of the turn.
            rewards = values.new_tensor(trajectory.rewards).index_add(0, turns, -penalty)
            steps = torch.ones_like(values)[None]
            advantage, _ = gae(rewards[None], values[None], steps, config.gamma, config.lam)
            _, target = gae(rewards[None], values[None], steps, config.gamma, config.value_lam)
            advantages.append(advantage[0][turns])
            returns.append(target[0])
        return advantages, returns, evaluated.values

    def _token_level(
        self, trajectories: Sequence[Trajectory], evaluated: Evaluated
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """One step per action token; observation tokens are no steps at all."""
        config, advantages, returns = self.config, [], []
        for trajectory, values, penalty in zip(
            trajectories, evaluated.token_values, self.kl_penalties(evaluated), strict=True
        ):
            lengths = _lengths(trajectory, values.device)
            rewards = values.new_tensor(trajectory.rewards)
            if config.advantage == "token_gae":
                per_token = token_rewards(rewards, lengths) - penalty
                steps = torch.ones_like(values)[None]
                [advantage], _ = gae(per_token[None], values[None], steps, config.gamma, config.lam)
                _, [target] = gae(per_token[None], values[None], steps, config.gamma, config.value_lam)
            else:
                turns = torch.arange(len(lengths), device=values.device).repeat_interleave(lengths)
                rewards = rewards.index_add(0, turns, -penalty)
                dials = (config.gamma, config.lam, config.turn_gamma, config.turn_lam)
                advantage, _ = bilevel_gae(rewards, values, lengths, *dials)
                dials = (config.gamma, config.value_lam, config.turn_gamma, config.value_lam)
                _, target = bilevel_gae(rewards, values, lengths, *dials)
            advantages.append(advantage)
            returns.append(target)
        return advantages, returns, evaluated.token_values

    def _update(
        self,
        trajectories: Sequence[Trajectory],
        scored: Scored,
        chosen: Sequence[int],
        warming: bool,
        first: bool,
    ) -> dict[str, float]:
        """One optimizer step of policy and critic on one mini-batch, accumulated over micro-batches.

        The losses are sums over tokens (turns, for the critic) divided by the counts of the whole mini-batch, so
        that the gradient does not depend on how it is cut into micro-batches.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.value_optimizer.zero_grad(set_to_none=True)
        weights = self.weigh(trajectories, chosen, lambda i: self.kept(trajectories[i]))
        steps = float(self.parallel.sum(torch.tensor(float(sum(len(scored.returns[i]) for i in chosen)))))
        stats = dict.fromkeys(("policy_gradient_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"), 0.0)
        gap = 0.0
        for part in self.microbatches(chosen, lambda i: True):  # the critic learns from all of them
            batch, out = self.forward([trajectories[i] for i in part])
            old = torch.cat([scored.logprobs[i] for i in part])
            policy_loss, share = self.policy_loss(
                batch,
                out,
                old,
                torch.cat([scored.ref_logprobs[i] for i in part]),
                torch.cat([scored.advantages[i] for i in part]),
                weights,
                part,
            )
            values = out.values if self.config.advantage == "turn_gae" else out.token_values
            value_loss = (values - torch.cat([scored.returns[i] for i in part])).square().sum() / steps
            # Detached from each other: the critic reads the backbone and does not train it.
            (value_loss if warming else policy_loss + value_loss).backward()
            share["value_loss"] = float(value_loss.detach())
            for name, value in share.items():
                stats[name] += value
            gap = max(gap, float(((out.logprobs.detach() - old).exp() - 1).abs().max()))
        if first:
            self.check_ratio(gap)
        # Both norms are checked before either optimizer steps, so that a bad rollout leaves nothing half updated.
        norms = {"value_grad_norm": self.clip("value_grad_norm", self.head, weights.tokens)}
        moves = not warming and weights.tokens > 0
        if moves:
            norms["grad_norm"] = self.clip("grad_norm", self.trained, weights.tokens)
        self.value_optimizer.step()
        if moves:
            self.step()
        totals = self.parallel.sum(torch.tensor(list(stats.values()), dtype=torch.float64)).tolist()
        shared = dict(zip(stats, totals, strict=True)) | norms
        if weights.tokens > 0:
            return shared
        return {name: shared[name] for name in ("value_loss", "value_grad_norm")}  # of nothing there is no entropy

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimizers by name."""
        return {"policy": self.optimizer, "value": self.value_optimizer}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside policy, optimizers and reference."""
        return super().state() | {"algorithm": "ppo"}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        if state["algorithm"] != "ppo":
            raise ValueError(f"this is the state of {state['algorithm']}, not of ppo")
        super().load_state(state)


def _lengths(trajectory: Trajectory, device: torch.device) -> torch.Tensor:
    """Action tokens of each turn, ``(turns,)``."""
    return torch.tensor([len(action.token_ids) for action in trajectory.actions], device=device)
