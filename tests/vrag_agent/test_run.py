"""Runs that survive: a real process is killed, and the run goes on as if nothing had happened, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vrag_agent import tiny
from vrag_agent.alarms import AlarmError
from vrag_agent.checkpoint import CheckpointError, load_policy, save_checkpoint
from vrag_agent.commands import make_env
from vrag_agent.evaluate import to_json
from vrag_agent.grpo import GRPO
from vrag_agent.ppo import PPO
from vrag_agent.rollout import QuestionStream
from vrag_agent.run import Run, RunConfig, TrainingError, read_metrics
from vrag_agent.sft import SFT
from vrag_agent.sft_command import SFTConfig, resumed_sft, run_sft
from vrag_agent.tracking import NoTracker
from vrag_agent.train_command import run_training, settle
from vrag_agent.trainer import Trainer
from vrag_agent.training_state import checkpoints, tidy
from vrag_env.errors import JudgeError
from vrag_env.questions import Question, save_questions

SHOWN = {"max_turns": 2, "min_pixels": 3136, "max_pixels": 12544}
SMALL = [
    "n_episodes=4",
    "minibatch_size=2",
    "microbatch_size=2",
    "max_tokens=6",
    "learning_rate=1e-3",
    "entropy_coef=0.1",
]  # random policies earn nothing
TIMEOUT = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_questions: tuple[Question, ...]) -> Path:
    texts = [question.text for question in tiny_questions] + ["user assistant Question: <search>report</search>"]
    policy = tiny.build_policy(texts, vocab_size=400, hidden_size=32, vision_hidden_size=32, initializer_range=0.1)
    return save_checkpoint(policy, tmp_path_factory.mktemp("start") / "model", SHOWN)


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, tiny_corpus_path: Path, tiny_questions: tuple[Question, ...]
) -> dict[str, str]:
    asked = tmp_path_factory.mktemp("asked") / "questions.json"
    save_questions(asked, tiny_questions)
    return {"corpus": str(tiny_corpus_path), "questions": str(asked)}


Start = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def sections(model: Path, places: dict[str, str]) -> Start:
    def make(algorithm: str, iterations: int, *pairs: str, **run: Any) -> dict[str, Any]:
        options = {"model": str(model), "iterations": iterations, "save_every": 1, "dump_every": 0, "track": "none"}
        groups = (
            ["group_size=2", "skip_zero_variance=false"]
            if algorithm == "grpo"
            else ["critic_warmup=1", "value_learning_rate=1e-2"]
        )
        settled = settle(
            algorithm,
            pairs=[*SMALL, "kl_coef=0.05", *groups, *pairs],
            run={**options, **run},
            environment=places,
        )
        return settled

    return make


def timeless(directory: Path) -> list[dict[str, Any]]:
    """The metrics of a run, without what the clock wrote; NaN as null."""
    return [
        json.loads(to_json({name: value for name, value in metrics.items() if not name.startswith("time/")}))
        for metrics in read_metrics(directory)
    ]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.name}:{name}": tensor
        for path in sorted(directory.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def equal(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


CHILD = """
import sys, json
from pathlib import Path
import torch
torch.set_num_threads(1)
from vrag_agent.train_command import resumed, run_training, settle
out, algorithm, resume, options = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "resume", json.loads(sys.argv[4])
sections = resumed(out, algorithm, None) if resume else settle(algorithm, **options)
run_training(out, sections, resume=resume)
"""


def spawn(out: Path, algorithm: str, mode: str, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(out), algorithm, mode, json.dumps(options)],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_a_killed_run_goes_on_bit_for_bit(
    algorithm: str, sections: Start, model: Path, places: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL while an iteration is played, trained or saved: whatever it meets, the end is the same."""
    pairs = [*SMALL, "kl_coef=0.05"]
    ppo, grpo = ["critic_warmup=1", "value_learning_rate=1e-2"], ["group_size=2", "skip_zero_variance=false"]
    pairs += ppo if algorithm == "ppo" else grpo
    run = {"model": str(model), "iterations": 6, "save_every": 1, "dump_every": 0, "track": "none"}
    whole = tmp_path / "whole"
    run_training(whole, sections(algorithm, 6), resume=False)
    killed = tmp_path / "killed"
    options = {"pairs": pairs, "run": run, "environment": places}
    for kill_at, wait in ((1, 0.0), (3, 0.15)):  # at two stages of an iteration
        child = spawn(killed, algorithm, "resume" if checkpoints(killed) else "new", options)
        deadline = time.monotonic() + TIMEOUT
        while len(read_metrics(killed)) < kill_at and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        assert child.poll() is None or len(read_metrics(killed)) >= kill_at, (tmp_path / "killed.log").read_text()
        child.send_signal(signal.SIGKILL)
        child.wait(TIMEOUT)
        assert checkpoints(killed)
    child = spawn(killed, algorithm, "resume", options)
    assert child.wait(TIMEOUT) == 0, (tmp_path / "killed.log").read_text()
    assert "goes on after iteration" in (tmp_path / "killed.log").read_text()
    assert timeless(killed) == timeless(whole) and len(timeless(whole)) == 6
    assert equal(killed / "model", whole / "model")
    last = "checkpoints/000006"
    assert equal(killed / last, whole / last)  # optimizers and random states, too
    assert not equal(whole / "model", model)


