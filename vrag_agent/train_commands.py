"""``vrag train``: the options of its commands; what they do is in :mod:`vrag_agent.train_command`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vrag_agent.options import CorpusOption, QuestionsOption
from vrag_env.errors import VRAGError, missing_extra


class _PPOByDefault(TyperGroup):
    """``vrag train --model M`` is ``vrag train ppo --model M``: PPO is the default algorithm."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["ppo", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PPOByDefault,
    help="Train a vision-language model: by imitation (sft), and by multi-turn PPO or GRPO.",
    no_args_is_help=True,
)

ModelOption = Annotated[
    str | None, typer.Option(help="A checkpoint's directory, or a model such as 'Qwen/Qwen2.5-VL-3B-Instruct'.")
]
OutOption = Annotated[Path | None, typer.Option(file_okay=False, help="Directory of the run.")]
RetrieverName = Annotated[str | None, typer.Option(help="As for 'vrag eval'. Default: 'lexical'.")]
RewardOption = Annotated[str | None, typer.Option(help="Preset: 'paper', 'released' or 'outcome'. Default: 'paper'.")]
SplitOption = Annotated[str | None, typer.Option(help="Only the questions of this split.")]
TurnsOption = Annotated[int | None, typer.Option(min=1, help="Turns before the last one. Default: 4.")]
MinPixels = Annotated[int | None, typer.Option(min=1, help="Fewest pixels of a shown image.")]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Most pixels of a shown image.")]
Lora = Annotated[int | None, typer.Option(min=0, help="Rank of a LoRA adapter; 0 trains all weights. Default: 0.")]
Vision = Annotated[bool | None, typer.Option(help="Train the vision tower, too. Default: no.")]
Recompute = Annotated[
    bool | None, typer.Option(help="Save memory, at a third more computing. Default: gradient checkpointing.")
]


def _command(algorithm: str, extra: str) -> Callable[..., None]:
    """Make the command of an algorithm; both have the same options."""

    def command(
        model: ModelOption = None,
        out: OutOption = None,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on with the run in --out after a kill, or with more --iterations.")
        ] = False,
        preset: Annotated[
            str | None, typer.Option(help="Hyper-parameters by name: 'ppo', 'grpo', or 'vrag_paper' (with grpo).")
        ] = None,
        config: Annotated[
            Path | None, typer.Option(exists=True, dir_okay=False, help="YAML, such as --show-config prints.")
        ] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter; as often as wanted."),
        ] = None,
        show_config: Annotated[
            bool, typer.Option("--show-config", help="Print all hyper-parameters with what they mean, and end.")
        ] = False,
        iterations: Annotated[int | None, typer.Option(min=0, help="Iterations in all. Default: 100.")] = None,
        corpus: CorpusOption = None,
        questions: QuestionsOption = None,
        retriever: RetrieverName = None,
        reward: RewardOption = None,
        split: SplitOption = None,
        max_turns: TurnsOption = None,
        min_pixels: MinPixels = None,
        max_pixels: MaxPixels = None,
        lora: Lora = None,
        train_vision: Vision = None,
        gradient_checkpointing: Recompute = None,
        save_every: Annotated[
            int | None, typer.Option(min=1, help="Iterations between checkpoints. Default: 10.")
        ] = None,
        dump_every: Annotated[
            int | None, typer.Option(min=0, help="Iterations between dumps of episodes; 0: none. Default: 10.")
        ] = None,
        track: Annotated[
            str | None, typer.Option(help="'tensorboard' (default), 'trackio', 'wandb' or 'none'.")
        ] = None,
        rollout_urls: Annotated[
            str | None,
            typer.Option(help="vLLM servers that play the episodes, with commas between. Default: played here."),
        ] = None,
    ) -> None:
        needs_agent()
        from vrag_agent.train_command import resumed, run_training, settle, show, warn

        warnings.showwarning = warn  # type: ignore[assignment]  # leaves out where it came from
        run = given(
            model=model,
            iterations=iterations,
            lora=lora,
            train_vision=train_vision,
            gradient_checkpointing=gradient_checkpointing,
            save_every=save_every,
            dump_every=dump_every,
            track=track,
            rollout_urls=rollout_urls,
        )
        environment = given(
            corpus=None if corpus is None else str(corpus),
            questions=None if questions is None else str(questions),
            retriever=retriever,
            reward=reward,
            split=split,
            max_turns=max_turns,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )
        if resume:
            if set(run) - {"iterations"} or environment or set_ or preset or config:
                raise VRAGError("a resumed run keeps its configuration: --resume goes with --out and --iterations only")
            if out is None:
                raise VRAGError("which run? give its --out")
            run_training(out, resumed(out, algorithm, iterations), resume=True, say=typer.echo)
            return
        sections = settle(algorithm, preset=preset, file=config, pairs=set_ or (), run=run, environment=environment)
        if show_config:
            typer.echo(show(sections))
            return
        if out is None:
            raise VRAGError("where to? give --out, the directory of the run")
        run_training(out, sections, resume=False, say=typer.echo)

    command.__doc__ = extra
    return command


