"""Trainer: what PPO and GRPO share around their mathematics, which is in :mod:`vrag_agent.ppo` and ``grpo``.

One iteration plays episodes, scores every sampled token with the training forward pass (never with the sampler's),
and hands the trajectories to :meth:`Trainer.train`. Here are the loop, the scoring, the policy's loss on one
micro-batch, the optimizer step with its checks, and the state that a resumed run goes on from.
"""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vrag_agent.alarms import Alarms
from vrag_agent.config import ConfigError, TrainerConfig
from vrag_agent.losses import cispo, importance_weights, kl, ppo_clip, trajectory_weight
from vrag_agent.metrics import rollout_metrics
from vrag_agent.parallel import Parallel, SingleProcess, scalar
from vrag_agent.parity import ParityError
from vrag_agent.policy import PolicyOutput, VLMPolicy
from vrag_agent.reference import Reference
from vrag_agent.rollout import collect
from vrag_agent.trajectory import Batch, Trajectory, collate
from vrag_env.actions import Invalid
from vrag_env.episode import Episode

Callback = Callable[[int, Mapping[str, float]], None]


class Player(Protocol):
    """Plays fresh episodes to their end; :func:`vrag_agent.rollout.collect` is the one in this process."""

    def __call__(
        self,
        policy: VLMPolicy,
        episodes: Sequence[Episode],
        *,
        max_tokens: int,
        generator: torch.Generator | None = None,
        batch_size: int = 64,
    ) -> list[Trajectory]:
        """Return one trajectory per episode, in the same order, with the log-probs of the sampler."""
        ...


class ReferencePolicy(Protocol):
    """Whatever the KL is measured from; :class:`vrag_agent.reference.Reference` is the policy as it was."""

    def logprobs(self, batch: Batch) -> torch.Tensor:
        """Log-probs of the action tokens, ``(N,)``, without gradient."""
        ...


