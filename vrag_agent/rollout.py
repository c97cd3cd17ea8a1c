"""Rollout: plays episodes with a policy, many at a time, and keeps them as exact trajectories.

Each episode goes at its own pace: while some write long actions, others have been answered by the environment and
write the next, and an episode that ends makes room for a new one. Turns are still handed to the environment some
at a time, so that retrieval and judge are called in batches (:func:`vrag_env.episode.step_many`). Every episode
draws from a random generator of its own: what it does depends on its seed, not on what runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vrag_agent.parallel import Parallel, SingleProcess
from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import HFSampler
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.env import VRAGEnv
from vrag_env.episode import Block, Episode, StepResult, step_many
from vrag_env.questions import Question

BlockFilter = Callable[[tuple[Block, ...]], tuple[Block, ...]]

WAITING_SHARE = 4
"""Turns are handed to the environment once one in so many of the running episodes waits: fewer would make the calls
of retriever and model small, more would leave rows idle."""


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
        generator: Gives each episode, in order, the seed of its own generator; ``None`` for greedy decoding.
        batch_size: Most episodes that run at the same time.
        see: Changes what the policy sees (a test of whether it looks at all); ``None`` leaves it alone.
        progress: Called with the number of episodes that have just ended.

    Returns:
        One trajectory per episode, in the same order.
    """
    if not episodes:
        return []
    seeds: list[int | None] = [None] * len(episodes)
    if generator is not None:
        seeds = list(torch.randint(1 << 62, (len(episodes),), generator=generator).tolist())
    was_training = policy.training
    policy.eval()
    try:
        return _play(policy, episodes, seeds, max_tokens, min(batch_size, len(episodes)), see, progress)
    finally:
        policy.train(was_training)


@dataclass
class _Game:
    """An episode that is being played, and what is kept of it."""

    index: int
    episode: Episode
    segments: list[Segment]
    state_key: str = ""
    last: StepResult | None = None

    def trajectory(self) -> Trajectory:
        """Return what was kept."""
        if self.last is None:
            raise RuntimeError(f"episode {self.index} has not been played")
        return Trajectory(
            tuple(self.segments),
            question_id=self.episode.question.question_id,
            info={k: v for k, v in self.last.info.items() if k != "blocks"},
            truncated=self.last.truncated,
        )


def _play(
    policy: VLMPolicy,
    episodes: Sequence[Episode],
    seeds: Sequence[int | None],
    max_tokens: int,
    rows: int,
    see: BlockFilter | None,
    progress: Callable[[int], None] | None,
) -> list[Trajectory]:
    sampler = HFSampler(policy, rows)
    coming: Iterator[_Game] = (_start(policy, i, episode, seeds[i], see) for i, episode in enumerate(episodes))
    games: dict[int, _Game] = {}
    finished: dict[int, Trajectory] = {}
    waiting: dict[int, Segment] = {}
    while len(finished) < len(episodes):
        while sampler.room and (game := next(coming, None)) is not None:
            seed = seeds[game.index]
            own = None if seed is None else torch.Generator().manual_seed(seed)
            number = sampler.open(own)
            games[number], waiting[number] = game, game.segments[0]
        if 2 * len(sampler) <= len(sampler) + sampler.room:  # the last ones: half of the rows stay empty
            sampler.trim()
        for number in waiting:
            games[number].state_key = games[number].episode.state_key
        sampler.extend(waiting, max_tokens)
        waiting = {}
        actions = sampler.run(-(-len(sampler) // WAITING_SHARE))
        texts = [policy.family.decode(action.token_ids) for action in actions.values()]
        results = step_many([games[number].episode for number in actions], texts)
        for (number, action), result in zip(actions.items(), results, strict=True):
            game = games[number]
            game.last = result
            game.segments.append(
                Segment(
                    "action",
                    action.token_ids,
                    action.logprobs,
                    reward=result.reward,
                    policy_version=policy.version,
                    state_key=game.state_key,
                )
            )
            if game.episode.done:
                sampler.close(number)
                finished[game.index] = games.pop(number).trajectory()
            else:
                observation = policy.family.observation(_seen(result.blocks, see), action.token_ids)
                game.segments.append(observation)
                waiting[number] = observation
        ended = len(actions) - len(waiting)
        if progress is not None and ended:
            progress(ended)
    return [finished[i] for i in range(len(episodes))]


def _start(policy: VLMPolicy, index: int, episode: Episode, seed: int | None, see: BlockFilter | None) -> _Game:
    system = episode.instructions if policy.system is None else policy.system
    start = episode.start(0 if seed is None else seed)  # noise in retrieval, where there is some, is drawn anew, too
    return _Game(index, episode, [policy.family.prompt(system, _seen(start.blocks, see))])


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
        parallel: The processes of the run; each takes its part of one order.
    """

    def __init__(self, env: VRAGEnv, seed: int = 0, parallel: Parallel | None = None) -> None:
        self.env = env
        self.parallel = parallel or SingleProcess()
        self.generator = torch.Generator().manual_seed(seed)
        self._waiting: list[int] = []

    def __call__(self, count: int) -> list[Episode]:
        """Return the next episodes."""
        total, first = count * self.parallel.size, count * self.parallel.rank
        while len(self._waiting) < total:
            self._waiting += torch.randperm(len(self.env.questions), generator=self.generator).tolist()
        chosen, self._waiting = self._waiting[:total], self._waiting[total:]
        return episodes_of(self.env, [self.env.questions[i] for i in chosen[first : first + count]])

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to ask the same questions next."""
        return {"generator": self.generator.get_state(), "waiting": list(self._waiting)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.generator.set_state(state["generator"])
        self._waiting = list(state["waiting"])
