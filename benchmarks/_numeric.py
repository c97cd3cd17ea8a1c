"""Algorithms of Stable-Baselines3 and sb3-contrib on the numeric face, evaluated with the metrics of the text face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from vrag_agent.evaluate import to_json
from vrag_agent.evaluation.intervals import Estimate, ratio
from vrag_agent.evaluation.measures import METRICS, measure
from vrag_env.discrete import DiscreteVRAGEnv
from vrag_env.errors import missing_extra
from vrag_env.questions import Question
from vrag_env.rewards.judges import SUCCESS_THRESHOLD

ON_POLICY = {"n_steps": 512, "batch_size": 128, "learning_rate": 1e-3, "ent_coef": 0.01}
OFF_POLICY = {"learning_starts": 500, "buffer_size": 20_000, "batch_size": 64, "learning_rate": 5e-4, "train_freq": 4}
ALGORITHMS: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "PPO": ("stable_baselines3", "MultiInputPolicy", {**ON_POLICY, "n_epochs": 6}),
    "A2C": ("stable_baselines3", "MultiInputPolicy", {"n_steps": 16, "ent_coef": 0.01}),
    "DQN": ("stable_baselines3", "MultiInputPolicy", OFF_POLICY),
    "QRDQN": ("sb3_contrib", "MultiInputPolicy", OFF_POLICY),
    "TRPO": ("sb3_contrib", "MultiInputPolicy", {"n_steps": 512, "batch_size": 128}),
    "RecurrentPPO": ("sb3_contrib", "MultiInputLstmPolicy", {**ON_POLICY, "n_epochs": 4}),
    "MaskablePPO": ("sb3_contrib", "MultiInputPolicy", {**ON_POLICY, "n_epochs": 6}),
}
"""Class, policy and what differs from its defaults; none of it was tuned beyond making it learn at all."""


def make_numeric(corpus: Path, questions: Sequence[Question], reward: Mapping[str, float] | str) -> gym.Env[Any, Any]:
    """Return the numeric face without its picture, which needs convolutions."""
    return gym.make("VRAG-Discrete-v0", corpus=corpus, questions=list(questions), reward=reward, canvas=False)


def build(name: str, env: gym.Env[Any, Any], seed: int) -> Any:
    """Return an algorithm of the libraries, unchanged.

    Raises:
        DependencyError: If the extra ``sb3`` is not installed.
    """
    module, policy, options = ALGORITHMS[name]
    try:
        library = __import__(module)
    except ImportError as error:
        raise missing_extra(module, "sb3") from error
    return getattr(library, name)(policy, env, seed=seed, device="cpu", **options)


def learn(name: str, env: gym.Env[Any, Any], seed: int, steps: int, path: Path) -> tuple[Any, list[list[float]]]:
    """Train, or load what was trained; return the model and its curve (steps, share right of the last episodes)."""
    module, _, _ = ALGORITHMS[name]
    saved, log = path / f"{name}-{seed}.zip", path / f"{name}-{seed}.json"
    if saved.exists():
        import json

        return getattr(__import__(module), name).load(saved, device="cpu"), json.loads(log.read_text(encoding="utf-8"))
    path.mkdir(parents=True, exist_ok=True)
    model = build(name, env, seed)
    recent: list[float] = []
    curve: list[list[float]] = []

    def after(local: dict[str, Any], _: dict[str, Any]) -> bool:
        for info in local["infos"]:
            if "episode" in info:
                recent.append(float(info["is_success"]))
        if model.num_timesteps >= steps / 20 * (len(curve) + 1):
            curve.append([model.num_timesteps, float(np.mean(recent[-200:])) if recent else 0.0])
        return True

    model.learn(steps, callback=after)
    log.write_text(to_json(curve), encoding="utf-8")
    unfinished = saved.with_name(f"part-{saved.name}")
    model.save(unfinished)
    unfinished.replace(saved)  # written last: what is there is whole
    return model, curve


def play(name: str, model: Any, env: gym.Env[Any, Any], questions: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """Play every question once with the most likely actions; return the measures of each by its id."""
    face = env.unwrapped
    assert isinstance(face, DiscreteVRAGEnv)
    found: dict[str, dict[str, Any]] = {}
    for question in questions:
        observation, _ = face.reset(options={"question_id": question.question_id})
        state, first, ended, steps = None, np.ones((1,), bool), False, 0
        while not ended:
            masks = {"action_masks": face.action_masks()} if name == "MaskablePPO" else {}
            extra = {"state": state, "episode_start": first} if name == "RecurrentPPO" else {}
            action, state = model.predict(observation, deterministic=True, **masks, **extra)
            observation, _, terminated, truncated, info = face.step(np.int64(action))
            ended, first, steps = terminated or truncated, np.zeros((1,), bool), steps + 1
        terms = info["reward_terms"]
        right = bool(face.episode.state.terminated and terms.get("answer", 0.0) >= SUCCESS_THRESHOLD)
        found[question.question_id] = {**measure(face.episode), "right": float(right), "steps": float(steps)}
    return found


def estimate(rows: Sequence[Mapping[str, Mapping[str, Any]]], ids: Sequence[str], name: str) -> Estimate:
    """Estimate a metric over questions; the seeds of a question (one mapping each) count together."""
    metric = METRICS[name]
    tops, bottoms = [], []
    for question_id in ids:
        top = bottom = 0.0
        for row in rows:
            value = row[question_id].get(metric.numerator)
            if value is not None:
                top += value
                bottom += 1.0 if metric.denominator is None else row[question_id][metric.denominator]
        tops.append(top)
        bottoms.append(bottom)
    return ratio(tops, bottoms)