@dataclass(frozen=True)
class Evaluated:
    """A rollout as the training forward pass sees it before the update: one tensor per trajectory in each list.

    Attributes:
        logprobs: ``(tokens,)`` log-probs.
        ref_logprobs: ``(tokens,)`` under the reference; equal to ``logprobs`` where there is none.
        values: ``(turns,)`` values of turns.
        token_values: ``(tokens,)`` values before tokens.
    """

    logprobs: list[torch.Tensor]
    ref_logprobs: list[torch.Tensor]
    values: list[torch.Tensor]
    token_values: list[torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """What each trajectory of a mini-batch counts for.

    Attributes:
        policy: Weight of each of its tokens in the policy's loss, by trajectory; 0 for those left out.
        positive: Weight of each of its tokens in the loss on episodes judged right.
        tokens: Action tokens that take part, over all processes.
    """

    policy: dict[int, float]
    positive: dict[int, float]
    tokens: float

    def trains(self, index: int) -> bool:
        """Whether the trajectory takes part."""
        return self.policy[index] > 0 or self.positive[index] > 0


class Trainer(ABC):
    """Base of the algorithms.

    Args:
        policy: The policy to train; all parameters that require a gradient are trained.
        episodes: Called with a number, returns that many fresh episodes.
        config: Hyper-parameters.
        reference: What the KL is measured from. ``None`` takes the policy as it is now.
        play: Who plays the episodes.
        parallel: The processes of the run.
    """

    def __init__(
        self,
        policy: VLMPolicy,
        episodes: Callable[[int], Sequence[Episode]],
        config: TrainerConfig,
        *,
        reference: ReferencePolicy | None = None,
        play: Player = collect,
        parallel: Parallel | None = None,
    ) -> None:
        self.policy = policy
        self.episodes = episodes
        self.play = play
        self.parallel = parallel or SingleProcess()
        size = self.parallel.size
        if config.n_episodes % size or config.minibatch_size % size:
            raise ConfigError(
                f"n_episodes={config.n_episodes} and minibatch_size={config.minibatch_size} must be multiples of the "
                f"number of processes, {size}"
            )
        self.n_episodes = config.n_episodes // size
        self.minibatch_size = config.minibatch_size // size
        tolerance = config.ratio_tolerance
        if tolerance is None:
            tolerance = 5e-2 if policy.model.dtype in (torch.bfloat16, torch.float16) else 1e-3
        self.ratio_tolerance = tolerance
        self.reference = Reference(policy) if reference is None and config.kl_coef else reference
        head = {id(parameter) for parameter in policy.value_head.parameters()}
        self.trained = [p for p in policy.parameters() if p.requires_grad and id(p) not in head]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        # Two streams, so that the order of mini-batches does not depend on how much was sampled.
        self.sampling = torch.Generator().manual_seed(config.seed + 1000 * self.parallel.rank)
        self.shuffling = torch.Generator().manual_seed(config.seed + 1)
        self.alarms = Alarms(config.alarms, config.parity, config.sampler_gap)
        self.iteration = 0
        self.steps = 0
        self.last_rollout: tuple[Sequence[Episode], Sequence[Trajectory]] = ((), ())
        self.log_ratios: list[torch.Tensor] = []
        self._settings = config

    @property
    def settings(self) -> TrainerConfig:
        """The hyper-parameters."""
        return self._settings

    # ------------------------------------------------------------------ the loop

    def learn(self, iterations: int, callback: Callback | None = None) -> list[dict[str, float]]:
        """Run iterations of play and update.

        Args:
            iterations: How many.
            callback: Called after each with its number and its metrics.

        Returns:
            The metrics of each iteration.

        Raises:
            ParityError: If trainer and sampler, or trainer and trainer, disagree.
            AlarmError: If an alarm is set to stop the run.
            FloatingPointError: If a gradient is not finite.
        """
        history = []
        for _ in range(iterations):
            started = time.perf_counter()
            episodes = self.fresh_episodes()
            trajectories = self.rollout(episodes)
            played = time.perf_counter()
            metrics = self.averaged(rollout_metrics(episodes, trajectories))
            metrics |= self.train(trajectories)
            metrics["time/rollout"] = played - started
            metrics["time/train"] = time.perf_counter() - played
            history.append(metrics)
            self.last_rollout = (episodes, trajectories)
            self.iteration += 1
            signs = self.alarms.observe(metrics)
            if callback is not None:
                callback(self.iteration, metrics)
            self.alarms.act(signs)
        return history

    def averaged(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Means over the processes, each of which has played as many episodes."""
        if self.parallel.size == 1:
            return dict(metrics)
        totals = self.parallel.sum(torch.tensor(list(metrics.values()), dtype=torch.float64)) / self.parallel.size
        return dict(zip(metrics, totals.tolist(), strict=True))

    def fresh_episodes(self) -> Sequence[Episode]:
        """The episodes of one iteration."""
        return self.episodes(self.n_episodes)

    def rollout(self, episodes: Sequence[Episode]) -> list[Trajectory]:
        """Play the episodes of one iteration; the trajectories know how many turns were void."""
        trajectories = self.play(
            self.policy,
            episodes,
            max_tokens=self._settings.max_tokens,
            generator=self.sampling,
            batch_size=self._settings.rollout_batch_size,
        )
        return [
            replace(t, info={**t.info, "void_turns": sum(isinstance(turn.action, Invalid) for turn in e.turns)})
            for e, t in zip(episodes, trajectories, strict=True)
        ]

    @abstractmethod
    def train(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Update from one rollout and return the metrics."""

    # ------------------------------------------------------------------ scoring

    def prepare(self) -> None:
        """Make the forward pass of training that of scoring.

        Evaluation mode, since dropout (modules, and the attention's own) would make the ratio of an unchanged policy
        differ from 1; only the layers that recompute themselves need their flag to do so.
        """
        self.policy.eval()
        for module in self.policy.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = True

    def forward(self, trajectories: Sequence[Trajectory]) -> tuple[Batch, PolicyOutput]:
        """One training forward pass."""
        batch = collate(trajectories, self.policy.family, self.policy.device)
        return batch, self.policy(batch)

    @torch.no_grad()
    def evaluate(self, trajectories: Sequence[Trajectory]) -> Evaluated:
        """Score a rollout with the training forward pass."""
        result = Evaluated([], [], [], [])
        size = self._settings.microbatch_size
        for start in range(0, len(trajectories), size):
            chunk = trajectories[start : start + size]
            batch, out = self.forward(chunk)
            reference = out.logprobs if self.reference is None else self.reference.logprobs(batch)
            result.logprobs.extend(_by_row(out.logprobs, batch.rows, len(chunk)))
            result.ref_logprobs.extend(_by_row(reference, batch.rows, len(chunk)))
            result.values.extend(_by_row(out.values, batch.decision_rows, len(chunk)))
            result.token_values.extend(_by_row(out.token_values, batch.rows, len(chunk)))
        return result

    def kl_penalties(self, evaluated: Evaluated) -> list[torch.Tensor]:
        """What the KL takes off the reward of each token: zero unless the estimator is k1."""
        if self._settings.kl_estimator != "k1":
            return [torch.zeros_like(row) for row in evaluated.logprobs]
        pairs = zip(evaluated.logprobs, evaluated.ref_logprobs, strict=True)
        return [self._settings.kl_coef * kl(row, reference, "k1") for row, reference in pairs]

    def corrected(
        self, trajectories: Sequence[Trajectory], evaluated: Evaluated, advantages: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Weigh advantages for the gap between sampler and trainer, if the settings ask for it.

        All surrogates are proportional to the advantage, so that this weighs the loss of each token.

        Raises:
            ConfigError: If the trajectories have no log-probs of a sampler.
        """
        cap = self._settings.importance_cap
        if not cap:
            return advantages
        weighed = []
        for trajectory, row, advantage in zip(trajectories, evaluated.logprobs, advantages, strict=True):
            stored = [p for action in trajectory.actions for p in action.logprobs]
            if len(stored) != len(row):
                raise ConfigError("importance_cap needs the log-probs of the sampler, but these episodes have none")
            weighed.append(advantage * importance_weights(row, row.new_tensor(stored), cap))
        return weighed

    def score_metrics(self, trajectories: Sequence[Trajectory], evaluated: Evaluated) -> dict[str, float]:
        """The KL to the reference, and the gap between sampler and trainer, which can stop the run."""
        flat = torch.cat(evaluated.logprobs)
        metrics = {"train/ref_kl": float(kl(flat, torch.cat(evaluated.ref_logprobs), "k1").mean())}
        stored = [p for t in trajectories for action in t.actions for p in action.logprobs]
        if len(stored) == flat.numel():  # not what somebody else wrote, which no sampler has scored
            gap = (flat.double().cpu() - torch.tensor(stored, dtype=torch.float64)).abs()
            metrics["train/sampler_gap"] = float(gap.mean())
            metrics["train/sampler_gap_max"] = float(gap.max())
            self.alarms.check_sampler(float(gap.mean()))
        return metrics

    # ------------------------------------------------------------------ one optimizer step

    def minibatches(self, count: int) -> Iterator[list[int]]:
        """Cut ``count`` trajectories into mini-batches, in a new order."""
        order = torch.randperm(count, generator=self.shuffling).tolist()
        for start in range(0, count, self.minibatch_size):
            yield order[start : start + self.minibatch_size]

    def microbatches(self, chosen: Sequence[int], needed: Callable[[int], bool]) -> Iterator[list[int]]:
        """Cut a mini-batch into forward passes, without the trajectories that are not needed."""
        if not self.parallel.lockstep:  # where all processes go in step, the others wait for the pass
            chosen = [index for index in chosen if needed(index)]
        for start in range(0, len(chosen), self._settings.microbatch_size):
            yield list(chosen[start : start + self._settings.microbatch_size])

    def kept(self, trajectory: Trajectory) -> bool:
        """Whether a trajectory takes part in the policy's loss."""
        void = self._settings.drop_void_turns and trajectory.info.get("void_turns", 0) > 0
        return not void and not (self._settings.drop_truncated and trajectory.truncated)

    def weigh(
        self,
        trajectories: Sequence[Trajectory],
        chosen: Sequence[int],
        kept: Callable[[int], bool],
    ) -> Weights:
        """Weigh the trajectories of a mini-batch by counts over all of it, on all processes.

        The gradient therefore depends neither on micro-batches nor on processes.
        """
        config = self._settings
        lengths = {i: sum(len(action.token_ids) for action in trajectories[i].actions) for i in chosen}
        right = {i: bool(config.positive_coef) and bool(trajectories[i].info.get("is_success")) for i in chosen}
        tokens, count, positive = self.parallel.sum(
            torch.tensor(
                [
                    sum(float(lengths[i]) for i in chosen if kept(i)),
                    sum(1.0 for i in chosen if kept(i)),
                    sum(float(lengths[i]) for i in chosen if kept(i) and right[i]),
                ],
                dtype=torch.float64,  # also where this process keeps nothing, and the sums are whole numbers
            )
        ).tolist()
        weight = {
            i: trajectory_weight(config.aggregation, lengths[i], tokens, count, config.constant_length) * kept(i)
            for i in chosen
        }
        return Weights(
            weight,
            {i: config.positive_coef / positive if kept(i) and right[i] else 0.0 for i in chosen},
            tokens,
        )

    def policy_loss(
        self,
        batch: Batch,
        out: PolicyOutput,
        old: torch.Tensor,
        reference: torch.Tensor,
        advantages: torch.Tensor,
        weights: Weights,
        part: Sequence[int],
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The policy's loss on one micro-batch, and its share of the mini-batch's statistics.

        Args:
            batch: The micro-batch.
            out: Its forward pass.
            old: ``(N,)`` log-probs before the update.
            reference: ``(N,)`` log-probs of the reference.
            advantages: ``(N,)``.
            weights: Of the mini-batch.
            part: Which trajectories of the rollout the rows are.
        """
        config = self._settings
        weight = old.new_tensor([weights.policy[i] for i in part])[batch.rows]
        pool = None
        if config.ratio_level == "sequence":
            pool = batch.rows
        elif config.ratio_level == "turn":
            turns = torch.bincount(batch.decision_rows, minlength=len(part))
            pool = (turns.cumsum(0) - turns)[batch.rows] + batch.turns
        if config.loss == "clip":
            per_token = ppo_clip(
                out.logprobs, old, advantages, config.clip_low, config.clip_high, config.dual_clip, pool
            )
        else:
            per_token = cispo(out.logprobs, old, advantages, config.cispo_ceiling, pool)
        surrogate = (per_token * weight).sum()
        loss = surrogate
        if config.kl_coef and config.kl_estimator != "k1":
            divergence = kl(out.logprobs, reference, config.kl_estimator, old)
            loss = loss + config.kl_coef * (divergence * weight).sum()
        if config.entropy_coef:
            loss = loss - config.entropy_coef * (out.entropy * weight).sum()
        if config.positive_coef:
            positive = old.new_tensor([weights.positive[i] for i in part])[batch.rows]
            loss = loss - (out.logprobs * positive).sum()
        with torch.no_grad():
            taken = (weight > 0) / max(weights.tokens, 1)
            log_ratio = out.logprobs - old
            ratio = log_ratio.exp()
            outside = (ratio < 1 - config.clip_low) | (ratio > 1 + config.clip_high)
            stats = {
                "policy_gradient_loss": float(surrogate.detach()),
                "entropy": float((out.entropy * taken).sum()),
                # k3 of the old policy, as in SB3: http://joschu.net/blog/kl-approx.html
                "approx_kl": float((((ratio - 1) - log_ratio) * taken).sum()),
                "clip_fraction": float((outside * taken).sum()),
            }
            self.log_ratios.append(log_ratio.float().cpu())
        return loss, stats

    def check_ratio(self, gap: float) -> None:
        """Stop if the first ratios of an iteration are not 1.

        Raises:
            ParityError: If they are off by more than the tolerance.
        """
        if not gap <= self.ratio_tolerance:
            raise ParityError(
                f"the first ratios of an iteration differ from 1 by up to {gap:.1e} "
                f"(allowed {self.ratio_tolerance:.0e}): the policy changed between scoring and training"
            )

    def clip(self, name: str, parameters: Sequence[nn.Parameter], tokens: float) -> float:
        """Sum the gradients over processes, scale them down to the largest norm allowed, and return the norm.

        Raises:
            FloatingPointError: If the norm is not finite; nothing has been updated then.
        """
        self.parallel.sum_gradients(parameters)
        norm = scalar(nn.utils.clip_grad_norm_(parameters, self._settings.max_grad_norm))
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"{name} is {norm} in a step of {tokens:.0f} action tokens: this step updated nothing; "
                "look for rewards that are not finite, or lower the learning rate"
            )
        return norm

    def step(self) -> None:
        """Step the policy's optimizer, with its warm-up."""
        self.steps += 1
        scale = min(1.0, self.steps / max(1, self._settings.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * scale
        self.optimizer.step()

    # ------------------------------------------------------------------ resuming

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimizers by name."""
        return {"policy": self.optimizer}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside the policy, the optimizers and the reference; JSON and tensors only."""
        return {
            "iteration": self.iteration,
            "steps": self.steps,
            "policy_version": self.policy.version,
            "sampling": self.parallel.gather(self.sampling.get_state()),
            "shuffling": self.shuffling.get_state(),
            "alarms": self.alarms.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.iteration = int(state["iteration"])
        self.steps = int(state["steps"])
        self.policy.version = int(state["policy_version"])
        if len(state["sampling"]) != self.parallel.size:
            raise ConfigError(
                f"the run had {len(state['sampling'])} processes, now it has {self.parallel.size}: resume it with "
                "as many"
            )
        self.sampling.set_state(state["sampling"][self.parallel.rank].clone())
        self.shuffling.set_state(state["shuffling"])
        self.alarms.load_state(state["alarms"])


class Statistics:
    """Sums the statistics of optimizer steps into metrics."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, step: Mapping[str, float]) -> None:
        """Add the statistics of one step."""
        for name, value in step.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Means over the steps, under ``train/``."""
        return {f"train/{name}": total / self._counts[name] for name, total in self._sums.items()}


def copies(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """Repeat fresh episodes: ``count`` of the first, then of the second, and so on.

    An episode holds nothing but its parts and its immutable state, so that shallow copies do not meet.
    """
    return [copy.copy(episode) for episode in episodes for _ in range(count)]


def _by_row(flat: torch.Tensor, rows: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Split flat per-token (or per-turn) values, ordered by row, into one tensor per row."""
    return list(flat.split(torch.bincount(rows, minlength=count).tolist()))
