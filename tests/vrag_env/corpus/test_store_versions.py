"""Versions: a corpus, and an environment on it, keep their pages while others write."""

import io
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import vrag_env  # noqa: F401 (registers the environment)
from vrag_env.corpus import Corpus, Page, page_id_of
from vrag_env.errors import CorpusError
from vrag_env.questions import Question
from vrag_env.retrieval.lexical import LexicalRetriever


def document(doc_id: str, texts: list[str], content_hash: str, shade: int = 0) -> list[tuple[Page, bytes, str]]:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), (shade, shade, shade)).save(buffer, "PNG")
    return [
        (Page(page_id_of(doc_id, n), doc_id, n, 60, 40, text, (), content_hash), buffer.getvalue(), "png")
        for n, text in enumerate(texts, start=1)
    ]


@pytest.fixture
def corpus(tmp_path: Path) -> Iterator[Corpus]:
    made = Corpus.create(tmp_path / "corpus")
    made.add(document("amber.pdf", ["falcon revenue", "falcon staff"], "h1", 10))
    made.add(document("ivory.pdf", ["otter visitors falcon", "otter seasons"], "h2", 90))
    yield made


# Adds, replaces and removes from another process, and makes the text index anew after each.
WRITER = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[2])
    from test_store_versions import document
    from vrag_env.corpus import Corpus
    corpus = Corpus.open(sys.argv[1])
    corpus.add(document("falcon.pdf", ["falcon falcon falcon"] * 3, "h3", 200))
    corpus.ensure_text_index()
    corpus.add(document("amber.pdf", ["nothing left"], "h4", 250))
    corpus.remove("ivory.pdf")
    corpus.ensure_text_index()
    print(corpus.version, *corpus.page_ids())
