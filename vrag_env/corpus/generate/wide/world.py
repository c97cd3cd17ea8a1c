"""A wide world on disk: any number of documents, drawn by all cores, resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from vrag_env.corpus.generate.wide.dials import PAGES_PER_DOCUMENT, WorldDials
from vrag_env.corpus.generate.wide.family import draw_family
from vrag_env.corpus.generate.wide.fonts import cjk_font
from vrag_env.corpus.generate.world import DOCUMENTS, QUESTIONS
from vrag_env.corpus.lock import write_lock
from vrag_env.errors import CorpusError, WorldError
from vrag_env.questions import save_questions

MARKER = "world.json"
"""File of the dials inside a world's directory."""
_PARTS = ".parts"  # the questions of the families that are done
_HEAD, _TAIL = '{\n "examples": [\n', "\n ]\n}\n"
_FEW = 8  # families that one process draws sooner than another one starts


@dataclass(frozen=True)
class WorldReport:
    """What :func:`generate_wide_world` wrote, or found written.

    Attributes:
        documents: Number of documents.
        pages: Number of their pages.
        questions: Number of questions.
    """

    documents: int
    pages: int
    questions: int


def generate_wide_world(
    dials: WorldDials, directory: str | Path, *, workers: int | None = None, progress: bool = True
) -> WorldReport:
    """Write the documents and the questions of a wide world.

    The PDFs go to ``directory/documents``, the questions to ``directory/questions.json`` and the dials to
    ``directory/world.json``; document ids are the file names. Families of documents are drawn one at a time and
    written at once, so that memory does not grow with the world. A run that was killed is completed by the next
    one; a world that is complete is left as it is.

    Args:
        dials: The dials; equal ones write equal bytes.
        directory: Where; made if it does not exist.
        workers: Processes that draw; by default one per core.
        progress: Show a progress bar.

    Raises:
        CorpusError: If the directory holds something else, or another process is writing there.
        WorldError: If the dials ask for what can not be drawn, such as Chinese without a font.
    """
    if workers is not None and workers < 1:
        raise WorldError(f"workers must be at least 1, got {workers}")
    if dials.language != "en":
        cjk_font()  # before anything is written
    directory = Path(directory)
    report = WorldReport(dials.documents, dials.documents * PAGES_PER_DOCUMENT, dials.questions)
    _claim(directory, dials)
    with write_lock(directory):
        if (directory / QUESTIONS).exists():
            return report
        (directory / DOCUMENTS).mkdir(exist_ok=True)
        (directory / _PARTS).mkdir(exist_ok=True)
        missing = [family for family in range(dials.families) if not part_path(directory, family).exists()]
        crew = min(workers or os.cpu_count() or 1, -(-len(missing) // _FEW)) if missing else 0
        with tqdm(
            total=dials.families * dials.family_size * PAGES_PER_DOCUMENT,
            initial=(dials.families - len(missing)) * dials.family_size * PAGES_PER_DOCUMENT,
            unit="page",
            desc="drawing",
            disable=not progress,
        ) as bar:
            for _ in _draw_all(dials, directory, missing, crew):
                bar.update(dials.family_size * PAGES_PER_DOCUMENT)
        _join(dials, directory)
    return report


def draw_into(dials: WorldDials, directory: Path, family: int) -> None:
    """Draw one family and write its documents, and then, as the sign that it is done, its questions."""
    documents = draw_family(dials, family)
    for document in documents:
        write_whole(directory / DOCUMENTS / document.doc_id, document.pdf)
    path = part_path(directory, family)
    questions = [question for document in documents for question in document.questions]
    if questions:
        save_questions(path, questions)
    else:
        write_whole(path, b"")


def part_path(directory: Path, family: int) -> Path:
    """Return the file that holds the questions of a family while the world is being made."""
    return directory / _PARTS / f"{family:06d}.json"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _claim(directory: Path, dials: WorldDials) -> None:
    """Make sure that the directory is free or holds this world, finished or not."""
    marker = directory / MARKER
    if marker.exists():
        if marker.read_text() != dials.to_json():
            raise CorpusError(f"{directory} holds a world with other dials (see {marker}): choose another directory")
    elif (directory / DOCUMENTS).exists() or (directory / QUESTIONS).exists():
        raise CorpusError(f"{directory} holds documents or questions that no world wrote: choose another directory")
    else:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(marker, dials.to_json().encode())


def _draw_all(dials: WorldDials, directory: Path, missing: list[int], crew: int) -> Iterator[int]:
    """Draw the missing families, here or in several processes; yield each when it is written."""
    if crew <= 1:
        for family in missing:
            draw_into(dials, directory, family)
            yield family
        return
    # Processes of their own, not a pool: a pool starts the user's script again, which may not be made for it.
    package = str(Path(__file__).parents[4])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "vrag_env.corpus.generate.wide.worker"]
    # They take the next family from one queue, a pipe of lines each: the first to be ready gets the next.
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(crew)
    ]
    try:
        yield from _conduct(dials, directory, missing, workers)
    finally:
        for worker in workers:
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()
            worker.terminate()
            worker.wait()


def _conduct(
    dials: WorldDials, directory: Path, missing: list[int], workers: list[subprocess.Popen[str]]
) -> Iterator[int]:
    """Give every worker its share, and read what they report in turn."""
    open_ones: list[IO[str]] = []
    for number, worker in enumerate(workers):
        assert worker.stdin is not None and worker.stdout is not None
        order = {
            "dials": dials.to_json(),
            "directory": str(directory.absolute()),
            "families": missing[number :: len(workers)],
        }
        worker.stdin.write(json.dumps(order) + "\n")
        worker.stdin.flush()
        open_ones.append(worker.stdout)
    done = 0
    while open_ones:
        for stream in list(open_ones):
            line = stream.readline()
            if not line:
                open_ones.remove(stream)
                continue
            answer = json.loads(line)
            if "error" in answer:
                raise WorldError(answer["error"])
            done += 1
            yield answer["done"]
    if done < len(missing):
        raise WorldError(
            f"a drawing process ended early, {len(missing) - done} of {len(missing)} families are missing: run it again"
        )


def _join(dials: WorldDials, directory: Path) -> None:
    """Join the questions of all families into one file, one family in memory at a time."""
    path = directory / QUESTIONS
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    count = 0
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(_HEAD)
        for family in range(dials.families):
            text = part_path(directory, family).read_text(encoding="utf-8")
            for example in json.loads(text)["examples"] if text else ():
                stream.write((",\n" if count else "") + json.dumps(example, ensure_ascii=False))
                count += 1
        stream.write(_TAIL)
        stream.flush()
        os.fsync(stream.fileno())
    if count != dials.questions:
        raise CorpusError(
            f"{count} questions were written instead of {dials.questions}: delete {directory} and run again"
        )
    os.replace(temporary, path)
    shutil.rmtree(directory / _PARTS)
