"""Tiny agents on generated status boards, as in ``vrag demo``: one imitation per seed, and PPO from it in several ways.

A page of these documents carries its answer in symbols of a few pixels: find the page, enlarge the right card,
name the symbol. Every agent is kept in a directory; what is there is not trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vrag_agent import demo
from vrag_agent.checkpoint import load_policy, save_checkpoint
from vrag_agent.commands import make_env
from vrag_agent.evaluate import to_json
from vrag_agent.evaluation.episodes import PlayedEpisode
from vrag_agent.policy import VLMPolicy
from vrag_env.env import VRAGEnv
from vrag_env.errors import VRAGError


@dataclass(frozen=True)
class Size:
    """How much is done; small enough for two cores.

    Attributes:
        documents: Documents of the world; a quarter of them is held out.
        demonstrations: Oracle episodes to imitate.
        sft_epochs: Passes over them.
        iterations: Iterations of PPO.
        episodes: Episodes per iteration.
        test_questions: Held-out questions.
    """

    documents: int = 200
    demonstrations: int = 800
    sft_epochs: int = 8
    iterations: int = 12
    episodes: int = 64
    test_questions: int = 150


@dataclass(frozen=True)
class Arm:
    """One way to go on from the imitation.

    Attributes:
        name: Its name.
        reward: Weights by term of the reward.
        crops: Whether regions can be cut out.
        algorithm: ``"ppo"`` or ``"grpo"``.
    """

    name: str
    reward: Mapping[str, float]
    crops: bool = True
    algorithm: str = "ppo"


VANILLA = {"answer": 1.0}
RAG_SPECIFIC = {"retrieval": 0.2, "answer": 0.7, "pattern": 0.1}


class TinyWorld:
    """The world of one seed, its held-out questions, and the agents that have been trained in it.

    Args:
        out: Directory; the world, checkpoints and logs go into ``seed-SEED`` inside.
        seed: Of documents, weights, demonstrations and sampling.
        size: How much is done.
    """

    def __init__(self, out: Path, seed: int, size: Size) -> None:
        self.directory, self.seed, self.size = out / f"seed-{seed}", seed, size
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = self.directory / "size.json"
        written = to_json(asdict(size))
        if settings.exists() and settings.read_text(encoding="utf-8") != written:
            raise VRAGError(f"{self.directory} holds agents of another size: choose another --out")
        settings.write_text(written, encoding="utf-8")
        torch.set_num_threads(1)
        scale = demo.Scale(
            documents=size.documents,
            demonstrations=size.demonstrations,
            sft_epochs=size.sft_epochs,
            ppo_iterations=size.iterations,
            episodes=size.episodes,
            test_questions=size.test_questions,
        )
        self.train_env, self.test_env = demo.environments(self.directory, seed, scale)
        self._scale = scale

    def env(self, questions: str, reward: Mapping[str, float] | str = "paper") -> VRAGEnv:
        """Return an environment on ``train.json`` or ``test.json`` with a reward of its own."""
        options = {"corpus": self.train_env.corpus.path, "questions": self.directory / questions, "reward": reward}
        return make_env({**options, **demo.ENV_OPTIONS})

    def imitated(self) -> Path:
        """Return the checkpoint of the imitation, trained if it is not there."""
        target = self.directory / "sft"
        if not target.is_dir():
            started = time.perf_counter()
            torch.manual_seed(self.seed)
            policy = demo.build(self.train_env, self.seed)
            losses = demo.imitate(policy, self.train_env, self._scale, self.seed)
            (self.directory / "sft.json").write_text(to_json(losses), encoding="utf-8")
            self._spent("sft", started)
            save_checkpoint(policy, target, demo.ENV_OPTIONS, demo.MAX_TOKENS)
        return target

    def trained(self, arm: Arm) -> Path:
        """Return the checkpoint of PPO from the imitation, trained if it is not there."""
        target = self.directory / arm.name
        if not target.is_dir():
            policy = load_policy(self.imitated())
            started = time.perf_counter()
            history = self._learn(policy, arm)
            (self.directory / f"{arm.name}.json").write_text(to_json(history), encoding="utf-8")
            self._spent(arm.name, started)
            save_checkpoint(policy, target, demo.ENV_OPTIONS, demo.MAX_TOKENS)
        return target

    def _spent(self, name: str, started: float) -> None:
        path = self.directory / f"{name}.seconds"
        path.write_text(f"{time.perf_counter() - started:.1f}\n", encoding="utf-8")

    def seconds(self, name: str) -> float:
        """Return how long the training of an agent took."""
        return float((self.directory / f"{name}.seconds").read_text(encoding="utf-8"))

    def history(self, arm: Arm) -> list[dict[str, float]]:
        """Return the metrics of each iteration of PPO."""
        found: list[dict[str, float]] = json.loads((self.directory / f"{arm.name}.json").read_text(encoding="utf-8"))
        return found

    def _learn(self, policy: VLMPolicy, arm: Arm) -> list[dict[str, float]]:
        torch.manual_seed(self.seed)
        env = self.env("train.json", arm.reward)
        trainer = demo.make_trainer(policy, env, self._scale, self.seed, arm.algorithm)
        trainer.episodes = episode_source(env, arm.crops, self.seed)
        with (self.directory / f"{arm.name}.jsonl").open("w", encoding="utf-8") as log:
            return demo.learn(trainer, self.size.iterations, log.write)


def episode_source(env: VRAGEnv, crops: bool, seed: int) -> Callable[[int], Sequence[PlayedEpisode]]:
    """Return endless episodes over the questions of an environment, in a new order on every pass."""
    generator = torch.Generator().manual_seed(seed)
    waiting: list[int] = []

    def make(count: int) -> list[PlayedEpisode]:
        while len(waiting) < count:
            waiting.extend(torch.randperm(len(env.questions), generator=generator).tolist())
        chosen = [waiting.pop(0) for _ in range(count)]
        parts: tuple[Any, ...] = (env.corpus, env.retriever, env.reward, env.config)
        return [PlayedEpisode(env.questions[i], *parts, crops=crops) for i in chosen]

    return make
