"""VerdictCache: verdicts of judging models on disk, so that no answer is paid for twice."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vrag_env.errors import JudgeError

_SCHEMA_VERSION = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY,
    verdict INTEGER NOT NULL CHECK (verdict IN (0, 1)),
    judge TEXT NOT NULL,
    written TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID
"""
_INSERT = "INSERT INTO verdicts (key, verdict, judge) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
_BUSY_SECONDS = 60.0
_KEYS_PER_QUERY = 500  # older SQLite allows 999 variables


class VerdictCache:
    """A file of verdicts, one SQLite table.

    Several threads and processes may use one file at once: every call opens its own connection, and every
    write is one transaction, so that a process that is killed leaves whole verdicts or none. Only numbers and
    hashes are read back; nothing is unpickled. A verdict that is there already is kept.

    Args:
        path: The file; made with its directories if it is not there.

    Raises:
        JudgeError: If it is not such a file, is of another version, or can not be written.

    Example:
        >>> cache = VerdictCache("runs/verdicts.sqlite")  # doctest: +SKIP
        >>> cache.put({"9f3a": True}, judge="api:qwen-max")  # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._broken(error) from error
        with self._connect() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA_VERSION):
                raise JudgeError(
                    f"the verdicts in {self.path} are of version {version}, this package writes {_SCHEMA_VERSION}: "
                    "name another file"
                )
            if version == 0:
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def get(self, keys: Sequence[str]) -> dict[str, bool]:
        """Return the verdicts that are known, by key.

        Raises:
            JudgeError: If the file can not be read.
        """
        found: dict[str, bool] = {}
        with self._connect() as connection:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                marks = ", ".join("?" * len(part))
                rows = connection.execute(f"SELECT key, verdict FROM verdicts WHERE key IN ({marks})", part)
                found.update((key, bool(verdict)) for key, verdict in rows)
        return found

    def put(self, verdicts: Mapping[str, bool], judge: str) -> None:
        """Keep verdicts, all or none.

        Args:
            verdicts: Verdict by key.
            judge: Who gave them; for a person who looks into the file.

        Raises:
            JudgeError: If the file can not be written.
        """
        rows = [(key, int(verdict), judge) for key, verdict in verdicts.items()]
        with self._connect() as connection:
            connection.executemany(_INSERT, rows)

    def __len__(self) -> int:
        with self._connect() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0])

    def __repr__(self) -> str:
        return f"VerdictCache({str(self.path)!r})"

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> JudgeError:
        return JudgeError(f"can not use {self.path} as a file of verdicts ({error}): name another file or delete it")
