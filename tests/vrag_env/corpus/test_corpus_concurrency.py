"""Readers while one writes, and several writers at once: real processes on one corpus."""

import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import warm

from vrag_env.corpus import Corpus

HELPERS = textwrap.dedent("""
    import io, os, sys, time
    from PIL import Image
    from vrag_env.corpus import Corpus, Page, page_id_of
    from vrag_env.corpus.lock import CorpusBusyError
    from vrag_env.retrieval.lexical import LexicalRetriever

    path, name = sys.argv[1:3]

    def document(doc_id, generation, pages=4):
        # The shade, the text and the hash of all pages of a document say the same generation.
        buffer = io.BytesIO()
        Image.new("RGB", (40, 30), (generation % 250,) * 3).save(buffer, "PNG")
        return [
            (Page(page_id_of(doc_id, n), doc_id, n, 40, 30, f"common word{generation} page{n}", (),
                  f"g{generation}"), buffer.getvalue(), "png")
            for n in range(1, pages + 1)
        ]

    def check(corpus):
        for doc_id, content_hash in corpus.documents().items():
            pages = [page_id for page_id, owner in corpus.page_documents().items() if owner == doc_id]
            assert pages == [f"{doc_id}#{n}" for n in range(1, 5)], pages
            generation = int(content_hash[1:])
            for page, image in zip(corpus.pages(pages), corpus.images(pages), strict=True):
                assert page.content_hash == content_hash, (page, content_hash)
                assert page.text == f"common word{generation} page{page.number}", page
                assert image.getpixel((0, 0)) == (generation % 250,) * 3, (page, image.getpixel((0, 0)))
""")

READER = HELPERS + textwrap.dedent("""
    rounds, sizes = 0, set()
    Corpus.open(path)
    print("ready")
    while rounds < 3 or len(sizes) < 2:
        corpus = Corpus.open(path)
        version, before = corpus.version, corpus.page_ids()
        check(corpus)
        [hits] = LexicalRetriever(corpus, memory_pages=0).search(["common"], 1000)
        assert sorted(hit.page_id for hit in hits) == sorted(corpus.page_ids()), (len(hits), len(corpus))
        assert corpus.page_ids() == before
        check(corpus)
        rounds += 1
        sizes.add(version)
    print(rounds, len(sizes))
""")

# Adds, replaces and removes until it is told to stop; another writer in between costs another try.
WRITER = HELPERS + textwrap.dedent("""
    tries = busy = 0
    Corpus.open(path)
    print("ready")
    generation = 1
    while generation <= 3 or not os.path.exists(path + ".stop"):
        doc_id = f"{name}{generation % 5}.pdf"
        corpus = Corpus.open(path)
        tries += 1
        try:
            if generation % 4 == 0 and doc_id in corpus.doc_ids():
                corpus.remove(doc_id)
            else:
                corpus.add(document(doc_id, generation))
                with corpus.writing():
                    corpus.update_text_index()
        except CorpusBusyError:
            busy += 1
            time.sleep(0.01)
            continue
        generation += 1
    print(tries, busy, generation)
""")


Started = tuple[ForkServerProcess, Connection]


def run(connection: Connection, code: str, arguments: list[str]) -> None:
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__", "print": lambda *words: connection.send(" ".join(map(str, words)))})


def start(code: str, *arguments: object) -> Started:
    return warm.start(run, code, [str(argument) for argument in arguments])


def ready(started: Started) -> None:
    assert started[1].recv() == "ready"


def result(started: Started) -> list[int]:
    process, told = started
    assert told.poll(200), "it does not come to an end"
    line = ""
    with suppress(EOFError):  # some say nothing
        line = told.recv()
    assert warm.finish(process) == 0  # its traceback is in the output
    return [int(number) for number in line.split()]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A corpus with one document and its text index."""
    code = HELPERS + "corpus = Corpus.create(path); corpus.add(document('first.pdf', 7)); corpus.ensure_text_index()"
    result(start(code, tmp_path / "corpus", ""))
    yield tmp_path / "corpus"


def test_readers_while_two_processes_write(path: Path) -> None:
    readers = [start(READER, path, "") for _ in range(2)]
    writers = [start(WRITER, path, name) for name in ("a", "b")]
    for process in (*readers, *writers):
        ready(process)
    read = [result(process) for process in readers]
    Path(f"{path}.stop").touch()
    written = [result(process) for process in writers]
    assert all(rounds >= 3 and versions >= 2 for rounds, versions in read), read
    assert all(generation > 3 for _, _, generation in written), written
    check = HELPERS + "corpus = Corpus.open(path); corpus.ensure_text_index(); check(corpus); print(len(corpus))"
    assert result(start(check, path, ""))[0] >= 4


@pytest.mark.parametrize("pause", [0.1, pytest.param(0.3, marks=pytest.mark.slow)])
def test_two_writers_where_one_is_killed(path: Path, pause: float) -> None:
    """The one that tries again gets in as soon as the other is dead, and the table is whole."""
    holder = HELPERS + textwrap.dedent("""
        corpus = Corpus.open(path)
        with corpus.writing():
            print("ready")
            generation = 0
            while True:  # writes without an end, so that the kill comes in the middle of one
                generation += 1
                batch = document("held.pdf", generation)
                from vrag_env.corpus.schema import page_batch
                corpus.commit([page_batch(batch)], {"held.pdf"})
    """)
    waiter = HELPERS + textwrap.dedent("""
        busy = 0
        while True:
            try:
                Corpus.open(path).add(document("waited.pdf", 3))
                break
            except CorpusBusyError as error:
                assert "another process is writing" in str(error)
                if busy == 0:
                    print("ready")
                busy += 1
                time.sleep(0.02)
        print(busy)
    """)
    check = (
        HELPERS + "corpus = Corpus.open(path); corpus.ensure_text_index(); check(corpus); print(*map(len, [corpus]))"
    )
    held = start(holder, path, "")
    ready(held)
    waiting = start(waiter, path, "")
    ready(waiting)
    time.sleep(pause)
    held[0].kill()
    assert warm.finish(held[0]) == -signal.SIGKILL
    assert result(waiting)[0] >= 1
    corpus = Corpus.open(path)
    assert corpus.has_page("waited.pdf#4")
    assert result(start(check, path, ""))[0] in (8, 12)


def test_two_processes_make_the_corpus_at_once(tmp_path: Path) -> None:
    code = HELPERS + textwrap.dedent("""
        while True:
            try:
                corpus = Corpus.create(path)
                corpus.add(document(f"{name}.pdf", 5))
                break
            except CorpusBusyError:
                time.sleep(0.01)
        print(len(corpus))
    """)
    makers = [start(code, tmp_path / "corpus", name) for name in ("a", "b", "c")]
    assert all(result(maker)[0] >= 4 for maker in makers)
    assert Corpus.open(tmp_path / "corpus").doc_ids() == ("a.pdf", "b.pdf", "c.pdf")