_KILLS = """Writes config.yaml, metrics.jsonl, curve.png, rollouts/, TensorBoard files and checkpoints into --out,
    and at the end a plain Hugging Face folder, model/. After a kill, go on with nothing but --out and --resume."""

app.command("ppo")(
    _command(
        "ppo",
        f"""Train by multi-turn PPO with a critic.

    {_KILLS}

    Example: vrag train ppo --model Qwen/Qwen2.5-VL-3B-Instruct --lora 32 --set learning_rate=2e-5 --out runs/first

    All hyper-parameters: vrag train ppo --show-config
    """,
    )
)
app.command("grpo")(
    _command(
        "grpo",
        f"""Train by multi-turn GRPO: groups of episodes of one question, no critic.

    {_KILLS}

    Example: vrag train grpo --model Qwen/Qwen2.5-VL-7B-Instruct --preset vrag_paper --out runs/paper

    All hyper-parameters: vrag train grpo --show-config
    """,
    )
)


@app.command("sft")
def sft(
    model: ModelOption = None,
    out: OutOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out after a kill.")] = False,
    demonstrations: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="What 'vrag collect' has written. Default: the oracle."),
    ] = None,
    oracle_episodes: Annotated[
        int | None, typer.Option(min=1, help="Episodes of the oracle, without --demonstrations. Default: 256.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over them. Default: 3.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate. Default: 1e-5.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Demonstrations per step. Default: 16.")] = None,
    microbatch_size: Annotated[int | None, typer.Option(min=1, help="Most per forward pass. Default: 1.")] = None,
    held_out: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share that is only measured. Default: 0.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of one action, for those who play the model. Default: 512.")
    ] = None,
    save_every: Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints. Default: 50.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the order and of new weights. Default: 0.")] = None,
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverName = None,
    split: SplitOption = None,
    max_turns: TurnsOption = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    lora: Lora = None,
    train_vision: Vision = None,
    gradient_checkpointing: Recompute = None,
) -> None:
    """Imitate demonstrations, the cold start before PPO or GRPO.

    Writes config.yaml, losses.json and checkpoints into --out, and at the end a plain Hugging Face folder, model/.

    Example: vrag train sft --model Qwen/Qwen2.5-VL-3B-Instruct --lora 32 --learning-rate 1e-4 --out runs/start

    Then: vrag train ppo --model runs/start/model --set learning_rate=2e-5 --out runs/first
    """
    needs_agent()
    from vrag_agent.sft_command import SFTConfig, resumed_sft, run_sft

    chosen = given(
        model=model,
        demonstrations=None if demonstrations is None else str(demonstrations),
        oracle_episodes=oracle_episodes,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        microbatch_size=microbatch_size,
        held_out=held_out,
        max_tokens=max_tokens,
        save_every=save_every,
        seed=seed,
        lora=lora,
        train_vision=train_vision,
        gradient_checkpointing=gradient_checkpointing,
    )
    environment = given(
        corpus=None if corpus is None else str(corpus),
        questions=None if questions is None else str(questions),
        retriever=retriever,
        split=split,
        max_turns=max_turns,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
    if out is None:
        raise VRAGError("where to? give --out, the directory of the run")
    if resume:
        if chosen or environment:
            raise VRAGError("a resumed run keeps its configuration: --resume goes with --out only")
        config, environment = resumed_sft(out)
        run_sft(out, config, environment, resume=True, say=typer.echo)
        return
    if model is None:
        raise VRAGError("which model? give --model, a checkpoint's directory or a name on the hub")
    run_sft(out, SFTConfig(**chosen), environment, say=typer.echo)


def needs_agent() -> None:
    """Fail early, and by name, where the extra for training is missing."""
    from importlib.util import find_spec

    for package in ("torch", "transformers", "safetensors", "peft", "matplotlib", "yaml"):
        if find_spec(package) is None:
            raise missing_extra(package, "agent")


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
