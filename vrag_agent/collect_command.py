"""What ``vrag collect`` does: an expert plays, and what is worth imitating is kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrag_agent.commands import make_env
from vrag_agent.demonstrations import Demonstration, DemonstrationStore, balance
from vrag_agent.demonstrations.collect import Expert, ScriptedExpert, collect_demonstrations
from vrag_agent.demonstrations.released import read_released, write_released
from vrag_agent.demonstrations.store import total_usage
from vrag_agent.evaluate import describe_corpus
from vrag_agent.teacher import GROUNDER_KEY_VARIABLE, TEACHER_KEY_VARIABLE, LeakingEpisode, Teacher
from vrag_env.chat import ChatClient
from vrag_env.episode import Episode
from vrag_env.errors import DemonstrationError
from vrag_env.players import PLAYERS, make_player
from vrag_env.questions import Question

_API = re.compile(r"api:(?P<model>.+?)@(?P<url>https?://.*)", re.DOTALL)


def make_client(
    spec: str,
    variable: str,
    *,
    concurrency: int,
    timeout: float,
    max_tokens: int,
    temperature: float | None = None,
) -> ChatClient:
    """Make the client of a model that is written ``api:MODEL@URL``.

    Raises:
        DemonstrationError: If it is written otherwise.
    """
    match = _API.fullmatch(spec)
    if match is None:  # not shown: it may hold a key by mistake
        raise DemonstrationError(
            'a model behind a server is written "api:MODEL@URL", as api:Qwen/Qwen2.5-VL-72B-Instruct@http://host:8000/v1'
        )
    return ChatClient(
        match["url"],
        match["model"],
        api_key_variable=variable,
        concurrency=concurrency,
        timeout=timeout,
        max_tokens=max_tokens,
        parameters={"temperature": temperature},
    )


def run_collect(
    out: Path,
    env_options: Mapping[str, Any],
    *,
    expert: str,
    grounder: str | None = None,
    frame: str = "pixel",
    grounder_frame: str = "pixel",
    leak: bool = False,
    attempts: int = 1,
    temperature: float = 0.0,
    keep: int | None = None,
    limit: int | None = None,
    concurrency: int = 8,
    timeout: float = 120.0,
    max_tokens: int = 1024,
    prices: tuple[float, float] | None = None,
    released: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> list[Demonstration]:
    """Collect demonstrations into a directory; the arguments are those of ``vrag collect``.

    Returns:
        What was kept, in the order of the questions.
    """
    if expert not in PLAYERS and grounder is None and not expert.startswith("api:"):
        raise DemonstrationError(f"unknown expert {expert!r}: choose {', '.join(PLAYERS)} or api:MODEL@URL")
    player: Expert
    if expert in PLAYERS:
        if grounder is not None or leak:
            raise DemonstrationError("--grounder and --leak are for an expert behind a server")
        player = ScriptedExpert(make_player(expert, seed), expert)
    else:
        limits = {"concurrency": concurrency, "timeout": timeout, "max_tokens": max_tokens}
        writer = make_client(expert, TEACHER_KEY_VARIABLE, temperature=temperature, **limits)  # type: ignore[arg-type]  # a mixed dict
        second = None
        if grounder is not None:
            second = make_client(grounder, GROUNDER_KEY_VARIABLE, temperature=0.0, **limits)  # type: ignore[arg-type]  # a mixed dict
        player = Teacher(writer, second, frame=frame, grounder_frame=grounder_frame, leak=leak)
    env = make_env(env_options)
    questions = env.questions[:limit]
    store = DemonstrationStore(out)
    look = ("max_turns", "min_pixels", "max_pixels", "pixel_multiple", "box_frame", "retriever", "reward", "judge")
    store.check_settings(
        {
            "expert": player.name,
            "frame": frame,
            "grounder_frame": grounder_frame,
            "leak": leak,
            "temperature": temperature,
            "seed": seed,
            "corpus": describe_corpus(env.corpus)["fingerprint"],
            "env": {name: str(env_options[name]) for name in look if name in env_options},
        }
    )
    kind = LeakingEpisode if leak else Episode
    known = store.journal()
    used = {"requests": 0, "read": 0, "written": 0, "accepted": sum(not d.rejected for d in known)}
    if known:
        say(f"{out} holds {len(known)} episodes already: going on")

    with tqdm(desc="collect", total=len(questions), unit="question", dynamic_ncols=True) as bar:
        settled = _settled(known, attempts)
        bar.update(len(settled & {question.question_id for question in questions}))

        def after_episode(done: Demonstration) -> None:
            used["accepted"] += not done.rejected
            used["requests"] += done.requests
            used["read"] += done.prompt_tokens
            used["written"] += done.completion_tokens
            if not done.rejected or done.attempt + 1 >= attempts:
                bar.update()
            cost = f", {_cost(used['requests'], used['read'], used['written'], prices)}" if used["requests"] else ""
            bar.set_postfix_str(f"{used['accepted']} accepted{cost}")

        journal = collect_demonstrations(
            player,
            questions,
            lambda question: kind(question, env.corpus, env.retriever, env.reward, env.config),
            store,
            attempts=attempts,
            seed=seed,
            on_episode=after_episode,
        )
    kept = choose(journal, questions, keep)
    path = store.write(kept)
    say(report(journal, kept, questions, prices))
    if released is not None:
        for skipped in write_released(kept, store, released):
            say(f"not in {released}: {skipped.name}: {skipped.reason}")
    if kept:
        say(f"{path}: imitate it with vrag train sft --demonstrations {out}")
    return kept


def run_import_released(path: Path, out: Path, images: Path | None, say: Callable[[str], None]) -> list[Demonstration]:
    """Read a ``search_sft.json`` into a directory of demonstrations.

    Raises:
        DemonstrationError: If nothing in it can be used.
    """
    store = DemonstrationStore(out)
    store.check_settings({"expert": "released", "file": path.name})
    found, skipped = read_released(path, store, images=images)
    for left in skipped:
        say(f"left out: {left.name}: {left.reason}")
    if not found:
        raise DemonstrationError(f"{path} holds no example that can be used")
    written = store.write(found)
    say(f"{len(found)} demonstrations read, {len(skipped)} left out: {written}")
    return found


def choose(
    journal: Sequence[Demonstration], questions: Sequence[Question], keep: int | None = None
) -> list[Demonstration]:
    """Take the accepted episodes in the order of the questions, balanced if only so many are to be kept."""
    place = {question.question_id: index for index, question in enumerate(questions)}
    accepted = [done for done in journal if not done.rejected and done.question_id in place]
    accepted.sort(key=lambda done: (place[done.question_id], done.attempt))
    return accepted if keep is None else balance(accepted, keep)


def report(
    journal: Sequence[Demonstration],
    kept: Sequence[Demonstration],
    questions: Sequence[Question],
    prices: tuple[float, float] | None = None,
) -> str:
    """Say what was played, kept and rejected, how the kept ones are spread, and what it cost."""
    rejected = Counter(done.rejected for done in journal if done.rejected)
    shapes = Counter((done.turns, done.searches, done.crops) for done in kept)
    played = {done.question_id for done in journal}
    missing = sum(question.question_id not in played for question in questions)
    accepted = sum(not done.rejected for done in journal)
    lines = [
        f"{len(journal)} episodes of {len(played)} questions: {accepted} accepted, {len(kept)} kept"
        + "".join(f", {count} rejected ({reason})" for reason, count in sorted(rejected.items())),
        *(
            f"  {count:>6}  {turns} turns, {searches} searches, {crops} crops"
            for (turns, searches, crops), count in sorted(shapes.items())
        ),
    ]
    if missing:
        lines.append(f"{missing} questions got no reply and were not played: run the same command again")
    requests, read, written = total_usage(journal)
    if requests:
        lines.append(_cost(requests, read, written, prices))
    return "\n".join(lines)


def _settled(journal: Sequence[Demonstration], attempts: int) -> set[str]:
    return {done.question_id for done in journal if not done.rejected or done.attempt + 1 >= attempts}


def _cost(requests: int, read: int, written: int, prices: tuple[float, float] | None) -> str:
    text = f"{requests} requests, {read} + {written} tokens"
    if prices is None:
        return text
    return f"{text}, {(read * prices[0] + written * prices[1]) / 1e6:.4f} in the currency of the prices"