class Ended(Exception):
    """Stands for a kill, at a place of our choice."""


def trained(sections: dict[str, Any], out: Path, fail_at: int | None = None, resume: bool = False) -> Run:
    """Train in this process; an error after an iteration's line is written ends it before its checkpoint."""
    from vrag_agent.checkpoint import read_settings
    from vrag_agent.train_command import LOOK

    config: RunConfig = sections["run"]
    algorithm = sections[config.algorithm]
    policy = load_policy(checkpoints(out)[-1] if resume else config.model, lora_rank=0 if resume else config.lora)
    options = {**read_settings(config.model).get("env", {}), **sections["environment"]}
    options |= {"box_frame": policy.family.box_frame, "pixel_multiple": policy.family.pixel_multiple}
    questions = QuestionStream(make_env(options), algorithm.seed)
    trainer: Trainer = (PPO if config.algorithm == "ppo" else GRPO)(policy, questions, algorithm)
    out.mkdir(exist_ok=True)
    look = {name: value for name, value in options.items() if name in LOOK}
    run = Run(out, config, trainer, questions, env_options=look, tracker=NoTracker())
    if fail_at is not None:
        save = run.save

        def fails() -> None:
            if trainer.iteration == fail_at:
                raise Ended
            save()

        run.save = fails  # type: ignore[method-assign]
    if resume:
        run.resume(checkpoints(out)[-1])
    else:
        run.start()
    if fail_at is None:
        run.learn()
    else:
        with pytest.raises(Ended):
            run.learn()
    return run


