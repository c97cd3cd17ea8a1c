from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from vrag_env.corpus import Corpus, Page, Word, page_id_of
from vrag_env.corpus.image_cache import ImageCache
from vrag_env.corpus.lock import LOCK_FILE, CorpusBusyError
from vrag_env.corpus.schema import PAGE_SCHEMA
from vrag_env.errors import CorpusError


def document(doc_id: str, texts: list[str], content_hash: str = "v1", shade: int = 0) -> list[tuple[Page, bytes, str]]:
    """A document with one page per text."""
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (shade, shade, shade)).save(buffer, "PNG")
    words = (Word("word", (0.25, 0.5, 0.75, 1.0)),)
    return [
        (Page(page_id_of(doc_id, n), doc_id, n, 30, 20, text, words, content_hash), buffer.getvalue(), "png")
        for n, text in enumerate(texts, start=1)
    ]


@pytest.fixture
def corpus(tmp_path: Path) -> Iterator[Corpus]:
    made = Corpus.create(tmp_path / "corpus")
    made.add(document('b\'s "deck".pdf', ["one", "two"]) + document("a/x.pdf", [f"p{n}" for n in range(1, 12)]))
    yield made


def test_pages_come_back_in_order(corpus: Corpus) -> None:
    assert len(corpus) == 13
    assert corpus.doc_ids() == ("a/x.pdf", 'b\'s "deck".pdf')
    assert corpus.page_ids()[:3] == ("a/x.pdf#1", "a/x.pdf#2", "a/x.pdf#3")
    assert corpus.page_ids()[9:12] == ("a/x.pdf#10", "a/x.pdf#11", 'b\'s "deck".pdf#1')
    pages = corpus.pages(['b\'s "deck".pdf#2', "a/x.pdf#10", "a/x.pdf#10"])
    assert [page.text for page in pages] == ["two", "p10", "p10"]
    assert pages[0] == document('b\'s "deck".pdf', ["one", "two"])[1][0]
    assert corpus.page_size("a/x.pdf#1") == (30, 20)
    assert corpus.documents() == {"a/x.pdf": "v1", 'b\'s "deck".pdf': "v1"}


def test_image_is_decoded_once_and_the_cache_is_bounded(corpus: Corpus) -> None:
    corpus._images = ImageCache(2 * 30 * 20 * 4)  # two pages
    first = corpus.image("a/x.pdf#1")
    assert first.mode == "RGB" and first.size == (30, 20)
    assert corpus.image("a/x.pdf#1") is first
    corpus.image("a/x.pdf#2")
    corpus.image("a/x.pdf#3")
    assert corpus.image("a/x.pdf#1") is not first


@pytest.mark.parametrize("page_id", ["a/x.pdf#12", "a/x.pdf", "", "' OR 1=1 --"])
def test_unknown_page(corpus: Corpus, page_id: str) -> None:
    assert not corpus.has_page(page_id)
    for read in (corpus.page, corpus.image, corpus.page_size):
        with pytest.raises(CorpusError, match="no page"):
            read(page_id)


def test_adding_a_document_again_replaces_all_its_pages(corpus: Corpus) -> None:
    old = corpus.image("a/x.pdf#1")
    before = corpus.fingerprint
    corpus.add(document("a/x.pdf", ["new"], "v2", shade=200))
    assert corpus.page_ids() == ("a/x.pdf#1", 'b\'s "deck".pdf#1', 'b\'s "deck".pdf#2')
    assert corpus.page("a/x.pdf#1").text == "new"
    assert corpus.image("a/x.pdf#1").getpixel((0, 0)) == (200, 200, 200) != old.getpixel((0, 0))
    assert corpus.fingerprint != before


def test_remove(corpus: Corpus) -> None:
    corpus.remove('b\'s "deck".pdf')
    assert corpus.doc_ids() == ("a/x.pdf",)
    with pytest.raises(CorpusError, match="no document"):
        corpus.remove('b\'s "deck".pdf')


def test_fingerprint_does_not_depend_on_the_order(corpus: Corpus, tmp_path: Path) -> None:
    other = Corpus.create(tmp_path / "other")
    other.add(document("a/x.pdf", [f"p{n}" for n in range(1, 12)]))
    assert other.fingerprint != corpus.fingerprint
    other.add(document('b\'s "deck".pdf', ["one", "two"]))
    assert other.fingerprint == corpus.fingerprint


def test_an_open_corpus_is_a_snapshot(corpus: Corpus) -> None:
    reader = Corpus.open(corpus.path)
    corpus.add(document("new.pdf", ["x"]))
    corpus.remove("a/x.pdf")
    assert len(reader) == 13 and reader.page("a/x.pdf#7").text == "p7"
    assert reader.image("a/x.pdf#7").size == (30, 20)
    assert Corpus.open(corpus.path).doc_ids() == ('b\'s "deck".pdf', "new.pdf")


