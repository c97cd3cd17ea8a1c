"""What ``vrag eval`` and ``vrag train`` do, as functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from tqdm import tqdm

from vrag_agent.evaluate import (
    describe_corpus,
    direct_retrieval,
    evaluation,
    play,
    to_json,
    versions,
    write_episodes,
    write_json,
)
from vrag_env.env import VRAGEnv
from vrag_env.episode import Episode
from vrag_env.errors import VRAGError, missing_extra
from vrag_env.players import PLAYERS, make_player
from vrag_env.replay import write_replay


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


def run_evaluation(
    policy: str,
    out: Path,
    env_options: Mapping[str, Any],
    limit: int | None = None,
    max_tokens: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Any]:
    """Play all questions with one policy; write ``summary.json``, ``episodes.jsonl`` and ``replay.html``.

    Args:
        policy: The name of a scripted player, a checkpoint's directory, or a model's name.
        out: Directory of the results.
        env_options: Keyword arguments of the environment; a checkpoint's own fill in what is not given.
        limit: Only the first questions.
        max_tokens: Most tokens of one action of a model; by default what the checkpoint is used to, or 512.
        batch_size: Episodes played at the same time.
        seed: Of the random player.

    Returns:
        The summary.
    """
    scripted = policy in PLAYERS
    options = dict(env_options)
    model = None
    longest = max_tokens or 512
    if not scripted:
        if "/" not in policy and not Path(policy).exists():  # no model of the families known has such a name
            raise VRAGError(
                f"unknown policy {policy!r}: expected one of {', '.join(PLAYERS)}, the directory of a checkpoint, "
                "or the full name of a model on the hub, such as 'Qwen/Qwen2.5-VL-3B-Instruct'"
            )
        try:
            from vrag_agent.checkpoint import load_policy, read_settings
        except ModuleNotFoundError as error:
            raise missing_extra(str(error.name), "agent") from error

        settings = read_settings(policy)
        options = {**settings.get("env", {}), **options}
        longest = max_tokens or settings.get("max_tokens", 512)
        model = load_policy(policy)
        options.setdefault("box_frame", model.family.box_frame)
        options.setdefault("pixel_multiple", model.family.pixel_multiple)
    env = make_env(options)
    questions = env.questions[:limit]
    episodes = [Episode(q, env.corpus, env.retriever, env.reward, env.config) for q in questions]
    out.mkdir(parents=True, exist_ok=True)  # before the work: a place that can not be written to shows now
    with tqdm(desc=policy, total=len(episodes), unit="episode", dynamic_ncols=True) as bar:
        if model is None:
            play(make_player(policy, seed), episodes, batch_size, bar.update)
        else:
            from vrag_agent.rollout import collect

            collect(model, episodes, max_tokens=longest, batch_size=batch_size, progress=bar.update)
    result = evaluation(episodes)
    summary = {
        "policy": policy if scripted else Path(policy).name,
        **{name: value for name, value in result.items() if name not in ("by_type", "wrong")},
        "retrieval": direct_retrieval(env.retriever, questions),
        "by_type": result["by_type"],
        "wrong": result["wrong"],
        "corpus": describe_corpus(env.corpus),
        "seed": seed,
        "versions": versions(),
    }
    write_episodes(out / "episodes.jsonl", episodes)
    write_replay(out / "replay.html", episodes[0], f"{summary['policy']}: {questions[0].question_id}")
    write_json(out / "summary.json", summary)
    print(table(summary))
    print(f"{out / 'summary.json'}, episodes.jsonl, replay.html")
    return summary


def table(summary: Mapping[str, Any]) -> str:
    """Write the numbers of an evaluation as a text table, one type a line."""
    names = (
        "questions",
        "accuracy",
        "mean_reward",
        "retrieval_ndcg",
        "invalid_rate",
        "finish_rate",
        "mean_turns",
    )
    lines = [f"{'':20}" + "".join(f"{name:>16}" for name in names)]
    for label, row in {"all": summary, **summary["by_type"]}.items():
        cells = (f"{row[name]:>16}" if name == "questions" else f"{row[name]:>16.3f}" for name in names)
        lines.append(f"{label:20}" + "".join(cells))
    retrieval = summary["retrieval"]
    if retrieval:
        found = ", ".join(f"{name} {value:.3f}" for name, value in retrieval.items() if name != "questions")
        lines.append(f"direct retrieval over {retrieval['questions']} questions: {found}")
    if summary["wrong"]:
        shown = ", ".join(summary["wrong"][:10])
        more = len(summary["wrong"]) - 10
        lines.append(f"not judged right: {shown}{f' and {more} more' if more > 0 else ''}")
    return "\n".join(lines)


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
