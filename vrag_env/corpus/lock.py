"""One writer at a time, by a lock on a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vrag_env.errors import CorpusError

LOCK_FILE = ".write_lock"


class CorpusBusyError(CorpusError):
    """Another process, or another thread, is writing to the corpus."""


@contextmanager
def write_lock(directory: Path) -> Iterator[None]:
    """Hold a corpus for writing; the system drops the lock when the process dies, however it dies.

    Args:
        directory: The corpus's directory.

    Raises:
        CorpusBusyError: If someone else holds it.
        CorpusError: If the directory can not be written.
    """
    try:
        handle = open(directory / LOCK_FILE, "a+b")  # noqa: SIM115 (the block below closes it)
    except OSError as error:
        raise CorpusError(
            f"the corpus {directory} can not be written ({error.strerror}): check its permissions, or copy it"
        ) from error
    with handle:
        try:
            if sys.platform == "win32":
                import msvcrt

                handle.seek(0)
                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CorpusBusyError(f"another process is writing to {directory}: wait until it is done") from error
        yield