@pytest.mark.parametrize(("algorithm", "lora"), [("ppo", 0), ("grpo", 2)])
def test_an_iteration_without_its_checkpoint_is_done_again(
    algorithm: str, lora: int, sections: Start, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = trained(sections(algorithm, 4, lora=lora), tmp_path / "whole")
    torch.manual_seed(0)
    trained(sections(algorithm, 4, lora=lora), tmp_path / "ended", fail_at=3)
    # After the second iteration the policy is no longer its reference: in the first, only PPO's critic learns.
    assert [path.name for path in checkpoints(tmp_path / "ended")][-1] == "000002"
    assert len(read_metrics(tmp_path / "ended")) == 3  # one more than the checkpoint
    if lora:
        assert not (tmp_path / "ended" / "reference.safetensors").exists()  # the adapter is switched off instead
    again = trained(sections(algorithm, 4, lora=lora), tmp_path / "ended", resume=True)
    assert timeless(tmp_path / "ended") == timeless(tmp_path / "whole")
    assert equal(tmp_path / "ended" / "model", tmp_path / "whole" / "model")
    assert again.best == whole.best
    assert abs(again.history[-1]["train/ref_kl"]) > 0  # from the policy as it was, not as it was resumed


@pytest.mark.parametrize("fail_at", [2, 3])
def test_imitation_goes_on_bit_for_bit(
    fail_at: int, model: Path, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps with a checkpoint after every second; it ends right after one, or in between."""
    config = SFTConfig(
        model=str(model),
        oracle_episodes=5,
        epochs=2,
        learning_rate=1e-3,
        batch_size=2,
        held_out=0.2,
        save_every=2,
        gradient_checkpointing=False,
    )
    run_sft(tmp_path / "whole", config, places)
    update = SFT._update

    def ends(self: SFT, chosen: Any) -> float:
        if self.steps == fail_at:
            raise Ended
        return update(self, chosen)

    monkeypatch.setattr(SFT, "_update", ends)
    with pytest.raises(Ended):
        run_sft(tmp_path / "ended", config, places)
    monkeypatch.undo()
    assert [path.name for path in checkpoints(tmp_path / "ended")] == ["000002"]
    run_sft(tmp_path / "ended", *resumed_sft(tmp_path / "ended"), resume=True)
    assert equal(tmp_path / "ended" / "model", tmp_path / "whole" / "model")
    losses = [json.loads((tmp_path / name / "losses.json").read_text()) for name in ("ended", "whole")]
    assert losses[0] == losses[1] and len(losses[0]["training"]) == 4
    assert not equal(tmp_path / "whole" / "model", model)


def test_a_half_written_checkpoint_does_not_count(sections: Start, tmp_path: Path) -> None:
    run = trained(sections("ppo", 1), tmp_path / "run")
    names = json.loads((tmp_path / "run" / "checkpoints.json").read_text())
    assert names["last"] == "000001" and {p.name for p in checkpoints(tmp_path / "run")} == set(names.values())
    half = tmp_path / "run" / "checkpoints" / "000002.part"
    half.mkdir()
    assert [path.name for path in checkpoints(tmp_path / "run")][-1] == "000001"
    (tmp_path / "run" / "checkpoints" / "000009").mkdir()  # without its counters
    assert [path.name for path in checkpoints(tmp_path / "run")][-1] == "000001"
    tidy(run.directory, {"000001"})
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["000001"]
    (tmp_path / "run" / "checkpoints" / "000001" / "trainer.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="damaged"):
        trained(sections("ppo", 2), tmp_path / "run", resume=True)


def test_nothing_is_pickled(sections: Start, tmp_path: Path) -> None:
    trained(sections("ppo", 1), tmp_path / "run")
    written = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert not [p for p in written if p.suffix in (".pt", ".pth", ".bin", ".pkl")]
    assert not [p for p in written if p.read_bytes()[:2] in (b"PK", b"\x80\x04")]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "smaller microbatch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "smaller microbatch_size"),
        (FloatingPointError("grad_norm is nan"), "grad_norm is nan"),
        (JudgeError("the judge does not answer"), "the judge does not answer"),
        (ConnectionRefusedError("no server at 127.0.0.1:1"), "no server"),
        (AlarmError("void_turns: many"), "void_turns"),
    ],
)
def test_what_ends_a_run_is_told_with_the_way_on(
    error: Exception, message: str, sections: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails(self: PPO, trajectories: Any) -> Any:
        calls.append(1)
        raise error

    monkeypatch.setattr(PPO, "train", fails)
    with pytest.raises(TrainingError, match=message) as told:
        trained(sections("ppo", 2), tmp_path / "run")
    assert "iteration 1:" in str(told.value) and "--resume" in str(told.value)
    monkeypatch.undo()
    trained(sections("ppo", 2), tmp_path / "run", resume=True)  # and it does go on
    assert len(read_metrics(tmp_path / "run")) == 2


def test_an_error_of_the_program_is_not_dressed_up(
    sections: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: PPO, trajectories: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(PPO, "train", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trained(sections("ppo", 2), tmp_path / "run")


def test_what_a_finished_run_leaves(sections: Start, tmp_path: Path) -> None:
    """TensorBoard, dumps with thumbnails, a curve, and a folder that transformers loads alone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vrag_env.replay import read_records

    out = tmp_path / "run"
    run_training(out, sections("ppo", 2, track="tensorboard", dump_every=2, gradient_checkpointing=False), resume=False)
    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    for name in ("rollout/ep_rew_mean", "train/approx_kl", "train/clip_fraction", "time/rollout"):
        assert name in tags["scalars"]
    assert [event.step for event in events.Scalars("rollout/ep_rew_mean")] == [1, 2]
    assert "train/log_ratio" in tags["histograms"]
    dumped = out / "rollouts" / "000002"
    records = list(read_records(dumped / "episodes.jsonl"))
    assert len(records) == 4
    for record in records:  # what was sampled, for the colours of a replay
        assert all(tokens is not None and 0 < len(tokens.tokens) <= 24 for tokens in record.sampled), record.sampled
        assert all(logprob <= 0 for tokens in record.sampled if tokens is not None for logprob in tokens.logprobs)
    shown = sum(
        len(turn["views"])
        for line in (dumped / "episodes.jsonl").read_text().splitlines()
        for turn in json.loads(line)["turns"]
    )
    assert len(list(dumped.glob("*.png"))) == shown
    assert (out / "curve.png").read_bytes()[:4] == b"\x89PNG"
    loaded = AutoModelForImageTextToText.from_pretrained(out / "model", dtype=torch.float32)
    assert AutoProcessor.from_pretrained(out / "model").tokenizer is not None
    trained_policy = load_policy(out / "model")
    for name, tensor in trained_policy.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_an_exported_adapter_is_loaded_by_transformers_alone(sections: Start, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    trained(sections("grpo", 1, "learning_rate=1e-2", lora=2), tmp_path / "run")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "run" / "model", dtype=torch.float32)
    policy = load_policy(tmp_path / "run" / "model")
    ours = {name: p for name, p in policy.model.named_parameters() if "lora_B" in name}
    theirs = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert ours.keys() == theirs.keys() and any(p.abs().max() > 0 for p in ours.values())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert AutoProcessor.from_pretrained(tmp_path / "run" / "model").image_processor is not None


def test_the_best_checkpoint_is_kept(sections: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = iter([0.1, 0.9, 0.2, 0.3])

    def trains(self: PPO, trajectories: Any) -> dict[str, float]:
        return {}

    monkeypatch.setattr(PPO, "train", trains)
    monkeypatch.setattr(
        "vrag_agent.trainer.rollout_metrics",
        lambda episodes, trajectories: {"rollout/ep_rew_mean": next(rewards), "rollout/success_rate": 0.0},
    )
    trained(sections("ppo", 4), tmp_path / "run")
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["000002", "000004"]
    assert json.loads((tmp_path / "run" / "checkpoints.json").read_text()) == {"last": "000004", "best": "000002"}