def test_pickled_as_its_path(corpus: Corpus) -> None:
    assert pickle.loads(pickle.dumps(corpus)).page_ids() == corpus.page_ids()


def test_usable_in_another_process(corpus: Corpus) -> None:
    code = f"from vrag_env.corpus import Corpus; print(len(Corpus.open({str(corpus.path)!r})))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "13\n"


def test_create_keeps_what_is_there(corpus: Corpus) -> None:
    assert len(Corpus.create(corpus.path)) == 13


def test_create_in_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(CorpusError, match=r"thesis\.tex"):
        Corpus.create(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(CorpusError, match="is a file"):
        Corpus.create(tmp_path / "thesis.tex")


def test_create_goes_on_after_a_kill(corpus: Corpus) -> None:
    (corpus.path / "vrag_corpus.json").unlink()
    assert len(Corpus.create(corpus.path)) == 13


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        (None, "has no vrag_corpus.json"),
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({"vrag_corpus": 99}), "layout version 99"),
    ],
)
def test_not_a_corpus(tmp_path: Path, marker: str | None, expected: str) -> None:
    if marker is not None:
        (tmp_path / "vrag_corpus.json").write_text(marker)
    with pytest.raises(CorpusError, match=expected) as caught:
        Corpus.open(tmp_path)
    assert "vrag index PATH... --corpus" in str(caught.value)


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such directory; make one with: vrag index"):
        Corpus.open(tmp_path / "nowhere")


def test_one_writer_at_a_time(corpus: Corpus) -> None:
    other = Corpus.open(corpus.path)
    with corpus.writing(), pytest.raises(CorpusBusyError, match="another process is writing"):
        other.add(document("c.pdf", ["x"]))
    other.add(document("c.pdf", ["x"]))
    assert other.has_page("c.pdf#1")


def test_the_lock_of_a_killed_process_is_gone(corpus: Corpus) -> None:
    code = f"""
import os
from vrag_env.corpus import Corpus
with Corpus.open({str(corpus.path)!r}).writing():
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    corpus.remove("a/x.pdf")


def test_a_corpus_that_can_not_be_written_says_so(corpus: Corpus) -> None:
    (corpus.path / LOCK_FILE).unlink(missing_ok=True)
    (corpus.path / LOCK_FILE).mkdir()
    with pytest.raises(CorpusError, match=r"can not be written .*check its permissions"), corpus.writing():
        pass


def test_a_page_under_a_wrong_id_or_twice_is_refused(corpus: Corpus) -> None:
    ((page, image, kind),) = document("c.pdf", ["x"])
    with pytest.raises(CorpusError, match="comes twice"):
        corpus.add([(page, image, kind), (page, image, kind)])
    wrong = Page("c.pdf#2", "c.pdf", 1, 30, 20, "x", (), "v1")
    with pytest.raises(CorpusError, match="is not page 1"):
        corpus.add([(wrong, image, kind)])
    assert len(corpus) == 13


def test_text_that_is_no_unicode_is_stored_clean(corpus: Corpus) -> None:
    corpus.add(document("c.pdf", ["a\x00b\ud800c"]))
    assert corpus.page("c.pdf#1").text == "a b\ufffdc"


def test_importing_needs_neither_torch_nor_lancedb() -> None:
    code = (
        "import sys, vrag_env.corpus, vrag_env.retrieval; "
        "print(sorted({'torch', 'transformers', 'colpali_engine', 'lancedb'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_pictures_are_stored_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lance would spend more time on compressing JPEG and PNG again than ingestion on all else."""

    def size(corpus: Corpus) -> int:
        return sum(file.stat().st_size for file in corpus.path.rglob("*.lance") if file.is_file())

    def pages(text: str) -> list[tuple[Page, bytes, str]]:
        made = [
            Page(page_id_of("a.pdf", number), "a.pdf", number, 10, 10, text, (), "hash") for number in range(1, 101)
        ]
        return [(page, bytes([page.number]) * 10**5, "png") for page in made]

    corpus = Corpus.create(tmp_path / "new")
    corpus.add(pages("text"))
    assert size(corpus) > 10**7
    plain = pa.schema([field.remove_metadata() for field in PAGE_SCHEMA])
    monkeypatch.setattr(
        "vrag_env.corpus.store.PAGE_SCHEMA", plain
    )  # as corpora were made before: they stay as they are
    older = Corpus.create(tmp_path / "old")
    monkeypatch.undo()
    older.add(pages("text"))
    older.add(pages("newer"))  # replaced in place
    assert size(older) < 10**6 and older.page("a.pdf#1").text == "newer"
