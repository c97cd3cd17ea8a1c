"""The journal of a run: one line of JSON per finished episode, kept at once, so that a kill loses nothing finished."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from vrag_agent.evaluate import to_json, write_json
from vrag_env.corpus.lock import CorpusBusyError, write_lock
from vrag_env.errors import VRAGError

RUN, EPISODES, VERDICTS = "run.json", "episodes.jsonl", "verdicts.jsonl"
FORMAT = "vrag-eval/1"

Row = dict[str, Any]
Key = tuple[int, str]
"""Seed and id of the question."""


class EvaluationError(VRAGError):
    """A directory of results can not be used, or a policy is set up wrongly."""


class Journal:
    """The directory of one run: what was asked for, the episodes that have ended, and the verdicts on them.

    Args:
        directory: Made if it does not exist.
        settings: What the results depend on, apart from questions and seeds, which may grow.
        fresh: Throw away what an earlier run has left.

    Raises:
        EvaluationError: If the directory holds a run with other settings, or another process writes to it.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.directory = directory
        self._open = ExitStack()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._open.enter_context(write_lock(directory))
        except CorpusBusyError as error:
            raise EvaluationError(f"another process writes to {directory}: wait, or choose another --out") from error
        try:
            if fresh:
                for name in (RUN, EPISODES, VERDICTS):
                    (directory / name).unlink(missing_ok=True)
            self._check(settings)
            self.rows: dict[Key, Row] = {key_of(row): row for row in read_lines(directory / EPISODES)}
            self._verdicts: dict[tuple[str, Key], float | None] = {
                (line["judge"], key_of(line)): line["score"] for line in read_lines(directory / VERDICTS)
            }
            self._files = {
                name: self._open.enter_context((directory / name).open("a", encoding="utf-8"))
                for name in (EPISODES, VERDICTS)
            }
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Journal:
        """Use it as a context, which lets go of the directory at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the files."""
        self._open.close()

    def _check(self, settings: Mapping[str, Any]) -> None:
        path = self.directory / RUN
        wanted = json.loads(to_json({"format": FORMAT, **settings}))
        if not path.exists():
            if (self.directory / EPISODES).exists() and (self.directory / EPISODES).stat().st_size:
                raise EvaluationError(f"{self.directory} holds episodes of another program: choose another --out")
            write_json(path, wanted)
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != wanted:
            names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            shown = "; ".join(f"{name}: {found.get(name)!r:.80}, now {wanted.get(name)!r:.80}" for name in names)
            raise EvaluationError(
                f"{self.directory} holds another run ({shown}): choose another --out, or begin anew with --fresh"
            )

    def add(self, row: Row) -> None:
        """Keep a finished episode."""
        self.rows[key_of(row)] = row
        self._write(EPISODES, row)

    def verdict(self, judge: str, key: Key) -> float | None:
        """Return what a judge said of an episode; ``None`` if nothing is known."""
        return self._verdicts.get((judge, key))

    def judged(self, judge: str, key: Key) -> bool:
        """Whether a judge has said something of an episode."""
        return self.verdict(judge, key) is not None

    def add_verdict(self, judge: str, key: Key, score: float | None) -> None:
        """Keep what a judge said; ``None`` where it gave no verdict, which is asked for again another time."""
        self._verdicts[judge, key] = score
        self._write(VERDICTS, {"judge": judge, "seed": key[0], "question_id": key[1], "score": score})

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        # One write of a whole line, handed to the system at once: a kill leaves at most one torn last line.
        self._files[name].write(to_json(value) + "\n")
        self._files[name].flush()


def key_of(row: Mapping[str, Any]) -> Key:
    """Return seed and question of a line."""
    return row["seed"], row["question_id"]


def read_lines(path: Path) -> Iterator[Row]:
    """Read the lines of a journal; a last line that was torn by a kill is cut off from the file.

    Raises:
        EvaluationError: If a line in the middle is damaged.
    """
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                yield json.loads(line)
            except ValueError as error:
                raise EvaluationError(f"{path}: line {number} is damaged ({error}): use --fresh") from error
            whole += len(line)
    if whole < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(whole)
