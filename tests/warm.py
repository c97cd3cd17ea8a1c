"""Processes for the tests that start at once: forked from one that has imported the libraries already.

Importing LanceDB takes seconds of processor time, which a test with twenty processes can not spend. The processes are
as real as others: they share nothing with the test, and can be killed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

# What LanceDB imports, which takes nearly all of its time; not itself, since it starts a thread, and a process is
# forked safely only where there is one.
PRELOADED = ["pandas", "pyarrow.dataset", "lance_namespace", "vrag_agent.cli", "vrag_env.corpus.ingest"]


def start(target: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
    """Run ``target(connection, *arguments)`` in a new process; gives it and the other end of the connection.

    Args:
        target: A function of a test module, or of one that it imports.
        arguments: What can be pickled.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()  # so that its death shows as the end of what we read
    return process, ours


def finish(process: ForkServerProcess) -> int:
    """Wait for the end of a process; gives its exit code, which is that of the signal, negative, if it was killed."""
    process.join(200)
    code = process.exitcode
    assert code is not None, "the process did not end"
    process.close()
    return code
