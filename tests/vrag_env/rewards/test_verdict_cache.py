from __future__ import annotations

import multiprocessing
import pickle
import sqlite3
from pathlib import Path

import pytest

from vrag_env.errors import JudgeError
from vrag_env.rewards import VerdictCache


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = VerdictCache(tmp_path / "a" / "v.sqlite")
    assert cache.get(["x"]) == {} and cache.get([]) == {} and len(cache) == 0
    cache.put({"x": True, "y": False}, "j")
    cache.put({"x": False}, "j")  # the first verdict stays
    many = [f"k{number}" for number in range(2000)]
    cache.put(dict.fromkeys(many, True), "j")
    again = pickle.loads(pickle.dumps(VerdictCache(tmp_path / "a" / "v.sqlite")))
    assert again.get(["x", "y", "z"]) == {"x": True, "y": False}
    assert again.get(many) == dict.fromkeys(many, True)
    assert len(again) == 2002


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    cache = VerdictCache(tmp_path / "v.sqlite")
    with pytest.raises(JudgeError):
        cache.put({"x": True, "y": 2}, "j")  # type: ignore[dict-item]  # the mistake under test
    assert len(cache) == 0


def _fill(path: Path, start: int) -> None:
    cache = VerdictCache(path)
    for number in range(start, start + 90):
        cache.put({str(number): number % 2 == 0}, "j")


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "v.sqlite"
    processes = [context.Process(target=_fill, args=(path, start)) for start in (0, 60)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    cache = VerdictCache(path)
    assert cache.get([str(number) for number in range(150)]) == {str(n): n % 2 == 0 for n in range(150)}


def test_other_files_are_named(tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("these are no verdicts, but quite a few characters of text " * 20)
    with pytest.raises(JudgeError, match=r"notes\.txt"):
        VerdictCache(wrong)
    with pytest.raises(JudgeError):
        VerdictCache(wrong / "v.sqlite")
    with pytest.raises(JudgeError):
        VerdictCache(tmp_path)
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(JudgeError, match="version 9"):
        VerdictCache(newer)
