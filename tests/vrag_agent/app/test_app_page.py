"""The web application over HTTP: what it sends along, and whom it answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

gradio = pytest.importorskip("gradio")

from fastapi.testclient import TestClient  # noqa: E402

from vrag_agent.app.box import parse_box  # noqa: E402
from vrag_agent.app.page import make_app  # noqa: E402
from vrag_agent.app.runs import pick, read_run, runs_in  # noqa: E402
from vrag_agent.app.session import World  # noqa: E402
from vrag_agent.app_command import run_app  # noqa: E402
from vrag_env.corpus import Corpus  # noqa: E402
from vrag_env.episode import EpisodeConfig  # noqa: E402
from vrag_env.errors import VRAGError  # noqa: E402
from vrag_env.players import OraclePlayer  # noqa: E402
from vrag_env.questions import Question  # noqa: E402
from vrag_env.replay import episode_to_record  # noqa: E402
from vrag_env.retrieval import make_retriever  # noqa: E402
from vrag_env.rewards import make_reward  # noqa: E402


@pytest.fixture(scope="module")
def world(tiny_corpus: Corpus, tiny_questions: Sequence[Question]) -> World:
    return World(
        corpus=tiny_corpus,
        retriever=make_retriever("lexical", tiny_corpus),
        questions={question.question_id: question for question in tiny_questions},
        reward=make_reward("paper"),
        config=EpisodeConfig(),
        agents={"oracle": OraclePlayer()},
    )


@pytest.fixture(scope="module")
def client(world: World, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with TestClient(make_app(world, tmp_path_factory.mktemp("runs")), base_url="http://127.0.0.1") as made:
        yield made


def test_the_browser_is_kept_on_this_machine(client: Any) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "fonts.googleapis" not in answer.text


def test_only_the_names_of_this_machine(client: Any) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("path", ["/etc/passwd", "../../pyproject.toml", "pyproject.toml"])
def test_no_file_of_the_machine_is_served(client: Any, path: str) -> None:
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_the_events_can_not_be_called_as_an_api(client: Any) -> None:
    named = client.get("/gradio_api/info").json()
    assert named["named_endpoints"] == {}


def test_a_password(world: World, tmp_path: Path) -> None:
    with TestClient(make_app(world, tmp_path, loopback=False, auth=("vrag", "secret"))) as guarded:
        assert guarded.get("/config").status_code == 401
        assert guarded.post("/login", data={"username": "vrag", "password": "wrong"}).status_code == 400
        assert guarded.post("/login", data={"username": "vrag", "password": "secret"}).status_code == 200
        assert guarded.get("/config").status_code == 200


def test_other_addresses_need_a_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VRAG_APP_PASSWORD", raising=False)
    with pytest.raises(VRAGError, match="can be reached by others"):
        run_app(env_options={}, agents=["oracle"], runs=tmp_path, host="0.0.0.0", port=0)


def test_a_box_in_words() -> None:
    assert parse_box(" [1, 2,3, 4.5] ") == (1.0, 2.0, 3.0, 4.5)
    for words in ("", "1, 2, 3", "1, 2, 3, x"):
        with pytest.raises(VRAGError, match="a box is four numbers"):
            parse_box(words)


def test_runs_and_their_filters(make_episode: Any, tmp_path: Path) -> None:
    episodes = [make_episode("amber-revenue"), make_episode("olive-price")]
    episodes[0].step_text("<think>a</think><search>ambrosia</search>")
    episodes[0].step_text("<think>a</think><answer>42.5</answer>")
    episodes[1].step_text("nonsense")
    episodes[1].step_text("<think>a</think><answer>7</answer>")
    path = tmp_path / "runs" / "deep" / "er" / "episodes.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(episode_to_record(episode)) + "\n" for episode in episodes))
    assert runs_in(tmp_path / "runs") == {"deep/er": path}
    records = read_run(path)
    assert pick(records) == [0, 1]
    assert pick(records, outcome="right") == [0]
    assert pick(records, outcome="wrong", invalid=True) == [1]
    assert pick(records, kind="Unanswerable") == [1]
    assert pick(records, turns="2") == [0, 1]
    assert pick(records, turns="3") == []
