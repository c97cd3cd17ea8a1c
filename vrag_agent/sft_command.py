"""What ``vrag train sft`` does: imitate demonstrations, from a directory or from the oracle, and survive a kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrag_agent.settings import make_config, read_yaml, write_yaml
from vrag_env.errors import VRAGError

if TYPE_CHECKING:
    from vrag_agent.policy import VLMPolicy
    from vrag_agent.trajectory import Trajectory

CONFIG, LOSSES = "config.yaml", "losses.json"


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """What ``vrag train sft`` saves with its run.

    Attributes:
        model: A model's name on the hub, a local model, or a checkpoint.
        demonstrations: A directory that "vrag collect" has written; empty lets the oracle play.
        oracle_episodes: Episodes of the oracle, where there is no directory.
        epochs: Passes over the demonstrations.
        learning_rate: Peak learning rate; falls along a half cosine after the warm-up.
        batch_size: Demonstrations per optimizer step.
        microbatch_size: Most demonstrations per forward pass.
        held_out: Share of the demonstrations that is not learnt, but measured at each checkpoint.
        max_tokens: Most tokens of one action, for those who play the model.
        lora: Rank of a new adapter; 0 trains the model itself.
        train_vision: Train the vision tower, too.
        gradient_checkpointing: Save memory in training for about a third more computing.
        save_every: Optimizer steps between checkpoints.
        seed: Of the order and of new weights.
    """

    model: str
    demonstrations: str = ""
    oracle_episodes: int = 256
    epochs: int = 3
    learning_rate: float = 1e-5
    batch_size: int = 16
    microbatch_size: int = 1
    held_out: float = 0.0
    max_tokens: int = 512
    lora: int = 0
    train_vision: bool = False
    gradient_checkpointing: bool = True
    save_every: int = 50
    seed: int = 0


def run_sft(
    out: Path,
    config: SFTConfig,
    environment: Mapping[str, Any],
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Imitate, or go on after a kill.

    Args:
        out: Directory of the run: ``config.yaml``, ``losses.json``, ``checkpoints/`` and, at the end, ``model/``.
        config: What is done.
        environment: Options of the environment that the oracle plays in.
        resume: Go on from the last checkpoint in ``out``.
        say: Where the story goes.

    Raises:
        VRAGError: If there is nothing to imitate or to resume, or a loss is not finite.
    """
    import torch
    from tqdm import tqdm

    from vrag_agent.checkpoint import load_policy, read_settings, save_checkpoint
    from vrag_agent.evaluate import write_json
    from vrag_agent.sft import SFT
    from vrag_agent.train_command import LOOK
    from vrag_agent.training_state import checkpoints, load_training, save_training, tidy

    whole = checkpoints(out)
    if whole and not resume:
        raise VRAGError(f"{out} holds a run already: add --resume to go on with it, or choose another --out")
    if resume and not whole:
        raise VRAGError(f"there is no run to resume in {out}: it has no whole checkpoint")
    torch.manual_seed(config.seed)
    source: str | Path = whole[-1] if resume else config.model
    policy = load_policy(
        source,
        lora_rank=0 if resume else config.lora,
        freeze_vision=not config.train_vision,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    options = {**read_settings(source).get("env", {}), **environment}
    options.setdefault("box_frame", policy.family.box_frame)
    options.setdefault("pixel_multiple", policy.family.pixel_multiple)
    look = {name: value for name, value in options.items() if name in LOOK}
    out.mkdir(parents=True, exist_ok=True)
    write_yaml(out / CONFIG, {"sft": config, "environment": options})
    written = _demonstrations(policy, config, options, tqdm)
    held = written[: round(config.held_out * len(written))]
    learnt = written[len(held) :]
    sft = SFT(
        policy,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        microbatch_size=config.microbatch_size,
        seed=config.seed,
    )
    losses: list[float] = []
    measured: list[tuple[int, float]] = []

    def save() -> None:
        if held:
            measured.append((len(losses), sft.evaluate(held)))
        target = out / "checkpoints" / f"{len(losses):06d}"
        target.parent.mkdir(exist_ok=True)
        state = {"trainer": sft.state(), "losses": losses, "measured": measured}
        if not target.exists():
            save_training(target, policy, sft.optimizers(), state, env_options=look, max_tokens=config.max_tokens)
        tidy(out, {target.name})
        write_json(out / LOSSES, {"training": losses, "held_out": measured})

    if resume:
        state = load_training(whole[-1], sft.optimizers())
        sft.load_state(state["trainer"])
        losses, measured = list(state["losses"]), [tuple(pair) for pair in state["measured"]]
        say(f"goes on after step {len(losses)}")
    else:
        save()
    total = config.epochs * -(-len(learnt) // config.batch_size)
    with tqdm(desc="SFT", total=total, initial=len(losses), unit="step") as bar:

        def after_step(step: int, loss: float) -> None:
            losses.append(loss)
            bar.set_postfix_str(f"loss {loss:.3f}")
            bar.update()
            if step % config.save_every == 0:
                save()

        try:
            if len(losses) < total:
                sft.learn(learnt, config.epochs, after_step)
        except (FloatingPointError, torch.OutOfMemoryError, MemoryError) as error:
            told = f"step {len(losses) + 1}: {error}\nthe last checkpoint is whole; go on with --resume"
            raise VRAGError(told) from error
    if held:
        measured.append((len(losses), sft.evaluate(held)))
        say(f"loss on {len(held)} held-out demonstrations: {measured[-1][1]:.4f} nats per token")
    write_json(out / LOSSES, {"training": losses, "held_out": measured})
    save_checkpoint(policy, out / "model", look, config.max_tokens)
    say(f"{out / 'model'}: go on with vrag train ppo --model {out / 'model'} --out ...")


def resumed_sft(out: Path) -> tuple[SFTConfig, dict[str, Any]]:
    """The configuration of a run that is there.

    Raises:
        ConfigError: If it can not be read.
    """
    stored = read_yaml(out / CONFIG)
    return make_config(SFTConfig, stored.get("sft") or {}), dict(stored.get("environment") or {})


def _demonstrations(
    policy: VLMPolicy, config: SFTConfig, options: Mapping[str, Any], bar_of: Any
) -> Sequence[Trajectory]:
    """What is imitated, the same after a kill."""
    from vrag_agent.commands import make_env
    from vrag_agent.demonstrations import DemonstrationStore
    from vrag_agent.experts import demonstrate, to_trajectory
    from vrag_agent.rollout import QuestionStream
    from vrag_env.players import OraclePlayer

    if config.demonstrations:
        if not Path(config.demonstrations).is_dir():
            raise VRAGError(f"there are no demonstrations in {config.demonstrations}: run vrag collect first")
        store = DemonstrationStore(config.demonstrations)
        kept = store.read()
        with bar_of(desc="demonstrations", total=len(kept), unit="episode") as bar:
            written = []
            for demonstration in kept:
                written.append(to_trajectory(demonstration, store, policy.family, policy.system))
                bar.update()
    else:
        env = make_env(options)
        shown = QuestionStream(env, config.seed)(config.oracle_episodes)
        with bar_of(desc="demonstrations", total=len(shown), unit="episode") as bar:
            written = demonstrate(OraclePlayer(), shown, policy, bar.update)
    if not written:
        raise VRAGError("there are no demonstrations to imitate")
    return written
