"""Evaluation of a checkpoint and training, through the console script's function, on the tiny corpus."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vrag_agent import cli, tiny
from vrag_agent.checkpoint import ADAPTER, load_policy, read_settings, save_checkpoint
from vrag_agent.commands import make_env
from vrag_agent.eval_command import run_evaluation
from vrag_agent.evaluation.report import text_table
from vrag_agent.settings import read_yaml
from vrag_env.env import VRAGEnv
from vrag_env.questions import Question, save_questions

SHOWN = {
    "max_turns": 2,
    "min_pixels": 3136,
    "max_pixels": 12544,
}  # 16 visual tokens of 28 x 28 pixels at most
METRICS = {"accuracy", "mean_reward", "retrieval_ndcg", "invalid_rate", "finish_rate", "mean_turns"}
Vrag = Callable[..., str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_questions: tuple[Question, ...]) -> Path:
    """A tiny random policy on disk, with the size of images that it is used to."""
    texts = [question.text for question in tiny_questions] + [
        "user assistant Question: <think>I look.</think><search>report</search><answer>42.5</answer>"
    ]
    policy = tiny.build_policy(texts, vocab_size=400, hidden_size=32, vision_hidden_size=32, initializer_range=0.1)
    return save_checkpoint(policy, tmp_path_factory.mktemp("start") / "checkpoint", SHOWN)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_questions: tuple[Question, ...]) -> Path:
    path = tmp_path_factory.mktemp("asked") / "questions.json"
    save_questions(path, tiny_questions)
    return path


@pytest.fixture
def vrag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vrag:
    """Run the console script's function, which must succeed, and return what it printed."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["vrag", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        streams = capsys.readouterr()
        assert not ended.value.code, streams.err
        return streams.out

    return run


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_policy(directory).state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_make_env_has_no_wrapper(tiny_corpus_path: Path, asked: Path) -> None:
    env = make_env({"corpus": tiny_corpus_path, "questions": asked, "max_turns": 3})
    assert type(env) is VRAGEnv and env.config.max_turns == 3 and len(env.questions) == 5


def test_a_checkpoint_is_shown_the_images_that_it_knows(
    checkpoint: Path, tiny_corpus_path: Path, asked: Path, tmp_path: Path
) -> None:
    where: dict[str, Any] = {"corpus": tiny_corpus_path, "questions": asked}
    summary = run_evaluation(str(checkpoint), tmp_path / "own", where, limit=3, max_tokens=8)
    assert summary["policy"] == "checkpoint" and summary["questions"] == 3
    assert summary.keys() >= METRICS
    assert summary["mean_turns"] == 3.0  # a random policy never answers: 2 turns and the last one
    assert summary["invalid_rate"] == 1.0
    told = run_evaluation(str(checkpoint), tmp_path / "told", {**where, "max_turns": 1}, limit=3, max_tokens=8)
    assert told["mean_turns"] == 2.0  # what is asked for wins over what the checkpoint says


def test_table_by_hand() -> None:
    row = dict.fromkeys(METRICS, 0.5) | {"questions": 12, "accuracy": 0.25}
    summary = {
        **row,
        "by_type": {"Chart": row | {"questions": 3, "accuracy": 1.0}},
        "retrieval": {"questions": 10, "recall@1": 0.125},
        "wrong": [f"q{i}" for i in range(12)],
    }
    lines = text_table(summary).splitlines()
    assert lines[0].split()[:3] == ["questions", "accuracy", "mean_reward"]
    assert lines[1].split() == ["all", "12", "0.250", *["0.500"] * 5]
    assert lines[2].split() == ["Chart", "3", "1.000", *["0.500"] * 5]
    assert lines[3] == "direct retrieval over 10 questions: recall@1 0.125"
    assert lines[4].endswith("q8, q9 and 2 more")
    assert len(text_table({**row, "by_type": {}, "retrieval": {}, "wrong": []}).splitlines()) == 2


