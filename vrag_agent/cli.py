"""The command line: ``vrag index``, ``vrag search``, ``vrag eval``, ``vrag train``, ``vrag demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vrag_env.errors import IngestError, VRAGError, missing_extra

app = typer.Typer(
    name="vrag",
    help="Train and evaluate agents that answer questions over visually rich documents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CorpusOption = Annotated[
    Path | None,
    typer.Option(help="Directory of a corpus, made by 'vrag index'. Default: the built-in world."),
]
QuestionsOption = Annotated[
    Path | None,
    typer.Option(help="Questions in the common JSON of VRAG-RL. Default: those of the built-in world."),
]
RetrieverOption = Annotated[str, typer.Option(help="'lexical' (BM25), or a colpali-engine model such as 'colqwen2.5'.")]


def main() -> None:
    """Run the command line; bad input ends with a message and exit code 2, not with a traceback."""
    try:
        app()
    except VRAGError as error:
        print(f"vrag: {error}", file=sys.stderr)
        raise SystemExit(2) from error


@app.command()
def index(
    paths: Annotated[list[Path], typer.Argument(help="PDFs, page images, or directories of them.")],
    corpus: Annotated[Path, typer.Option(help="Directory of the corpus; made if it does not exist.")],
    encoder: Annotated[
        str | None,
        typer.Option(help="Also embed every page with this colpali-engine model, such as 'colqwen2.5'."),
    ] = None,
    long_side: Annotated[int, typer.Option(min=64, max=8192, help="Longer side of a stored page, in pixels.")] = 1792,
    workers: Annotated[int | None, typer.Option(min=1, help="Reading processes. Default: one per core.")] = None,
) -> None:
    """Ingest documents into a corpus.

    Run it again after a kill, or when files have changed: what is there already is skipped. A file below a
    directory becomes the document named by its path relative to that directory.

    Example: vrag index my_pdfs --corpus runs/my_corpus
    """
    from vrag_env.corpus import Corpus, ingest

    if not any(path.exists() for path in paths):  # do not leave an empty corpus behind a mistyped path
        raise IngestError(f"nothing to ingest: {', '.join(map(str, paths))}: there is no such file or directory")
    store = Corpus.create(corpus)
    report = ingest(paths, store, long_side=long_side, workers=workers)
    typer.echo(str(report))
    if encoder is not None:
        from vrag_env.retrieval import LateInteractionEncoder, build_embeddings

        count = build_embeddings(store, LateInteractionEncoder.load(encoder))
        typer.echo(f"{count} pages embedded with {encoder}")
    if report.failures:
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    corpus: CorpusOption = None,
    retriever: RetrieverOption = "lexical",
    k: Annotated[int, typer.Option(min=1, help="How many pages.")] = 10,
) -> None:
    """Search a corpus, without an agent.

    Example: vrag search "revenue by region" --corpus runs/my_corpus
    """
    from vrag_env.corpus import Corpus
    from vrag_env.corpus.generate import builtin_world
    from vrag_env.retrieval import make_retriever

    store = Corpus.open(corpus if corpus is not None else builtin_world() / "corpus")
    [hits] = make_retriever(retriever, store).search([query], k)
    for rank, hit in enumerate(hits, start=1):
        text = " ".join(store.page(hit.page_id).text.split())
        typer.echo(f"{rank:>3}  {hit.score:>9.3f}  {hit.page_id}  {text[:80]}")
    if not hits:
        typer.echo("no page matches")


@app.command(name="eval")
def evaluate(
    policy: Annotated[
        str,
        typer.Option(help="'oracle', 'random', 'retrieve_then_answer', a checkpoint's directory, or a model's name."),
    ],
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Directory for summary.json, episodes.jsonl, replay.html.")
    ],
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    reward: Annotated[str, typer.Option(help="Preset: 'paper', 'released' or 'outcome'.")] = "paper",
    split: Annotated[str | None, typer.Option(help="Only the questions of this split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns before the last one. Default: 4.")] = None,
    min_pixels: Annotated[int | None, typer.Option(min=1, help="Fewest pixels of a shown image.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Most pixels of a shown image.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of one action. Default: 512.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Episodes played at the same time.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the random player.")] = 0,
) -> None:
    """Play all questions with one policy and write the metrics.

    A checkpoint is shown images of the size that it was trained with unless told otherwise.

    Example: vrag eval --policy oracle --corpus runs/my_corpus --questions my_questions.json --out runs/oracle
    """
    from vrag_agent.commands import run_evaluation

    run_evaluation(
        policy=policy,
        out=out,
        env_options=_given(
            corpus=corpus,
            questions=questions,
            retriever=retriever,
            reward=reward,
            split=split,
            max_turns=max_turns,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        ),
        limit=limit,
        max_tokens=max_tokens,
        batch_size=batch_size,
        seed=seed,
    )


@app.command()
def train(
    model: Annotated[
        str, typer.Option(help="A checkpoint's directory, or a model such as 'Qwen/Qwen2.5-VL-3B-Instruct'.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory of the run.")],
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    reward: Annotated[str, typer.Option(help="Preset: 'paper', 'released' or 'outcome'.")] = "paper",
    split: Annotated[str | None, typer.Option(help="Only the questions of this split.")] = None,
    demonstrations: Annotated[
        int, typer.Option(min=0, help="Oracle episodes to imitate first; 0 goes straight to PPO.")
    ] = 0,
    iterations: Annotated[int, typer.Option(min=0, help="Iterations of PPO.")] = 100,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes per iteration.")] = 64,
    minibatch: Annotated[int, typer.Option(min=1, help="Episodes per optimizer step.")] = 32,
    microbatch: Annotated[int, typer.Option(min=1, help="Episodes per forward pass; lower it to save memory.")] = 1,
    rollout_batch: Annotated[int, typer.Option(min=1, help="Episodes played at the same time.")] = 16,
    lora: Annotated[int, typer.Option(min=0, help="Rank of a LoRA adapter; 0 trains all weights.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Of the policy. For LoRA, 2e-5 is a start.")] = 1e-6,
    sft_learning_rate: Annotated[float, typer.Option(help="Of the imitation.")] = 1e-5,
    kl_coef: Annotated[float, typer.Option(help="Weight of the KL to the policy before PPO.")] = 0.001,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns before the last one. Default: 4.")] = None,
    min_pixels: Annotated[int | None, typer.Option(min=1, help="Fewest pixels of a shown image.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Most pixels of a shown image.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one action.")] = 512,
    train_vision: Annotated[bool, typer.Option(help="Train the vision tower, too.")] = False,
    gradient_checkpointing: Annotated[bool, typer.Option(help="Save memory, at a third more computing.")] = True,
    save_every: Annotated[int, typer.Option(min=1, help="Iterations between checkpoints.")] = 10,
    seed: Annotated[int, typer.Option(help="Of sampling, of the order and of new weights.")] = 0,
) -> None:
    """Train a vision-language model by multi-turn PPO, after imitation if demonstrations are asked for.

    Example: vrag train --model Qwen/Qwen2.5-VL-3B-Instruct --lora 32 --learning-rate 2e-5 --out runs/first
    """
    _needs_agent()
    from vrag_agent.commands import run_training

    run_training(
        model=model,
        out=out,
        env_options=_given(
            corpus=corpus,
            questions=questions,
            retriever=retriever,
            reward=reward,
            split=split,
            max_turns=max_turns,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        ),
        demonstrations=demonstrations,
        iterations=iterations,
        episodes=episodes,
        minibatch=minibatch,
        microbatch=microbatch,
        rollout_batch=rollout_batch,
        lora=lora,
        learning_rate=learning_rate,
        sft_learning_rate=sft_learning_rate,
        kl_coef=kl_coef,
        max_tokens=max_tokens,
        train_vision=train_vision,
        gradient_checkpointing=gradient_checkpointing,
        save_every=save_every,
        seed=seed,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory for everything that the demo writes.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Of documents, weights and sampling.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Under three minutes, too short to learn well.")] = False,
) -> None:
    """Watch an agent learn to search, zoom and answer: at most ten minutes on two cores, no download.

    Generates documents, ingests them, trains a tiny Qwen2.5-VL by SFT and PPO, evaluates it on held-out
    documents, and writes summary.json, curve.png, replay.html and a checkpoint.
    """
    _needs_agent()
    import torch

    from vrag_agent.demo import QUICK, Scale, run

    # One thread: with so small a model more threads wait for each other longer than they compute.
    torch.set_num_threads(1)
    run(out, seed, QUICK if quick else Scale(), say=typer.echo)


def _needs_agent() -> None:
    """Fail early, and by name, where the extra for training is missing."""
    from importlib.util import find_spec

    for package in ("torch", "transformers", "safetensors", "peft", "matplotlib"):
        if find_spec(package) is None:
            raise missing_extra(package, "agent")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


if __name__ == "__main__":
    main()
