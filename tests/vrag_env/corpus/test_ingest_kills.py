"""``vrag index`` killed at random moments, and run again: the table must be that of a clean run."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pdf_files import write_pdf
from PIL import Image

import vrag_env
from vrag_env.corpus import Corpus, ingest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and process groups")

# The program that the console script runs, with small commits, so that there are several to be killed between.
PROGRAM = """
import sys
from vrag_env.corpus import ingest
sys.modules[ingest.__module__]._COMMIT_PAGES = 4
from vrag_agent.cli import main
main()
"""


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


def start(paths: Path, corpus: Path) -> subprocess.Popen[bytes]:
    options = ["--corpus", str(corpus), "--long-side", "128", "--workers", "1", "--ocr", "never"]
    environment = {**os.environ, "PYTHONPATH": str(Path(vrag_env.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "index", str(paths), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


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
    started = time.monotonic()
    assert start(documents, clean).wait() == 0
    duration = time.monotonic() - started
    expected = contents(clean)
    assert len(expected) == 12 * 3 + 4 + 5 + 3
    random = Random(0)
    killed = unfinished = 0
    for attempt in range(60):
        corpus = tmp_path / f"corpus {attempt}"
        process = start(documents, corpus)
        time.sleep(duration * random.uniform(0.3, 1.0))  # before that, Python imports its libraries
        if attempt % 2:
            os.killpg(process.pid, signal.SIGKILL)  # with its reading processes, as a terminal or a cgroup would
        else:
            process.kill()  # the main process alone, as the out-of-memory killer would
        if process.wait() != -signal.SIGKILL:
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
    deadline = time.monotonic() + 200
    while not list((tmp_path / "corpus").glob(".staging/*/*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 100
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)
