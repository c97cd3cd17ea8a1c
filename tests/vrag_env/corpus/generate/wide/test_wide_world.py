"""A wide world on disk: the same bytes on any number of processes, after a kill, and what is refused."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vrag_env.corpus.generate import WorldDials, generate_wide_world
from vrag_env.corpus.generate.wide import held_out, world
from vrag_env.corpus.generate.wide.terms import ORDINALS
from vrag_env.corpus.generate.wide.world import write_whole
from vrag_env.corpus.lock import write_lock
from vrag_env.errors import CorpusError, WorldError
from vrag_env.questions import Question, load_questions

DIALS = WorldDials(seed=5, questions=330, distractors=1, injection_share=0.3, unanswerable_share=0.2)


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and p.name != ".write_lock"
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Question]]:
    directory = tmp_path_factory.mktemp("wide")
    report = generate_wide_world(DIALS, directory, workers=1, progress=False)
    assert (report.documents, report.pages, report.questions) == (34, 204, 330)
    return directory, load_questions(directory / "questions.json")


def test_two_processes_write_the_same_bytes_as_one(made: tuple[Path, list[Question]], tmp_path: Path) -> None:
    generate_wide_world(DIALS, tmp_path, workers=2, progress=False)
    assert files(tmp_path) == files(made[0])
    assert len(list((tmp_path / "documents").iterdir())) == 34


def test_a_killed_run_is_completed(made: tuple[Path, list[Question]], tmp_path: Path) -> None:
    code = (
        "import sys; from vrag_env.corpus.generate import WorldDials, generate_wide_world as g;"
        f"g(WorldDials.read({dataclasses.asdict(DIALS)!r}), sys.argv[1], workers=2, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "w")])
    parts = tmp_path / "w" / ".parts"
    deadline = time.monotonic() + 120
    while not (parts.exists() and any(parts.glob("*.json"))) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "w" / "questions.json").exists()
    generate_wide_world(DIALS, tmp_path / "w", workers=1, progress=False)
    left = {name for name in files(tmp_path / "w") if not name.endswith(".tmp")}
    assert left == set(files(made[0]))
    assert all(files(tmp_path / "w")[name] == content for name, content in files(made[0]).items())


def test_what_is_done_is_not_drawn_again(
    made: tuple[Path, list[Question]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    real = world.draw_family

    def fail_at_five(dials: WorldDials, family: int) -> Any:
        drawn.append(family)
        if drawn == [0, 1, 2, 3, 4, 5]:
            raise RuntimeError("stopped here")
        return real(dials, family)

    monkeypatch.setattr(world, "draw_family", fail_at_five)
    with pytest.raises(RuntimeError, match="stopped here"):
        generate_wide_world(DIALS, tmp_path, workers=1, progress=False)
    generate_wide_world(DIALS, tmp_path, workers=1, progress=False)
    generate_wide_world(DIALS, tmp_path, workers=1, progress=False)
    assert drawn == [0, 1, 2, 3, 4, 5, *range(5, 17)]
    assert files(tmp_path) == files(made[0])


def test_other_dials_are_refused(made: tuple[Path, list[Question]]) -> None:
    with pytest.raises(CorpusError, match="other dials"):
        generate_wide_world(dataclasses.replace(DIALS, seed=6), made[0], progress=False)


def test_documents_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    with pytest.raises(CorpusError, match="no world wrote"):
        generate_wide_world(DIALS, tmp_path, progress=False)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    write_whole(tmp_path / "world.json", DIALS.to_json().encode())
    with write_lock(tmp_path), pytest.raises(CorpusError, match="another process"):
        generate_wide_world(DIALS, tmp_path, progress=False)


def test_what_goes_wrong_in_a_process_is_said(tmp_path: Path) -> None:
    """Pages that are all flow charts have no values, so that two of them can not be joined."""
    dials = WorldDials(questions=400, kinds=("flow",), distractors=0)
    for workers in (1, 2):
        with pytest.raises(WorldError, match="multi_hop_share"):
            generate_wide_world(dials, tmp_path / str(workers), workers=workers, progress=False)
    with pytest.raises(WorldError, match="workers"):
        generate_wide_world(dials, tmp_path, workers=0)


def test_the_shares_are_exact(made: tuple[Path, list[Question]]) -> None:
    questions = made[1]
    assert len(questions) == 330
    assert Counter(q.hops for q in questions) == {0: 66, 2: 99, 1: 165}
    assert sum(q.answerable for q in questions) == 264
    assert {q.difficulty for q in questions} == {"easy", "medium", "hard"}
    types = {part for q in questions for part in q.source_type.split(", ")}
    assert types == {"Text", "Table", "Chart", "Figure", "Layout"}
    per_document = Counter(q.question_id.rsplit("-p", 1)[0] for q in questions if q.hops == 1)
    assert max(per_document.values()) <= 10


def test_no_text_is_asked_twice(made: tuple[Path, list[Question]]) -> None:
    texts = Counter(q.text for q in made[1])
    assert texts.most_common(1)[0][1] == 1
    assert len({q.question_id for q in made[1]}) == len(made[1])


def test_splits_share_neither_documents_nor_held_out_templates(made: tuple[Path, list[Question]]) -> None:
    questions = made[1]
    documents: dict[str, set[str]] = {}
    templates: dict[str, set[str]] = {}
    for question in questions:
        family = "-".join(question.question_id.split("-")[:3])  # all editions of an organisation
        documents.setdefault(question.split, set()).add(family)
        templates.setdefault(question.split, set()).add(question.template)
    assert set(documents) == {"train", "test", "test_templates"}
    for one, other in (("train", "test"), ("train", "test_templates"), ("test", "test_templates")):
        assert not documents[one] & documents[other]
    assert not templates["test_templates"] & (templates["train"] | templates["test"])
    hidden = held_out(DIALS)
    for question in questions:
        kinds = set(
            question.template.split("/")[-1].split("+") if question.hops == 2 else [question.template.split("/")[0]]
        )
        assert (kinds <= set(hidden)) is (question.split == "test_templates"), question.template


def test_an_order_on_a_page_is_on_record(made: tuple[Path, list[Question]]) -> None:
    carrying = [q for q in made[1] if q.injection is not None]
    assert 0.2 < len(carrying) / len(made[1]) < 0.7
    for question in carrying:
        assert question.injection is not None
        assert not question.gold_pages or question.injection.page_id in question.gold_pages
        assert question.injection.answer not in (question.answer, *question.answer_variants)
    assert any(not q.answerable for q in carrying)


@pytest.mark.parametrize(
    "dials",
    [
        {"questions": 120, "distractors": 11, "multi_hop_share": 0.4, "unanswerable_share": 0.5},
        {"questions": 80, "distractors": 0, "multi_hop_share": 0.6, "unanswerable_share": 0.3},
        {"questions": 80, "distractors": 0, "multi_hop_share": 0.6, "kinds": ("bars", "flow", "spec")},
        {"questions": 80, "distractors": 2, "multi_hop_share": 0.6, "kinds": ("lines", "pie")},
        {"questions": 40, "distractors": 1, "multi_hop_share": 0, "kinds": ("flow",)},
        {"questions": 7, "pages": 100, "distractors": 3},
    ],
)
def test_extreme_dials_are_met(dials: dict[str, Any], tmp_path: Path) -> None:
    report = generate_wide_world(WorldDials.read(dials), tmp_path, workers=1, progress=False)
    questions = load_questions(tmp_path / "questions.json")
    assert len(questions) == len({q.text for q in questions}) == dials["questions"] == report.questions
    assert report.pages >= dials.get("pages", 0)


def test_an_edition_that_is_asked_for_in_vain_does_not_exist(made: tuple[Path, list[Question]]) -> None:
    """The question sounds like one of an edition that exists, and no document is of the edition it names."""
    documents = [path.stem for path in (made[0] / "documents").iterdir()]
    ordinals = [english for english, _ in ORDINALS]
    asked = [question for question in made[1] if question.template.endswith("/no-edition")]
    assert len(asked) > 10
    for question in asked:
        organisation = "-".join(question.question_id.split("-")[:3])
        ordinal = re.search(r" for the (\w+) [a-z ]+ of \d{4}\?$", question.text)
        assert ordinal is not None
        number = ordinals.index(ordinal[1]) + 1
        editions = [int(re.sub(r"\D", "", name.split("-")[3])) for name in documents if name.startswith(organisation)]
        assert len(editions) == 2 and number not in editions
