"""From dials to an ingested corpus; the cache; retrieval of the gold pages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vrag_env.corpus.generate import WorldConfig, build_world, builtin_world, cache_directory, cached_world
from vrag_env.corpus.store import Corpus
from vrag_env.errors import CorpusError
from vrag_env.questions import Question, load_questions
from vrag_env.retrieval.lexical import LexicalRetriever

SMALL = WorldConfig(documents=2, kinds=("board", "pie"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus, list[Question]]:
    directory = tmp_path_factory.mktemp("build")
    return directory, *build_world(WorldConfig(documents=8), directory, progress=False, workers=1)


def test_the_corpus_holds_every_page(world: tuple[Path, Corpus, list[Question]]) -> None:
    _, corpus, questions = world
    assert len(corpus) == 48
    gold = {page_id for question in questions for page_id in question.gold_pages}
    assert gold <= set(corpus.page_ids())


def test_word_boxes_of_the_corpus_agree_with_the_evidence(
    world: tuple[Path, Corpus, list[Question]],
) -> None:
    _, corpus, questions = world
    cells = [q for q in questions if "-table-" in q.question_id and q.answer_format == "Int"]
    assert cells
    for question in cells:
        x0, y0, x1, y1 = question.evidence[0].box
        words = corpus.page(question.gold_pages[0]).words
        inside = [w.text for w in words if x0 <= (w.box[0] + w.box[2]) / 2 <= x1 and y0 <= w.box[1] <= w.box[3] <= y1]
        assert inside == [question.answer]


def test_oracle_queries_find_the_gold_pages(world: tuple[Path, Corpus, list[Question]]) -> None:
    _, corpus, questions = world
    asked = [q for q in questions if q.answerable]
    found = LexicalRetriever(corpus).search([q.oracle_query for q in asked], 5)
    for question, hits in zip(asked, found, strict=True):
        ranked = [hit.page_id for hit in hits]
        if len(question.gold_pages) == 1:
            assert ranked[0] == question.gold_pages[0], question.question_id
        else:
            assert set(question.gold_pages) <= set(ranked[:3]), question.question_id


def test_building_again_changes_nothing(world: tuple[Path, Corpus, list[Question]]) -> None:
    directory, corpus, questions = world
    again, same = build_world(WorldConfig(documents=8), directory, progress=False, workers=1)
    assert same == questions
    assert again.fingerprint == corpus.fingerprint
    assert len(again) == 48


def test_a_broken_document_is_named(tmp_path: Path) -> None:
    build_world(SMALL, tmp_path, progress=False, workers=1)
    broken = sorted((tmp_path / "documents").glob("*.pdf"))[0]
    broken.write_bytes(b"%PDF-1.4 broken")
    with pytest.raises(CorpusError, match=broken.name):
        build_world(SMALL, tmp_path, progress=False, workers=1)


def test_the_cache_can_be_placed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VRAG_CACHE", str(tmp_path / "mine"))
    assert cache_directory() == tmp_path / "mine"
    monkeypatch.delenv("VRAG_CACHE")
    assert cache_directory().name == "vrag-gym"


def test_a_cached_world_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VRAG_CACHE", str(tmp_path))
    first = cached_world(SMALL, progress=False)
    assert [p for p in tmp_path.iterdir()] == [first]
    before = first.stat().st_mtime_ns
    assert cached_world(SMALL, progress=False) == first
    assert first.stat().st_mtime_ns == before
    assert len(Corpus.open(first / "corpus")) == 4
    assert len(load_questions(first / "questions.json")) >= 16


def test_what_a_killed_build_left_is_removed_after_a_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VRAG_CACHE", str(tmp_path))
    for name, hours in ((".world-old", 25), (".world-running", 1)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - hours * 3600,) * 2)
    target = cached_world(SMALL, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {".world-running", target.name}


def test_a_failed_build_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VRAG_CACHE", str(tmp_path))

    def fail(*args: object, **options: object) -> None:
        raise CorpusError("disk full")

    monkeypatch.setattr("vrag_env.corpus.generate.build.ingest", fail)
    with pytest.raises(CorpusError, match="disk full"):
        cached_world(SMALL, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_both_get_the_world(tmp_path: Path) -> None:
    script = (
        "from vrag_env.corpus.generate import WorldConfig, cached_world\n"
        "from vrag_env.corpus.store import Corpus\n"
        "path = cached_world(WorldConfig(documents=2, kinds=('board', 'pie')), progress=False)\n"
        "print(path, len(Corpus.open(path / 'corpus')))\n"
    )
    environment = {**os.environ, "VRAG_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=250)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert outputs[0].endswith(" 4")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_the_builtin_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VRAG_CACHE", str(tmp_path))
    directory = builtin_world(progress=False)
    assert len(Corpus.open(directory / "corpus")) == 144
    assert len(load_questions(directory / "questions.json")) == 505
