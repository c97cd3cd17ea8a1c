"""Run: one training in one directory, which survives whatever ends it.

config.yaml        the run, the environment and all hyper-parameters, with their documentation
metrics.jsonl      a line per iteration
curve.png          reward, right answers, entropy and KL
checkpoints/       the last and the best one, whole (see vrag_agent.training_state)
rollouts/000010/   sampled episodes as JSON (vrag replay opens them) with thumbnails
tensorboard/       the same metrics, histograms and pictures
model/             at the end: a plain Hugging Face folder
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from vrag_agent.checkpoint import save_checkpoint
from vrag_agent.evaluate import to_json, write_json, write_records
from vrag_agent.parity import ParityError
from vrag_agent.plots import plot_curves
from vrag_agent.reference import Reference
from vrag_agent.rollout import QuestionStream
from vrag_agent.tracking import Tracker
from vrag_agent.trainer import Trainer
from vrag_agent.training_state import (
    checkpoints,
    load_reference,
    load_training,
    save_reference,
    save_training,
    tidy,
)
from vrag_env.errors import VRAGError
from vrag_env.replay import Sampled, episode_to_record

CURVES = ("rollout/ep_rew_mean", "rollout/success_rate", "train/entropy", "train/ref_kl")
REFERENCE = "reference.safetensors"
THUMBNAIL = 256
"""Longer side of a thumbnail in pixels."""


class TrainingError(VRAGError):
    """A run has ended before its end; the message says why, and how to go on."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run is, beside the hyper-parameters of its algorithm.

    Attributes:
        algorithm: "ppo" or "grpo".
        model: A model's name on the hub, a local model, or a checkpoint.
        iterations: Iterations in all.
        lora: Rank of a new adapter; 0 trains the model itself.
        train_vision: Train the vision tower, too.
        gradient_checkpointing: Save memory in training for about a third more computing.
        save_every: Iterations between checkpoints.
        dump_every: Iterations between dumps of sampled episodes; 0 for none.
        dump_episodes: Episodes in a dump.
        track: "tensorboard", "trackio", "wandb" or "none".
        rollout_urls: Addresses of vLLM servers that play the episodes, with commas between; empty plays them here.
        rollout_adapters: Directory of the adapters for the servers, which see it under the same path; empty is
            adapters/ of the run.
    """

    algorithm: str = "ppo"
    model: str = ""
    iterations: int = 100
    lora: int = 0
    train_vision: bool = False
    gradient_checkpointing: bool = True
    save_every: int = 10
    dump_every: int = 10
    dump_episodes: int = 4
    track: str = "tensorboard"
    rollout_urls: str = ""
    rollout_adapters: str = ""


class Run:
    """A trainer in its directory.

    Args:
        directory: Of the run.
        config: What the run is.
        trainer: PPO or GRPO, on a fresh policy or on that of the last checkpoint.
        questions: Where its episodes come from.
        env_options: What a checkpoint must know of the environment: how it looks, not where its files lie.
        tracker: Where metrics go beside the run's own files.
        progress: Called with the number of the iteration and its metrics.
    """

    def __init__(
        self,
        directory: Path,
        config: RunConfig,
        trainer: Trainer,
        questions: QuestionStream,
        *,
        env_options: Mapping[str, Any],
        tracker: Tracker,
        progress: Callable[[int, Mapping[str, float]], None] = lambda iteration, metrics: None,
    ) -> None:
        self.directory = directory
        self.config = config
        self.trainer = trainer
        self.questions = questions
        self.env_options = dict(env_options)
        self.tracker = tracker
        self.progress = progress
        self.history: list[dict[str, float]] = []
        self.best = {"iteration": 0, "reward": -1e9}
        self.writes = trainer.parallel.rank == 0  # of several processes, the first one writes the files

    # ------------------------------------------------------------------ going on

    def start(self) -> None:
        """Write down where the run begins; the first checkpoint is made here, before anything can go wrong."""
        if self.writes and isinstance(self.trainer.reference, Reference) and self.trainer.reference.weights:
            save_reference(self.directory / REFERENCE, self.trainer.reference.weights)
        if self.writes:
            (self.directory / "metrics.jsonl").write_text("", encoding="utf-8")
        self.save()

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint, whose policy the trainer holds already."""
        state = load_training(checkpoint, self.trainer.optimizers())
        self.trainer.load_state(state["trainer"])
        self.questions.load_state(state["questions"])
        self.best = state["best"]
        if isinstance(self.trainer.reference, Reference):
            if (self.directory / REFERENCE).is_file():
                load_reference(self.directory / REFERENCE, self.trainer.reference.weights)
            else:  # the adapter was fresh when the run began
                self.trainer.reference.weights.clear()
        # What came after the checkpoint is done again.
        self.history = read_metrics(self.directory)[: self.trainer.iteration]
        if not self.writes:
            return
        lines = "".join(to_json({"iteration": i, **m}) + "\n" for i, m in enumerate(self.history, 1))
        temporary = self.directory / "metrics.jsonl.part"
        temporary.write_text(lines, encoding="utf-8")
        temporary.replace(self.directory / "metrics.jsonl")

    def learn(self) -> None:
        """Train to the end and export the model.

        Raises:
            TrainingError: If something ends the run; the last checkpoint is whole.
        """
        with self._explained():
            self.trainer.learn(max(0, self.config.iterations - self.trainer.iteration), self._after)
            self.export()
        self.tracker.close()

    def _after(self, iteration: int, metrics: Mapping[str, float]) -> None:
        self.history.append(dict(metrics))
        if self.writes:
            self._log(iteration, metrics)
        if iteration % self.config.save_every == 0 or iteration == self.config.iterations:
            self.save()
        self.progress(iteration, metrics)

    def _log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        with (self.directory / "metrics.jsonl").open("a", encoding="utf-8") as log:
            log.write(to_json({"iteration": iteration, **metrics}) + "\n")
        self.tracker.log(iteration, metrics)
        if self.trainer.log_ratios:
            self.tracker.histogram(iteration, "train/log_ratio", torch.cat(self.trainer.log_ratios))
        if self.config.dump_every and iteration % self.config.dump_every == 0:
            self.dump(iteration)

    # ------------------------------------------------------------------ what is written

    def save(self) -> None:
        """Make a checkpoint; keep it and the best one so far."""
        iteration = self.trainer.iteration
        recent = self.history[-min(self.config.save_every, 10) :]
        if recent:
            reward = fmean(metrics["rollout/ep_rew_mean"] for metrics in recent)
            if reward > self.best["reward"]:
                self.best = {"iteration": iteration, "reward": reward}
        state = self.trainer.state()  # of all processes: they meet here
        if not self.writes:
            return
        target = self.directory / "checkpoints" / f"{iteration:06d}"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            save_training(
                target,
                self.trainer.policy,
                self.trainer.optimizers(),
                {
                    "trainer": state,
                    "questions": self.questions.state(),
                    "best": self.best,
                },
                env_options=self.env_options,
                max_tokens=self.trainer.settings.max_tokens,
            )
        names = {"last": target.name, "best": f"{self.best['iteration']:06d}"}
        tidy(self.directory, set(names.values()))
        write_json(self.directory / "checkpoints.json", names)
        if self.history:
            plot_curves(self.directory / "curve.png", {self.directory.name: self.history}, CURVES)

    def dump(self, iteration: int) -> None:
        """Write some of the sampled episodes: ``episodes.jsonl`` for ``vrag replay``, and thumbnails.

        The records hold the sampled tokens with their log-probs, which a replay colours.
        """
        episodes = list(self.trainer.last_rollout[0])[: self.config.dump_episodes]
        trajectories = self.trainer.last_rollout[1][: len(episodes)]
        decode = self.trainer.policy.family.tokenizer.decode
        sampled = [
            [Sampled(tuple(decode([i]) for i in action.token_ids), action.logprobs) for action in trajectory.actions]
            for trajectory in trajectories
        ]
        place = self.directory / "rollouts" / f"{iteration:06d}"
        place.mkdir(parents=True, exist_ok=True)
        records = [
            episode_to_record(episode, f"{self.directory.name}, iteration {iteration}", tokens)
            for episode, tokens in zip(episodes, sampled, strict=True)
        ]
        write_records(place / "episodes.jsonl", records)
        pictures = []
        for number, episode in enumerate(episodes):
            for view in episode.views:
                picture = episode.image(view).copy()
                picture.thumbnail((THUMBNAIL, THUMBNAIL))
                picture.save(place / f"{number:02d}-{view.view_id:02d}.png")
                pictures.append(picture)
        self.tracker.images(iteration, "rollout/seen", pictures[:8])

    def export(self) -> None:
        """Write ``model/``: the policy as it is now, as a plain Hugging Face folder."""
        longest = self.trainer.settings.max_tokens
        if self.writes:
            save_checkpoint(self.trainer.policy, self.directory / "model", self.env_options, longest)

    # ------------------------------------------------------------------ what goes wrong

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell what ended the run, and how to go on."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._ended(
                f"out of memory ({_first_line(error)}): take a smaller microbatch_size or rollout_batch_size, or an "
                "adapter (--lora 32)"
            ) from error
        except (FloatingPointError, ParityError, VRAGError, ConnectionError, TimeoutError) as error:
            raise self._ended(str(error)) from error
        except RuntimeError as error:
            # What the allocator of the CPU says has no class of its own.
            if "allocate memory" not in str(error):
                raise
            raise self._ended(f"out of memory ({_first_line(error)}): take a smaller microbatch_size") from error

    def _ended(self, why: str) -> TrainingError:
        whole = checkpoints(self.directory)
        last = (
            f"the last checkpoint, of iteration {int(whole[-1].name)}, is whole" if whole else "there is no checkpoint"
        )
        return TrainingError(f"iteration {self.trainer.iteration + 1}: {why}\n{last}; go on from it with --resume")


def read_metrics(directory: Path) -> list[dict[str, float]]:
    """The metrics of each iteration of a run; a line that a kill has cut, and what follows it, is left out."""
    history: list[dict[str, float]] = []
    path = directory / "metrics.jsonl"
    if not path.is_file():
        return history
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            metrics = json.loads(line)
        except json.JSONDecodeError:
            break
        if metrics.pop("iteration", None) != len(history) + 1:
            break
        history.append({name: float("nan") if value is None else value for name, value in metrics.items()})
    return history


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
