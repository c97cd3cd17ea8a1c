"""A generated world: dials, determinism, resuming, and what is asked."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.corpus.generate import KINDS, SYMBOLS, WorldConfig, generate_world
from vrag_env.corpus.generate.world import PAGES
from vrag_env.errors import CorpusError
from vrag_env.questions import NOT_ANSWERABLE, Question, load_questions

CONFIG = WorldConfig(seed=3, documents=12)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Question]]:
    directory = tmp_path_factory.mktemp("world")
    return directory, generate_world(CONFIG, directory)


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_every_kind_has_a_module() -> None:
    assert tuple(PAGES) == KINDS


def test_same_dials_same_bytes(world: tuple[Path, list[Question]], tmp_path: Path) -> None:
    generate_world(CONFIG, tmp_path)
    assert files(tmp_path) == files(world[0])


def test_another_seed_gives_other_bytes(world: tuple[Path, list[Question]], tmp_path: Path) -> None:
    generate_world(dataclasses.replace(CONFIG, seed=4), tmp_path)
    assert not set(files(tmp_path).values()) & set(files(world[0]).values())


def test_a_kind_left_out_leaves_the_other_pages_alone(world: tuple[Path, list[Question]], tmp_path: Path) -> None:
    boards = generate_world(dataclasses.replace(CONFIG, kinds=("board",)), tmp_path)

    def answers(questions: list[Question]) -> dict[str, str]:
        return {q.text: q.answer for q in questions if "-board-" in q.question_id and q.answerable}

    assert answers(boards) == answers(world[1])


def test_the_questions_are_on_disk(world: tuple[Path, list[Question]]) -> None:
    directory, questions = world
    assert load_questions(directory / "questions.json") == questions
    assert len(list((directory / "documents").glob("*.pdf"))) == 12


def test_a_complete_world_is_only_read(world: tuple[Path, list[Question]], tmp_path: Path) -> None:
    first = generate_world(WorldConfig(documents=2), tmp_path)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert generate_world(WorldConfig(documents=2), tmp_path) == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == times


def test_a_world_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    first = generate_world(WorldConfig(documents=3), tmp_path)
    whole = files(tmp_path)
    (tmp_path / "questions.json").unlink()
    next((tmp_path / "documents").glob("*.pdf")).unlink()
    assert generate_world(WorldConfig(documents=3), tmp_path) == first
    assert files(tmp_path) == whole
    next((tmp_path / "documents").glob("*.pdf")).unlink()
    generate_world(WorldConfig(documents=3), tmp_path)
    assert files(tmp_path) == whole


def test_a_directory_with_something_else_is_refused(tmp_path: Path) -> None:
    generate_world(WorldConfig(documents=1), tmp_path / "a")
    with pytest.raises(CorpusError, match="other dials"):
        generate_world(WorldConfig(documents=2), tmp_path / "a")
    (tmp_path / "b" / "documents").mkdir(parents=True)
    with pytest.raises(CorpusError, match="no world wrote"):
        generate_world(WorldConfig(documents=1), tmp_path / "b")


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"documents": 0}, "documents must be"),
        ({"kinds": ()}, "kinds must be"),
        ({"kinds": ("board", "board")}, "kinds must be"),
        ({"kinds": ("poster",)}, "kinds must be.*poster"),
        ({"test_share": 1.0}, "test_share must be"),
        ({"unanswerable_share": 0.5}, "unanswerable_share must be"),
        ({"symbol_size": 100}, "symbol_size must be"),
        ({"footnote_size": 1}, "footnote_size must be"),
    ],
)
def test_a_dial_out_of_range_is_named(dials: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldConfig(**dials)


def test_the_stamp_depends_on_every_dial() -> None:
    base = WorldConfig()
    changed = [
        {"seed": 1}, {"documents": 25}, {"kinds": ("board",)}, {"test_share": 0.5},
        {"unanswerable_share": 0.1}, {"symbol_size": 21.0}, {"footnote_size": 5.0},
    ]  # fmt: skip
    assert {next(iter(c)) for c in changed} == {field.name for field in dataclasses.fields(base)}
    assert len({dataclasses.replace(base, **c).stamp for c in changed} | {base.stamp}) == 8


def test_splits_go_by_document(world: tuple[Path, list[Question]]) -> None:
    split_of: dict[str, set[str]] = {}
    for question in world[1]:
        split_of.setdefault("-".join(question.question_id.split("-")[:3]), set()).add(question.split)
    assert Counter(split for splits in split_of.values() for split in splits) == {"train": 9, "test": 3}


def test_the_share_without_an_answer(world: tuple[Path, list[Question]]) -> None:
    unanswerable = [q for q in world[1] if not q.answerable]
    assert len(unanswerable) == round(0.05 * len(world[1]))
    assert {q.split for q in unanswerable} == {"train", "test"}
    for question in unanswerable:
        assert question.answer == NOT_ANSWERABLE
        assert not question.gold_pages and not question.evidence and not question.oracle_query
    assert all(q.gold_pages and q.evidence and q.oracle_query for q in world[1] if q.answerable)


def test_every_kind_of_question_occurs(world: tuple[Path, list[Question]]) -> None:
    questions = [q for q in world[1] if q.answerable]
    assert {q.source_type for q in questions} == {
        "Figure", "Chart", "Table", "Text", "Layout", "Chart, Text", "Layout, Figure"
    }  # fmt: skip
    assert {q.answer_format for q in questions} == {"Str", "Int", "Float"}
    for question in questions:
        hops = len(question.gold_pages)
        assert hops == len({e.page_id for e in question.evidence})
        assert question.query_type == ("Single-Hop" if hops == 1 else "Multi-Hop")
        assert question.source_type.count(",") == hops - 1


def test_no_question_is_asked_twice(world: tuple[Path, list[Question]]) -> None:
    assert len({q.text for q in world[1]}) == len({q.question_id for q in world[1]}) == len(world[1])


def test_symbols_are_uniform(tmp_path: Path) -> None:
    config = WorldConfig(documents=200, kinds=("board",), unanswerable_share=0)
    questions = generate_world(config, tmp_path)
    assert len(questions) == 1200
    counts = Counter(q.answer for q in questions)
    assert set(counts) == set(SYMBOLS)
    # 200 expected each, standard deviation 13.
    assert all(140 < count < 260 for count in counts.values())


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(-5, 5),
    documents=st.integers(1, 3),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    test_share=st.floats(0, 0.9),
    unanswerable_share=st.floats(0, 0.4),
)
def test_any_dials_make_a_world(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    documents: int,
    kinds: list[str],
    test_share: float,
    unanswerable_share: float,
) -> None:
    config = WorldConfig(seed, documents, tuple(kinds), test_share, unanswerable_share)
    questions = generate_world(config, tmp_path_factory.mktemp("any"))
    assert {"-".join(q.question_id.split("-")[:3]) for q in questions} == {
        page.rpartition(".pdf#")[0] for q in questions for page in q.gold_pages
    }


def test_the_built_in_world_never_changes(tmp_path: Path) -> None:
    """Every file of it, name and bytes: checkpoints and published numbers refer to it."""
    generate_world(WorldConfig(), tmp_path)
    digest = hashlib.sha256()
    for name, content in sorted(files(tmp_path).items()):
        digest.update(name.encode() + b"\0" + content)
    assert digest.hexdigest() == "a8abd0b93003da50c76d5c1fb5890f33438df08bc4ee46272f559b3ad0bf746c"
