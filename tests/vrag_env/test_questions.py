"""The questions file: what is read, what is refused and how the refusal reads, and the round trip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.errors import QuestionError
from vrag_env.questions import (
    ANSWER_FORMATS,
    Evidence,
    Injection,
    Question,
    load_questions,
    question_from_example,
    save_questions,
)

REALDOCS = Path(__file__).parents[2] / ".." / "shared" / "realdocs" / "questions.json"


def entry(**changes: Any) -> dict[str, Any]:
    """A minimal entry; ``meta_*`` changes go to ``meta_info``, and ``...`` removes a key."""
    meta = {"file_name": "a.b.pdf", "reference_page": [3], "source_type": "Chart", "query_type": "Single-Hop"}
    example: dict[str, Any] = {"uid": "q1", "query": "How many?", "reference_answer": "12"}
    for key, value in changes.items():
        place, name = (meta, key[5:]) if key.startswith("meta_") and key != "meta_info" else (example, key)
        place[name] = value
        if value is ...:
            del place[name]
    example.setdefault("meta_info", meta)
    if example["meta_info"] is None:
        del example["meta_info"]
    return example


def load(tmp_path: Path, *examples: Any) -> list[Question]:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"examples": list(examples)}), encoding="utf-8")
    return load_questions(path)


def test_an_entry_of_the_released_format(tmp_path: Path) -> None:
    (question,) = load(tmp_path, entry(uid=7, meta_source_type=["Chart", "Table"]))
    assert question == Question(
        question_id="7",
        text="How many?",
        answer="12",
        answer_format="Int",
        gold_pages=("a.b.pdf#3",),
        source_type="Chart, Table",
        query_type="Single-Hop",
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("12", "Int"),
        ("-3", "Int"),
        ("4.5", "Float"),
        (".5", "Float"),
        ("1,258", "Str"),
        ("nan", "Str"),
        ("not Answerable", "None"),
        ("12 %", "Str"),
    ],
)
def test_a_missing_format_follows_from_the_answer(tmp_path: Path, answer: str, expected: str) -> None:
    assert load(tmp_path, entry(reference_answer=answer))[0].answer_format == expected


def test_a_given_format_wins(tmp_path: Path) -> None:
    assert load(tmp_path, entry(meta_answer_format="Str"))[0].answer_format == "Str"


def test_scope_and_data_set(tmp_path: Path) -> None:
    plain, scoped = load(tmp_path, entry(), entry(uid="q2", meta_scope=["a.b.pdf", "c.pdf"], meta_dataset="vidoseek"))
    assert (plain.scope, plain.dataset) == (None, "")
    assert (scoped.scope, scoped.dataset) == (("a.b.pdf", "c.pdf"), "vidoseek")
    save_questions(tmp_path / "written.json", [plain, scoped])
    assert load_questions(tmp_path / "written.json") == [plain, scoped]
    first = json.loads((tmp_path / "written.json").read_text())["examples"][0]["meta_info"]
    assert "scope" not in first and "dataset" not in first  # what is not said is not written


@pytest.mark.parametrize("scope", [[], "a.b.pdf", [3], [" "]])
def test_a_scope_names_documents(tmp_path: Path, scope: Any) -> None:
    with pytest.raises(QuestionError, match=r"meta_info\.scope"):
        load(tmp_path, entry(meta_scope=scope))


def test_one_entry_alone() -> None:
    assert question_from_example(entry()).gold_pages == ("a.b.pdf#3",)
    with pytest.raises(QuestionError, match=r"labels\.json: example 4 \(uid 'q1'\): meta_info\.reference_page"):
        question_from_example(entry(meta_reference_page=[0]), 4, "labels.json")


def test_boxes_go_to_references_by_position_when_pages_agree(tmp_path: Path) -> None:
    (question,) = load(
        tmp_path,
        entry(
            meta_reference=[["b.pdf", 2], ["a.pdf", 2]],
            meta_evidence_box=[[2, 0, 0, 0.5, 0.5], [2, 0.5, 0.5, 1, 1]],
        ),
    )
    assert question.gold_pages == ("b.pdf#2", "a.pdf#2")
    assert question.evidence == (
        Evidence("b.pdf#2", (0.0, 0.0, 0.5, 0.5)),
        Evidence("a.pdf#2", (0.5, 0.5, 1.0, 1.0)),
    )


def test_boxes_go_to_the_only_page_with_their_number(tmp_path: Path) -> None:
    (question,) = load(
        tmp_path,
        entry(
            meta_reference=[["a.pdf", 1], ["b.pdf", 2]],
            meta_evidence_box=[[2, 0, 0, 1, 1], [1, 0, 0, 1, 1], [2, 0.1, 0.1, 0.2, 0.2]],
        ),
    )
    assert [e.page_id for e in question.evidence] == ["b.pdf#2", "a.pdf#1", "b.pdf#2"]


def test_a_box_that_fits_two_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"evidence_box\[0\].*two gold pages have this number"):
        load(tmp_path, entry(meta_reference=[["a.pdf", 2], ["b.pdf", 2]], meta_evidence_box=[[2, 0, 0, 1, 1]]))


BAD_FIELDS = [
    ({"uid": ...}, "uid: expected this key"),
    ({"uid": True}, "uid: expected a string or a whole number, got True"),
    ({"uid": " "}, "uid: expected a string that is not blank"),
    ({"query": ...}, "query: expected this key"),
    ({"query": 5}, "query: expected a string, got 5"),
    ({"query": "\ud800"}, "query: expected text without lone surrogates"),
    ({"reference_answer": 12}, "reference_answer: expected a string, got 12"),
    ({"answer_variants": "x"}, "answer_variants: expected a list of strings, got 'x'"),
    ({"answer_variants": ["x", None]}, r"answer_variants\[1\]: expected a string, got None"),
    ({"meta_info": None}, "meta_info: expected this key"),
    ({"meta_info": []}, r"meta_info: expected an object, got \[\]"),
    ({"meta_file_name": ...}, "meta_info.file_name: expected this key"),
    ({"meta_file_name": ""}, "meta_info.file_name: expected a string that is not blank"),
    ({"meta_reference_page": ...}, "meta_info.reference_page: expected this key"),
    ({"meta_reference_page": 3}, "meta_info.reference_page: expected a list of page numbers, got 3"),
    (
        {"meta_reference_page": [0]},
        r"reference_page\[0\]: expected a whole page number that counts from 1, got 0",
    ),
    ({"meta_reference_page": ["3"]}, r"reference_page\[0\]: expected a whole page number"),
    ({"meta_reference_page": [True]}, r"reference_page\[0\]: expected a whole page number"),
    ({"meta_reference": {}}, r"meta_info.reference: expected a list of \[document, page\]"),
    ({"meta_reference": [["a.pdf"]]}, r"reference\[0\]: expected \[document, page\]"),
    ({"meta_reference": [["a.pdf", -1]]}, r"reference\[0\]\[1\]: expected a whole page number"),
    ({"meta_source_type": 3}, "source_type: expected a string, got 3"),
    ({"meta_query_type": None}, "query_type: expected a string, got None"),
    ({"meta_split": 1}, "split: expected a string, got 1"),
    (
        {"meta_answer_format": "Text"},
        "answer_format: expected one of Str, Int, Float, List, None, got 'Text'",
    ),
    ({"meta_answer_format": None}, "answer_format: expected one of"),
    ({"meta_evidence_box": 1}, r"evidence_box: expected a list of \[page, x0, y0, x1, y1\], got 1"),
    ({"meta_evidence_box": [[3, 0, 0, 1]]}, r"evidence_box\[0\]: expected \[page, x0, y0, x1, y1\]"),
    ({"meta_evidence_box": [[4, 0, 0, 1, 1]]}, r"evidence_box\[0\]: expected a page among the gold pages"),
    ({"meta_evidence_box": [[3, 0, 0, 1, 1.5]]}, "a part of the page's size"),
    ({"meta_evidence_box": [[3, 0.5, 0, 0.4, 1]]}, "0 <= x0 < x1 <= 1"),
    ({"meta_evidence_box": [[3, 0, 0, "1", 1]]}, "four numbers"),
    ({"meta_evidence_box": [[3, 0, 0, float("nan"), 1]]}, "0 <= x0 < x1 <= 1"),
    ({"meta_evidence_box": [[3, 0, 0, 10**400, 1]]}, "0 <= x0 < x1 <= 1"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS, ids=[m for _, m in BAD_FIELDS])
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QuestionError, match=message) as caught:
        load(tmp_path, entry(uid="first"), entry(**changes))
    assert "questions.json" in str(caught.value)
    assert "example 1" in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_wrong_field_names_the_uid(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"example 0 \(uid 'q1'\): query"):
        load(tmp_path, entry(query=None))


def test_two_questions_with_one_uid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match="examples 0 and 2 have the same uid '7'"):
        load(tmp_path, entry(uid=7), entry(), entry(uid="7"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "expected an object with a list under 'examples'"),
        (b'{"examples": {}}', "expected an object with a list under 'examples'"),
        (b'{"examples": []}', "'examples' is empty"),
        (b'{"examples": [3]}', "example 0: example: expected an object, got 3"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "questions.json"
    path.write_bytes(content)
    with pytest.raises(QuestionError, match=message):
        load_questions(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"absent\.json can not be read"):
        load_questions(tmp_path / "absent.json")
    with pytest.raises(QuestionError, match="can not be read"):
        load_questions(tmp_path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"examples": [entry()]}), encoding="utf-8-sig")
    assert len(load_questions(path)) == 1


TEXTS = st.text(min_size=1, max_size=12).filter(str.strip)
SIDES = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[0] < pair[1])
PAGES = st.builds(lambda name, number: f"{name}#{number}", st.sampled_from("ab#"), st.integers(1, 3))


@st.composite
def questions(draw: st.DrawFn) -> Question:
    gold = draw(st.lists(PAGES, unique=True, max_size=4))
    evidence = []
    for page_id in draw(st.lists(st.sampled_from(gold), max_size=4)) if gold else []:
        (x0, x1), (y0, y1) = draw(SIDES), draw(SIDES)
        evidence.append(Evidence(page_id, (x0, y0, x1, y1)))
    return Question(
        question_id=draw(TEXTS),
        text=draw(TEXTS),
        answer=draw(TEXTS),
        answer_variants=tuple(draw(st.lists(TEXTS, max_size=2))),
        answer_format=draw(st.sampled_from(ANSWER_FORMATS)),
        gold_pages=tuple(gold),
        evidence=tuple(evidence),
        source_type=draw(st.text(max_size=5)),
        split=draw(st.sampled_from(["", "train", "test"])),
        oracle_query=draw(st.text(max_size=5)),
    )


@settings(max_examples=100, deadline=None)
@given(items=st.lists(questions(), min_size=1, max_size=4, unique_by=lambda q: q.question_id))
def test_what_is_written_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, items: list[Question]) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    save_questions(path, items)
    assert load_questions(path) == items


@pytest.mark.parametrize(
    "bad",
    [
        Question("", "text", "answer"),
        Question("id", "text", "answer", gold_pages=("a.pdf",)),
        Question("id", "text", "answer", gold_pages=("a.pdf#0",)),
        Question("id", "text", "answer", gold_pages=("a.pdf#01",)),
        Question("id", "text", "answer", gold_pages=("a#1", "a#1")),
        Question("id", "text", "answer", evidence=(Evidence("a.pdf#1", (0, 0, 1, 1)),)),
        Question("id", "text", "answer", answer_format="Text"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, bad: Question) -> None:
    path = tmp_path / "questions.json"
    save_questions(path, [Question("good", "text", "answer")])
    before = path.read_bytes()
    with pytest.raises(QuestionError):
        save_questions(path, [Question("other", "text", "answer"), bad])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_writing_nothing_or_one_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match="no questions"):
        save_questions(tmp_path / "q.json", [])
    with pytest.raises(QuestionError, match="an id of its own"):
        save_questions(tmp_path / "q.json", [Question("a", "t", "x"), Question("a", "t", "y")])


@pytest.mark.skipif(not REALDOCS.exists(), reason="../shared/realdocs is not here")
def test_the_questions_over_real_documents(tmp_path: Path) -> None:
    items = load_questions(REALDOCS)
    assert len(items) == 56
    assert sum(not q.answerable for q in items) == 6
    by_id = {q.question_id: q for q in items}
    assert [e.page_id for e in by_id["open-043"].evidence] == [
        "r-cran-hsaur3/Ch_recursive_partitioning.pdf#12",
        "r-cran-hsaur3/Ch_graphical_display.pdf#10",
    ]
    save_questions(tmp_path / "copy.json", items)
    assert load_questions(tmp_path / "copy.json") == items


def test_what_a_generator_knows_is_kept(tmp_path: Path) -> None:
    question = Question(
        "q1", "How many?", "7", hops=2, difficulty="hard", template="bars/value", injection=Injection("a#b.pdf#3", "42")
    )
    save_questions(tmp_path / "q.json", [question])
    assert load_questions(tmp_path / "q.json") == [question]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hops", -1),
        ("hops", True),
        ("difficulty", 3),
        ("injection", []),
        ("injection", {"page": ["a.pdf", 1]}),
        ("injection", {"page": ["a.pdf", 0], "answer": "42"}),
        ("injection", {"page": "a.pdf", "answer": "42"}),
    ],
)
def test_what_a_generator_knows_is_checked(tmp_path: Path, field: str, value: object) -> None:
    meta = {"reference": [["a.pdf", 1]], field: value}
    example = {"uid": "q1", "query": "How many?", "reference_answer": "7", "meta_info": meta}
    (tmp_path / "q.json").write_text(json.dumps({"examples": [example]}))
    with pytest.raises(QuestionError, match=rf"q1.*meta_info\.{field}"):
        load_questions(tmp_path / "q.json")
