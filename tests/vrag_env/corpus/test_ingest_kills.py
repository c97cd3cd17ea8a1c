"""``vrag index`` killed at random moments, and run again: the table must be that of a clean run."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import zipfile
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from typing import Any

import pytest
import warm
from pdf_files import write_pdf
from PIL import Image

from vrag_agent import cli
from vrag_env.corpus import Corpus, ingest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and process groups")


def library(root: Path) -> Path:
    """A dozen PDFs, some images, and a zip file of both."""
    for number in range(12):
        write_pdf(root / f"{number:02}.pdf", [f"document {number} page {page}" for page in range(3)])
    for number in range(4):
        Image.new("RGB", (90, 60), (60 * number, 9, 9)).save(root / f"scan {number}.png")
    with zipfile.ZipFile(root / "deck.zip", "w") as archive:
        for number in range(5):
            buffer = io.BytesIO()
            Image.new("RGB", (60, 40), (9, 50 * number, 9)).save(buffer, "PNG")
            archive.writestr(f"talk/{number}.png", buffer.getvalue())
        archive.write(root / "03.pdf", "paper.pdf")
    return root


def index(connection: Connection, paths: Path, corpus: Path) -> None:
    """What the console script runs, with small commits, so that there are several to be killed between."""
    os.setsid()  # a group of its own, with its reading processes
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    sys.modules[ingest.__module__]._COMMIT_PAGES = 4  # type: ignore[attr-defined]  # the module of that name
    options = ["--corpus", str(corpus), "--long-side", "128", "--workers", "1", "--ocr", "never"]
    sys.argv = ["vrag", "index", str(paths), *options]
    connection.send("started")
    cli.main()


def start(paths: Path, corpus: Path) -> ForkServerProcess:
    process, told = warm.start(index, paths, corpus)
    assert told.recv() == "started"
    return process


def contents(corpus: Path) -> list[dict[str, Any]]:
    rows = Corpus.open(corpus).table.to_arrow().to_pylist()
    return sorted(rows, key=lambda row: row["page_id"])


def alive(group: int) -> bool:
    """Whether a process of a group is alive: one that ended and was not waited for yet does not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended in between
        if int(fields[2]) == group and fields[0] not in "ZX":
            return True
    return False


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    documents = library(tmp_path / "library")
    clean = tmp_path / "clean"
    process = start(documents, clean)
    started = time.monotonic()
    assert warm.finish(process) == 0
    duration = time.monotonic() - started
    expected = contents(clean)
    assert len(expected) == 12 * 3 + 4 + 5 + 3
    random = Random(0)
    killed = unfinished = 0
    for attempt in range(60):
        corpus = tmp_path / f"corpus {attempt}"
        process = start(documents, corpus)
        time.sleep(duration * random.uniform(0.0, 1.0))
        assert process.pid is not None
        if attempt % 2:
            with suppress(ProcessLookupError):  # it was done before
                os.killpg(process.pid, signal.SIGKILL)  # with its readers, as a terminal or a cgroup would
        else:
            process.kill()  # the main process alone, as the out-of-memory killer would
        if warm.finish(process) != -signal.SIGKILL:
            duration *= 0.8  # it was done before: the machine has become faster
            continue
        killed += 1
        unfinished += not (corpus / "vrag_corpus.json").exists() or len(Corpus.open(corpus)) < len(expected)
        # In this process, which has imported everything: half of the time of the test would go there.
        report = ingest([documents], Corpus.create(corpus), long_side=128, workers=1, progress=False)
        assert report.failures == ()
        assert contents(corpus) == expected
        assert not (corpus / ".staging").exists()
        if killed == 20:
            break
    assert killed == 20 and unfinished >= 10  # otherwise it was killed too late to prove anything


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the list of processes from /proc")
def test_reading_processes_end_with_the_main_one(tmp_path: Path) -> None:
    documents = library(tmp_path / "library")
    write_pdf(documents / "long.pdf", ["x"] * 400)
    process = start(documents, tmp_path / "corpus")
    group = process.pid
    assert group is not None
    deadline = time.monotonic() + 200
    while not list((tmp_path / "corpus").glob(".staging/*/*.arrow")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert alive(group)
    process.kill()
    assert warm.finish(process) == -signal.SIGKILL
    deadline = time.monotonic() + 100
    while alive(group):
        assert time.monotonic() < deadline
        time.sleep(0.02)
