"""How fast are the environments? Against the released loop of VRAG-RL's demo, in the same run.

What it does: plays the same short episodes (a search, a crop, an answer) in turns

- plain: as VRAG-RL's demo does it, one after the other: ask the retriever, ``Image.open`` the page's file,
  ``resize`` it; cut the box out of the picture with ``crop`` and ``resize`` that; nothing at all for the answer. The
  retriever, the pages, the boxes, the filter (bicubic) and the sizes are ours, and so are the files, byte for byte.
  Left out are its prompt, model, JPEG and base64, so that what is left is the least that it must do;
- vector: ``gym.make_vec("VRAG-v0", num_envs=32)``, with everything that a step of it gives back;
- single: the same by one ``VRAG-v0``;

once over pages that were shown before (``known``: the same pages again, with other boxes) and once over pages that
this process has never read (``new``). Then, by themselves: the numeric face under random masked actions (``numeric``),
resets, the memory that one more environment takes once it shows a crop, and where the time of a vector step goes.

A step is one action of one environment. Rates are medians over the repeats; ratios are medians of the ratios of
each repeat.

    python benchmarks/env_speed.py --docs my_pdfs
"""

from __future__ import annotations

import ctypes
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest import mock

import gymnasium as gym
import numpy as np
import typer
from _machine import command_line, machine, rss_mib, with_threads
from ingestion_speed import DEFAULT_DOCS, generate
from PIL import Image

import vrag_env  # registers the ids
from vrag_env import episode as episode_module
from vrag_env.corpus import Corpus, ingest
from vrag_env.questions import Question
from vrag_env.retrieval import make_retriever
from vrag_env.views import PixelBudget

ENVS = 32
STEPS = 3  # of one episode
QUERY_WORDS = 12
TARGETS = {"vector to plain, known pages": 5.0, "numeric steps/s": 2000.0, "MiB per environment, at most": 2.0}
_SEARCH, _CROP = "<think>t</think><search>{}</search>", "<think>t</think><bbox>{}</bbox>"
_ANSWER = "<think>t</think><answer>42</answer>"


class Work:
    """The pages, a question and a query for each, and their files.

    Args:
        corpus: The corpus, pinned.
        files: Directory for the page files of the plain loop.
        seed: Draws pages and boxes.
    """

    def __init__(self, corpus: Corpus, files: Path, seed: int) -> None:
        self.corpus = corpus
        self._rng = random.Random(seed)
        self.retriever = make_retriever("lexical", corpus)
        self._folder = files
        queries: dict[str, str] = {}
        for page in corpus.pages(corpus.page_ids()):
            words = [word for word in page.text.split() if word.isalnum()]
            if len(words) >= QUERY_WORDS:
                queries[page.page_id] = " ".join(self._rng.sample(words, QUERY_WORDS))
        # Pages whose query finds them first, so that every search of an episode shows another page.
        ids = list(queries)
        found = self.retriever.search([queries[page_id] for page_id in ids], 1)
        self.ids = [page_id for page_id, hits in zip(ids, found, strict=True) if hits and hits[0].page_id == page_id]
        self._rng.shuffle(self.ids)
        if len(self.ids) < 2 * ENVS:
            raise SystemExit(f"at least {2 * ENVS} pages with text are needed, these documents have {len(self.ids)}")
        self.queries = queries
        self.questions = [Question(page_id, "What is it?", "none", gold_pages=(page_id,)) for page_id in self.ids]
        self.files: dict[str, Path] = {}
        for start in range(0, len(self.ids), 64):
            for row in corpus.rows(self.ids[start : start + 64], ["image"]):
                path = files / f"{len(self.files)}.img"
                path.write_bytes(row["image"])
                self.files[row["page_id"]] = path

    def boxes(self, count: int) -> list[tuple[int, int, int, int]]:
        """Draw boxes in pixels of the shown page, a tenth of it or so."""
        return [
            (x, y, x + 140, y + 180)
            for x, y in ((self._rng.randrange(280), self._rng.randrange(360)) for _ in range(count))
        ]


