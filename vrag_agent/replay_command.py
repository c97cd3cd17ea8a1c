"""``vrag replay``: recorded episodes as web pages that open without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from vrag_env.corpus import Corpus
from vrag_env.corpus.generate import builtin_world
from vrag_env.errors import VRAGError
from vrag_env.replay import EpisodeRecord, corpus_images, read_records, record_html, write_comparison, write_run
from vrag_env.replay.pictures import Images

EPISODES = "episodes.jsonl"


def run_replay(
    runs: Sequence[Path],
    *,
    corpus: Path | None,
    out: Path,
    question: str | None = None,
    limit: int | None = None,
    say: Callable[[str], object] = print,
) -> Path:
    """Write pages of recorded episodes.

    Args:
        runs: One or more files of episodes, or directories that hold an ``episodes.jsonl``.
        corpus: The corpus that they were played on; ``None`` for the built-in world.
        out: An ``.html`` file for one question (of one run, or of two side by side), else a directory.
        question: Only this question.
        limit: Only the first episodes of each run.
        say: Prints what was written.

    Returns:
        The page to open.

    Raises:
        VRAGError: If there is no such run or question, or the corpus is not the one that was played on.
    """
    store = Corpus.open(corpus if corpus is not None else builtin_world() / "corpus")
    played = [_read(run, question, limit) for run in runs]
    known = set(store.page_ids())
    for records in played:
        for record in records:
            missing = [page for page in record.pages_shown if page not in known]
            if missing:
                raise VRAGError(
                    f"the corpus has no page {missing[0]!r}, which episode {record.question.question_id!r} shows: "
                    "give the corpus that was played on with --corpus"
                )
    images = corpus_images(store)
    if out.suffix == ".html":
        page = _single(played, images, out, question)
    else:
        records = [record for run in played for record in run]
        with tqdm(desc="replay", total=len(records), unit="page", dynamic_ncols=True) as bar:
            page = write_run(out, records, images, " and ".join(run.stem or str(run) for run in runs), bar.update)
    say(f"open {page} in a browser")
    return page


def _single(played: Sequence[Sequence[EpisodeRecord]], images: Images, out: Path, question: str | None) -> Path:
    if question is None and (len(played) != 1 or len(played[0]) != 1):
        raise VRAGError("one .html file holds one question: name it with --question, or give a directory as --out")
    if not out.parent.is_dir():
        raise VRAGError(f"there is no directory {out.parent} for {out.name}: make it first")
    first = [records[0] for records in played]
    if len(first) == 1:
        name = f"{first[0].policy or 'VRAG episode'}: {first[0].question.question_id}"
        out.write_text(record_html(first[0], images, name), encoding="utf-8")
        return out
    if len(first) != 2:
        raise VRAGError(f"two runs can be shown side by side, got {len(first)}: give a directory as --out for more")
    return write_comparison(out, first[0], first[1], images)


def _read(run: Path, question: str | None, limit: int | None) -> list[EpisodeRecord]:
    path = run / EPISODES if run.is_dir() else run
    if not path.is_file():
        raise VRAGError(f"there is no file {path}: expected the directory of an evaluation, or its {EPISODES}")
    records: list[EpisodeRecord] = []
    for record in read_records(path):
        if question is None or record.question.question_id == question:
            records.append(record)
        if limit is not None and len(records) >= limit:
            break
    if not records:
        raise VRAGError(f"{path} holds no episode" + ("" if question is None else f" of question {question!r}"))
    return records
