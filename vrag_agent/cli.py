"""The command line, ``vrag``: one function per command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vrag_agent import corpus_commands, train_commands
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

CorpusOption = Annotated[
    Path | None,
    typer.Option(help="Directory of a corpus, made by 'vrag index'. Default: the built-in world."),
]
QuestionsOption = Annotated[
    Path | None,
    typer.Option(help="Questions in the common JSON of VRAG-RL. Default: those of the built-in world."),
]
RetrieverOption = Annotated[
    str,
    typer.Option(
        help="'lexical' (BM25); a model by which the corpus was embedded, such as 'colqwen2.5' or 'minilm'; 'hybrid' "
        "(lexical and that model), or with weights 'hybrid:lexical+colqwen2.5*0.7'; or the http:// address of a "
        "'vrag serve'."
    ),
]


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
def play(
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    question: Annotated[str | None, typer.Option(help="Id of the question. Default: one drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the question.")] = 0,
    split: Annotated[str | None, typer.Option(help="Only the questions of this split.")] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns before the last one. Default: 4.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write the pictures here. Default: in the terminal, or files.")
    ] = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the episode as a web page here.")] = None,
) -> None:
    """Play an episode yourself: search, cut out, answer, and see what it earns.

    Example: vrag play --seed 3 --out replay.html
    """
    from vrag_agent.play_command import run_play

    run_play(
        given(corpus=corpus, questions=questions, retriever=retriever, split=split, max_turns=max_turns),
        question=question,
        seed=seed,
        pictures=pictures,
        out=out,
    )


@app.command()
def replay(
    runs: Annotated[
        list[Path], typer.Argument(help="Directories of evaluations, or episodes.jsonl files. Two can be compared.")
    ],
    out: Annotated[
        Path, typer.Option(help="A directory: a list with filters and a page per episode. Or one .html file.")
    ],
    corpus: CorpusOption = None,
    question: Annotated[str | None, typer.Option(help="Only the question with this id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first episodes of each run.")] = None,
) -> None:
    """Turn recorded episodes into web pages that open anywhere, without a server.

    Example: vrag replay runs/oracle --out runs/oracle/pages

    Two policies on one question: vrag replay runs/a runs/b --question ID --out compare.html
    """
    from vrag_agent.replay_command import run_replay

    run_replay(runs, corpus=corpus, out=out, question=question, limit=limit, say=typer.echo)


@app.command(name="app")
def app_(
    agent: Annotated[
        list[str] | None,
        typer.Option(
            help="Who can play: 'oracle', 'random', 'retrieve_then_answer', a checkpoint's directory, a model's name, "
            "or 'api:MODEL@URL' for a server with OpenAI's protocol. Give it several times for several. "
            "Default: the three scripted ones."
        ),
    ] = None,
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    runs: Annotated[
        Path, typer.Option(help="Directory of recorded runs; what 'vrag eval' writes below it can be looked through.")
    ] = Path("runs"),
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns before the last one. Default: 4.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at. Other than this machine's own, only with VRAG_APP_PASSWORD.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one and says which.")] = 7860,
) -> None:
    """Open a web page: ask an agent and watch it, take over, search, add your PDFs, look through runs.

    Example: vrag app

    Example: vrag app --agent api:Qwen/Qwen2.5-VL-7B-Instruct@http://localhost:8001/v1 --corpus runs/my_corpus
    """
    from vrag_agent.app_command import run_app

    run_app(
        env_options=given(corpus=corpus, questions=questions, retriever=retriever, max_turns=max_turns),
        agents=agent or ["oracle", "retrieve_then_answer", "random"],
        runs=runs,
        host=host,
        port=port,
        say=typer.echo,
    )


@app.command(name="eval")
def evaluate(
    policy: Annotated[
        list[str],
        typer.Option(
            help="'oracle', 'random', 'retrieve_then_answer', a checkpoint's directory, or a model's name; may be "
            "repeated."
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory of the results. A killed run goes on here.")],
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    method: Annotated[
        str,
        typer.Option(
            help="How a model is asked: 'native' (as it was trained here), 'vanilla_rag', 'react', 'search_r1', "
            "'vrag', 'vidorag', 'evidence_first'."
        ),
    ] = "native",
    pages: Annotated[str, typer.Option(help="How a model is shown pages: 'image' or 'text'.")] = "image",
    top_k: Annotated[int | None, typer.Option(min=1, help="Pages per search of methods that choose it.")] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Ask models behind this OpenAI-compatible server, such as http://localhost:8000/v1; its key comes "
            "from VRAG_POLICY_API_KEY."
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="'rule', 'exact_match', 'token_f1', 'api:MODEL@URL' or 'local:NAME'; may be repeated: the first one "
            "decides about accuracy, and their agreement is reported. Default: 'rule'."
        ),
    ] = None,
    reward: Annotated[str, typer.Option(help="Preset: 'paper', 'released' or 'outcome'.")] = "paper",
    split: Annotated[str | None, typer.Option(help="Only the questions of this split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns before the last one. Default: 4.")] = None,
    min_pixels: Annotated[int | None, typer.Option(min=1, help="Fewest pixels of a shown image.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Most pixels of a shown image.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of one action. Default: 512.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; 0 takes the likeliest reply.")] = 0.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Episodes played at the same time.")] = 32,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Of sampling, of random play and of noise; may be repeated. Default: 0."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what an earlier run has left in --out.")] = False,
) -> None:
    """Play all questions and write the numbers: overall, by type of question, with intervals.

    Every episode is kept as soon as it has ended: after a kill the same command goes on. Raise --limit, add a
    --seed or a --judge, and only what is missing is done. A checkpoint is shown images of the size that it was
    trained with unless told otherwise.

    Example: vrag eval --policy oracle --corpus runs/my_corpus --questions my_questions.json --out runs/oracle

    Example: vrag eval --policy Qwen/Qwen2.5-VL-7B-Instruct --server http://localhost:8000/v1 --method vrag
    --judge rule --judge api:qwen-max@https://example.org/v1 --out runs/qwen
    """
    from vrag_agent.eval_command import run_evaluation

    run_evaluation(
        policy=policy,
        out=out,
        env_options=given(
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
        seed=seed or [0],
        method=method,
        pages=pages,
        top_k=top_k,
        server=server,
        temperature=temperature,
        judges=judge or ["rule"],
        fresh=fresh,
    )


@app.command()
def judge(
    episodes: Annotated[Path, typer.Argument(help="episodes.jsonl of 'vrag eval', or the directory that holds it.")],
    judge: Annotated[
        str,
        typer.Option(
            help="'rule', 'exact_match', 'token_f1', 'api:MODEL@URL' (any OpenAI-compatible server; key in "
            "VRAG_JUDGE_API_KEY) or 'local:NAME' (a transformers model)."
        ),
    ],
    against: Annotated[
        str, typer.Option(help="The judge to compare with; 'recorded': the scores in the file.")
    ] = "recorded",
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write counts and all scores here, as JSON.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first episodes.")] = None,
) -> None:
    """Judge recorded episodes again, and say how far two judges agree: counts, agreement, Cohen's kappa.

    No episode is played again and no reward is changed. Verdicts of an 'api:' judge are kept on disk, so that a
    command that was stopped goes on where it was, and a second one costs nothing.

    Example: vrag judge runs/first/eval --judge api:qwen-max@https://example.org/v1

    Without a model: vrag judge runs/first/eval --judge exact_match --against token_f1 --out agreement.json
    """
    from vrag_agent.judge_command import run_judge

    run_judge(episodes, judge, against=against, out=out, limit=limit, say=typer.echo)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Directory of a run of 'vrag eval'.")],
    second: Annotated[Path, typer.Argument(help="Directory of another one, on the same questions.")],
    judge: Annotated[str | None, typer.Option(help="Whose verdicts. Default: the first judge of both.")] = None,
) -> None:
    """Compare two policies on the same questions: paired differences with intervals, and McNemar's test.

    Example: vrag compare runs/before runs/after
    """
    from vrag_agent.eval_command import run_comparison

    run_comparison(first, second, judge)


@app.command()
def collect(
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory of the demonstrations.")],
    expert: Annotated[
        str,
        typer.Option(help="Who plays: 'oracle' or another scripted player, or a model behind a server: api:MODEL@URL."),
    ] = "oracle",
    grounder: Annotated[
        str | None, typer.Option(help="A second model, api:MODEL@URL, that gives the boxes, as in VRAG-RL.")
    ] = None,
    frame: Annotated[
        str, typer.Option(help="Frame of the expert's boxes: 'pixel' (Qwen2.5-VL) or '1000' (Qwen3-VL).")
    ] = "pixel",
    grounder_frame: Annotated[str, typer.Option(help="The same of the grounder.")] = "pixel",
    box_frame: Annotated[str | None, typer.Option(help="Frame in which the boxes are kept: the student's.")] = None,
    pixel_multiple: Annotated[
        int | None, typer.Option(min=1, help="Side of one visual token of the student. Default: 28.")
    ] = None,
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    retriever: RetrieverOption = "lexical",
    reward: Annotated[str, typer.Option(help="Preset: 'paper', 'released' or 'outcome'.")] = "paper",
    judge: Annotated[
        str | None, typer.Option(help="Who says which answers are right: 'rule', 'api:MODEL@URL' or 'local:NAME'.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only the questions of this split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
    attempts: Annotated[
        int, typer.Option(min=1, help="Tries per question; the first that is right and valid is kept.")
    ] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="Of the expert; above 0 for more than one try.")] = 0.0,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Keep so many, balanced over turns, searches and crops. Default: all.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes that wait for the server at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one request.")] = 120.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one turn.")] = 1024,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns before the last one. Default: 4.")] = None,
    min_pixels: Annotated[int | None, typer.Option(min=1, help="Fewest pixels of a shown image.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Most pixels of a shown image.")] = None,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Prices of a million tokens read and of a million written, to show what it costs."),
    ] = None,
    leak: Annotated[
        bool,
        typer.Option("--leak", help="Show right pages first and ask for crops, as VRAG-RL's pipeline: to compare."),
    ] = False,
    released: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write VRAG-RL's search_sft.json here.")
    ] = None,
    from_released: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Play nothing: read this search_sft.json.")
    ] = None,
    released_images: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where its images are. Default: beside it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the expert and the retrieval noise.")] = 0,
) -> None:
    """Collect demonstrations to imitate: an expert plays, and what is right and valid is kept.

    Every episode is on disk as soon as it has ended: after a kill, run the same command again. The result is
    demonstrations.parquet and images/, for 'vrag train sft'. Keys are read from VRAG_TEACHER_API_KEY and
    VRAG_GROUNDER_API_KEY. The expert sees nothing of a question but its text, unless --leak is given.

    Example: vrag collect --expert api:qwen-vl-max@https://host/v1 --attempts 3 --temperature 0.7 --out runs/demos

    With a grounder: vrag collect --expert api:BIG@http://a:8000/v1 --grounder api:VL@http://b:8000/v1 --out runs/two
    """
    from vrag_agent.collect_command import run_collect, run_import_released

    if from_released is not None:
        run_import_released(from_released, out, released_images, typer.echo)
        return
    run_collect(
        out,
        given(
            corpus=corpus,
            questions=questions,
            retriever=retriever,
            reward=reward,
            judge=judge,
            split=split,
            max_turns=max_turns,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            box_frame=box_frame,
            pixel_multiple=pixel_multiple,
        ),
        expert=expert,
        grounder=grounder,
        frame=frame,
        grounder_frame=grounder_frame,
        leak=leak,
        attempts=attempts,
        temperature=temperature,
        keep=keep,
        limit=limit,
        concurrency=concurrency,
        timeout=timeout,
        max_tokens=max_tokens,
        prices=price,
        released=released,
        seed=seed,
        say=typer.echo,
    )


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