def plain(work: Work, pages: Sequence[str], boxes: Sequence[tuple[int, int, int, int]]) -> None:
    """Play one episode per page as a plain sequence of calls."""
    budget = PixelBudget()
    for page_id, (x0, y0, x1, y1) in zip(pages, boxes, strict=True):
        [[hit]] = work.retriever.search([work.queries[page_id]], 1)
        raw = Image.open(work.files[hit.page_id]).convert("RGB")
        shown = raw.resize(budget.fit(*raw.size))
        wide, high = raw.width / shown.width, raw.height / shown.height
        region = raw.crop((int(x0 * wide), int(y0 * high), int(x1 * wide), int(y1 * high)))
        region.resize(budget.fit(*region.size))


def vector(envs: Any, work: Work, pages: Sequence[str], boxes: Sequence[tuple[int, int, int, int]]) -> None:
    """Play one episode per page in the vector environment."""
    envs.reset(options={"question_ids": list(pages)})
    envs.step([_SEARCH.format(work.queries[page_id]) for page_id in pages])
    envs.step([_CROP.format(list(box)) for box in boxes])
    _, _, ended, _, _ = envs.step([_ANSWER] * len(pages))
    assert ended.all()


def single(env: Any, work: Work, pages: Sequence[str], boxes: Sequence[tuple[int, int, int, int]]) -> None:
    """Play the same episodes one after the other."""
    for page_id, box in zip(pages, boxes, strict=True):
        env.reset(options={"question_id": page_id})
        for action in (_SEARCH.format(work.queries[page_id]), _CROP.format(list(box)), _ANSWER):
            env.step(action)


def rate(steps: int, play: Callable[[], None]) -> float:
    """Steps per second of one call."""
    started = time.perf_counter()
    play()
    return steps / (time.perf_counter() - started)


def again(env: Any, count: int) -> None:
    """Reset over and over."""
    for _ in range(count):
        env.reset()


def faces(work: Work, repeats: int) -> dict[str, Any]:
    """Time the plain loop, the vector and the single environment in turns, on known and on new pages."""
    options: dict[str, Any] = {"corpus": work.corpus, "questions": work.questions, "retriever": work.retriever}
    envs = gym.make_vec("VRAG-v0", num_envs=ENVS, **options)
    env = gym.make("VRAG-v0", **options).unwrapped
    known, rest = work.ids[:ENVS], work.ids[ENVS:]
    rates: dict[str, list[float]] = {name: [] for name in ("plain", "vector", "single", "plain new", "vector new")}
    vector(envs, work, known, work.boxes(ENVS))  # the pages are known from here on
    for number in range(repeats):
        boxes = work.boxes(ENVS)
        rates["plain"].append(rate(ENVS * STEPS, partial(plain, work, known, boxes)))
        rates["vector"].append(rate(ENVS * STEPS, partial(vector, envs, work, known, boxes)))
        rates["single"].append(rate(ENVS * STEPS, partial(single, env, work, known, boxes)))
        new = rest[number * ENVS : (number + 1) * ENVS]
        if len(new) == ENVS:
            rates["plain new"].append(rate(ENVS * STEPS, partial(plain, work, new, boxes)))
            rates["vector new"].append(rate(ENVS * STEPS, partial(vector, envs, work, new, boxes)))
            vector(envs, work, known, boxes)  # the cache holds the known pages again
    resets: dict[str, list[float]] = {"single": [], "vector": []}
    for _ in range(repeats):
        resets["single"].append(rate(200, partial(again, env, 200)))
        resets["vector"].append(rate(20 * ENVS, partial(again, envs, 20)))
    return {
        "steps_per_second": {name: median(values) for name, values in rates.items()},
        "ratios": {
            name: median(a / b for a, b in zip(rates[one], rates[other], strict=True))
            for name, one, other in (
                ("vector to plain, known pages", "vector", "plain"),
                ("single to plain, known pages", "single", "plain"),
                ("vector to plain, new pages", "vector new", "plain new"),
            )
        },
        "rounds_of_new_pages": len(rates["vector new"]),
        "resets_per_second": {name: median(values) for name, values in resets.items()},
        "share_of_a_vector_step": shares(envs, work, known),
    }


