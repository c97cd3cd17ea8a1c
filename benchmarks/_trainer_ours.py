"""The step of this package, as a process of its own: see :mod:`trainer_speed`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from _trainer_task import Task

from vrag_agent import rollout
from vrag_agent.sampler import HFSampler, Sampled
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.episode import Episode


class Forced(HFSampler):
    """The sampler with its drawn tokens replaced by written ones; conversations come in the order of the episodes."""

    scripts: Sequence[Sequence[list[int]]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turns: dict[int, int] = {}

    def open(self, generator: torch.Generator | None = None) -> int:
        """Begin the next episode's conversation."""
        number = super().open(generator)
        self._turns[number] = -1
        return number

    def extend(self, segments: Any, max_tokens: int) -> None:
        """Begin the next turn of each."""
        for number in segments:
            self._turns[number] += 1
        super().extend(segments, max_tokens)

    def _choose(self, conversations: Any, logp: torch.Tensor) -> torch.Tensor:
        super()._choose(conversations, logp)
        numbers = {id(conversation): number for number, conversation in self._open.items()}
        forced = []
        for conversation in conversations:
            number = numbers[id(conversation)]
            forced.append(self.scripts[number][self._turns[number]][len(conversation.action)])
        return torch.tensor(forced, device=logp.device)


class Recomputing(Forced):
    """Without a cache between the turns: every turn feeds the whole conversation again, images included."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._past: dict[int, list[Segment]] = {}

    def extend(self, segments: Any, max_tokens: int) -> None:
        """Begin each conversation anew with all that has been said."""
        whole = {}
        for number, segment in segments.items():
            conversation = self._open[number]
            parts = [*self._past.get(number, []), segment]
            if conversation.action:
                parts.insert(-1, Segment("observation", tuple(conversation.action)))
            self._past[number] = parts
            conversation.ids, conversation.grids, conversation.fed = [], [], 0
            whole[number] = merged(parts)
        super().extend(whole, max_tokens)


def merged(parts: Sequence[Segment]) -> Segment:
    """One segment of several."""
    from dataclasses import replace

    ids: list[int] = []
    images = []
    for part in parts:
        images += [replace(image, start=image.start + len(ids)) for image in part.images]
        ids += part.token_ids
    return Segment("prompt", tuple(ids), images=tuple(images))


@contextmanager
def forced(task: Task, sampler: type[Forced] = Forced) -> Iterator[type[Forced]]:
    """Let rollouts use a forced sampler."""
    kept = rollout.HFSampler
    rollout.HFSampler = sampler  # type: ignore[misc]  # only the class that collect builds is another
    try:
        yield sampler
    finally:
        rollout.HFSampler = kept  # type: ignore[misc]


def scripts(task: Task, step: int) -> list[list[list[int]]]:
    """The tokens of all turns of all episodes of a step."""
    shape = task.shape
    return [
        [task.ids(task.question(step, number), copy, turn) for turn in range(shape.turns)]
        for number in range(shape.questions)
        for copy in range(shape.copies)
    ]


def episodes(task: Task, step: int) -> list[Episode]:
    """Fresh episodes of a step, copy after copy of each question."""
    return [
        task.fresh(task.question(step, number))
        for number in range(task.shape.questions)
        for _ in range(task.shape.copies)
    ]


def play(task: Task, policy: Any, step: int, sampler: type[Forced] = Forced, rows: int = 64) -> list[Trajectory]:
    """One rollout."""
    with forced(task, sampler):
        sampler.scripts = scripts(task, step)
        longest = max(len(ids) for script in sampler.scripts for ids in script)
        generator = torch.Generator().manual_seed(step)
        return rollout.collect(policy, episodes(task, step), max_tokens=longest, generator=generator, batch_size=rows)


def counts(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    """Tokens of trajectories."""
    return {
        "trajectories": len(trajectories),
        "tokens": sum(len(t.token_ids) for t in trajectories),
        "action_tokens": sum(len(a.token_ids) for t in trajectories for a in t.actions),
        "images": sum(len(t.images) for t in trajectories),
    }


def timed(call: Any) -> tuple[float, Any]:
    """Seconds, and what came back."""
    started = time.perf_counter()
    out = call()
    return time.perf_counter() - started, out


__all__ = ["Forced", "Recomputing", "Sampled", "counts", "episodes", "forced", "play", "scripts", "timed"]
