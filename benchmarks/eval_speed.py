"""How fast is the harness? Episodes per second of a scripted player, and what the harness adds to a policy.

What it measures: 1,000 episodes of ``retrieve_then_answer`` (and of the oracle) over the built-in world with
lexical retrieval, without drawing, from the first question to the last line of the journal; and the time that the
harness adds to a policy that takes 20 milliseconds per turn and plays alone, retrieval and all. What it leaves out:
judging by a model, intervals and tables at the end.

    python benchmarks/eval_speed.py            # a minute on two cores
    python benchmarks/eval_speed.py --limit 100
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from _tables import Clock, LimitOption, OutOption, ResultOption, result_markdown, run, write_result

from vrag_agent.commands import make_env
from vrag_agent.evaluation.engine import Setting, play_all
from vrag_agent.evaluation.journal import Journal
from vrag_agent.evaluation.protocol import Policy, Script, ScriptedPolicy, Turn
from vrag_env.env import VRAGEnv
from vrag_env.episode import Episode, StepResult
from vrag_env.players import make_player
from vrag_env.questions import Question

EPISODES = 1_000
TURN_SECONDS = 0.02


class Slow(ScriptedPolicy):
    """A scripted player that takes its time, and tells how much it took."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.spent = 0.0
        self.turns = 0

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Think for a while before every turn."""
        player = make_player(self.name, seed)
        while True:
            started = time.perf_counter()
            time.sleep(TURN_SECONDS)
            text = player.act(episode)
            self.spent += time.perf_counter() - started
            self.turns += 1
            yield Turn(text)

    def settings(self) -> Mapping[str, Any]:
        """Its name, and that it is slow."""
        return {"policy": f"slow {self.name}"}


def questions_of(env: VRAGEnv, count: int) -> list[Question]:
    """Return so many questions, by asking again under other ids."""
    asked = list(env.questions)
    return [
        replace(asked[place % len(asked)], question_id=f"{asked[place % len(asked)].question_id}~{place}")
        for place in range(count)
    ]


def seconds_of(policy: Policy, env: VRAGEnv, count: int, batch_size: int) -> float:
    """Return how long it takes to play so many episodes into a journal."""
    setting = Setting(env.corpus, env.retriever, env.reward, env.config)
    questions = questions_of(env, count)
    env.retriever.search(["warm up"], 1)
    with tempfile.TemporaryDirectory() as directory, Journal(Path(directory) / "run", {}) as journal:
        started = time.perf_counter()
        play_all(policy, setting, questions, journal, batch_size=batch_size)
        return time.perf_counter() - started


def main(limit: LimitOption = None, out: OutOption = Path("runs/eval_speed"), result: ResultOption = None) -> None:
    """Measure and print."""
    clock = Clock(out)
    env = make_env({})
    count = min(EPISODES, limit or EPISODES)
    rows: list[dict[str, Any]] = []
    for name in ("retrieve_then_answer", "oracle", "random"):
        spent = seconds_of(ScriptedPolicy(name), env, count, 64)
        rows.append({"row": f"{name}, 64 at once", "cells": {"episodes": count, "episodes per second": count / spent}})
    slow = Slow("retrieve_then_answer")
    alone = min(count, 100)
    spent = seconds_of(slow, env, alone, 1)
    added = (spent - slow.spent) / slow.spent
    rows.append(
        {
            "row": "policy of 20 ms per turn, alone",
            "cells": {
                "episodes": alone,
                "episodes per second": alone / spent,
                "added per turn (ms)": 1000 * (spent - slow.spent) / slow.turns,
                "added (%)": 100 * added,
            },
        }
    )
    for row in rows:
        row["cells"] = {name: row["cells"].get(name, "-") for name in rows[-1]["cells"]}
    written = write_result(
        result or out / "eval_speed.json",
        "eval_speed",
        title="Speed of the harness",
        columns=list(rows[-1]["cells"]),
        rows=rows,
        seeds=[0],
        seconds=clock.seconds(),
        notes=["added: parsing, retrieval, scoring, measuring and the journal, over the time of the policy itself"],
    )
    print(result_markdown(written, 2))


if __name__ == "__main__":
    run(main)