@contextmanager
def clocked(clock: dict[str, float], name: str, owner: Any, attribute: str) -> Iterator[None]:
    """Add the time spent in a function to a clock."""
    function = getattr(owner, attribute)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            clock[name] = clock.get(name, 0.0) + time.perf_counter() - started

    with mock.patch.object(owner, attribute, timed):
        yield


def shares(envs: Any, work: Work, pages: Sequence[str], rounds: int = 10) -> dict[str, float]:
    """Tell where the time of a vector step over known pages goes; shares that sum to 1."""
    clock: dict[str, float] = {}
    total = 0.0
    reward = envs.envs[0].reward
    with (
        clocked(clock, "retrieval", work.retriever, "search"),
        clocked(clock, "pictures", episode_module, "draw_all"),
        clocked(clock, "reward and judge", reward, "score"),
        clocked(clock, "batching of observations", envs, "_batch"),
        clocked(clock, "information", envs, "_add_info"),
    ):
        for _ in range(rounds):
            started = time.perf_counter()
            vector(envs, work, pages, work.boxes(len(pages)))
            total += time.perf_counter() - started
    found = {name: spent / total for name, spent in clock.items()}
    return found | {"all else": 1 - sum(found.values())}


def numeric(work: Work, repeats: int, steps: int) -> dict[str, float]:
    """Steps per second of the numeric face under random possible actions, with and without the picture."""
    rng = np.random.default_rng(0)
    questions = work.questions[:ENVS]
    rates: dict[str, float] = {}
    for name, canvas in (("numeric", False), ("numeric with canvas", True)):
        env: Any = gym.make(
            "VRAG-Discrete-v0", corpus=work.corpus, questions=questions, retriever=work.retriever, canvas=canvas
        ).unwrapped

        def play(env: Any = env, count: int = steps) -> None:
            env.reset()
            for _ in range(count):
                _, _, terminated, truncated, _ = env.step(rng.choice(np.flatnonzero(env.action_masks())))
                if terminated or truncated:
                    env.reset()

        play(count=4 * steps)  # what is worked out about pages and questions is kept
        rates[name] = median(rate(steps, play) for _ in range(repeats))
    return rates


def memory(work: Work, more: int = 64) -> float:
    """MiB that one more environment takes when it shows a crop, which it shares with nobody."""
    options: dict[str, Any] = {"corpus": work.corpus, "questions": work.questions, "retriever": work.retriever}

    def shown(count: int) -> Any:
        envs = gym.make_vec("VRAG-v0", num_envs=count, **options)
        pages = [work.ids[number % ENVS] for number in range(count)]
        envs.reset(options={"question_ids": pages})
        envs.step([_SEARCH.format(work.queries[page_id]) for page_id in pages])
        envs.step([_CROP.format(list(box)) for box in work.boxes(count)])
        return envs

    def held() -> float:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back, so that it is not counted, nor used again
        return rss_mib()

    kept = [shown(ENVS)]
    before = held()
    kept.append(shown(more))
    return (held() - before) / more


