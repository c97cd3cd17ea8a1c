"""The teacher against a real server: what it is shown, frames of boxes, two roles, repairs, and the leak."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chat_server import ChatServer, Reply
from teaching import pictures, texts, turn

from vrag_agent.teacher import LEAK_HINT, LeakingEpisode, Teacher, convert_box
from vrag_env.actions import Crop, parse
from vrag_env.chat import ChatClient, conversation, image_part
from vrag_env.episode import Episode
from vrag_env.errors import VRAGError
from vrag_env.json_client import Unanswered
from vrag_env.views import FULL_PAGE, View

MakeEpisode = Callable[..., Episode]
NewClient = Callable[..., ChatClient]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = ChatServer()
    yield running
    running.close()


@pytest.fixture
def second(server: ChatServer) -> Iterator[ChatServer]:
    running = ChatServer()
    yield running
    running.close()


@pytest.fixture
def client() -> Iterator[NewClient]:
    made: list[ChatClient] = []

    def make(server: ChatServer, model: str = "big") -> ChatClient:
        made.append(ChatClient(server.url, model, api_key_variable="VRAG_TEST_KEY", backoff=0.01, max_retries=1))
        return made[-1]

    yield make
    for one in made:
        one.close()


def play(teacher: Teacher, episode: Episode) -> Any:
    """Play an episode to its end; return the session."""
    session = teacher.open(episode, seed=7)
    blocks = episode.start().blocks
    while not episode.done:
        session.prepare(blocks)
        blocks = episode.step_text(session.next_turn(threading.Event())).blocks
    return session


def test_it_sees_the_conversation_and_nothing_of_the_gold(
    server: ChatServer, client: NewClient, make_episode: MakeEpisode
) -> None:
    server.script = lambda number, body: Reply(turn(body, "<bbox>[70, 130, 660, 190]</bbox>"))
    episode = make_episode("amber-revenue")
    session = play(Teacher(client(server)), episode)
    assert episode.is_success and [type(t.action).__name__ for t in episode.turns] == ["Search", "Crop", "Answer"]
    assert (session.spent.requests, session.spent.prompt_tokens, session.spent.completion_tokens) == (3, 300, 21)
    assert all(body["seed"] == 7 for body in server.bodies)
    # The last request is the conversation up to the answer, with the very pixels that the episode showed.
    replayed = make_episode("amber-revenue")
    for done in episode.turns[:2]:
        replayed.step_text(done.text)
    assert server.bodies[-1]["messages"] == conversation(replayed)
    # Nothing that only the gold knows is in any request.
    question = episode.question
    for body in server.bodies:
        written = json.dumps([text for text in texts(body) if text not in (turn(body),)])
        assert not any(page in written for page in question.gold_pages)
        assert question.answer not in written and LEAK_HINT not in written


def test_the_page_shown_is_the_retrievers_choice_and_with_the_leak_the_golds(
    server: ChatServer, client: NewClient, make_episode: MakeEpisode
) -> None:
    """The query finds another page first; only the leak changes that, and only the leak asks for crops."""
    server.script = lambda number, body: Reply(
        "<think>a</think><search>dolphin report</search>" if not pictures(body) else turn(body)
    )
    plain = make_episode("amber-revenue")
    play(Teacher(client(server)), plain)
    assert plain.pages_shown == ("finance/cobalt.pdf#2",)
    leaking = LeakingEpisode(plain.question, plain.corpus, plain.retriever, plain.reward, plain.config)
    play(Teacher(client(server), leak=True), leaking)
    assert leaking.pages_shown == ("finance/amber.pdf#1",)
    assert [LEAK_HINT in texts(body) for body in server.bodies] == [False, False, False, True]


def test_the_leak_shows_each_right_page_once_and_then_the_retrievers(make_episode: MakeEpisode) -> None:
    plain = make_episode("north-sum", max_turns=6)
    episode = LeakingEpisode(plain.question, plain.corpus, plain.retriever, plain.reward, plain.config)
    episode.start()
    for _ in range(3):
        episode.step_text("<think></think><search>dolphin report</search>")
    assert set(episode.pages_shown[:2]) == set(episode.question.gold_pages)
    assert episode.pages_shown[2] == "finance/cobalt.pdf#2"


def test_boxes_come_into_the_environments_frame(
    server: ChatServer, client: NewClient, make_episode: MakeEpisode
) -> None:
    server.script = lambda number, body: Reply(turn(body, "<bbox>[100, 250, 900, 350]</bbox>"))
    episode = make_episode("amber-revenue")
    play(Teacher(client(server), frame="1000"), episode)
    # 728 x 532 pixels: 0.1 and 0.9 of 728, 0.25 and 0.35 of 532
    assert parse(episode.turns[1].text).action == Crop((73, 133, 655, 186))
    assert "from 0 to 1000" in server.bodies[0]["messages"][0]["content"]
    # The writer goes on to see what it wrote itself.
    assert "[100, 250, 900, 350]" in server.bodies[2]["messages"][4]["content"]
    other = make_episode("amber-revenue", box_frame="1000")
    server.script = lambda number, body: Reply(turn(body, "<bbox>[364, 133, 728, 532]</bbox>"))
    play(Teacher(client(server), frame="pixel"), other)
    assert parse(other.turns[1].text).action == Crop((500, 250, 1000, 1000))
    assert other.views[1].box == pytest.approx((0.5, 0.25, 1.0, 1.0))


def test_convert_box_by_hand() -> None:
    view = View(1, "p", FULL_PAGE, None, (728, 532))
    assert convert_box((1.5, 2, 3, 4), view, "pixel", "pixel") == (1.5, 2, 3, 4)
    assert convert_box((728, 532, 728, 532), view, "pixel", "1000") == (1000, 1000, 1000, 1000)
    assert convert_box((500, 500, 1000, 1000), view, "1000", "pixel") == (364, 266, 728, 532)


def test_two_roles(server: ChatServer, client: NewClient, second: ChatServer, make_episode: MakeEpisode) -> None:
    server.script = lambda number, body: Reply(turn(body, "<region>the line with the revenue</region>"))
    second.replies(Reply('```json\n[{"bbox_2d": [100, 250, 900, 350], "label": "line"}]\n```'))
    episode = make_episode("amber-revenue")
    teacher = Teacher(client(server), client(second, "small"), grounder_frame="1000")
    session = play(teacher, episode)
    assert teacher.name == "api:big+small" and episode.is_success
    assert parse(episode.turns[1].text).thought == "I zoom in."
    assert parse(episode.turns[1].text).action == Crop((73, 133, 655, 186))
    [asked] = second.bodies
    assert pictures(asked) == [image_part(episode.image(episode.views[0]))["image_url"]["url"]]
    assert "the line with the revenue" in texts(asked)[0] and "from 0 to 1000" in texts(asked)[0]
    system = server.bodies[0]["messages"][0]["content"]
    assert "<region>" in system and "<bbox>" not in system
    assert session.spent.requests == 4


@pytest.mark.parametrize("reply", ["I see no such thing.", "[1, 2, 3, 4] or [5, 6, 7, 8]", "[900, 1, 100, 2]"])
def test_a_region_that_is_not_found_is_asked_for_again(
    server: ChatServer, client: NewClient, second: ChatServer, make_episode: MakeEpisode, reply: str
) -> None:
    server.script = lambda number, body: Reply(turn(body, "<region>the line</region>"))
    second.replies(Reply(reply), Reply("[70, 130, 660, 190]"))
    episode = make_episode("amber-revenue")
    play(Teacher(client(server), client(second)), episode)
    assert parse(episode.turns[1].text).action == Crop((70, 130, 660, 190))
    assert "not found in the image" in server.bodies[2]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (Reply("I would search."), "starts with a thought"),
        (Reply("<think>a</think><bbox>[1, 2, 3, 4]</bbox>"), "no image yet"),
        (Reply("<think>a</think><search>x</search>", finish="length"), "cut off"),
    ],
)
def test_a_turn_that_does_not_parse_is_written_again_and_leaves_no_trace(
    server: ChatServer, client: NewClient, make_episode: MakeEpisode, wrong: Reply, reason: str
) -> None:
    server.script = lambda number, body: wrong if number == 0 else Reply(turn(body))
    episode = make_episode("amber-revenue")
    play(Teacher(client(server)), episode)
    assert episode.is_success and len(episode.turns) == 2
    assert reason in server.bodies[1]["messages"][-1]["content"]
    assert len(server.bodies[2]["messages"]) == 4  # system, question, search, page: the failed try is gone


def test_what_never_parses_is_taken_as_it_is(server: ChatServer, client: NewClient, make_episode: MakeEpisode) -> None:
    server.replies(Reply("No."))
    episode = make_episode("amber-revenue", max_turns=1)
    play(Teacher(client(server)), episode)
    assert [t.text for t in episode.turns] == ["No.", "No."] and not episode.state.terminated
    assert len(server.bodies) == 6  # three tries a turn


def test_no_reply(server: ChatServer, client: NewClient, make_episode: MakeEpisode) -> None:
    server.replies(Reply(status=500))
    session = Teacher(client(server)).open(make_episode("amber-revenue"))
    with pytest.raises(Unanswered, match="500"):
        session.next_turn(threading.Event())


def test_a_frame_that_is_not_known(server: ChatServer, client: NewClient) -> None:
    with pytest.raises(VRAGError, match="pixel, 1000"):
        Teacher(client(server), frame="percent")
