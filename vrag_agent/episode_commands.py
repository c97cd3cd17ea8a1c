"""The commands that play episodes and look at them: play, app, replay, eval, judge, compare, collect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vrag_agent.options import CorpusOption, QuestionsOption, RetrieverOption
from vrag_agent.train_commands import given

app = typer.Typer()


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
