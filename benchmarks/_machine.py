"""What a measurement ran on, without names of machines, users or directories."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "LANCE_CPU_THREADS",
)
"""Environment variables by which the libraries of all engines take their number of threads, read at their import."""

_PACKAGES = (
    "vrag-gym",
    "numpy",
    "torch",
    "colpali-engine",
    "lancedb",
    "pyarrow",
    "maxsim-cpu",
    "bm25s",
    "pypdfium2",
    "sentence-transformers",
)


def machine(threads: int) -> dict[str, Any]:
    """Describe processor, Python and packages."""
    return {
        "cores": os.cpu_count(),
        "threads": threads,
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def command_line() -> str:
    """The command of this measurement, without what names a directory of this machine."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    places = ("--work", "--out", "--docs", "--cache", "--corpus", "--questions")
    kept = [
        word for word, before in zip(words, ["", *words], strict=False) if word not in places and before not in places
    ]
    return " ".join(["python", f"benchmarks/{kept[0]}", *kept[1:]])


def threads_given() -> int:
    """The number after ``--threads`` on the command line; by default as many as there are cores."""
    given = [value for name, value in zip(sys.argv, sys.argv[1:], strict=False) if name == "--threads"]
    return int(given[-1]) if given else os.cpu_count() or 1


def with_threads(threads: int) -> None:
    """Start this very command again with the thread settings in its environment, unless they are there.

    Numerical libraries read them once, when they are imported.
    """
    wanted = dict.fromkeys(THREAD_SETTINGS, str(threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def rss_mib() -> float:
    """Resident memory of this process now, in MiB (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_rss_mib() -> float:
    """Highest resident memory of this process so far, in MiB (Linux).

    Not ``getrusage``: in a process that was started from a large one, that begins with the parent's memory.
    """
    with open("/proc/self/status", encoding="ascii") as file:
        peak = next(line for line in file if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
