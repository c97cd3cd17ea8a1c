"""Seven algorithms train on the numeric face unchanged, and learn the easiest generated world."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from vrag_env.corpus.generate import WorldConfig, build_world

torch.set_num_threads(1)

OFF_POLICY = {"learning_starts": 64, "buffer_size": 512, "batch_size": 32}
ALGORITHMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "PPO": ("stable_baselines3", "MultiInputPolicy", {"n_steps": 128, "batch_size": 64, "n_epochs": 2}),
    "A2C": ("stable_baselines3", "MultiInputPolicy", {"n_steps": 16}),
    "DQN": ("stable_baselines3", "MultiInputPolicy", OFF_POLICY),
    "MaskablePPO": ("sb3_contrib", "MultiInputPolicy", {"n_steps": 128, "batch_size": 64, "n_epochs": 2}),
    "RecurrentPPO": ("sb3_contrib", "MultiInputLstmPolicy", {"n_steps": 128, "batch_size": 64, "n_epochs": 1}),
    "TRPO": ("sb3_contrib", "MultiInputPolicy", {"n_steps": 128, "batch_size": 64}),
    "QRDQN": ("sb3_contrib", "MultiInputPolicy", OFF_POLICY),
}
EASIEST = WorldConfig(seed=1, documents=4, kinds=("prose",), unanswerable_share=0.0, test_share=0.0, footnote_size=10.0)
"""One page of prose per document; every answer is a word or a line that can be read on the whole page."""


def build(name: str, env: gym.Env, **changes: Any) -> Any:
    module, policy, options = ALGORITHMS[name]
    library = pytest.importorskip(module, reason="needs the extra sb3")
    return getattr(library, name)(policy, env, seed=0, device="cpu", **(options | changes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_trains(name: str, tiny_corpus: Any, tiny_questions: Any) -> None:
    with_canvas = name in ("PPO", "DQN")  # convolutions are slow without a GPU
    env = gym.make("VRAG-Discrete-v0", corpus=tiny_corpus, questions=tiny_questions, canvas=with_canvas)
    model = build(name, env)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(256)
    assert model.num_timesteps >= 256
    assert any(not torch.equal(one, other) for one, other in zip(before, model.policy.parameters(), strict=True))
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PPO", "MaskablePPO", "A2C", "TRPO"])
def test_it_trains_with_two_numbers(name: str, tiny_corpus: Any, tiny_questions: Any) -> None:
    env = gym.make("VRAG-MultiDiscrete-v0", corpus=tiny_corpus, questions=tiny_questions, canvas=False)
    assert build(name, env).learn(128).num_timesteps >= 128


def accuracy(model: Any, env: Any, masked: bool) -> float:
    """Play every question once with the most likely actions."""
    right = []
    for question in env.questions:
        observation, info = env.reset(options={"question_id": question.question_id})
        ended = False
        while not ended:
            masks = {"action_masks": env.action_masks()} if masked else {}
            action, _ = model.predict(observation, deterministic=True, **masks)
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        right.append(info["is_success"])
    return float(np.mean(right))


@pytest.mark.slow
def test_it_learns_the_easiest_world(tmp_path: Path) -> None:
    corpus, questions = build_world(EASIEST, tmp_path / "world", progress=False, workers=1, long_side=896)
    env, fresh = (gym.make("VRAG-Discrete-v0", corpus=corpus, questions=questions, canvas=False) for _ in range(2))
    assert env.unwrapped.oracle_ceiling().ceiling == 1.0
    settings = {"n_steps": 1024, "batch_size": 128, "n_epochs": 10, "learning_rate": 1e-3, "ent_coef": 0.01}
    model = build("MaskablePPO", env, **settings)
    assert accuracy(model, fresh.unwrapped, masked=True) < 0.5
    reached = 0.0
    for _ in range(8):
        model.learn(5_120, reset_num_timesteps=False)
        reached = accuracy(model, fresh.unwrapped, masked=True)
        if reached >= 0.9:
            break
    assert reached >= 0.9


def test_no_value_is_added_to_an_episode_without_an_answer(tiny_corpus: Any, tiny_questions: Any) -> None:
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env", reason="needs the extra sb3")
    arguments = {"corpus": tiny_corpus, "questions": tiny_questions, "canvas": False, "max_turns": 1}
    envs = vec_env.DummyVecEnv([lambda: gym.make("VRAG-Discrete-v0", **arguments)])
    envs.reset()
    for ended in (False, True):
        _, _, dones, infos = envs.step([0])
        assert dones[0] == ended
    assert infos[0]["TimeLimit.truncated"] is False
