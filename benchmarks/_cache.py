"""Generated pages and the tables of the engines, made once and kept for the next run."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _ours import Ours
from _peers import LanceMultivector, PagesInMemory
from synthetic_pages import Float16, SyntheticPages

import vrag_env

_ENGINE = ("embeddings", "pooling", "packing", "recall", "candidates", "maxsim")  # what decides a table's content


_PART = 100  # pages made by a process at once


def _pages(seed: int, low: int, count: int) -> list[Float16]:
    source = SyntheticPages(seed)
    return [source.page(number) for number in range(low, min(low + _PART, count))]


class Cache:
    """Pages and tables of one seed, made by the present code.

    Args:
        directory: Where they are kept; those of other versions of the code are removed.
        source: The pages.
    """

    def __init__(self, directory: Path, source: SyntheticPages) -> None:
        self.source = source
        engine = Path(vrag_env.__file__).parent / "retrieval"
        files = [Path(__file__).with_name("synthetic_pages.py"), *(engine / f"{name}.py" for name in _ENGINE)]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
        self._directory = directory / f"seed{source.seed}_{digest}"
        for old in directory.glob(f"seed{source.seed}_*"):
            if old != self._directory:
                shutil.rmtree(old)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._held: PagesInMemory | None = None

    def fill(self, sizes: Sequence[int], indexed_pages: int) -> None:
        """Make what is not there yet, so that no measurement has to wait for it."""
        if sizes:
            self.pages(max(sizes))
        for count in sizes:
            self.ours(count)
            self.lance(count, indexed=False)
            if count <= indexed_pages:
                self.lance(count, indexed=True)

    def pages(self, count: int) -> PagesInMemory:
        """The first pages in memory, once for all engines that search there."""
        if self._held is None or len(self._held.pages) < count:
            self._held = self._load(count)
        return self._held.first(count)

    def ours(self, count: int) -> Path:
        """Directory of our table of the first pages, with its recall measured as every build does."""
        path = self._directory / f"ours{count}"
        if not path.exists():
            new = self._new(path)
            Ours.write(new, self.source, count)
            new.rename(path)
        return path

    def lance(self, count: int, *, indexed: bool) -> Path:
        """Directory of LanceDB's table of the first pages, with or without an index."""
        path = self._directory / f"lance{count}{'_indexed' if indexed else ''}"
        if not path.exists():
            new = self._new(path)
            LanceMultivector.write(new, self.pages(count).batches())
            if indexed:
                LanceMultivector.build_index(new)
            new.rename(path)
        return path

    def _new(self, path: Path) -> Path:
        new = path.with_suffix(".part")  # what a kill leaves is never taken for whole
        shutil.rmtree(new, ignore_errors=True)
        return new

    def _load(self, count: int) -> PagesInMemory:
        vectors_file, counts_file = (self._directory / f"pages{count}{kind}.npy" for kind in ("", "_counts"))
        if not counts_file.exists():  # written last
            with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
                parts = processes.map(_pages, repeat(self.source.seed), range(0, count, _PART), repeat(count))
                pages = [page for part in parts for page in part]
            np.save(vectors_file, np.concatenate(pages))
            np.save(counts_file, np.array([len(page) for page in pages]))
        stored = np.load(vectors_file, mmap_mode="r")
        vectors = np.empty(stored.shape, dtype=np.float32)
        for low in range(0, len(stored), 2**17):
            vectors[low : low + 2**17] = stored[low : low + 2**17]
        return PagesInMemory(vectors, np.load(counts_file).tolist())
