"""``vrag judge`` as a newcomer types it, on episodes that ``vrag eval`` has written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import CORRECT, INCORRECT, JudgeServer, Reply
from typer.testing import CliRunner

from vrag_agent.cli import app
from vrag_agent.evaluate import write_episodes
from vrag_agent.judge_command import read_answers, run_judge
from vrag_env.errors import VRAGError

SEARCH = "<think>a</think><search>report</search>"
ANSWERS = {
    "amber-revenue": "42.5 million",  # right by the rules, and not to the letter
    "cobalt-staff": "310",
    "ivory-origin": "from Portugal",
    "olive-price": "90",  # wrong for every judge
}


def said(text: str) -> str:
    return f"<think>a</think><answer>{text}</answer>"


@pytest.fixture
def run(tmp_path: Path, make_episode: Any) -> Path:
    """The directory of an evaluation: four answers, and an episode without one."""
    episodes = [make_episode(name) for name in (*ANSWERS, "north-sum")]
    for episode, text in zip(episodes, ANSWERS.values(), strict=False):
        episode.step_text(SEARCH)
        episode.step_text(said(text))
    while not episodes[-1].done:
        episodes[-1].step_text("nothing")
    write_episodes(tmp_path / "episodes.jsonl", episodes)
    return tmp_path


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    running = JudgeServer()
    yield running
    running.close()


def vrag(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_another_judge_by_rules(run: Path) -> None:
    out = run / "agreement.json"
    done = vrag("judge", run, "--judge", "exact_match", "--out", out)
    assert done.exit_code == 0, done.output
    assert "A: recorded" in done.stdout and "B: RuleJudge(metric='exact_match')" in done.stdout
    # Both right 2, only the recorded rules 1, both wrong 1: p_o 3/4, p_e 3/4 * 2/4 + 1/4 * 2/4 = 1/2
    assert "answers 4, without a verdict 0, agreement 0.750, Cohen's kappa 0.500" in done.stdout
    assert "#0: A 1, B 0: '42.5 million' for '42.5'" in done.stdout
    assert "accuracy over 5 episodes: A 0.600, B 0.400" in done.stdout
    assert "episodes without an answer, which count as wrong: 1" in done.stdout
    written = json.loads(out.read_text())
    assert (written["kappa"], written["only_a"], written["answers"], written["episodes"]) == (0.5, 1, 4, 5)
    assert written["scores"][0] == {
        "question_id": "amber-revenue",
        "answer": "42.5 million",
        "references": ["42.5"],
        "a": 1.0,
        "b": 0.0,
    }


def test_two_judges_and_a_limit(run: Path) -> None:
    found = run_judge(
        run / "episodes.jsonl", "token_f1", against="rule", limit=2, progress=False, say=lambda text: None
    )
    assert (found.judge_a, found.items, found.both_right) == ("RuleJudge(metric='mmlongbench')", 2, 2)


def test_a_model_is_asked_once(run: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VRAG_CACHE", str(tmp_path / "cache"))
    server.script = lambda number, body: Reply(INCORRECT if "Portugal" in str(body) else CORRECT)
    first = vrag("judge", run, "--judge", f"api:tiny@{server.url}")
    assert first.exit_code == 0, first.output
    assert "both right 2, only A 1, only B 1, both wrong 0" in first.stdout
    assert "B asked the model 4 times; 0 answers were known" in first.stdout
    again = vrag("judge", run, "--judge", f"api:tiny@{server.url}")
    assert "B asked the model 0 times; 4 answers were known" in again.stdout
    assert len(server.bodies) == 4


def test_some_answers_without_a_verdict(run: Path, server: JudgeServer, tmp_path: Path) -> None:
    from vrag_env.rewards.api_judge import APIJudge

    server.script = lambda number, body: Reply("Hm." if "Portugal" in str(body) else CORRECT)
    judge = APIJudge(server.url, "tiny", backoff=0.01)
    found = run_judge(run, judge, out=tmp_path / "x.json", progress=False, say=lambda text: None)
    assert (found.items, found.unjudged, found.only_b) == (3, 1, 1)
    assert [row["b"] for row in json.loads((tmp_path / "x.json").read_text())["scores"]] == [1.0, 1.0, None, 1.0]
    server.script = lambda number, body: Reply("Hm.")
    with pytest.raises(VRAGError, match="no verdict on any of 4 answers"):
        run_judge(run, judge, progress=False, say=lambda text: None)


def test_what_users_get_wrong(run: Path, tmp_path: Path) -> None:
    with pytest.raises(VRAGError, match="can not be read"):
        read_answers(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(VRAGError, match="holds no episode: 'vrag eval"):
        read_answers(tmp_path / "empty.jsonl")
    good = (run / "episodes.jsonl").read_text().splitlines()[0]
    other = json.loads(good)
    del other["turns"][-1]["reward_terms"]["answer"]
    for line, message in [("{", "line 2"), (json.dumps(other), "'amber-revenue' has an answer that was never judged")]:
        (tmp_path / "bad.jsonl").write_text(f"{good}\n{line}\n")
        with pytest.raises(VRAGError, match=message):
            read_answers(tmp_path / "bad.jsonl")
        assert read_answers(tmp_path / "bad.jsonl", limit=1)[0] == 1
    with pytest.raises(VRAGError, match="unknown judge 'oracle'"):
        run_judge(run, "oracle")
    with pytest.raises(VRAGError, match="no directory"):
        run_judge(run, "rule", out=tmp_path / "no" / "x.json")
