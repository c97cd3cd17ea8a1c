"""Evaluation of the tiny agents on their held-out questions, pooled over seeds, with the paired tests of hypotheses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _tables import cell
from _tiny_agents import RAG_SPECIFIC, VANILLA, Arm, Size, TinyWorld

from vrag_agent.evaluation.compare import Finished, load_run
from vrag_agent.evaluation.intervals import mean_difference, ratio
from vrag_agent.evaluation.local import LocalModel
from vrag_agent.evaluation.measures import METRICS
from vrag_agent.evaluation.methods import Native
from vrag_agent.evaluation.run import evaluate_policy

ARMS: dict[str, Arm] = {
    "vanilla_search": Arm("vanilla_search", VANILLA, crops=False),
    "vanilla_crop": Arm("vanilla_crop", VANILLA),
    "rag_search": Arm("rag_search", RAG_SPECIFIC, crops=False),
    "rag_crop": Arm("rag_crop", RAG_SPECIFIC),
}
GRPO = Arm("rag_crop_grpo", RAG_SPECIFIC, algorithm="grpo")
SFT = "sft"


@dataclass(frozen=True)
class Evaluated:
    """The runs of agents on the same held-out questions, by agent and seed.

    Attributes:
        runs: The runs.
        summaries: Their summaries.
        how: What the numbers rest on, in words.
    """

    runs: Mapping[str, Mapping[int, Finished]]
    summaries: Mapping[str, Mapping[int, Mapping[str, Any]]]
    how: str

    def values(self, name: str, metric: str) -> dict[tuple[int, str], tuple[float, float]]:
        """Return numerator and denominator of a metric by seed and question, where it applies."""
        measure = METRICS[metric]
        found = {}
        for seed, run in self.runs[name].items():
            for _, question_id in run.rows:
                key = (0, question_id)
                top = run.value("accuracy" if measure.numerator == "right" else measure.numerator, "rule", *key)
                bottom = 1.0 if measure.denominator is None else run.value(measure.denominator, "rule", *key)
                if top is not None and bottom is not None:
                    found[seed, question_id] = (top, bottom)
        return found

    def pooled(self, name: str, metric: str) -> dict[str, Any]:
        """Return a cell: over the questions of all seeds, each of which has documents of its own."""
        pairs = self.values(name, metric).values()
        return cell(ratio([top for top, _ in pairs], [bottom for _, bottom in pairs]))

    def by_seed(self, name: str, metric: str) -> str:
        """Return the number of each seed, in words."""
        return " / ".join(f"{run[metric]:.3f}" for run in self.summaries[name].values())

    def row(self, name: str) -> dict[str, Any]:
        """Return the cells of table 2 for one agent."""
        return {
            "7B, measured": None,
            "tiny: accuracy": self.pooled(name, "accuracy"),
            "tiny: NDCG of pages": self.pooled(name, "retrieval_ndcg"),
            "tiny: crops": self.pooled(name, "crops"),
            "tiny: by seed": self.by_seed(name, "accuracy"),
        }

    def hypothesis(self, claim: str, first: str, second: str, metric: str, *, lower: bool = False) -> str:
        """Return what the paired difference of two agents says of a claim that the second one is better.

        Args:
            claim: The claim.
            first: The agent without.
            second: The agent with.
            metric: What is compared.
            lower: Whether lower is better.
        """
        one, two = self.values(first, metric), self.values(second, metric)
        both = [key for key in one if key in two]
        found = mean_difference([_share(one[key]) for key in both], [_share(two[key]) for key in both])
        if found.value is None or found.low is None or found.high is None:
            return f"Hypothesis: {claim}: not measured"
        good, bad = (found.high < 0, found.low > 0) if lower else (found.low > 0, found.high < 0)
        verdict = "holds here" if good else "the opposite is found here" if bad else "undecided here"
        return (
            f"Hypothesis: {claim}: **{verdict}** ({metric}, {second} minus {first}: {found.value:+.3f}, 95 % interval "
            f"{found.low:+.3f} to {found.high:+.3f}, paired over {found.questions} questions)"
        )


def _share(pair: tuple[float, float]) -> float:
    return pair[0] / pair[1] if pair[1] else 0.0


def evaluate_agents(
    out: Path,
    seeds: Sequence[int],
    iterations: int,
    names: Sequence[str],
    limit: int | None = None,
    *,
    arms: Mapping[str, Arm] = ARMS,
    size: Size | None = None,
) -> Evaluated:
    """Train what is missing and evaluate every agent with greedy decoding on the held-out questions of its seed.

    Args:
        out: Directory of agents and runs.
        seeds: Each has a world, an imitation and agents of its own.
        iterations: Iterations of PPO.
        names: Agents; the imitation is always there.
        limit: Only the first questions.
        arms: What the names mean.
        size: How much is trained; ``iterations`` goes over it.
    """
    from vrag_agent.checkpoint import load_policy
    from vrag_agent.demo import MAX_TOKENS

    runs: dict[str, dict[int, Finished]] = {}
    training: dict[str, list[float]] = {}
    summaries: dict[str, dict[int, Any]] = {}
    chosen = size or Size()
    chosen = Size(**{**vars(chosen), "iterations": iterations})
    for seed in seeds:
        world = TinyWorld(out, seed, chosen)
        for name in (SFT, *names):
            arm = None if name == SFT else arms[name]
            checkpoint = world.imitated() if arm is None else world.trained(arm)
            training.setdefault(name, []).append(world.seconds(name))
            policy = load_policy(checkpoint)
            player = Native(
                LocalModel(policy, name, max_tokens=MAX_TOKENS),
                system=policy.system,
                crops=True if arm is None else arm.crops,
                label=name,
            )
            where = world.directory / "eval" / name
            questions = world.test_env.questions[:limit]
            summaries.setdefault(name, {})[seed] = evaluate_policy(
                player, world.test_env, where, questions=questions, batch_size=96
            )
            asked = {question.question_id for question in questions}
            run = load_run(where)
            kept = {key: row for key, row in run.rows.items() if key[1] in asked}
            runs.setdefault(name, {})[seed] = Finished(run.name, kept, run.verdicts)
    how = (
        f"tiny Qwen2.5-VL from nothing, {chosen.demonstrations} demonstrations, {chosen.sft_epochs} epochs, then "
        f"{iterations} iterations of PPO with {chosen.episodes} episodes; greedy, on questions about documents that "
        "were in neither; every seed has documents, weights and sampling of its own; the interval is over questions"
    )
    times = "; ".join(f"{name} {', '.join(f'{spent:.0f}' for spent in all_of)}" for name, all_of in training.items())
    how = f"{how}. Seconds of training by seed, on two busy cores: {times}"
    return Evaluated(runs, summaries, how)
