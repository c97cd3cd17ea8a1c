"""What a visitor can do, without the web."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vrag_agent.app import session as session_module
from vrag_agent.app.agents import ChatPlayer, make_agent
from vrag_agent.app.session import Session, World, check_upload
from vrag_env.corpus import Corpus
from vrag_env.episode import EpisodeConfig
from vrag_env.errors import VRAGError
from vrag_env.players import OraclePlayer, RandomPlayer
from vrag_env.questions import Question
from vrag_env.retrieval import make_retriever
from vrag_env.rewards import make_reward

REVENUE = "What revenue does Amber Falcon report for the North region, in million?"


@pytest.fixture
def world(tiny_corpus: Corpus, tiny_questions: Sequence[Question]) -> World:
    return World(
        corpus=tiny_corpus,
        retriever=make_retriever("lexical", tiny_corpus),
        questions={question.question_id: question for question in tiny_questions},
        reward=make_reward("paper"),
        config=EpisodeConfig(),
        agents={"oracle": OraclePlayer(), "random": RandomPlayer(0)},
        long_side=300,
    )


@pytest.fixture
def session(world: World) -> Any:
    made = Session(world)
    yield made
    made.close()


def pdf(path: Path, words: str) -> str:
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), pagesize=(300, 300))
    canvas.drawString(50, 150, words)
    canvas.save()
    return str(path)


def test_the_oracle_plays_a_known_question(session: Session) -> None:
    session.begin(REVENUE, question_id="amber-revenue")
    assert sum(1 for _ in session.play("oracle")) == len(session.record().turns)
    record = session.record()
    assert (record.outcome, record.answer, record.policy) == ("right", "42.5", "oracle")
    assert len(record.seconds) == len(record.turns)
    assert record.weights


def test_an_open_question_has_no_reward(session: Session) -> None:
    session.begin(f"{REVENUE} Please.", question_id="amber-revenue")  # no longer the known question
    with pytest.raises(VRAGError, match="the oracle only plays"):
        session.let("oracle")
    session.take_search("ambrosia")
    session.take_answer("42.5")
    record = session.record()
    assert (record.outcome, record.policy) == ("wrong", "you")
    assert record.weights == {}
    assert all(turn.reward_terms == () for turn in record.turns)


def test_taking_over(session: Session) -> None:
    with pytest.raises(VRAGError, match="no episode has begun"):
        session.take_search("x")
    session.begin(REVENUE, question_id="amber-revenue")
    with pytest.raises(VRAGError, match="there is no image"):
        session.take_crop((0, 0, 10, 10))
    with pytest.raises(VRAGError, match="type a query first"):
        session.take_search("  ")
    session.let("oracle")
    with pytest.raises(VRAGError, match="draw a box"):
        session.take_crop((5, 5, 5, 5))
    session.take_crop((655, 186, 73, 133))  # drawn from the lower right corner
    view = session.view
    assert view is not None and view.parent_id == 1
    assert view.box == pytest.approx((73 / 728, 133 / 532, 655 / 728, 186 / 532))
    session.take_answer("42.5")
    assert session.record().policy == "oracle and you"
    with pytest.raises(VRAGError, match="the episode has ended"):
        session.take_search("more")


def test_a_box_is_in_pixels_whatever_the_frame_of_the_episode(world: World, tiny_corpus: Corpus) -> None:
    from dataclasses import replace

    session = Session(replace(world, config=EpisodeConfig(box_frame="1000")))
    session.begin(REVENUE)
    session.take_search("ambrosia")
    session.take_crop((364, 133, 728, 266))
    view = session.view
    assert view is not None
    assert view.box == pytest.approx((0.5, 0.25, 1.0, 0.5))


def test_an_agent_can_be_stopped(session: Session) -> None:
    session.begin(REVENUE, question_id="amber-revenue")
    turns = session.play("random")
    next(turns)
    session.stop.set()
    assert list(turns) == []
    assert len(session.record().turns) == 1


def test_questions_that_are_none(session: Session) -> None:
    with pytest.raises(VRAGError, match="type a question"):
        session.begin(" ")
    with pytest.raises(VRAGError, match="at most 2000 characters"):
        session.begin("x" * 2_001)
    session.begin("x")
    with pytest.raises(VRAGError, match="there is no agent 'nobody'"):
        session.let("nobody")


def test_own_documents_are_searched_and_gone_afterwards(world: World, tmp_path: Path) -> None:
    session = Session(world)
    with pytest.raises(VRAGError, match="you have not added a document"):
        session.begin("What?", mine=True)
    told: list[tuple[int, int]] = []
    report = session.add([pdf(tmp_path / "quince.pdf", "quince")], lambda done, expected: told.append((done, expected)))
    assert (report.pages, report.failures) == (1, ())
    assert told[-1][0] == 1
    assert [hit.page_id for hit in session.search("quince", 5, mine=True)] == ["quince.pdf#1"]
    assert all(hit.page_id != "quince.pdf#1" for hit in session.search("quince", 5, mine=False))
    session.add([pdf(tmp_path / "medlar.pdf", "medlar")])
    assert [hit.page_id for hit in session.search("medlar", 5, mine=True)] == ["medlar.pdf#1"]
    session.begin("What?", mine=True)
    session.take_search("quince")
    assert session.record().pages_shown == ("quince.pdf#1",)
    assert session.own is not None
    where = Path(session.own.path)
    assert where.exists()
    session.close()
    assert not where.exists()
    assert not Session(world).own


def test_uploads_are_checked_before_they_are_parsed(session: Session, tmp_path: Path, monkeypatch: Any) -> None:
    bad = tmp_path / "bad.pdf"
    bad.write_bytes(b"MZ not a pdf")
    with pytest.raises(VRAGError, match=r"bad\.pdf is not a PDF"):
        session.add([str(bad)])
    script = tmp_path / "x.svg"
    script.write_text("<svg onload=alert(1)>")
    with pytest.raises(VRAGError, match="expected a file that ends with"):
        check_upload(script)
    image = tmp_path / "x.png"
    image.write_bytes(b"%PDF-1.4")
    with pytest.raises(VRAGError, match="is not what its ending"):
        check_upload(image)
    with pytest.raises(VRAGError, match="no file was given"):
        session.add([])
    good = pdf(tmp_path / "good.pdf", "good")
    monkeypatch.setattr(session_module, "MAX_UPLOAD_BYTES", 100)
    with pytest.raises(VRAGError, match="over the limit"):
        session.add([good])
    monkeypatch.setattr(session_module, "MAX_UPLOAD_BYTES", 10_000)
    monkeypatch.setattr(session_module, "MAX_UPLOADS", 1)
    with pytest.raises(VRAGError, match="at most 1 files"):
        session.add([good, good])
    assert session.own is None


def test_agents_by_name() -> None:
    assert isinstance(make_agent("oracle"), OraclePlayer)
    agent = make_agent("api:Qwen/Qwen2.5-VL-7B-Instruct@http://127.0.0.1:1/v1")
    assert isinstance(agent, ChatPlayer)
    assert agent.client.model == "Qwen/Qwen2.5-VL-7B-Instruct"
    with pytest.raises(VRAGError, match="expected api:MODEL@URL"):
        make_agent("api:model")
    with pytest.raises(VRAGError, match="unknown player"):
        make_agent("orakel")


def test_two_visitors_do_not_wait_for_each_other(world: World) -> None:
    from dataclasses import replace

    started, go = threading.Event(), threading.Event()

    class Slow:
        def act(self, episode: Any) -> str:
            started.set()
            assert go.wait(60)
            return "<think>x</think><answer>y</answer>"

    shared = replace(world, agents={"slow": Slow()})
    one, two = Session(shared), Session(shared)
    one.begin("What?")
    thread = threading.Thread(target=one.let, args=("slow",))
    thread.start()
    assert started.wait(60)
    assert two.search("ambrosia", 1, mine=False)
    go.set()
    thread.join(60)
    assert one.record().answer == "y"
