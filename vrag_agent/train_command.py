"""What ``vrag train ppo`` and ``vrag train grpo`` do: put a configuration together, make or resume a run, train."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrag_agent.config import PRESETS, ConfigError, GRPOConfig, PPOConfig, Preset, TrainerConfig
from vrag_agent.settings import dump, make_config, parse_pairs, read_yaml, write_yaml
from vrag_env.errors import VRAGError

if TYPE_CHECKING:
    from vrag_agent.parallel import Parallel
    from vrag_agent.run import RunConfig
    from vrag_agent.trainer import Player

KINDS: Mapping[str, type[TrainerConfig]] = {"ppo": PPOConfig, "grpo": GRPOConfig}
CONFIG = "config.yaml"
LOOK = ("max_turns", "min_pixels", "max_pixels", "pixel_multiple", "box_frame")
"""Options of the environment that a checkpoint must know: how it looks, not where its files lie."""


def settle(
    algorithm: str,
    *,
    preset: str | None = None,
    file: Path | None = None,
    pairs: Sequence[str] = (),
    run: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the configuration of a run together: defaults, then the preset, the file, and the command line.

    Args:
        algorithm: ``ppo`` or ``grpo``.
        preset: A name of :data:`vrag_agent.config.PRESETS`.
        file: YAML with any of the sections ``run``, ``environment`` and the algorithm's name.
        pairs: Hyper-parameters as ``name=value``.
        run: Fields of :class:`vrag_agent.run.RunConfig` that were given.
        environment: Options of the environment that were given.

    Returns:
        The sections ``run``, ``environment`` and the algorithm's.

    Raises:
        ConfigError: If something is unknown or does not fit.
    """
    from vrag_agent.run import RunConfig

    chosen = _preset(algorithm, preset)
    stored = {} if file is None else read_yaml(file)
    for section, values in stored.items():
        if section not in ("run", "environment", algorithm):
            raise ConfigError(f"{file}: unknown section {section!r}: expected run, environment and {algorithm}")
        if not isinstance(values, Mapping | None):
            raise ConfigError(f"{file}: the section {section!r} must hold names and values")
    of_file = {name: stored.get(name) or {} for name in ("run", "environment", algorithm)}
    if of_file["run"].get("algorithm", algorithm) != algorithm:
        raise ConfigError(f"{file} is for {of_file['run']['algorithm']}: run vrag train {of_file['run']['algorithm']}")
    hyper = {**chosen.values, **of_file[algorithm], **parse_pairs(pairs)}
    return {
        "run": make_config(RunConfig, {**of_file["run"], **run, "algorithm": algorithm}),
        "environment": {**chosen.environment, **of_file["environment"], **environment},
        algorithm: make_config(KINDS[algorithm], hyper),
    }


def _preset(algorithm: str, name: str | None) -> Preset:
    if name is None:
        return PRESETS[algorithm]
    if name not in PRESETS:
        known = "; ".join(f"{key} ({preset.summary})" for key, preset in PRESETS.items())
        raise ConfigError(f"unknown preset {name!r}: expected one of {known}")
    if PRESETS[name].algorithm != algorithm:
        raise ConfigError(
            f"the preset {name!r} is for {PRESETS[name].algorithm}: run vrag train {PRESETS[name].algorithm}"
        )
    return PRESETS[name]


def show(sections: Mapping[str, Any]) -> str:
    """The configuration as YAML, each hyper-parameter with its documentation: a file for ``--config``."""
    return "\n".join(dump(name, value) for name, value in sections.items())