def run(corpus: Corpus, repeats: int = 7, numeric_steps: int = 4000, seed: int = 0) -> dict[str, Any]:
    """Measure everything.

    Args:
        corpus: The pages.
        repeats: Rounds of each measurement.
        numeric_steps: Steps of one round of the numeric face.
        seed: Draws pages, queries and boxes.

    Returns:
        Rates, ratios, shares and memory, by name.
    """
    with tempfile.TemporaryDirectory() as directory:
        work = Work(corpus.pinned(), Path(directory), seed)
        found = faces(work, repeats)
        found["mib_per_environment"] = memory(work)
        found["steps_per_second"] |= numeric(work, repeats, numeric_steps)
    return found | {"pages": len(corpus), "pages_used": len(work.ids), "environments": ENVS, "repeats": repeats}


def report(result: dict[str, Any]) -> str:
    """Write the measurements as Markdown."""
    rates, ratios = result["steps_per_second"], result["ratios"]
    lines = ["| what | steps/s | to the plain loop |", "|---|---|---|"]
    rows = (
        ("plain loop, one after the other", "plain", None),
        (f"`VRAG-v0`, {result['environments']} environments, known pages", "vector", "vector to plain, known pages"),
        ("`VRAG-v0`, one environment, known pages", "single", "single to plain, known pages"),
        ("plain loop, new pages", "plain new", None),
        (f"`VRAG-v0`, {result['environments']} environments, new pages", "vector new", "vector to plain, new pages"),
        ("`VRAG-Discrete-v0`, `canvas=False`, one environment", "numeric", None),
        ("`VRAG-Discrete-v0` with the picture, one environment", "numeric with canvas", None),
    )
    for label, name, ratio in rows:
        lines.append(f"| {label} | {rates[name]:.0f} | {'' if ratio is None else f'{ratios[ratio]:.1f}'} |")
    resets = result["resets_per_second"]
    parts = ", ".join(f"{name} {share:.0%}" for name, share in result["share_of_a_vector_step"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"Resets per second: {resets['single']:.0f} (one environment), {resets['vector']:.0f} (vector).",
            f"One more environment that shows a crop takes {result['mib_per_environment']:.2f} MiB.",
            f"A vector step over known pages: {parts}.",
        ]
    )


def main(
    docs: Annotated[Path | None, typer.Option(help="Directory of PDFs. Default: real ones, or generated ones.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="A corpus that is there already, instead of --docs.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of each measurement.")] = 7,
    numeric_steps: Annotated[int, typer.Option(min=10, help="Steps of one round of the numeric face.")] = 4000,
    seed: Annotated[int, typer.Option(help="Draws pages, queries and boxes.")] = 0,
    only_memory: Annotated[
        bool,
        typer.Option("--only-memory", help="Measure the memory alone, which needs no quiet machine; update --out."),
    ] = False,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the result here, as JSON.")] = None,
) -> None:
    """Measure the environments; see the top of the file."""
    with tempfile.TemporaryDirectory() as directory:
        if corpus is None:
            place = docs or (DEFAULT_DOCS if DEFAULT_DOCS.is_dir() else generate(Path(directory)))
            store = Corpus.create(Path(directory) / "corpus")
            ingest([place], store, ocr="never")
        else:
            store = Corpus.open(corpus)
        if only_memory:
            with tempfile.TemporaryDirectory() as files:
                found = {"mib_per_environment": memory(Work(store.pinned(), Path(files), seed))}
            print(found)
            if out is not None:
                result = json.loads(out.read_text()) | found | {"memory_command": command_line()}
                out.write_text(json.dumps(result, indent=1) + "\n")
            return
        result = run(store, repeats, numeric_steps, seed) | {"command": command_line(), "machine": machine(1)}
    print(report(result))
    for name, target in TARGETS.items():
        found = {
            "vector to plain, known pages": result["ratios"]["vector to plain, known pages"],
            "numeric steps/s": result["steps_per_second"]["numeric"],
            "MiB per environment, at most": result["mib_per_environment"],
        }[name]
        met = found <= target if "at most" in name else found >= target
        print(f"{'reached' if met else 'MISSED'}: {name}: {found:.2f} (target {target:g})")
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    assert vrag_env.__version__
    with_threads(1)
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    application()
