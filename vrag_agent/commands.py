"""What ``vrag train`` does, as a function, and the environment that the commands make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from tqdm import tqdm

from vrag_agent.evaluate import to_json, write_json
from vrag_env.env import VRAGEnv
from vrag_env.errors import VRAGError


def make_env(options: Mapping[str, Any]) -> VRAGEnv:
    """Make ``VRAG-v0`` without wrappers.

    Args:
        options: Keyword arguments of :class:`~vrag_env.env.VRAGEnv`.

    Raises:
        VRAGError: If an option does not fit.
    """
    try:
        env = gym.make("VRAG-v0", disable_env_checker=True, **options).unwrapped
    except VRAGError:
        raise
    except ValueError as error:  # of the rules, such as max_turns=0: here they come from the command line
        raise VRAGError(str(error)) from error
    assert isinstance(env, VRAGEnv)
    return env


def run_training(
    model: str,
    out: Path,
    env_options: Mapping[str, Any],
    *,
    demonstrations: int,
    iterations: int,
    episodes: int,
    minibatch: int,
    microbatch: int,
    rollout_batch: int,
    lora: int,
    learning_rate: float,
    sft_learning_rate: float,
    kl_coef: float,
    max_tokens: int,
    train_vision: bool,
    gradient_checkpointing: bool,
    save_every: int,
    seed: int,
) -> None:
    """Train a model; the arguments are those of ``vrag train``.

    Writes ``config.json``, ``metrics.jsonl`` (a line per iteration) and ``checkpoint/`` into ``out``.
    """
    import torch

    from vrag_agent.checkpoint import load_policy, read_settings, save_checkpoint
    from vrag_agent.config import PPOConfig
    from vrag_agent.experts import demonstrate
    from vrag_agent.ppo import PPO
    from vrag_agent.rollout import QuestionStream
    from vrag_agent.sft import SFT
    from vrag_env.players import OraclePlayer

    config = {name: value for name, value in locals().items() if isinstance(value, str | int | float | bool)}
    torch.manual_seed(seed)
    options = {**read_settings(model).get("env", {}), **env_options}
    policy = load_policy(
        model,
        lora_rank=lora,
        freeze_vision=not train_vision,
        gradient_checkpointing=gradient_checkpointing,
    )
    options.setdefault("box_frame", policy.family.box_frame)
    options.setdefault("pixel_multiple", policy.family.pixel_multiple)
    env = make_env(options)
    # What a checkpoint must know of the environment: how it looks, not where its files lie.
    look = {
        name: value
        for name, value in options.items()
        if name in ("max_turns", "min_pixels", "max_pixels", "pixel_multiple", "box_frame")
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", {**config, "env": {k: str(v) for k, v in options.items()}})
    stream = QuestionStream(env, seed)

    if demonstrations:
        shown = stream(demonstrations)
        with tqdm(desc="demonstrations", total=demonstrations, unit="episode") as bar:
            written = demonstrate(OraclePlayer(), shown, policy, bar.update)
        sft = SFT(policy, learning_rate=sft_learning_rate, microbatch_size=microbatch, seed=seed)
        with tqdm(desc="SFT", total=3 * -(-demonstrations // sft.batch_size), unit="step") as bar:

            def after_step(step: int, loss: float) -> None:
                bar.set_postfix_str(f"loss {loss:.3f}")
                bar.update()

            sft.learn(written, 3, after_step)
        save_checkpoint(policy, out / "checkpoint", look, max_tokens)

    settings = PPOConfig(
        n_episodes=episodes,
        minibatch_size=min(minibatch, episodes),
        microbatch_size=microbatch,
        learning_rate=learning_rate,
        kl_coef=kl_coef,
        max_tokens=max_tokens,
        rollout_batch_size=rollout_batch,
        seed=seed,
    )
    ppo = PPO(policy, stream, settings)
    with (
        (out / "metrics.jsonl").open("w", encoding="utf-8") as log,
        tqdm(desc="PPO", total=iterations, unit="iteration") as bar,
    ):

        def after_iteration(iteration: int, metrics: Mapping[str, float]) -> None:
            log.write(to_json({"iteration": iteration, **metrics}) + "\n")
            log.flush()
            reward, right = metrics["rollout/ep_rew_mean"], metrics["rollout/success_rate"]
            bar.set_postfix_str(f"reward {reward:.2f} right {right:.2f}")
            bar.update()
            if iteration % save_every == 0:
                save_checkpoint(policy, out / "checkpoint", look, max_tokens)

        ppo.learn(iterations, after_iteration)
    save_checkpoint(policy, out / "checkpoint", look, max_tokens)
    print(f"{out / 'checkpoint'}: evaluate it with vrag eval --policy {out / 'checkpoint'} --out {out / 'eval'}")