def run_training(out: Path, sections: Mapping[str, Any], *, resume: bool, say: Callable[[str], None] = print) -> None:
    """Train, or go on with a run that was ended.

    Args:
        out: Directory of the run.
        sections: From :func:`settle`.
        resume: Go on from the last checkpoint in ``out``, with the configuration that is there.
        say: Where the story goes.

    Raises:
        VRAGError: If something ends the run; the last checkpoint is whole.
    """
    import torch
    from tqdm import tqdm

    from vrag_agent.checkpoint import load_policy, read_settings
    from vrag_agent.commands import make_env
    from vrag_agent.distributed import distribute, finish, start
    from vrag_agent.grpo import GRPO
    from vrag_agent.ppo import PPO
    from vrag_agent.rollout import QuestionStream, collect
    from vrag_agent.run import Run, read_metrics
    from vrag_agent.tracking import make_tracker
    from vrag_agent.training_state import checkpoints

    parallel = start()
    if parallel.rank:
        say = _silent
    whole = checkpoints(out)
    parallel.sum(torch.zeros(1))  # nobody writes before all have looked
    if whole and not resume:
        raise VRAGError(f"{out} holds a run already: add --resume to go on with it, or choose another --out")
    if resume and not whole:
        raise VRAGError(f"there is no run to resume in {out}: it has no whole checkpoint")
    config = sections["run"]
    algorithm = sections[config.algorithm]
    if not config.model:
        raise VRAGError("which model? give --model, a checkpoint's directory or a name on the hub")
    torch.manual_seed(algorithm.seed)
    source = whole[-1] if resume else Path(config.model)
    # A checkpoint of the run holds the adapter already; another one would be put on top of it.
    policy = load_policy(
        source if resume else config.model,
        lora_rank=0 if resume else config.lora,
        freeze_vision=not config.train_vision,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    distribute(policy, parallel)
    options = {**read_settings(source).get("env", {}), **sections["environment"]}
    options.setdefault("box_frame", policy.family.box_frame)
    options.setdefault("pixel_multiple", policy.family.pixel_multiple)
    env = make_env(options)
    questions = QuestionStream(env, algorithm.seed, parallel)
    out.mkdir(parents=True, exist_ok=True)
    written = {**sections, "environment": {name: _plain(value) for name, value in options.items()}}
    play = _servers(config, out, parallel) if config.rollout_urls else collect
    trainer = (PPO if config.algorithm == "ppo" else GRPO)(policy, questions, algorithm, play=play, parallel=parallel)
    first = int(whole[-1].name) + 1 if resume else 1
    flat = {f"{config.algorithm}/{name}": str(value) for name, value in vars(algorithm).items()}
    tracker = make_tracker("none" if parallel.rank else config.track, out, flat, purge_step=first if resume else None)
    with tqdm(
        desc=config.algorithm.upper(),
        total=config.iterations,
        initial=first - 1,
        unit="iteration",
        disable=parallel.rank > 0,
    ) as bar:

        def progress(iteration: int, metrics: Mapping[str, float]) -> None:
            reward, right = metrics["rollout/ep_rew_mean"], metrics["rollout/success_rate"]
            bar.set_postfix_str(f"reward {reward:.2f} right {right:.2f}")
            bar.update()

        run = Run(
            out,
            config,
            trainer,
            questions,
            env_options={name: value for name, value in options.items() if name in LOOK},
            tracker=tracker,
            progress=progress,
        )
        if run.writes:
            write_yaml(out / CONFIG, written)
        if resume:
            run.resume(whole[-1])
            say(f"goes on after iteration {trainer.iteration} of {config.iterations}")
        else:
            run.start()
        run.learn()
    finish(parallel)
    history = read_metrics(out)
    if history and not parallel.rank:
        last = history[-1]
        say(f"reward {last['rollout/ep_rew_mean']:.3f}, right {last['rollout/success_rate']:.3f}; curve.png, rollouts/")
    say(f"{out / 'model'}: evaluate it with vrag eval --policy {out / 'model'} --out {out / 'eval'}")


def _silent(text: str) -> None:
    """What the processes after the first have to say."""


def _servers(config: RunConfig, out: Path, parallel: Parallel) -> Player:
    """The vLLM servers that play the episodes."""
    from vrag_agent.vllm_rollout import VLLMRollout
    from vrag_agent.vllm_server import VLLMServer

    urls = [url.strip() for url in config.rollout_urls.split(",") if url.strip()]
    directory = config.rollout_adapters or out / "adapters"
    return VLLMRollout([VLLMServer(url, config.model) for url in urls], directory, parallel=parallel)


def resumed(out: Path, algorithm: str, iterations: int | None) -> dict[str, Any]:
    """The configuration of a run that is there, with more iterations if they are asked for.

    Raises:
        ConfigError: If there is none, or it is of another algorithm.
    """
    if not (out / CONFIG).is_file():
        raise ConfigError(f"there is no run to resume in {out}: it has no {CONFIG}")
    return settle(
        algorithm,
        file=out / CONFIG,
        run={} if iterations is None else {"iterations": iterations},
        environment={},
    )


def _plain(value: Any) -> Any:
    """What YAML can hold."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def warn(message: Any, category: type[Warning], *_: Any) -> None:
    """Show a warning as one line, in the manner of the command's other messages."""
    print(f"vrag: warning: {message}", file=sys.stderr)
