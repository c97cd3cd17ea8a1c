"""Do PPO and GRPO both learn the demo's world from the same cold start?

What it does: for each seed it builds the world and the policy of ``vrag demo``, imitates the oracle once, and trains
two copies of the result with the same number of episodes per iteration: PPO, and GRPO in groups of 8. Both are
evaluated greedily on the held-out questions. It draws the curves and writes the numbers.

What it leaves out: tuning. Both algorithms have the learning rate of the demo; three seeds of one small task do not
say which of them is better.

    python benchmarks/learn_demo.py --seeds 0,1,2      # about seven minutes a seed on two quiet cores

What is done is kept in ``--work``: run it again after a kill, or one seed at a time.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _machine import command_line, machine

from vrag_agent.checkpoint import load_policy, save_checkpoint
from vrag_agent.demo import ENV_OPTIONS, MAX_TOKENS, SHOWN, Scale, build, environments, evaluate, imitate, make_trainer
from vrag_agent.demo import learn as train
from vrag_agent.evaluate import write_json
from vrag_agent.plots import plot_curves

ALGORITHMS = ("ppo", "grpo")
RESULTS = Path(__file__).parent / "results"


def cold_start(place: Path, scale: Scale, seed: int) -> dict[str, Any]:
    """Imitate the oracle; leave the policy in ``place/start``."""
    torch.manual_seed(seed)
    train_env, test_env = environments(place, seed, scale)
    policy = build(train_env, seed)
    started = time.perf_counter()
    losses = imitate(policy, train_env, scale, seed)
    seconds = time.perf_counter() - started
    result = evaluate(policy, test_env, "SFT on held-out questions")
    save_checkpoint(policy, place / "start", ENV_OPTIONS, MAX_TOKENS)
    return {
        "final_loss": sum(losses[-20:]) / len(losses[-20:]),
        "held_out": {name: result[name] for name in SHOWN},
        "seconds": round(seconds, 1),
    }


def learn(place: Path, scale: Scale, seed: int, algorithm: str) -> dict[str, Any]:
    """Train one algorithm from ``place/start``."""
    train_env, test_env = environments(place, seed, scale)
    # The demo trains all weights, and so does this.
    policy = load_policy(place / "start", freeze_vision=False)
    trainer = make_trainer(policy, train_env, scale, seed, algorithm)
    started = time.perf_counter()
    with (place / f"{algorithm}.jsonl").open("w", encoding="utf-8") as log:
        history = train(trainer, scale.ppo_iterations, log.write)
    seconds = time.perf_counter() - started
    result = evaluate(policy, test_env, f"{algorithm} on held-out questions")
    kept = ("rollout/ep_rew_mean", "rollout/success_rate", "rollout/crops", "train/entropy", "train/ref_kl")
    return {
        "curve": [{name: round(metrics[name], 4) for name in kept} for metrics in history],
        "held_out": {name: result[name] for name in SHOWN},
        "seconds": round(seconds, 1),
        "episodes": len(history) * scale.episodes,
    }


def once(path: Path, make: Any, *arguments: Any) -> dict[str, Any]:
    """Return what is at the path, or make it and put it there."""
    if not path.is_file():
        write_json(path, make(*arguments))
    return dict(json.loads(path.read_text(encoding="utf-8")))


def main(
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    iterations: Annotated[int, typer.Option(min=1, help="Of each algorithm.")] = 40,
    work: Annotated[Path, typer.Option(help="Where what is done is kept.")] = Path("runs/learn_demo"),
    out: Annotated[Path, typer.Option(help="Directory for learn_demo.json and learn_demo.png.")] = RESULTS,
) -> None:
    """Train PPO and GRPO from the same start, seed by seed, and compare."""
    torch.set_num_threads(1)
    scale = Scale(ppo_iterations=iterations)
    runs = {}
    for seed in map(int, seeds.split(",")):
        place = work / f"seed{seed}"
        place.mkdir(parents=True, exist_ok=True)
        run = {"sft": once(place / "sft.json", cold_start, place, scale, seed)}
        for algorithm in ALGORITHMS:
            run[algorithm] = once(place / f"{algorithm}-{iterations}.json", learn, place, scale, seed, algorithm)
        runs[seed] = run
        held_out = {name: part["held_out"]["accuracy"] for name, part in run.items()}
        print(f"seed {seed}: accuracy on held-out questions " + ", ".join(f"{n} {a:.3f}" for n, a in held_out.items()))
    out.mkdir(parents=True, exist_ok=True)
    write_json(
        out / "learn_demo.json",
        {"command": command_line(), "scale": scale.__dict__, "machine": machine(1), "seeds": runs},
    )
    plot_curves(
        out / "learn_demo.png",
        {f"{name} {seed}": run[name]["curve"] for name in ALGORITHMS for seed, run in runs.items()},
        ("rollout/ep_rew_mean", "rollout/success_rate"),
    )
    print(f"{out / 'learn_demo.json'}, learn_demo.png")


if __name__ == "__main__":
    typer.run(main)
