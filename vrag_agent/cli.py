"""The command line, ``vrag``: one function per command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vrag_agent import corpus_commands, episode_commands, train_commands
from vrag_agent.options import CorpusOption, RetrieverOption
from vrag_agent.train_commands import given, needs_agent
from vrag_env.errors import IngestError, RetrieverError, VRAGError

app = typer.Typer(
    name="vrag",
    help="Train and evaluate agents that answer questions over visually rich documents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(corpus_commands.app, name="corpus")
app.add_typer(train_commands.app, name="train")
app.add_typer(episode_commands.app)


def main() -> None:
    """Run the command line; bad input ends with a message and exit code 2, not with a traceback."""
    try:
        app()
    except VRAGError as error:
        print(f"vrag: {error}", file=sys.stderr)
        raise SystemExit(2) from error


@app.command()
def index(
    paths: Annotated[list[Path], typer.Argument(help="PDFs, page images, zip files, or directories of them.")],
    corpus: Annotated[Path, typer.Option(help="Directory of the corpus; made if it does not exist.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Also embed every page with this model: of colpali-engine (the page's image), such as 'colqwen2.5', "
            "or of sentence-transformers (its text), such as 'minilm'."
        ),
    ] = None,
    pool_factor: Annotated[
        int, typer.Option(min=1, help="Keep about one of so many vectors of each page (with --encoder); 1 keeps all.")
    ] = 1,
    pooled_vectors: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pooled vectors of each page by which a large corpus is searched first (with --encoder): more find "
            "more and take longer. Another number than before is made from the stored vectors, without the model.",
        ),
    ] = 32,
    first_stage: Annotated[
        str,
        typer.Option(
            help="'disk': also write an index of the pooled vectors (with --encoder), so that not even they have to be "
            "in memory; 'memory': remove it; 'auto': write it if they are over 512 MiB, about 130,000 pages."
        ),
    ] = "auto",
    long_side: Annotated[int, typer.Option(min=64, max=8192, help="Longer side of a stored page, in pixels.")] = 1792,
    ocr: Annotated[
        str,
        typer.Option(
            help="'auto': read the pages that have no text of their own with OCR, if it is installed "
            "(the extra 'ocr' of vrag-gym); 'always': read all pages with it; 'never'."
        ),
    ] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Reading processes. Default: one per core.")] = None,
) -> None:
    """Ingest documents into a corpus.

    Run it again after a kill, or when files have changed: what is there already is skipped. A file below a
    directory becomes the document named by its path relative to that directory. In a zip file each PDF is a
    document, and the images of a folder are one document, in the natural order of their names.

    Example: vrag index my_pdfs --corpus runs/my_corpus
    """
    from vrag_env.corpus import Corpus, ingest
    from vrag_env.corpus.ocr import OCR_MODES
    from vrag_env.retrieval import build_embeddings, load_encoder
    from vrag_env.retrieval.disk_stage import FIRST_STAGES

    if not any(path.exists() for path in paths):  # do not leave an empty corpus behind a mistyped path
        raise IngestError(f"nothing to ingest: {', '.join(map(str, paths))}: there is no such file or directory")
    if ocr not in OCR_MODES:
        raise IngestError(f"--ocr must be one of {', '.join(OCR_MODES)}, got {ocr!r}")
    if first_stage not in FIRST_STAGES:
        raise RetrieverError(f"--first-stage must be one of {', '.join(FIRST_STAGES)}, got {first_stage!r}")
    # A mistyped model, or one that can not be loaded, shows before hours of reading, and leaves no corpus behind.
    model = None if encoder is None else load_encoder(encoder)
    store = Corpus.create(corpus)
    report = ingest(paths, store, long_side=long_side, ocr=ocr, workers=workers)
    typer.echo(str(report))
    if model is not None:
        count = build_embeddings(
            store,
            model,
            pool_factor=pool_factor,
            pooled_vectors=pooled_vectors,
            first_stage=first_stage,
        )
        typer.echo(f"{count} pages embedded with {encoder}")
    if report.failures:
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    corpus: CorpusOption = None,
    retriever: RetrieverOption = "lexical",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many pages.")] = 10,
) -> None:
    """Search a corpus, without an agent.

    Example: vrag search "revenue by region" --corpus runs/my_corpus --retriever hybrid
    """
    from vrag_env.corpus import Corpus
    from vrag_env.corpus.generate import builtin_world
    from vrag_env.retrieval import LexicalRetriever, Retriever, make_retriever

    store = Corpus.open(corpus if corpus is not None else builtin_world() / "corpus")
    # Reading all words into memory does not pay for one query.
    one_off = retriever == "lexical"
    found: Retriever = LexicalRetriever(store, memory_pages=0) if one_off else make_retriever(retriever, store)
    [hits] = found.search([query], k)
    for rank, hit in enumerate(hits, start=1):
        text = " ".join(store.page(hit.page_id).text.split())
        typer.echo(f"{rank:>3}  {hit.score:>9.4f}  {hit.page_id}  {text[:80]}")
    if not hits:
        typer.echo("no page matches")


@app.command()
def serve(
    corpus: CorpusOption = None,
    retriever: RetrieverOption = "lexical",
    host: Annotated[
        str, typer.Option(help="Address to listen at. Other than this machine's own, only with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one and says which.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the bearer token. Default: the environment variable VRAG_SERVE_TOKEN."),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Queries searched at once, of all callers together.")] = 64,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, max=10_000, help="How long a request waits for others to share a batch.")
    ] = 2.0,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Waiting queries; beyond it callers get 429 and when to try again.")
    ] = 1024,
    max_k: Annotated[int, typer.Option(min=1, help="Most pages per query.")] = 1000,
    max_queries: Annotated[int, typer.Option(min=1, help="Most queries of one request.")] = 128,
    max_query_chars: Annotated[int, typer.Option(min=1, help="Most characters of one query.")] = 4096,
) -> None:
    """Serve a corpus and a retriever over HTTP, to many trainers and agents.

    Where an environment takes a retriever's name, give it the address instead: the episodes are the same, byte
    for byte. The environment opens the same corpus for its pages, and refuses a server of another one.

    Routes: POST /search, GET /pages/ID/image?box=x0,y0,x1,y1&max_pixels=N, GET /pages/ID, /health, /metrics, and
    GET /search?queries=a&queries=b in the form of VRAG-RL's released engine. Ends at Ctrl-C or SIGTERM.

    Example: vrag serve --corpus runs/my_corpus --port 8000

    Then: vrag eval --policy oracle --corpus runs/my_corpus --retriever http://127.0.0.1:8000 --out runs/oracle

    Or: curl -s localhost:8000/search -d '{"queries": ["revenue by region"], "k": 3}'
    """
    from vrag_agent.serve_command import serve as run
    from vrag_env.corpus.generate import builtin_world

    run(
        corpus=corpus if corpus is not None else builtin_world() / "corpus",
        retriever=retriever,
        host=host,
        port=port,
        token_file=token_file,
        limits={
            "max_queries": max_queries,
            "max_query_chars": max_query_chars,
            "max_k": max_k,
            "max_batch": max_batch,
            "max_wait_ms": max_wait_ms,
            "max_queue": max_queue,
        },
        say=typer.echo,
    )


@app.command(name="import")
def import_(
    dataset: Annotated[str, typer.Argument(help="'slidevqa', 'vidoseek' or 'mmlongbench'.")],
    directory: Annotated[Path, typer.Option("--from", help="Directory of the original download, unpacked.")],
    out: Annotated[Path, typer.Option(help="Directory of the corpus; made if it does not exist.")],
    subset: Annotated[str | None, typer.Option(help="'vrag': the questions that VRAG-RL evaluates on.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split, such as 'test'.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions, and their documents.")] = None,
    scope: Annotated[
        str, typer.Option(help="'corpus': search in all documents; 'document': only in that of the question.")
    ] = "corpus",
    questions: Annotated[
        Path | None, typer.Option(help="The annotation file, where it is not the only one, or is elsewhere.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch it from its hub into --from first; shows the licence.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence without being asked.")] = False,
    ocr: Annotated[str, typer.Option(help="'never', 'auto' (pages without text) or 'always'.")] = "never",
    long_side: Annotated[int, typer.Option(min=64, max=8192, help="Longer side of a stored page, in pixels.")] = 1792,
    workers: Annotated[int | None, typer.Option(min=1, help="Reading processes. Default: one per core.")] = None,
) -> None:
    """Read SlideVQA, ViDoSeek or MMLongBench-Doc from its original download into a corpus.

    questions.json and report.json go into the corpus's directory. Import all three into one directory to get
    one pooled corpus, as in the paper. What is wrong with a label or a file is counted and named.

    Example: vrag import mmlongbench --from downloads/MMLongBench-Doc --subset vrag --out runs/bench

    Then: vrag eval --policy oracle --corpus runs/bench --questions runs/bench/questions.json --out runs/oracle
    """
    from vrag_agent.import_command import run_import

    run_import(
        dataset,
        directory,
        out,
        download=download,
        accept=yes,
        subset=subset,
        split=split,
        limit=limit,
        scope=scope,
        questions=questions,
        long_side=long_side,
        ocr=ocr,
        workers=workers,
        say=typer.echo,
        ask=typer.confirm,
    )


@app.command()
def generate(
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory of the world; made if it does not exist.")],
    questions: Annotated[int, typer.Option(help="How many questions, exactly.")] = 500,
    seed: Annotated[int, typer.Option(help="Any whole number: another one gives other documents.")] = 0,
    pages: Annotated[
        int | None, typer.Option(help="At least so many pages, 10 to 100000. Default: what the questions need.")
    ] = None,
    distractors: Annotated[
        int, typer.Option(help="Other documents, 0 to 11, that differ from a document in its edition and numbers only.")
    ] = 3,
    font_size: Annotated[
        float,
        typer.Option(help="Points, 3 to 12, of the print with the answers. A page is shown at about 1 pixel each."),
    ] = 5.0,
    language: Annotated[str, typer.Option(help="'en', 'zh' (needs a Chinese font) or 'mixed'.")] = "en",
    kinds: Annotated[
        str | None,
        typer.Option(help="Kinds of page, such as 'bars,table,plan'; docs/worlds.md has them. Default: all."),
    ] = None,
    multi_hop_share: Annotated[float, typer.Option(help="Share of questions over two pages, 0 to 0.6.")] = 0.3,
    unanswerable_share: Annotated[float, typer.Option(help="Share of questions without an answer, 0 to 0.5.")] = 0.1,
    test_share: Annotated[float, typer.Option(help="Share of the documents kept for testing.")] = 0.25,
    held_out_share: Annotated[
        float, typer.Option(help="Share of the kinds of page, 0 to 0.5, kept for the split 'test_templates'.")
    ] = 0.2,
    injection_share: Annotated[
        float, typer.Option(help="Share of the pages that print an order to answer something else, 0 to 1.")
    ] = 0.0,
    index: Annotated[bool, typer.Option(help="Also ingest the documents into OUT/corpus.")] = True,
    long_side: Annotated[int, typer.Option(min=64, max=8192, help="Longer side of a stored page, in pixels.")] = 1792,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
) -> None:
    """Generate a world: slide decks and reports as PDFs, questions about them, and their corpus.

    Equal options write equal documents and questions, on any number of cores. Run it again after a kill: what is
    there is kept. The options are the dials of gym.make("VRAG-v0", world={...}), too.

    Example: vrag generate --questions 10000 --seed 7 --out runs/world

    Then: vrag eval --policy oracle --corpus runs/world/corpus --questions runs/world/questions.json --out runs/oracle
    """
    from vrag_agent.generate_command import run_generate

    dials = given(
        seed=seed,
        questions=questions,
        pages=pages,
        distractors=distractors,
        font_size=font_size,
        language=language,
        kinds=tuple(kind.strip() for kind in kinds.split(",")) if kinds is not None else None,
        multi_hop_share=multi_hop_share,
        unanswerable_share=unanswerable_share,
        test_share=test_share,
        held_out_share=held_out_share,
        injection_share=injection_share,
    )
    run_generate(dials, out, index=index, long_side=long_side, workers=workers, say=typer.echo)


@app.command()
def runs(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Runs, or directories that hold some. Default: runs.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw their curves together into this PNG file.")
    ] = None,
) -> None:
    """List training runs with their headline numbers, the best last, and compare them as a plot.

    Example: vrag runs runs/first runs/second --plot compare.png
    """
    needs_agent()
    from vrag_agent.runs_command import run_runs

    run_runs(paths or [Path("runs")], plot, say=typer.echo)


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
    needs_agent()
    import torch

    from vrag_agent.demo import QUICK, Scale, run

    # One thread: with so small a model more threads wait for each other longer than they compute.
    torch.set_num_threads(1)
    run(out, seed, QUICK if quick else Scale(), say=typer.echo)


if __name__ == "__main__":
    main()
