"""The demo: from nothing to an agent that searches, zooms and answers, on two cores, without a download.

It generates a world of PDF documents and ingests them, shows how an oracle plays, builds a tiny random
Qwen2.5-VL, teaches it the grammar on a few oracle demonstrations (SFT), lets it learn the rest by PPO in
``VRAG-v0``, and evaluates everything on documents that were in neither. The documents' status boards carry the
answer in symbols that are a few pixels small on the shown page: the policy has to find the right page by text, the
right card by colour, enlarge it and recognise the symbol.

    vrag demo --out runs/demo --seed 0
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vrag_agent import tiny
from vrag_agent.checkpoint import save_checkpoint
from vrag_agent.commands import make_env
from vrag_agent.config import GRPOConfig, PPOConfig
from vrag_agent.evaluate import describe_corpus, evaluation, play, to_json, versions, write_episodes, write_json
from vrag_agent.experts import demonstrate
from vrag_agent.grpo import GRPO
from vrag_agent.parity import check_rollout
from vrag_agent.plots import plot_episode, plot_learning
from vrag_agent.policy import VLMPolicy
from vrag_agent.ppo import PPO
from vrag_agent.rollout import BlockFilter, QuestionStream, collect, episodes_of
from vrag_agent.sft import SFT
from vrag_agent.trainer import Trainer
from vrag_env.corpus.generate import SYMBOLS, WorldConfig, build_world
from vrag_env.env import VRAGEnv
from vrag_env.episode import Block, Episode, Image
from vrag_env.pictures import Pixels
from vrag_env.players import OraclePlayer, make_player
from vrag_env.questions import Question, save_questions
from vrag_env.render import render_ansi
from vrag_env.replay import write_replay

MAX_TOKENS = 64
"""Most tokens of an action; the longest of the oracle has about 45."""
ENV_OPTIONS = {"max_turns": 4, "min_pixels": 28_500, "max_pixels": 38_000}
"""A slide of 720 x 540 points is shown at 224 x 168 pixels, 48 visual tokens: a symbol is then 6 pixels high."""
LONG_SIDE = 896
"""Longer side of the stored pages in pixels: enough for the zoom, and quick to read."""
ZOOM = 0.4
"""Share of the demonstrations in which the oracle zooms in. In the others it answers from the page, as one who knows
the answer can: they teach the policy how to zoom, and leave it to the reward to teach when."""
TEMPERATURE = 0.7
"""Of sampling in PPO."""


SHOWN = ("accuracy", "mean_reward", "retrieval_ndcg", "invalid_rate", "finish_rate", "mean_turns")
"""The metrics in the summary."""


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        documents: Documents of the world; a quarter of them is held out.
        demonstrations: Oracle episodes to imitate.
        sft_epochs: Passes over them.
        ppo_iterations: Iterations of PPO.
        episodes: Episodes per iteration.
        test_questions: Held-out questions.
    """

    documents: int = 400
    demonstrations: int = 1500
    sft_epochs: int = 10
    ppo_iterations: int = 40
    episodes: int = 64
    test_questions: int = 192


QUICK = Scale(documents=120, demonstrations=360, sft_epochs=5, ppo_iterations=6, test_questions=48)


