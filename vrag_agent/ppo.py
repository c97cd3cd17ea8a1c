"""PPO over multi-turn episodes: token-level ratios, turn-level advantages, a critic detached from the policy.

One iteration: play episodes, score every sampled token with the training forward pass (never with the
sampler's), take the KL to the reference off the rewards, estimate advantages turn by turn, and make a few
passes of clipped updates. Only action tokens are trained; what the environment wrote has no loss.

Left out on purpose: token-level critics, group baselines, other ratios and losses; they get files of their own.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vrag_agent.advantages import explained_variance, gae, whiten
from vrag_agent.losses import kl, ppo_clip
from vrag_agent.metrics import summarize
from vrag_agent.parity import ParityError
from vrag_agent.policy import VLMPolicy
from vrag_agent.rollout import collect
from vrag_agent.trajectory import Batch, Trajectory, collate
from vrag_env.episode import Episode

Callback = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Scored:
    """The rollout as the training forward pass sees it.

    Attributes:
        logprobs: One ``(tokens,)`` tensor per trajectory: log-probs before the update.
        advantages: One ``(tokens,)`` tensor per trajectory: the advantage of the token's turn.
        returns: One ``(turns,)`` tensor per trajectory: what the critic should say.
        values: One ``(turns,)`` tensor per trajectory: what it says.
        ref_kl: Mean k1 estimate of the KL to the reference per token.
    """

    logprobs: list[torch.Tensor]
    advantages: list[torch.Tensor]
    returns: list[torch.Tensor]
    values: list[torch.Tensor]
    ref_kl: float


class PPO:
    """Proximal policy optimisation for a :class:`~vrag_agent.policy.VLMPolicy`.

    Args:
        policy: The policy to train; all parameters that require a gradient are trained.
        episodes: Called with a number, returns that many fresh episodes.
        n_episodes: Episodes per iteration.
        n_epochs: Passes over them.
        minibatch_size: Episodes per optimizer step.
        microbatch_size: Episodes per forward pass; the gradient does not depend on it.
        learning_rate: Of the policy.
        value_learning_rate: Of the critic.
        gamma: Discount per turn.
        lam: Lambda of the advantages.
        value_lam: Lambda of the critic's targets; 1 = Monte-Carlo (VAPO, arXiv 2504.05118).
        clip_low: See :func:`~vrag_agent.losses.ppo_clip`.
        clip_high: See :func:`~vrag_agent.losses.ppo_clip`.
        dual_clip: See :func:`~vrag_agent.losses.ppo_clip`.
        kl_coef: Weight of the KL to the reference (k1, taken off the reward of the turn); 0 switches it off.
        reference: Frozen policy for the KL. ``None`` takes the policy with its adapter switched off, or, without
            an adapter, a frozen copy of the policy as it is now.
        normalize_advantages: Whiten advantages over the action tokens of the rollout.
        max_grad_norm: Largest gradient norm; larger gradients are scaled down.
        max_tokens: Most tokens of one action.
        rollout_batch_size: Episodes that are played at the same time.
        critic_warmup: First iterations in which only the critic learns.
        ratio_tolerance: Largest ``|ratio - 1|`` allowed before the first update of an iteration; more means
            that the trainer does not compute what it computed a moment ago, and stops the run. ``None`` takes
            1e-3, or 5e-2 for a model in half precision, where other micro-batches alone make that much.
        seed: Of sampling and of the order of mini-batches.
    """

    def __init__(
        self,
        policy: VLMPolicy,
        episodes: Callable[[int], Sequence[Episode]],
        *,
        n_episodes: int = 64,
        n_epochs: int = 2,
        minibatch_size: int = 32,
        microbatch_size: int = 32,
        learning_rate: float = 1e-6,
        value_learning_rate: float = 1e-4,
        gamma: float = 1.0,
        lam: float = 0.95,
        value_lam: float = 1.0,
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        dual_clip: float | None = 3.0,
        kl_coef: float = 0.001,
        reference: VLMPolicy | None = None,
        normalize_advantages: bool = True,
        max_grad_norm: float = 1.0,
        max_tokens: int = 512,
        rollout_batch_size: int = 64,
        critic_warmup: int = 0,
        ratio_tolerance: float | None = None,
        seed: int = 0,
    ) -> None:
        if not 1 <= minibatch_size <= n_episodes:
            raise ValueError(f"minibatch_size must be between 1 and n_episodes={n_episodes}, got {minibatch_size}")
        if n_epochs < 1 or microbatch_size < 1:
            raise ValueError(f"n_epochs and microbatch_size must be positive, got {n_epochs}, {microbatch_size}")
        self.policy = policy
        self.episodes = episodes
        self.n_episodes = n_episodes
        self.n_epochs = n_epochs
        self.minibatch_size = minibatch_size
        self.microbatch_size = microbatch_size
        self.gamma = gamma
        self.lam = lam
        self.value_lam = value_lam
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.dual_clip = dual_clip
        self.kl_coef = kl_coef
        self.normalize_advantages = normalize_advantages
        self.max_grad_norm = max_grad_norm
        self.max_tokens = max_tokens
        self.rollout_batch_size = rollout_batch_size
        self.critic_warmup = critic_warmup
        if ratio_tolerance is None:
            ratio_tolerance = 5e-2 if policy.model.dtype in (torch.bfloat16, torch.float16) else 1e-3
        self.ratio_tolerance = ratio_tolerance
        self.reference = reference
        if kl_coef and reference is None and policy.adapter is None:
            # The family (tokenizer, cached pixels) is shared: only the weights have to stand still.
            shared = {id(policy.family): policy.family}
            self.reference = copy.deepcopy(policy, shared).eval().requires_grad_(False)
        self._head = list(policy.value_head.parameters())
        head = {id(parameter) for parameter in self._head}
        self._backbone = [p for p in policy.parameters() if p.requires_grad and id(p) not in head]
        self.optimizer = torch.optim.AdamW(self._backbone, lr=learning_rate, weight_decay=0.0)
        self.value_optimizer = torch.optim.AdamW(self._head, lr=value_learning_rate, weight_decay=0.0)
        self.sampling = torch.Generator().manual_seed(seed)
        self.shuffling = torch.Generator().manual_seed(seed + 1)
        self.iteration = 0

    def learn(self, iterations: int, callback: Callback | None = None) -> list[dict[str, float]]:
        """Run iterations of play and update.

        Args:
            iterations: How many.
            callback: Called after each with its number and its metrics.

        Returns:
            The metrics of each iteration.
        """
        history = []
        for _ in range(iterations):
            started = time.perf_counter()
            episodes = self.episodes(self.n_episodes)
            trajectories = self.rollout(episodes)
            played = time.perf_counter()
            metrics = _rollout_metrics(episodes, trajectories)
            metrics |= self.train(trajectories)
            metrics["time/rollout"] = played - started
            metrics["time/train"] = time.perf_counter() - played
            history.append(metrics)
            self.iteration += 1
            if callback is not None:
                callback(self.iteration, metrics)
        return history

    def rollout(self, episodes: Sequence[Episode]) -> list[Trajectory]:
        """Play the episodes of one iteration."""
        return collect(
            self.policy,
            episodes,
            max_tokens=self.max_tokens,
            generator=self.sampling,
            batch_size=self.rollout_batch_size,
        )

    def train(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Update policy and critic from one rollout.

        Raises:
            ParityError: If the first ratios are not 1.
            FloatingPointError: If a gradient is not finite.
        """
        # Evaluation mode, since dropout (modules, and the attention's own) would make the ratio of an unchanged
        # policy differ from 1; only the layers that recompute themselves need their flag to do so.
        self.policy.eval()
        for module in self.policy.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = True
        scored = self.score(trajectories)
        warming = self.iteration < self.critic_warmup
        sums: dict[str, float] = {}
        steps = 0
        for epoch in range(self.n_epochs):
            order = torch.randperm(len(trajectories), generator=self.shuffling).tolist()
            for start in range(0, len(order), self.minibatch_size):
                chosen = order[start : start + self.minibatch_size]
                first = epoch == 0 and start == 0
                for name, value in self._update(trajectories, scored, chosen, warming, first).items():
                    sums[name] = sums.get(name, 0.0) + value
                steps += 1
        if not warming:
            self.policy.version += 1
        metrics = {f"train/{name}": total / steps for name, total in sums.items()}
        metrics["train/explained_variance"] = explained_variance(torch.cat(scored.values), torch.cat(scored.returns))
        metrics["train/ref_kl"] = scored.ref_kl
        return metrics

    @torch.no_grad()
    def score(self, trajectories: Sequence[Trajectory]) -> Scored:
        """Score a rollout with the training forward pass and estimate its advantages."""
        logprobs, values, penalties, total_kl, tokens = [], [], [], 0.0, 0
        for start in range(0, len(trajectories), self.microbatch_size):
            chunk = trajectories[start : start + self.microbatch_size]
            batch = collate(chunk, self.policy.family, self.policy.device)
            out = self.policy(batch)
            logprobs += _by_row(out.logprobs, batch.rows, len(chunk))
            values += _by_row(out.values, batch.decision_rows, len(chunk))
            per_token = torch.zeros_like(out.logprobs)
            if self.kl_coef:
                per_token = kl(out.logprobs, self._reference_logprobs(batch), "k1")
            total_kl += float(per_token.sum())
            tokens += per_token.numel()
            penalties += [
                row.new_zeros(len(t.actions)).index_add(0, turns, row)
                for t, turns, row in zip(
                    chunk,
                    _by_row(batch.turns, batch.rows, len(chunk)),
                    _by_row(per_token, batch.rows, len(chunk)),
                    strict=True,
                )
            ]
        rewards = [
            torch.tensor(t.rewards, device=p.device) - self.kl_coef * p
            for t, p in zip(trajectories, penalties, strict=True)
        ]
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(v) for v in values], batch_first=True)
        padded_rewards = nn.utils.rnn.pad_sequence(rewards, batch_first=True)
        padded_values = nn.utils.rnn.pad_sequence(values, batch_first=True)
        advantages, _ = gae(padded_rewards, padded_values, mask, self.gamma, self.lam)
        _, returns = gae(padded_rewards, padded_values, mask, self.gamma, self.value_lam)
        lengths = [len(v) for v in values]
        per_token_advantages = [
            torch.cat([row[turn].expand(len(a.token_ids)) for turn, a in enumerate(t.actions)])
            for t, row in zip(trajectories, advantages, strict=True)
        ]
        if self.normalize_advantages:
            flat = torch.cat(per_token_advantages)
            flat = whiten(flat, torch.ones_like(flat))
            per_token_advantages = list(flat.split([len(a) for a in per_token_advantages]))
        return Scored(
            logprobs,
            per_token_advantages,
            [row[:n] for row, n in zip(returns, lengths, strict=True)],
            values,
            total_kl / max(tokens, 1),
        )

    def _reference_logprobs(self, batch: Batch) -> torch.Tensor:
        off = self.policy.adapter_disabled() if self.reference is None else nullcontext()
        with off:
            reference = self.policy if self.reference is None else self.reference
            return reference(batch).logprobs

    def _update(
        self,
        trajectories: Sequence[Trajectory],
        scored: Scored,
        chosen: Sequence[int],
        warming: bool,
        first: bool,
    ) -> dict[str, float]:
        """One optimizer step on one mini-batch, accumulated over micro-batches.

        The losses are sums over tokens (turns, for the critic) divided by the counts of the whole mini-batch, so
        that the gradient does not depend on how it is cut into micro-batches.
        """
        tokens = sum(len(scored.logprobs[i]) for i in chosen)
        turns = sum(len(scored.returns[i]) for i in chosen)
        self.optimizer.zero_grad(set_to_none=True)
        self.value_optimizer.zero_grad(set_to_none=True)
        stats = dict.fromkeys(("policy_gradient_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"), 0.0)
        gap = 0.0
        for start in range(0, len(chosen), self.microbatch_size):
            part = chosen[start : start + self.microbatch_size]
            batch = collate([trajectories[i] for i in part], self.policy.family, self.policy.device)
            old = torch.cat([scored.logprobs[i] for i in part])
            advantages = torch.cat([scored.advantages[i] for i in part])
            returns = torch.cat([scored.returns[i] for i in part])
            out = self.policy(batch)
            policy_loss = (
                ppo_clip(out.logprobs, old, advantages, self.clip_low, self.clip_high, self.dual_clip).sum() / tokens
            )
            value_loss = (out.values - returns).square().sum() / turns
            (value_loss if warming else policy_loss + value_loss).backward()
            with torch.no_grad():
                log_ratio = out.logprobs - old
                ratio = log_ratio.exp()
                gap = max(gap, float((ratio - 1).abs().max()))
                outside = (ratio < 1 - self.clip_low) | (ratio > 1 + self.clip_high)
                stats["policy_gradient_loss"] += float(policy_loss.detach())
                stats["value_loss"] += float(value_loss.detach())
                stats["entropy"] += float(out.entropy.sum() / tokens)
                # k3 of the old policy, as in SB3: http://joschu.net/blog/kl-approx.html
                stats["approx_kl"] += float(((ratio - 1) - log_ratio).sum() / tokens)
                stats["clip_fraction"] += float(outside.sum() / tokens)
        if first and not gap <= self.ratio_tolerance:
            raise ParityError(
                f"the first ratios of an iteration differ from 1 by up to {gap:.1e} "
                f"(allowed {self.ratio_tolerance:.0e}): the policy changed between scoring and training"
            )
        # Both norms are checked before either optimizer steps, so that a bad rollout leaves nothing half updated.
        norms = {"value_grad_norm": float(nn.utils.clip_grad_norm_(self._head, self.max_grad_norm))}
        if not warming:
            norms["grad_norm"] = float(nn.utils.clip_grad_norm_(self._backbone, self.max_grad_norm))
        for name, norm in norms.items():
            if not math.isfinite(norm):
                raise FloatingPointError(
                    f"{name} is {norm} in a step of {tokens} action tokens: this step updated nothing; "
                    "look for rewards that are not finite, or lower the learning rate"
                )
        self.value_optimizer.step()
        if not warming:
            self.optimizer.step()
        return stats | norms


def _rollout_metrics(episodes: Sequence[Episode], trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Metrics of one rollout, under the names of Stable-Baselines3 where it has one."""
    summary = summarize(episodes)
    actions = [len(action.token_ids) for trajectory in trajectories for action in trajectory.actions]
    return {
        "rollout/ep_rew_mean": summary["mean_reward"],
        "rollout/ep_len_mean": summary["mean_turns"],
        "rollout/success_rate": summary["accuracy"],
        "rollout/retrieval_ndcg": summary["retrieval_ndcg"],
        "rollout/invalid_rate": summary["invalid_rate"],
        "rollout/finish_rate": summary["finish_rate"],
        "rollout/tokens_per_action": sum(actions) / len(actions),
    }


def _by_row(flat: torch.Tensor, rows: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Split flat per-token (or per-turn) values, ordered by row, into one tensor per row."""
    return list(flat.split(torch.bincount(rows, minlength=count).tolist()))