def test_train_full(vrag: Vrag, checkpoint: Path, tiny_corpus_path: Path, asked: Path, tmp_path: Path) -> None:
    places = ("--corpus", tiny_corpus_path, "--questions", asked, "--split", "train")
    start = tmp_path / "start"
    printed = vrag(
        *("train", "sft", "--model", checkpoint, "--out", start, *places, "--oracle-episodes", 4),
        *("--learning-rate", "1e-3", "--max-tokens", 8),
    )
    assert f"vrag train ppo --model {start / 'model'}" in printed
    moved = changed(weights(checkpoint), weights(start / "model"))
    assert moved and not any("value_head" in name for name in moved)
    out = tmp_path / "run"
    printed = vrag(  # PPO is the default
        *("train", "--model", start / "model", "--out", out, *places, "--iterations", 1, "--dump-every", 0),
        *("--set", "n_episodes=4", "--set", "minibatch_size=2", "--set", "max-tokens=8", "--set", "learning_rate=1e-3"),
        *("--set", "entropy_coef=0.1"),  # the tiny model earns nothing to learn from
    )
    assert f"vrag eval --policy {out / 'model'}" in printed
    printed = vrag("train", "ppo", "--out", out, "--resume", "--iterations", 2)
    assert "goes on after iteration 1 of 2" in printed
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2]
    assert all(key in lines[0] for key in ("rollout/ep_rew_mean", "rollout/success_rate"))
    config = read_yaml(out / "config.yaml")
    assert (config["run"]["iterations"], config["environment"]["split"]) == (2, "train")
    assert (config["ppo"]["n_episodes"], config["ppo"]["max_tokens"], config["ppo"]["learning_rate"]) == (4, 8, 1e-3)
    # the model knows how the environment looked, and nothing of where its files lie
    settings = read_settings(out / "model")
    assert settings["env"] == SHOWN | {"box_frame": "pixel", "pixel_multiple": 28}
    moved = changed(weights(start / "model"), weights(out / "model"))
    assert any("language_model" in name for name in moved)
    assert not any("visual" in name for name in moved)  # frozen by default
    summary = vrag(
        *("eval", "--policy", out / "model", "--corpus", tiny_corpus_path, "--questions", asked),
        *("--limit", 2, "--max-tokens", 8, "--out", tmp_path / "eval"),
    )
    assert "accuracy" in summary
    listed = vrag("runs", tmp_path, "--plot", tmp_path / "compare.png")
    assert "finished" in listed and "2/2" in listed and (tmp_path / "compare.png").stat().st_size > 0


def test_train_lora(vrag: Vrag, checkpoint: Path, tiny_corpus_path: Path, asked: Path, tmp_path: Path) -> None:
    places = ("--corpus", tiny_corpus_path, "--questions", asked)
    start, out = tmp_path / "start", tmp_path / "run"
    vrag(
        *("train", "sft", "--model", checkpoint, "--out", start, *places, "--lora", 2, "--oracle-episodes", 4),
        *("--max-tokens", 8, "--learning-rate", "1e-2"),
    )
    vrag(
        *("train", "grpo", "--model", start / "model", "--out", out, *places, "--iterations", 1, "--track", "none"),
        *("--set", "n_episodes=4", "--set", "minibatch_size=4", "--set", "group_size=2", "--set", "max_tokens=8"),
    )
    trained = load_policy(out / "model")
    assert trained.adapter is not None
    assert not list((out / "model").glob("model*.safetensors"))
    lora = {name: tensor for name, tensor in trained.state_dict().items() if "lora_B" in name}
    assert lora and any(tensor.abs().max() > 0 for tensor in lora.values())  # zero before training
    base = weights(checkpoint)
    kept = {name.replace(".base_layer", ""): tensor for name, tensor in trained.state_dict().items()}
    assert all(torch.equal(kept[name], base[name]) for name in base if not name.startswith("value_head"))
    # the reference of the run is the adapter as imitation left it
    reference = load_file(out / "reference.safetensors")
    assert reference and all("lora_" in name for name in reference)
    vrag(
        *("eval", "--policy", out / "model", "--corpus", tiny_corpus_path, "--questions", asked),
        *("--limit", 2, "--max-tokens", 8, "--out", tmp_path / "eval"),
    )
    assert (out / "model" / ADAPTER).is_file()
