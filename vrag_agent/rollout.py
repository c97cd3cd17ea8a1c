"""Rollout: plays episodes with a policy, many at a time, and keeps them as exact trajectories.

One batch of episodes shares each call: one forward pass per sampled token, one retrieval call per turn and one
call of the judge (:func:`vrag_env.episode.step_many`). Finished episodes leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import HFSampler
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.env import VRAGEnv
from vrag_env.episode import Block, Episode, StepResult, step_many
from vrag_env.questions import Question

BlockFilter = Callable[[tuple[Block, ...]], tuple[Block, ...]]


def collect(
    policy: VLMPolicy,
    episodes: Sequence[Episode],
    *,
    max_tokens: int,
    generator: torch.Generator | None = None,
    batch_size: int = 64,
    see: BlockFilter | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """Play episodes to their end.

    Args:
        policy: Who plays; put into evaluation mode for the time of the call.
        episodes: Fresh episodes; they hold the full record afterwards.
        max_tokens: Most tokens of one action. A longer one is cut; the environment then reads what there is.
        generator: Source of randomness; ``None`` for greedy decoding.
        batch_size: Episodes that run at the same time.
        see: Changes what the policy sees (a test of whether it looks at all); ``None`` leaves it alone.
        progress: Called with the number of episodes that have just ended.

    Returns:
        One trajectory per episode, in the same order.
    """
    was_training = policy.training
    policy.eval()
    trajectories: list[Trajectory] = []
    try:
        for start in range(0, len(episodes), batch_size):
            batch = episodes[start : start + batch_size]
            trajectories += _play(policy, batch, max_tokens, generator, see, progress)
    finally:
        policy.train(was_training)
    return trajectories


def _play(
    policy: VLMPolicy,
    episodes: Sequence[Episode],
    max_tokens: int,
    generator: torch.Generator | None,
    see: BlockFilter | None,
    progress: Callable[[int], None] | None,
) -> list[Trajectory]:
    family = policy.family
    segments: list[list[Segment]] = []
    for episode in episodes:
        system = episode.instructions if policy.system is None else policy.system
        segments.append([family.prompt(system, _seen(episode.start().blocks, see))])
    sampler = HFSampler(policy, len(episodes), generator)
    live = list(range(len(episodes)))
    last: dict[int, StepResult] = {}
    while live:
        keys = [episodes[i].state_key for i in live]
        sampled = sampler.sample([segments[i][-1] for i in live], max_tokens)
        texts = [family.decode(action.token_ids) for action in sampled]
        results = step_many([episodes[i] for i in live], texts)
        for i, key, action, result in zip(live, keys, sampled, results, strict=True):
            segments[i].append(
                Segment(
                    "action",
                    action.token_ids,
                    action.logprobs,
                    reward=result.reward,
                    policy_version=policy.version,
                    state_key=key,
                )
            )
            last[i] = result
            if not episodes[i].done:
                segments[i].append(family.observation(_seen(result.blocks, see), action.token_ids))
        still = [row for row, i in enumerate(live) if not episodes[i].done]
        if progress is not None and len(still) < len(live):
            progress(len(live) - len(still))
        if still and len(still) < len(live):
            sampler.keep(still)
        live = [live[row] for row in still]
    return [
        Trajectory(
            tuple(segments[i]),
            question_id=episode.question.question_id,
            info={k: v for k, v in last[i].info.items() if k != "blocks"},
            truncated=last[i].truncated,
        )
        for i, episode in enumerate(episodes)
    ]


def _seen(blocks: tuple[Block, ...], see: BlockFilter | None) -> tuple[Block, ...]:
    return blocks if see is None else see(blocks)


def episodes_of(env: VRAGEnv, questions: Sequence[Question]) -> list[Episode]:
    """Make fresh episodes with the corpus, retriever, reward and rules of an environment.

    Args:
        env: ``gym.make("VRAG-v0", ...).unwrapped``.
        questions: One episode each.
    """
    return [Episode(q, env.corpus, env.retriever, env.reward, env.config) for q in questions]


class QuestionStream:
    """Endless fresh episodes over the questions of an environment, in a new order on every pass.

    Args:
        env: ``gym.make("VRAG-v0", ...).unwrapped``.
        seed: Of the order.
    """

    def __init__(self, env: VRAGEnv, seed: int = 0) -> None:
        self.env = env
        self.generator = torch.Generator().manual_seed(seed)
        self._waiting: list[int] = []

    def __call__(self, count: int) -> list[Episode]:
        """Return the next episodes."""
        while len(self._waiting) < count:
            self._waiting += torch.randperm(len(self.env.questions), generator=self.generator).tolist()
        chosen, self._waiting = self._waiting[:count], self._waiting[count:]
        return episodes_of(self.env, [self.env.questions[i] for i in chosen])