""")


def write_elsewhere(path: Path) -> list[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def play(env: Any) -> list[Any]:
    """Two searches and an answer: everything that the environment gives back."""
    turns = ["<search>falcon</search>", "<search>otter seasons</search>", "<answer>42</answer>"]
    seen: list[Any] = [env.reset(seed=3)]
    seen += [env.step(f"<think>…</think>{turn}") for turn in turns]
    return seen


def as_bytes(seen: list[Any]) -> list[Any]:
    return [
        [
            {key: value.tobytes() if isinstance(value, np.ndarray) else value for key, value in observation.items()},
            *rest,
        ]
        for observation, *rest in ((*step[:-1], step[-1]["pages_shown"], step[-1]["state_key"]) for step in seen)
    ]


def test_every_write_makes_a_higher_version(corpus: Corpus) -> None:
    first = corpus.version
    corpus.add(document("c.pdf", ["x"], "h"))
    second = corpus.version
    corpus.remove("c.pdf")
    assert first < second < corpus.version
    assert Corpus.open(corpus.path, first).page_ids() == Corpus.open(corpus.path).page_ids()
    assert Corpus.open(corpus.path, second).has_page("c.pdf#1")


@pytest.mark.parametrize("version", [0, -1, 10_000, True])
def test_a_version_that_is_none(corpus: Corpus, version: int) -> None:
    with pytest.raises(CorpusError, match="version"):
        Corpus.open(corpus.path, version)


def test_a_pinned_corpus_keeps_its_pages_and_writes_nothing(corpus: Corpus) -> None:
    pinned = corpus.pinned()
    assert pinned is corpus.pinned() and pinned.pinned() is pinned and pinned.read_only and not corpus.read_only
    corpus.add(document("amber.pdf", ["new"], "h9", 255))
    assert pinned.page("amber.pdf#1").text == "falcon revenue"
    assert pinned.image("amber.pdf#2").getpixel((0, 0)) == (10, 10, 10)
    assert corpus.pinned() is not pinned and not corpus.pinned().has_page("amber.pdf#2")
    for write in (lambda: pinned.add([]), lambda: pinned.remove("amber.pdf")):
        with pytest.raises(CorpusError, match=r"read only, since it is fixed at version .* Corpus.open\(path\)"):
            write()


def test_pickled_with_its_version(corpus: Corpus) -> None:
    both = [pickle.dumps(corpus), pickle.dumps(corpus.pinned())]
    before = corpus.page_ids()
    write_elsewhere(corpus.path)
    free, pinned = map(pickle.loads, both)
    assert free.page_ids() == pinned.page_ids() == before
    assert pinned.read_only and not free.read_only
    free.remove("falcon.pdf")  # written by the other process: a writer sees the newest pages
    assert free.page_ids() == ("amber.pdf#1",)


@pytest.mark.parametrize("memory_pages", [0, 10_000])
def test_search_results_are_pinned(corpus: Corpus, memory_pages: int) -> None:
    retriever = LexicalRetriever(corpus.pinned(), memory_pages=memory_pages)
    before = retriever.search(["falcon", "otter"], 10)
    assert {hit.page_id for hit in before[0]} == {"amber.pdf#1", "amber.pdf#2", "ivory.pdf#1"}
    saved = pickle.dumps(retriever)
    write_elsewhere(corpus.path)
    assert retriever.search(["falcon", "otter"], 10) == before
    assert pickle.loads(saved).search(["falcon", "otter"], 10) == before
    now = LexicalRetriever(Corpus.open(corpus.path), memory_pages=memory_pages).search(["falcon"], 10)
    assert {hit.page_id for hit in now[0]} == {f"falcon.pdf#{n}" for n in (1, 2, 3)}


def test_the_text_index_of_a_pinned_corpus(corpus: Corpus) -> None:
    first, second = Corpus.open(corpus.path, corpus.version), Corpus.open(corpus.path, corpus.version)
    first.ensure_text_index()  # the pages are still the newest: the index can be made
    assert first.version > second.version and first.page_ids() == second.page_ids()
    corpus.add(document("c.pdf", ["x"], "h"))
    first.ensure_text_index()
    assert not first.has_page("c.pdf#1")
    with pytest.raises(CorpusError, match="has no full-text index"):
        second.ensure_text_index()


def test_a_corpus_that_is_not_pinned_finds_an_index_too(corpus: Corpus) -> None:
    reader = Corpus.open(corpus.path)
    corpus.add(document("c.pdf", ["x"], "h"))
    reader.ensure_text_index()
    assert reader.has_page("c.pdf#1")  # there was no index at its version
    late = Corpus.open(corpus.path)
    corpus.add(document("d.pdf", ["x"], "h"))
    late.ensure_text_index()
    assert not late.has_page("d.pdf#1")


def test_a_side_table_is_pinned(corpus: Corpus) -> None:
    made = corpus.database.create_table("emb_tiny", pa.table({"page_id": ["amber.pdf#1"]}))
    table = corpus.open_side_table("emb_tiny")
    made.add(pa.table({"page_id": ["amber.pdf#2"]}))
    assert table.count_rows() == 1 and corpus.open_side_table("emb_tiny").count_rows() == 2
    assert corpus.open_side_table("emb_tiny", table.version).count_rows() == 1
    assert corpus.side_tables() == ["emb_tiny"]
    with pytest.raises(CorpusError, match=r"no table 'emb_no' .*it has: emb_tiny"):
        corpus.open_side_table("emb_no")
    with pytest.raises(CorpusError, match="no version 99"):
        corpus.open_side_table("emb_tiny", 99)


QUESTIONS = [Question("q", "How many?", "42", gold_pages=("amber.pdf#2",))]


def test_an_episode_is_the_same_while_another_process_writes(corpus: Corpus) -> None:
    env = gymnasium.make("VRAG-v0", corpus=corpus.path, questions=QUESTIONS)
    version = env.get_wrapper_attr("corpus_version")
    before = as_bytes(play(env))
    assert before[1][-2] == ("amber.pdf#2",) or before[1][-2] == ("amber.pdf#1",)
    newest, *pages = write_elsewhere(corpus.path)
    assert "amber.pdf#2" not in pages and int(newest) > version
    assert as_bytes(play(env)) == before
    again = gymnasium.make("VRAG-v0", corpus=str(corpus.path), questions=QUESTIONS, corpus_version=version)
    assert as_bytes(play(again)) == before
    with pytest.raises(ValueError, match="gold pages"):  # on the newest pages the question can not be played
        gymnasium.make("VRAG-v0", corpus=corpus.path, questions=QUESTIONS)


def test_a_vector_environment_is_pinned_once(corpus: Corpus) -> None:
    envs = gymnasium.make_vec("VRAG-v0", num_envs=3, corpus=corpus, questions=QUESTIONS, retriever="lexical")
    assert len({id(env.corpus) for env in envs.unwrapped.envs}) == 1  # type: ignore[attr-defined]
    turn = ["<think>…</think><search>falcon</search>"] * 3
    envs.reset(seed=0)
    before = envs.step(turn)
    corpus.remove("amber.pdf")
    envs.reset(seed=0)
    after = envs.step(turn)
    assert after[4]["pages_shown"].tolist() == before[4]["pages_shown"].tolist()
    assert all((a == b).all() for a, b in zip(after[0]["image"], before[0]["image"], strict=True))
    assert envs.unwrapped.corpus_version < corpus.version  # type: ignore[attr-defined]


def test_processes_of_an_async_environment_see_the_pages_of_the_corpus_passed(corpus: Corpus) -> None:
    envs = gymnasium.make_vec(
        "VRAG-v0",
        num_envs=1,
        vectorization_mode="async",
        vector_kwargs={"shared_memory": False, "context": "spawn"},
        corpus=_WritesWhenPickled(corpus),
        questions=QUESTIONS,
    )
    try:
        envs.reset(seed=0)
        _, _, _, _, info = envs.step(["<think>…</think><search>falcon staff</search>"])
        assert info["pages_shown"][0] == ("amber.pdf#2",)
    finally:
        envs.close()


class _WritesWhenPickled(Corpus):
    """Another process changes the corpus after it was passed and before the environment's process opens it."""

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus.path, corpus.version)
        self._written = False

    def __reduce__(self) -> Any:
        reduced = super().__reduce__()
        if not self._written:
            self._written = True
            write_elsewhere(self.path)
        return reduced
