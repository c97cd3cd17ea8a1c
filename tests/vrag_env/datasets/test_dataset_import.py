"""The three benchmarks, in every form, from files to episodes."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import (
    DOTTED,
    common,
    mmlb_entry,
    picture,
    slide_entry,
    write_mmlongbench,
    write_pdf,
    write_slidevqa_lines,
    write_slidevqa_parquet,
    write_vidoseek,
    write_zip,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vrag_env.corpus import Corpus
from vrag_env.datasets import importer
from vrag_env.datasets.common import NO_BOXES
from vrag_env.datasets.files import Library, local_name
from vrag_env.datasets.importer import BEYOND, NO_PAGES, PAGES_UNANSWERABLE, import_dataset
from vrag_env.datasets.mmlongbench import read_mmlongbench
from vrag_env.datasets.records import DeckDocument, Document, ParquetDeck, PdfDocument
from vrag_env.datasets.report import ImportReport
from vrag_env.datasets.slidevqa import read_slidevqa
from vrag_env.datasets.staging import document_name, stage
from vrag_env.datasets.values import BELOW_ONE, NO_PAGE_LIST
from vrag_env.datasets.vidoseek import read_vidoseek
from vrag_env.env import VRAGEnv
from vrag_env.errors import IngestError
from vrag_env.questions import Question, load_questions

FIELDS = (
    *("uid", "query", "reference_answer", "meta_info", "file_name", "reference_page", "source_type", "reference"),
    *("doc_id", "question", "answer", "evidence_pages", "evidence_sources", "answer_format"),
    *("deck_name", "qa_id", "image_urls", "reasoning_type"),
)
FAST: dict[str, Any] = {"long_side": 320, "workers": 1, "progress": False}


def by_id(corpus: Path) -> dict[str, Question]:
    return {question.question_id: question for question in load_questions(corpus / "questions.json")}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ImportReport]]:
    """All three benchmarks in one corpus."""
    root = tmp_path_factory.mktemp("benchmarks")
    out = root / "pool"
    reports = {
        "mmlongbench": import_dataset("mmlongbench", write_mmlongbench(root / "m"), out, **FAST),
        "vidoseek": import_dataset("vidoseek", write_vidoseek(root / "v"), out, subset="vrag", **FAST),
        "slidevqa": import_dataset("slidevqa", write_slidevqa_lines(root / "s"), out, **FAST),
    }
    return out, reports


def test_one_pool_of_three(pool: tuple[Path, dict[str, ImportReport]]) -> None:
    out, reports = pool
    questions = load_questions(out / "questions.json")
    assert [q.dataset for q in questions] == ["mmlongbench"] * 9 + ["vidoseek"] * 4 + ["slidevqa"] * 4
    assert sum(report.kept for report in reports.values()) == 17
    assert Corpus.open(out).doc_ids() == (
        f"mmlongbench/{DOTTED}",
        "mmlongbench/other_95.pdf",
        "slidevqa/gaps.zip",
        "slidevqa/sales.v1.2-final.zip",
        "vidoseek/bees.pdf",
        "vidoseek/caf\u00e9.v2.pdf",
    )
    env = VRAGEnv(corpus=out, questions=out / "questions.json")  # checks that every gold page is there
    env.reset(options={"question_id": "vidoseek/a_1"})
    _, _, _, _, info = env.step("<think>a</think><search>bees eat nectar</search>")
    assert info["pages_shown"] == ("vidoseek/bees.pdf#2",)
    written = json.loads((out / "report.json").read_text())
    assert written.keys() == reports.keys()
    assert written["vidoseek"] == json.loads(json.dumps(reports["vidoseek"].to_dict()))
    assert not list(out.glob(".import-*"))


def test_labels_of_mmlongbench(pool: tuple[Path, dict[str, ImportReport]]) -> None:
    out, reports = pool
    questions = by_id(out)
    report = reports["mmlongbench"]

    def asked(number: int) -> Question:
        return questions[f"mmlongbench/{DOTTED}:{number}"]

    assert asked(1).gold_pages == (f"mmlongbench/{DOTTED}#1",)
    assert (asked(1).source_type, asked(1).answer_format, asked(1).query_type) == ("Chart", "Int", "Single-Page")
    assert asked(2).gold_pages == (f"mmlongbench/{DOTTED}#2", f"mmlongbench/{DOTTED}#3")
    assert (asked(2).source_type, asked(2).answer) == ("Text, Table", "['Bergen', 'Oslo']")
    assert asked(3).gold_pages == () and not asked(3).answerable
    assert asked(4).gold_pages == () and asked(4).source_type == "Layout"
    assert asked(5).gold_pages == (f"mmlongbench/{DOTTED}#1",)
    assert asked(7).gold_pages == () and not asked(7).answerable
    assert questions["mmlongbench/other_95.pdf:1"].gold_pages == ("mmlongbench/other_95.pdf#2",)

    assert (report.read, report.selected, report.kept) == (10, 10, 9)
    assert report.left_out.by_reason == {"are about a document that is missing": ["2023.acl-long.1.pdf:1"]}
    assert report.missing.by_reason == {"no PDF and no page images of this name": ["2023.acl-long.1.pdf"]}
    assert report.notes.by_reason == {
        BELOW_ONE: [f"{DOTTED}:4: 0"],
        NO_PAGES: [f"{DOTTED}:4", f"{DOTTED}:6", f"{DOTTED}:8"],
        BEYOND: [f"{DOTTED}:5: 1418 of 3"],
        PAGES_UNANSWERABLE: [f"{DOTTED}:7"],
        NO_PAGE_LIST: [f"{DOTTED}:8: \"[1, __import__('os')]\""],
    }
    assert (report.documents, report.pages) == (3, 5)
    shown = str(report)
    for part in ("kept 9, left out 1", "1418 of 3", "2023.acl-long.1.pdf"):
        assert part in shown


def test_the_subset_of_mmlongbench(tmp_path: Path) -> None:
    # the rule of the paper's 847: answerable, and a list of pages that is not empty, whatever is in it
    kind = importer.DATASETS["mmlongbench"]
    source = kind.read(write_mmlongbench(tmp_path / "m"), None)
    taken = [label.uid for label in source.labels if kind.in_vrag(label)]
    assert taken == [*(f"{DOTTED}:{n}" for n in (1, 2, 4, 5, 8)), "other_95.pdf:1", "2023.acl-long.1.pdf:1"]


def test_the_two_forms_of_mmlongbench_are_the_same(tmp_path: Path) -> None:
    one = read_mmlongbench(write_mmlongbench(tmp_path / "json"))
    other = read_mmlongbench(write_mmlongbench(tmp_path / "parquet", "parquet"))
    assert one.labels == other.labels and len(one.labels) == 10


def test_vidoseek(pool: tuple[Path, dict[str, ImportReport]]) -> None:
    out, reports = pool
    report = reports["vidoseek"]
    questions = [q for q in load_questions(out / "questions.json") if q.dataset == "vidoseek"]
    assert [(q.question_id, q.gold_pages, q.source_type, q.query_type, q.answer_format) for q in questions] == [
        ("vidoseek/a_1", ("vidoseek/bees.pdf#2",), "Layout", "Multi-Hop", "Str"),
        ("vidoseek/a_2", ("vidoseek/bees.pdf#1",), "Text", "Single-Hop", "Int"),
        ("vidoseek/b_1", ("vidoseek/caf\u00e9.v2.pdf#1",), "Table", "Multi-Hop", "Str"),
        ("vidoseek/d", (), "", "", "None"),  # of no document at all
    ]
    # the deck of the same name in the folder of another benchmark is not taken
    assert "nectar" in Corpus.open(out).page("vidoseek/bees.pdf#2").text
    assert (report.subset, report.expected, report.selected, report.as_expected) == ("vrag", 1142, 5, False)
    assert report.left_out.by_reason == {
        "no field 'reference_answer'": ["vidoseek.json, entry 7"],
        "have the id of an earlier question": ["a_2"],
        "are about a document that is missing": ["b_2"],
    }
    assert "the paper has 1142" in str(report)


def test_decks_of_slidevqa(pool: tuple[Path, dict[str, ImportReport]]) -> None:
    out, reports = pool
    questions, report = by_id(out), reports["slidevqa"]
    deck = "slidevqa/sales.v1.2-final.zip"
    assert questions["slidevqa/train/8"].gold_pages == (f"{deck}#1", f"{deck}#2")
    assert (questions["slidevqa/train/8"].query_type, questions["slidevqa/train/8"].split) == ("Multi-Hop", "train")
    assert questions["slidevqa/test/7"].gold_pages == ("slidevqa/gaps.zip#3",)
    assert questions["slidevqa/test/11"].gold_pages == ("slidevqa/gaps.zip#1",)
    assert report.left_out.by_reason == {
        "not JSON": ["test.jsonl, line 5"],
        "need a page whose picture is missing": ["test/9"],
        "are about a document that is missing": ["test/10"],
    }
    assert report.blank == ["slidevqa/gaps.zip#2"]
    # page 3 is the third colour although the second picture is lost
    corpus = Corpus.open(out)
    red, green, blue = corpus.image("slidevqa/gaps.zip#3").getpixel((5, 200))  # type: ignore[misc]
    assert blue > 200 and red < 60 and green < 60
    assert corpus.image("slidevqa/gaps.zip#2").getpixel((5, 200)) == (255, 255, 255)


def test_the_hubs_form_of_slidevqa(tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    report = import_dataset("slidevqa", write_slidevqa_parquet(tmp_path / "p"), out, scope="document", **FAST)
    questions = by_id(out)
    assert report.kept == 5 and report.blank == ["slidevqa/gaps.zip#2"]
    assert questions["slidevqa/test/10"].gold_pages == ("slidevqa/nowhere.zip#1",)
    assert questions["slidevqa/train/8"].scope == ("slidevqa/sales.v1.2-final.zip",)
    red, green, blue = Corpus.open(out).image("slidevqa/nowhere.zip#3").getpixel((5, 200))  # type: ignore[misc]
    assert blue > 200 and red < 60 and green < 60
    # a search stays inside the question's own deck, found here by the names of the decks
    env = VRAGEnv(corpus=out, questions=out / "questions.json", max_turns=6)
    env.reset(options={"question_id": "slidevqa/train/8"})
    for _ in range(4):
        env.step("<think>a</think><search>gaps nowhere sales final</search>")
    assert [page.partition("#")[0] for page in env.episode.pages_shown] == ["slidevqa/sales.v1.2-final.zip"] * 3


def test_the_refined_subset_of_slidevqa(tmp_path: Path) -> None:
    root = write_vidoseek(tmp_path / "v")
    out = tmp_path / "corpus"
    report = import_dataset("slidevqa", root, out, subset="vrag", **FAST)
    assert (report.expected, report.selected, report.kept) == (2020, 2, 2)
    assert Corpus.open(out).page("slidevqa/bees.pdf#1").text.strip() == "Another deck of the same name."
    assert [q.query_type for q in load_questions(out / "questions.json")] == ["Single-Hop", "Multi-Hop"]


def test_the_refined_subset_is_not_invented(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"is a file of its own.*slidevqa_refined.json.*--questions"):
        import_dataset("slidevqa", write_slidevqa_lines(tmp_path / "s"), tmp_path / "corpus", subset="vrag", **FAST)
    assert not (tmp_path / "corpus").exists()


def test_again_with_a_limit_and_again_in_full(tmp_path: Path) -> None:
    root, out = write_mmlongbench(tmp_path / "m"), tmp_path / "corpus"
    few = import_dataset("mmlongbench", root, out, limit=2, **FAST)
    assert (few.kept, few.limited, few.documents) == (2, 8, 1)
    assert Corpus.open(out).doc_ids() == (f"mmlongbench/{DOTTED}",)
    questions = (out / "questions.json").read_bytes()
    version = Corpus.open(out).table.version
    again = import_dataset("mmlongbench", root, out, limit=2, **FAST)
    assert Corpus.open(out).table.version == version  # nothing was written twice
    assert (out / "questions.json").read_bytes() == questions and again.pages == few.pages
    assert import_dataset("mmlongbench", root, out, **FAST).kept == 9
    assert len(load_questions(out / "questions.json")) == 9


def test_a_split(tmp_path: Path) -> None:
    root, out = write_slidevqa_lines(tmp_path / "s"), tmp_path / "corpus"
    report = import_dataset("slidevqa", root, out, split="train", **FAST)
    assert report.counts["splits"] == {"train": 2} and Corpus.open(out).doc_ids() == ("slidevqa/sales.v1.2-final.zip",)
    with pytest.raises(IngestError, match="no question has the split 'dev'; there are \\['test', 'train'\\]"):
        import_dataset("slidevqa", root, out, split="dev", **FAST)


def test_page_images_as_the_scripts_of_vrag_rl_write_them(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        (tmp_path / "img").mkdir(exist_ok=True)
        (tmp_path / "img" / f"a.b_c_{number}.jpg").write_bytes(picture(1))
    library = Library(tmp_path)
    found = library.find("a.b_c.pdf")
    assert isinstance(found, DeckDocument)
    assert [number for number, _ in found.pages] == [1, 2, 4] and found.missing == (3,)
    assert library.find("a.pdf") == library.find("a.b.pdf") == "no PDF and no page images of this name"
    (tmp_path / "img" / "zero_0.jpg").write_bytes(picture(1))
    assert Library(tmp_path).find("zero") == "page images are numbered from 0, expected from 1"


def test_files_of_the_same_name(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a" / "x.pdf", ["one"])
    write_pdf(tmp_path / "b" / "x.pdf", ["one"])
    assert Library(tmp_path).find("x.pdf") == PdfDocument(tmp_path / "a" / "x.pdf")  # the same contents
    write_pdf(tmp_path / "c" / "x.pdf", ["another"])
    reason = Library(tmp_path).find("x.pdf")
    assert isinstance(reason, str) and reason.startswith("3 have this name")
    assert Library(tmp_path).find("x", prefer="c/x") == PdfDocument(tmp_path / "c" / "x.pdf")


def test_names_in_addresses() -> None:
    assert local_name("https://h/95/slug-1-1024.jpg?cb=1/2") == "slug-1-1024.jpg"
    assert local_name("plain.v2.png") == "plain.v2.png"


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a\nb", "x" * 300])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="can not be the name of a file"):
        document_name(name, ParquetDeck(tmp_path, 0))


def test_a_name_does_not_lead_out(tmp_path: Path) -> None:
    deck = DeckDocument(((1, tmp_path / "x.jpg"),))
    assert document_name("../../etc/passwd", deck) == "passwd.zip"
    assert document_name("..\\..\\boot.pdf", deck) == "boot.zip"


def test_lost_pages_at_the_end_and_broken_files(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(picture(1))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    work = tmp_path / "work"
    work.mkdir()
    documents: dict[str, Document] = {
        "deck.zip": DeckDocument(((1, tmp_path / "1.jpg"),), (2, 3)),
        "gone.zip": DeckDocument(((1, tmp_path / "none.jpg"),)),
        "rows.zip": ParquetDeck(tmp_path / "broken.parquet", 0),
    }
    [staged] = stage(documents, work)
    assert staged.names == ("deck.zip",) and staged.blank == (("deck.zip", 2), ("deck.zip", 3))
    reasons = dict(staged.failures)
    assert "can not be read" in reasons["gone.zip"] and "broken.parquet can not be read" in reasons["rows.zip"]
    assert not list(work.iterdir())  # cleared when the caller was done with it


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (read_mmlongbench, "expected samples.json"),
        (read_slidevqa, "expected JSON Lines or parquet"),
        (read_vidoseek, "expected a JSON file with 'examples'"),
    ],
)
def test_nothing_to_read(read: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=message):
        read(tmp_path)
    with pytest.raises(IngestError, match="no directory"):
        read(tmp_path / "none")


def test_several_forms_are_not_guessed(tmp_path: Path) -> None:
    root = write_slidevqa_lines(tmp_path)
    write_slidevqa_parquet(root / "hub")
    with pytest.raises(IngestError, match=r"several forms.*--questions"):
        read_slidevqa(root)
    chosen = read_slidevqa(root, root / "annotations" / "qa" / "train.jsonl")
    assert [label.uid for label in chosen.labels] == ["train/7", "train/8"]
    (root / "vidoseek_old.json").write_text('{"examples": [{"query": "a", "meta_info": {}}]}')
    (root / "vidoseek.json").write_text('{"examples": [{"query": "a", "meta_info": {}}]}')
    with pytest.raises(IngestError, match="several files of annotations"):
        read_vidoseek(root)


def test_archives_are_named_when_documents_are_missing(tmp_path: Path) -> None:
    (tmp_path / "vidoseek.json").write_text(
        json.dumps(
            {"examples": [{"uid": 1, "query": "q", "reference_answer": "a", "meta_info": {"file_name": "x.pdf"}}]}
        )
    )
    write_zip(tmp_path / "vidoseek_pdf_document.zip", {"x.pdf": b"%PDF"})
    with pytest.raises(IngestError, match=r"none of the 1 documents.*unpack vidoseek_pdf_document.zip first"):
        import_dataset("vidoseek", tmp_path, tmp_path / "corpus", **FAST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subset": "x"}, "unknown subset 'x'"),
        ({"scope": "page"}, "scope must be one of corpus, document"),
        ({"limit": 0}, "limit must be at least 1"),
    ],
)
def test_arguments(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        import_dataset("vidoseek", tmp_path, tmp_path / "c", **change)
    with pytest.raises(ValueError, match="unknown data set 'docvqa'"):
        import_dataset("docvqa", tmp_path, tmp_path / "c")


def test_more_than_the_common_form_has(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", ["a"])
    one = common(1, "q", "a", "a.pdf", [1], evidence_box=[[1, 0, 0, 1, 1]], reference=[["a.pdf", 1]])
    two = common(2, "q", "a", "a.pdf", [1, 1], reference=[["a.pdf", 1], ["b.pdf", 1]])
    (tmp_path / "vidoseek.json").write_text(json.dumps([one, two]))
    source = read_vidoseek(tmp_path)
    assert [label.problems for label in source.labels] == [((NO_BOXES, ""),)]
    [(place, reason)] = source.unreadable
    assert place == "vidoseek.json, entry 2" and reason.startswith("gold pages in several documents")


THINGS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2000) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), THINGS), max_size=4))
def test_no_annotation_breaks_a_reader(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    sound = {
        "samples.json": mmlb_entry("q", "a", "[1]", "[]", "Str"),
        "vidoseek.json": common("u", "q", "a", "x.pdf", [1]),
        "test.jsonl": slide_entry("d", "u", "q", "a", [1]),
    }
    readers = {"samples.json": read_mmlongbench, "vidoseek.json": read_vidoseek, "test.jsonl": read_slidevqa}
    for name, entry in sound.items():
        rows = [*entries, entry]
        lines = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
        (tmp_path / name).write_text(lines)
        source = readers[name](tmp_path, tmp_path / name)
        assert len(source.labels) + len(source.unreadable) == len(rows)
        assert source.labels[-1].text == "q" and source.labels[-1].pages == (1,)


def test_lists_of_images_are_needed(tmp_path: Path) -> None:
    entry = slide_entry("sales", 1, "q", "a", [1])
    del entry["image_urls"]
    (tmp_path / "test.jsonl").write_text(json.dumps(entry) + "\n")
    assert read_slidevqa(tmp_path).find("sales") == "no list of images ('image_urls') for this deck"
