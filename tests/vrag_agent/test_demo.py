"""The demo end to end at a scale too small to learn anything: every stage runs and every file is whole."""

from __future__ import annotations

import json

import pytest

from vrag_agent.demo import Scale, blind, run
from vrag_agent.eval_command import run_evaluation
from vrag_env.episode import Image, Text
from vrag_env.views import FULL_PAGE, View

METRICS = {"accuracy", "mean_reward", "retrieval_ndcg", "invalid_rate", "finish_rate", "mean_turns"}
TINY = Scale(documents=12, demonstrations=16, sft_epochs=1, ppo_iterations=2, episodes=8, test_questions=6)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    told: list[str] = []
    return out, run(out, seed=3, scale=TINY, say=told.append), told


@pytest.mark.slow
def test_the_summary_holds_what_it_promises(demo):
    out, summary, told = demo
    written = json.loads((out / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary))
    for name in ("sft", "ppo", "ppo_blind", "oracle", "random", "retrieve_then_answer"):
        assert set(written[name]) >= METRICS
    assert written["questions"] == 6
    assert written["oracle"]["accuracy"] == 1.0
    assert written["seed"] == 3
    assert written["seconds"] > 0
    assert written["versions"]["torch"]
    assert any("Turn 1" in line and "status board" in line for line in told), "the oracle's episode is printed"


@pytest.mark.slow
def test_the_files_are_there_and_open(demo):
    out, _, _ = demo
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (out / "replay.html").read_text()
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2]
    assert len((out / "episodes.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_the_checkpoint_plays_as_the_trained_policy_did(demo, tmp_path):
    out, summary, _ = demo
    again = run_evaluation(
        str(out / "checkpoint"),
        tmp_path,
        {"corpus": next(out.glob("world-*")) / "corpus", "questions": out / "test.json"},
    )
    assert {name: again[name] for name in METRICS} == {name: summary["ppo"][name] for name in METRICS}


def test_a_blind_policy_sees_noise_of_the_same_size_and_all_texts():
    from PIL import Image as PILImage

    view = View(1, "p", FULL_PAGE, None, (56, 28))
    shown = Image(PILImage.new("RGB", (56, 28), "white"), view)
    noise, text = blind(0)((shown, Text("Image 1: 56 x 28.")))
    assert text == Text("Image 1: 56 x 28.")
    assert noise.view == view
    assert noise.image.size == (56, 28)
    assert len(noise.image.getcolors(maxcolors=56 * 28)) > 500