def run(out: Path, seed: int = 0, scale: Scale | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the demo.

    Args:
        out: Directory for ``summary.json``, ``curve.png``, ``episode.png``, ``metrics.jsonl``, ``checkpoint/``,
            ``replay.html``, ``oracle.html``, ``episodes.jsonl``, the questions and the generated world.
        seed: Of documents, weights, demonstrations and sampling.
        scale: How much is done; the full demo by default.
        say: Where the story goes, line by line.

    Returns:
        The summary.
    """
    scale = scale or Scale()
    clock = _Clock()
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)

    with clock("world"):
        say(f"1/6  Generating {scale.documents} PDF documents and ingesting them into LanceDB ...")
        train_env, test_env = environments(out, seed, scale)
        say(
            f"     {len(train_env.corpus)} pages; {len(train_env.questions)} questions to learn from, "
            f"{len(test_env.questions)} held out"
        )
    with clock("scripted"):
        say("2/6  An oracle that knows the answers plays one episode:\n")
        [shown] = episodes_of(test_env, test_env.questions[:1])
        play(OraclePlayer(), [shown])
        say(render_ansi(shown) + "\n")
        write_replay(out / "oracle.html", shown, "The oracle plays")
        scripted = _scripted(test_env, seed)

    # A policy that can not see can do no better than to guess one of the symbols, which are equally frequent.
    summary: dict[str, Any] = {"questions": len(test_env.questions), "chance": 1 / len(SYMBOLS)}
    with clock("sft"):
        say("3/6  Cold start: a tiny random Qwen2.5-VL imitates oracle demonstrations ...")
        policy = build(train_env, seed)
        sft_losses = imitate(policy, train_env, scale, seed)
    with clock("evaluation"):
        summary["sft"] = evaluate(policy, test_env, "SFT on held-out questions")
    say(f"     {_headline(summary['sft'])}")

    say("4/6  PPO: the policy plays by itself and learns from the reward ...")
    with clock("ppo"), (out / "metrics.jsonl").open("w", encoding="utf-8") as log:
        history = learn(make_trainer(policy, train_env, scale, seed), scale.ppo_iterations, log.write)
    with clock("evaluation"):
        say("5/6  Evaluating on the held-out questions, with open eyes and with noise for images ...")
        episodes = _played(policy, test_env, "PPO on held-out questions")
        summary["ppo"] = evaluation(episodes)
        summary["ppo_blind"] = evaluate(policy, test_env, "the same, blind", see=blind(seed))
    summary |= scripted
    for name in ("sft", "ppo", "ppo_blind", *scripted):
        summary[name] = {key: summary[name][key] for key in SHOWN}
        say(f"     {name:>20}: {_headline(summary[name])}")

    say("6/6  Writing ...")
    save_checkpoint(policy, out / "checkpoint", ENV_OPTIONS, MAX_TOKENS)
    write_episodes(out / "episodes.jsonl", episodes)
    shown = _worth_showing(episodes)
    write_replay(out / "replay.html", shown, "The trained policy plays")
    if shown.views:
        plot_episode(out / "episode.png", shown)
    plot_learning(out / "curve.png", sft_losses, history, summary)
    summary |= {
        "seconds": round(clock.total(), 1),
        "seconds_by_phase": clock.phases,
        "seed": seed,
        "scale": scale.__dict__,
        "corpus": describe_corpus(test_env.corpus),
        "parameters": sum(parameter.numel() for parameter in policy.parameters()),
        "versions": versions(),
    }
    write_json(out / "summary.json", summary)
    say(f"     {out / 'summary.json'}, curve.png, replay.html, checkpoint/ in {summary['seconds']:.0f} s")
    say(
        f"     again, on the same questions: vrag eval --policy {out / 'checkpoint'} "
        f"--corpus {test_env.corpus.path} --questions {out / 'test.json'} --out {out / 'eval'}"
    )
    return summary


def blind(seed: int) -> BlockFilter:
    """Return a filter that replaces every image by noise of the same size."""
    rng = np.random.default_rng(seed)

    def see(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(
            Image(_noise(rng, block.view.size), block.view) if isinstance(block, Image) else block for block in blocks
        )

    return see


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> Pixels:
    return rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def environments(out: Path, seed: int, scale: Scale) -> tuple[VRAGEnv, VRAGEnv]:
    """Build the world and return the environment to learn in and the one that is held out."""
    config = WorldConfig(seed=seed, documents=scale.documents, kinds=("board", "table"), symbol_size=20)
    # The name carries the dials, so that a run with others does not find this world in its place.
    corpus, questions = build_world(config, out / f"world-{config.stamp}", long_side=LONG_SIDE)
    boards = [q for q in questions if "-board-" in q.question_id and q.answerable]
    train = [q for q in boards if q.split == "train"]
    test = [q for q in boards if q.split == "test"]
    random.Random(seed).shuffle(train)
    test = sorted(random.Random(seed).sample(test, min(scale.test_questions, len(test))), key=_id)
    save_questions(out / "train.json", train)
    save_questions(out / "test.json", test)

    def make(questions: str) -> VRAGEnv:
        return make_env({"corpus": corpus.path, "questions": out / questions, **ENV_OPTIONS})

    return make("train.json"), make("test.json")


def _id(question: Question) -> str:
    return question.question_id


def _scripted(env: VRAGEnv, seed: int) -> dict[str, Any]:
    results = {}
    for name in ("oracle", "random", "retrieve_then_answer"):
        episodes = episodes_of(env, env.questions)
        with _bar(name, len(episodes), "episode") as bar:
            play(make_player(name, seed), episodes, progress=bar.update)
        results[name] = evaluation(episodes)
    return results


def build(env: VRAGEnv, seed: int) -> VLMPolicy:
    """Build the policy; its tokenizer is trained on the training questions and an oracle's turns."""
    texts = [text for question in env.questions for text in (question.text, question.oracle_query)]
    episodes = episodes_of(env, env.questions[:200])
    play(OraclePlayer(), episodes)
    for episode in episodes:
        texts += [turn.text for turn in episode.turns] + [turn.message for turn in episode.turns]
    return tiny.build_policy(
        [*texts, "user\n", "assistant\n", "Question: "],
        vocab_size=1024,
        seed=seed,
        hidden_size=96,
        layers=2,
        rope_theta=30.0,
        initializer_range=0.1,
    )


def imitate(policy: VLMPolicy, env: VRAGEnv, scale: Scale, seed: int) -> list[float]:
    """Teach the policy the oracle's demonstrations; return the loss of each step."""
    questions = _spread(env.questions, scale.demonstrations)
    with _bar("oracle demonstrations", len(questions), "episode") as bar:
        demonstrations = demonstrate(OraclePlayer(ZOOM), episodes_of(env, questions), policy, bar.update)
    sft = SFT(policy, learning_rate=2.5e-3, seed=seed)
    steps = scale.sft_epochs * -(-len(demonstrations) // sft.batch_size)
    with _bar("SFT", steps, "step") as bar:

        def after(step: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.3f}")
            bar.update()

        return sft.learn(demonstrations, scale.sft_epochs, after)


def _spread(questions: Sequence[Question], count: int) -> list[Question]:
    """Choose questions from as many documents as possible, so that names can not be learnt by heart."""
    rank: dict[str, int] = {}
    ranked = []
    for question in questions:
        page = question.gold_pages[0]
        rank[page] = rank.get(page, 0) + 1
        ranked.append((rank[page], question))
    return [question for _, question in sorted(ranked, key=lambda pair: pair[0])][:count]


def make_trainer(policy: VLMPolicy, env: VRAGEnv, scale: Scale, seed: int, algorithm: str = "ppo") -> Trainer:
    """Make the trainer of the demo.

    Args:
        policy: After imitation.
        env: Where it learns.
        scale: How many episodes an iteration has.
        seed: Of questions and sampling.
        algorithm: ``ppo``, or ``grpo`` with the same number of episodes in groups of 8.
    """
    policy.temperature = TEMPERATURE
    values: dict[str, Any] = {
        "n_episodes": scale.episodes,
        "n_epochs": 1,
        "minibatch_size": scale.episodes,
        "microbatch_size": 32,
        "rollout_batch_size": scale.episodes,
        "learning_rate": 3e-4,
        "max_tokens": MAX_TOKENS,
        "seed": seed,
    }
    questions = QuestionStream(env, seed)
    if algorithm == "grpo":
        return GRPO(policy, questions, GRPOConfig(**values))
    return PPO(policy, questions, PPOConfig(**values, value_learning_rate=1e-3, critic_warmup=2))


def learn(trainer: Trainer, iterations: int, log: Callable[[str], Any]) -> list[dict[str, float]]:
    """Train, with a bar; write each iteration's metrics as a line of JSON and return all of them."""
    # Before anything is trained on samples: does the trainer see what the sampler saw?
    played = collect(trainer.policy, trainer.episodes(8), max_tokens=MAX_TOKENS, generator=trainer.sampling)
    check_rollout(played, trainer.policy)
    with _bar(type(trainer).__name__, iterations, "iteration") as bar:

        def after(iteration: int, metrics: Mapping[str, float]) -> None:
            log(to_json({"iteration": iteration, **metrics}) + "\n")
            bar.set_postfix_str(
                f"reward {metrics['rollout/ep_rew_mean']:.2f} right {metrics['rollout/success_rate']:.2f}"
            )
            bar.update()

        return trainer.learn(iterations, after)


def _played(policy: VLMPolicy, env: VRAGEnv, what: str, see: BlockFilter | None = None) -> list[Episode]:
    episodes = episodes_of(env, env.questions)
    with _bar(what, len(episodes), "episode") as bar:
        collect(policy, episodes, max_tokens=MAX_TOKENS, batch_size=96, see=see, progress=bar.update)
    return episodes


def evaluate(policy: VLMPolicy, env: VRAGEnv, what: str, see: BlockFilter | None = None) -> dict[str, Any]:
    """Play the questions of an environment greedily and return the metrics."""
    return evaluation(_played(policy, env, what, see))


def _worth_showing(episodes: Sequence[Episode]) -> Episode:
    """Return the first episode that searched, zoomed and was right; the first one if there is none."""
    zoomed = [e for e in episodes if e.is_success and any(view.parent_id for view in e.views)]
    return (zoomed or list(episodes))[0]


def _headline(result: Mapping[str, Any]) -> str:
    return (
        f"accuracy {result['accuracy']:.3f}, reward {result['mean_reward']:.3f}, "
        f"retrieval NDCG {result['retrieval_ndcg']:.3f}, invalid turns {result['invalid_rate']:.3f}, "
        f"turns {result['mean_turns']:.2f}"
    )


def _bar(what: str, total: int, unit: str) -> Any:
    return tqdm(desc=f"     {what}", total=total, unit=unit, leave=False, dynamic_ncols=True)


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self.phases[phase] = round(self.phases.get(phase, 0.0) + spent, 1)

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started
