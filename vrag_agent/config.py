"""The hyper-parameters of the algorithms: one frozen dataclass each, and the presets.

Every field is typed, has a default and is documented in its class. :mod:`vrag_agent.settings` reads them from YAML
files and from the command line (``vrag train ppo --set learning_rate=2e-5``); a run saves them as ``config.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from vrag_agent.losses import AGGREGATIONS
from vrag_env.errors import VRAGError

Aggregation = Literal["token_mean", "sequence_mean", "constant"]
assert Aggregation.__args__ == AGGREGATIONS  # type: ignore[attr-defined]  # typing does not declare it


class ConfigError(VRAGError):
    """A hyper-parameter is unknown, has the wrong type, or does not fit the others."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """What PPO and GRPO have in common.

    Attributes:
        n_episodes: Episodes per iteration, over all processes.
        n_epochs: Passes over them.
        minibatch_size: Episodes per optimizer step, over all processes.
        microbatch_size: Episodes per forward pass; the gradient does not depend on it.
        learning_rate: Of the policy (AdamW). About 1e-6 for all weights, 2e-5 for an adapter.
        warmup_steps: Optimizer steps over which the learning rate of the policy rises to its value.
        weight_decay: Of AdamW.
        max_grad_norm: Largest gradient norm; larger gradients are scaled down.
        max_tokens: Most tokens of one action.
        rollout_batch_size: Episodes that are played at the same time.
        loss: "clip" (PPO's clipped surrogate) or "cispo".
        ratio_level: What the ratio of new to old policy is taken over: each "token", or its mean over the "turn"
            or the "sequence" (GSPO, which wants much tighter clips: 3e-4 and 4e-4).
        clip_low: The ratio is clipped from below at 1 - clip_low.
        clip_high: And from above at 1 + clip_high.
        dual_clip: For negative advantages the loss is at most this many advantages; null for no limit.
        cispo_ceiling: Largest weight of a token with the loss "cispo".
        aggregation: "token_mean" over all action tokens of the mini-batch, "sequence_mean" (every episode weighs
            the same), or "constant" (tokens divided by constant_length).
        constant_length: Tokens per episode that "constant" divides by.
        kl_coef: Weight of the KL to the reference, the policy as it was before training; 0 switches it off.
        kl_estimator: "k1" is taken off the reward; "k2", "k3" and "k3_ratio" are added to the loss.
        entropy_coef: Weight of the entropy, which is taken off the loss.
        positive_coef: Weight of the log-likelihood loss on episodes that were judged right (VAPO).
        drop_void_turns: Leave episodes with an invalid turn out of the policy's loss (SimpleTIR, arXiv 2509.02479).
            The critic learns from them, and the reward of the form of turns does not.
        drop_truncated: Leave episodes that ended without an answer out of the policy's loss.
        ratio_tolerance: Largest |ratio - 1| allowed before the first update of an iteration; more means that the
            trainer does not compute what it computed a moment ago, and stops the run. null takes 1e-3, or 5e-2
            for a model in half precision, where other micro-batches alone make that much.
        sampler_gap: Largest mean |difference| of log-probs, in nats, between the sampler and the trainer.
        importance_cap: Truncated importance sampling for a sampler that is not the trainer, such as a vLLM server:
            each token's loss is weighed by the ratio of the trainer's probability before the update to the
            sampler's, at most this much; 0 switches it off. 2 is usual with servers.
        parity: What happens beyond sampler_gap: "stop", "warn" or "off".
        alarms: The same for signs of collapse and reward hacking; see vrag_agent.alarms.
        seed: Of sampling and of the order of mini-batches.
    """

    n_episodes: int = 64
    n_epochs: int = 2
    minibatch_size: int = 32
    microbatch_size: int = 1
    learning_rate: float = 1e-6
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_tokens: int = 512
    rollout_batch_size: int = 16
    loss: Literal["clip", "cispo"] = "clip"
    ratio_level: Literal["token", "turn", "sequence"] = "token"
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float | None = 3.0
    cispo_ceiling: float = 5.0
    aggregation: Aggregation = "token_mean"
    constant_length: int = 1024
    kl_coef: float = 0.001
    kl_estimator: Literal["k1", "k2", "k3", "k3_ratio"] = "k1"
    entropy_coef: float = 0.0
    positive_coef: float = 0.0
    drop_void_turns: bool = False
    drop_truncated: bool = False
    ratio_tolerance: float | None = None
    sampler_gap: float = 0.05
    importance_cap: float = 0.0
    parity: Literal["stop", "warn", "off"] = "stop"
    alarms: Literal["stop", "warn", "off"] = "warn"
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("n_episodes", "n_epochs", "microbatch_size", "max_tokens", "rollout_batch_size", "constant_length")
        for name in positive:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if not 1 <= self.minibatch_size <= self.n_episodes:
            raise ConfigError(
                f"minibatch_size must be between 1 and n_episodes={self.n_episodes}, got {self.minibatch_size}"
            )
        floats = (
            "learning_rate",
            "weight_decay",
            "warmup_steps",
            "kl_coef",
            "entropy_coef",
            "positive_coef",
            "importance_cap",
        )
        for name in floats:
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.clip_low <= 1 or self.clip_high < 0:
            raise ConfigError(f"clip_low must be in [0, 1], clip_high from 0: got {self.clip_low}, {self.clip_high}")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ConfigError(f"dual_clip must be above 1 or null, got {self.dual_clip}")


@dataclass(frozen=True, kw_only=True)
class PPOConfig(TrainerConfig):
    """Hyper-parameters of :class:`vrag_agent.ppo.PPO`, beside those of :class:`TrainerConfig`.

    Attributes:
        advantage: "turn_gae" (one value per turn), "token_gae" (one per action token) or "bilevel_gae" (both).
        gamma: Discount per step: per turn with "turn_gae", per token with the others.
        lam: Lambda of the advantages.
        value_lam: Lambda of the critic's targets; 1 = Monte-Carlo (VAPO, arXiv 2504.05118).
        turn_gamma: Discount per turn of "bilevel_gae".
        turn_lam: Lambda over turns of "bilevel_gae".
        normalize_advantages: Whiten advantages over the action tokens of the rollout.
        value_learning_rate: Of the critic.
        critic_warmup: First iterations in which only the critic learns.
    """

    advantage: Literal["turn_gae", "token_gae", "bilevel_gae"] = "turn_gae"
    gamma: float = 1.0
    lam: float = 0.95
    value_lam: float = 1.0
    turn_gamma: float = 1.0
    turn_lam: float = 0.95
    normalize_advantages: bool = True
    value_learning_rate: float = 1e-4
    critic_warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma", "lam", "value_lam", "turn_gamma", "turn_lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(TrainerConfig):
    """Hyper-parameters of :class:`vrag_agent.grpo.GRPO`, beside those of :class:`TrainerConfig`.

    Attributes:
        group_size: Episodes per question.
        advantage: "grpo", "dr_grpo" (not scaled), "rloo" (leave-one-out) or "reinforce" (normalised over the
            batch, with no regard to groups).
        skip_zero_variance: Leave out groups in which all episodes earned the same: they teach nothing, and would
            only add to the counts that the loss is divided by (DAPO, arXiv 2503.14476).
        kl_estimator: As in :class:`TrainerConfig`; here the default is in the loss.
    """

    group_size: int = 8
    advantage: Literal["grpo", "dr_grpo", "rloo", "reinforce"] = "grpo"
    skip_zero_variance: bool = True
    kl_estimator: Literal["k1", "k2", "k3", "k3_ratio"] = "k3_ratio"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group_size < 2 and self.advantage != "reinforce":
            raise ConfigError(f"group_size must be at least 2 for {self.advantage!r}, got {self.group_size}")
        if self.n_episodes % self.group_size:
            raise ConfigError(f"n_episodes must be a multiple of group_size={self.group_size}, got {self.n_episodes}")


@dataclass(frozen=True)
class Preset:
    """A named choice of algorithm and hyper-parameters.

    Attributes:
        algorithm: ``ppo`` or ``grpo``.
        summary: One line for ``--help``.
        values: Hyper-parameters other than the defaults.
        environment: Options of the environment that belong to it.
    """

    algorithm: str
    summary: str
    values: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "ppo": Preset("ppo", "the defaults: turn-level PPO with a critic", {}),
        "grpo": Preset("grpo", "the defaults: GRPO in groups of 8", {}),
        # The released script of VRAG-RL: 32 questions x 5; its 4 episodes per GPU on 8 GPUs are mini-batches of 32.
        "vrag_paper": Preset(
            "grpo",
            "as in the VRAG-RL paper: groups of 5, KL k3 0.01 in the loss, 4 turns, learning rate 1e-6",
            {
                "group_size": 5,
                "n_episodes": 160,
                "n_epochs": 1,
                "minibatch_size": 32,
                "learning_rate": 1e-6,
                "warmup_steps": 5,
                "clip_low": 0.2,
                "clip_high": 0.2,
                "dual_clip": None,
                "aggregation": "sequence_mean",
                "kl_coef": 0.01,
                "kl_estimator": "k3",
                "skip_zero_variance": False,
                "max_tokens": 2048,
            },
            {"max_turns": 4},
        ),
    }
)
"""The presets by name."""
