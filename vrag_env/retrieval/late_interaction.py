r"""Late interaction: every page and every query is a set of vectors, compared by MaxSim.

.. math:: s(q, p) = \sum_i \max_j \langle q_i, p_j \rangle

(ColBERT, arXiv:2004.12832; for page images ColPali, arXiv:2407.01449.) The vectors of a corpus are kept as float16 in
a LanceDB table of their own beside the pages, one table per encoder and revision. A model that gives one vector per
page and query is the case of sets of one.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from vrag_env.corpus.lock import write_lock
from vrag_env.corpus.schema import sql_in
from vrag_env.corpus.store import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval.base import Hit
from vrag_env.retrieval.candidate_index import CandidateIndex
from vrag_env.retrieval.disk_stage import (
    FIRST_STAGES,
    FirstStage,
    PooledOnDisk,
    candidates_directory,
    drop_candidates,
    open_candidates,
    write_candidates,
)
from vrag_env.retrieval.embeddings import (
    ENCODER_KEY,
    POOLED_VECTORS,
    EmbeddingTable,
    PageVectors,
    is_current,
    record_batch,
    schema,
    slug,
    table_name,
    write_stats,
)
from vrag_env.retrieval.encoder import Encoder, LateInteractionEncoder, Vectors
from vrag_env.retrieval.maxsim import Float64, Rows
from vrag_env.retrieval.pooling import check_factor, pool_tokens
from vrag_env.retrieval.queries import check_request, clean_query
from vrag_env.retrieval.recall import TARGET, measure_disk_recall, measure_recall, pooling_recall
from vrag_env.retrieval.searcher import DEFAULT_MEMORY_BYTES, Searcher, SearchMode

if TYPE_CHECKING:
    import lancedb

__all__ = [
    "ENCODER_KEY",
    "LateInteractionEncoder",
    "LateInteractionRetriever",
    "build_embeddings",
    "embedding_tables",
    "no_embeddings",
    "table_name",
]

_ENCODE_PAGES = 32  # pages given to the encoder at once
_COMMIT_PAGES = 256  # encoded pages per write, unless ...
_COMMIT_SECONDS = 30.0  # ... they take longer: what a kill can cost
_POOLING_SAMPLE = 256  # pages of which the unpooled vectors are kept until the end: 46 MB


def embedding_tables(corpus: Corpus, name: str = "") -> list[str]:
    """List the corpus's tables of embeddings, of all encoders or of one in any revision.

    Args:
        corpus: The corpus.
        name: Name of an encoder, or empty for all.
    """
    prefix = f"emb_{slug(name)}_" if name else "emb_"
    return [table for table in corpus.side_tables() if table.startswith(prefix)]


def build_embeddings(
    corpus: Corpus,
    encoder: Encoder,
    *,
    pool_factor: int = 1,
    pooled_vectors: int = POOLED_VECTORS,
    first_stage: FirstStage = "auto",
    progress: bool = True,
) -> int:
    """Encode the pages that have no embeddings by this encoder yet, and write them to the corpus.

    May be killed at any moment and goes on where it was. Embeddings of pages that are gone or have changed are
    removed. At the end the recall@10 of two-stage search is measured (:mod:`vrag_env.retrieval.recall`) and kept
    with the table, and with it the number of candidates that it takes.

    Args:
        corpus: The corpus.
        encoder: The encoder.
        pool_factor: Keep about one of so many vectors of each page (colpali-engine's hierarchical pooler); such
            embeddings have a table of their own.
        pooled_vectors: Pooled vectors per page for choosing candidates. With another number than before, they are
            made anew from the stored vectors, without encoding.
        first_stage: ``"disk"`` also writes an index of the pooled vectors, by which corpora beyond memory are searched
            (:mod:`vrag_env.retrieval.disk_stage`); it is made anew whenever pages change. ``"auto"`` does so if they
            are over 512 MiB, or if there is such an index already; ``"memory"`` removes it.
        progress: Show a progress bar on standard error.

    Returns:
        Number of pages encoded.

    Raises:
        RetrieverError: If the encoder gives vectors that are not finite, all 0, or of another shape; or if the
            corpus is read only.
        CorpusBusyError: If another process is building the same table.
    """
    check_factor(pool_factor)
    _check_stage(first_stage)
    if pooled_vectors < 1:
        raise RetrieverError(f"pooled_vectors must be at least 1, got {pooled_vectors}")
    if corpus.read_only:
        raise RetrieverError(
            f"this corpus is fixed at version {corpus.version} of {corpus.path}: embed another one, from "
            "Corpus.open(path)"
        )
    corpus = Corpus.open(corpus.path)  # the newest pages: what another process has embedded of them is to stay
    name = table_name(encoder.name, encoder.revision, pool_factor)
    lock = corpus.path / f"{name}.build"
    lock.mkdir(exist_ok=True)
    with write_lock(lock):
        return _Build(corpus, encoder, name, pool_factor, pooled_vectors, first_stage).run(progress)


class _Build:
    """One run of :func:`build_embeddings`, which see."""

    def __init__(
        self,
        corpus: Corpus,
        encoder: Encoder,
        name: str,
        pool_factor: int,
        pooled_vectors: int,
        first_stage: FirstStage,
    ) -> None:
        self._corpus = corpus
        self._encoder = encoder
        self._name = name
        self._pool_factor = pool_factor
        self._pooled_vectors = pooled_vectors
        self._first_stage = first_stage
        self._candidates = candidates_directory(corpus.path, name)
        self._sample: list[tuple[Vectors, Vectors]] = []  # pages before and after pooling

    def run(self, progress: bool) -> int:
        hashes = self._corpus.content_hashes()
        table, have, changed = self._existing(hashes)
        missing = [page_id for page_id in hashes if page_id not in have]
        with tqdm(total=len(hashes), initial=len(have), unit="page", desc="Encoding", disable=not progress) as bar:
            for pages in self._encoded(missing, hashes):
                batch = record_batch(self._encoder.name, pages, self._pooled_vectors)
                if table is None:
                    table = self._corpus.database.create_table(self._name, schema=batch.schema, exist_ok=True)
                table.add(pa.Table.from_batches([batch]))
                bar.update(len(pages))
        if table is not None and hashes:
            opened = EmbeddingTable(table)
            index, written = self._index(opened)
            unmeasured = not opened.stats or (index is not None and "disk_recall_at_10" not in opened.stats)
            if missing or changed or written or unmeasured:
                self._measure(table, index)
        return len(missing)

    def _index(self, table: EmbeddingTable) -> tuple[CandidateIndex | None, bool]:
        """Bring the candidate index up to the table's pages, if there is to be one; whether it was written."""
        small = table.pooled_nbytes <= DEFAULT_MEMORY_BYTES and not self._candidates.is_dir()
        if self._first_stage == "memory" or (self._first_stage == "auto" and small):
            drop_candidates(self._candidates)
            return None, False
        try:
            index = open_candidates(self._candidates, table.stats)
            if index is not None and len(PooledOnDisk(table, index).index) == len(table):
                return index, False
        except RetrieverError:  # of other pages, or a build of it was killed
            pass
        return write_candidates(self._candidates, table), True

    def _existing(self, hashes: dict[str, str]) -> tuple[lancedb.table.Table | None, set[str], bool]:
        """Open the table and remove from it what is not in the corpus; the pages it has; whether it changed."""
        if self._name not in embedding_tables(self._corpus):
            return None, set(), False
        table = self._corpus.database.open_table(self._name)
        if not is_current(table):
            self._corpus.database.drop_table(self._name)
            return None, set(), False
        stored = table.search().select(["page_id", "content_hash"]).limit(None).to_arrow().to_pydict()
        pairs = list(zip(stored["page_id"], stored["content_hash"], strict=True))
        have = {page_id for page_id, content_hash in pairs if hashes.get(page_id) == content_hash}
        stale = sorted({page_id for page_id, _ in pairs} - have)
        if stale:
            table.delete(sql_in("page_id", stale))
        repool = bool(have) and EmbeddingTable(table).pooled_vectors != self._pooled_vectors
        if repool:
            table = self._repooled(table)
        return table, have, bool(stale) or repool

    def _repooled(self, table: lancedb.table.Table) -> lancedb.table.Table:
        """Write the table again, in one step, with another number of pooled vectors."""
        former = EmbeddingTable(table)
        name, count, corpus = self._encoder.name, self._pooled_vectors, self._corpus
        hashes = corpus.content_hashes()

        def batches() -> Iterator[pa.RecordBatch]:
            for low in range(0, len(former), _ENCODE_PAGES):
                rows = np.arange(low, min(low + _ENCODE_PAGES, len(former)))
                ids = [former.page_ids[row] for row in rows]
                pages = zip(ids, former.documents[rows], former.take(rows), strict=True)
                yield record_batch(name, [PageVectors(page, doc, hashes[page], v) for page, doc, v in pages], count)

        # Read by LanceDB's own threads while it writes: its event loop, which the reading needs, stays free.
        reader = pa.RecordBatchReader.from_batches(schema(name, former.dim, count), batches())
        return corpus.database.create_table(self._name, reader, mode="overwrite")

    def _encoded(self, page_ids: Sequence[str], hashes: dict[str, str]) -> Iterator[list[PageVectors]]:
        """Encode pages; yields as many as are to be written at once."""
        documents = self._corpus.page_documents()
        keep_every = max(1, len(page_ids) // _POOLING_SAMPLE)
        ready: list[PageVectors] = []
        since = time.monotonic()
        for start in range(0, len(page_ids), _ENCODE_PAGES):
            ids = page_ids[start : start + _ENCODE_PAGES]
            encoded = self._encoder.encode_pages(self._corpus, ids)
            vectors = pool_tokens(encoded, self._pool_factor)
            if self._pool_factor > 1:
                places = range(-start % keep_every, len(ids), keep_every)
                self._sample.extend((encoded[place], vectors[place]) for place in places)
            ready.extend(
                PageVectors(page_id, documents[page_id], hashes[page_id], page)
                for page_id, page in zip(ids, vectors, strict=True)
            )
            if len(ready) >= _COMMIT_PAGES or time.monotonic() - since >= _COMMIT_SECONDS:
                yield ready
                ready, since = [], time.monotonic()
        if ready:
            yield ready

    def _measure(self, table: lancedb.table.Table, index: CandidateIndex | None) -> None:
        """Measure what searching this table finds, keep it with the table, and warn where it is too little."""
        opened = EmbeddingTable(table)
        measured = measure_recall(opened)
        stats = {
            "recall_at_10": measured.recall,
            "candidates": measured.candidates,
            "queries": measured.queries,
            "pages": len(opened),
            "pages_searched": measured.pages,
        }
        if measured.recall < TARGET:
            warnings.warn(
                f"two-stage search of {self._name} finds {measured.recall:.1%} of the exact best 10 with "
                f"{measured.candidates} candidates: raise candidates, or pooled_vectors (now {self._pooled_vectors})",
                stacklevel=4,
            )
        if index is not None:
            disk = measure_disk_recall(opened, index, measured.candidates)
            stats |= {"disk_recall_at_10": disk.recall, **asdict(disk.probing)}
            if disk.recall < TARGET:
                warnings.warn(
                    f"the candidate index on disk of {self._name} finds {disk.recall:.1%} of what a scan of its pooled "
                    f"vectors finds: raise pooled_vectors (now {self._pooled_vectors}), or search with "
                    "first_stage='memory'",
                    stacklevel=4,
                )
        if self._sample:
            kept = pooling_recall(*zip(*self._sample, strict=True))
            stats |= {"pooling_recall_at_10": kept, "pooling_pages": len(self._sample)}
            if kept < TARGET:
                warnings.warn(
                    f"pooling by {self._pool_factor} keeps {kept:.1%} of the best 10 pages among "
                    f"{len(self._sample)}: lower pool_factor for more",
                    stacklevel=4,
                )
        elif self._pool_factor > 1:
            stats |= {key: value for key, value in opened.stats.items() if key.startswith("pooling")}
        write_stats(table, stats)


class LateInteractionRetriever:
    """Ranks pages by MaxSim of the stored vectors with an encoder's queries.

    Scores equal ``score_multi_vector`` of colpali-engine on the stored vectors, but for what that adds by padding a
    batch of pages with zero vectors, which lifts a negative maximum to zero.

    Args:
        corpus: The pages, with embeddings by this encoder (:func:`build_embeddings`).
        encoder: Encodes the queries; its name and revision say which table is read.
        search: ``"exact"``, ``"two_stage"``, or ``"auto"``: exact if all vectors fit into ``memory_bytes``
            (:class:`~vrag_env.retrieval.searcher.Searcher`).
        candidates: Pages that two-stage search scores exactly for each query when 10 are asked for; by default what
            the build measured to suffice for a recall of 0.99.
        memory_bytes: How much memory vectors may take.
        first_stage: Where the pooled vectors are that two-stage search chooses candidates by: ``"memory"``; ``"disk"``,
            in an index that the build has written; or ``"auto"``: on disk if they do not fit into ``memory_bytes`` and
            there is an index.
        pool_factor: Which embeddings, if the corpus has some with and some without pooled tokens; by default
            those without, or else those with the smallest factor.

    Raises:
        RetrieverError: If the corpus has no embeddings by this encoder in this revision, or not for all pages; or no
            index of them on disk where one is asked for.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: Encoder,
        *,
        search: SearchMode = "auto",
        candidates: int | None = None,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        first_stage: FirstStage = "auto",
        pool_factor: int | None = None,
    ) -> None:
        self._encoder = encoder
        name = _table_of(corpus, encoder, pool_factor)
        hashes = corpus.content_hashes()
        table = EmbeddingTable(corpus.open_side_table(name), hashes)
        if len(table) < len(hashes):
            raise RetrieverError(
                f"{len(hashes) - len(table)} of {len(hashes)} pages of {corpus.path} have no embeddings by "
                f"{encoder.name}: {_remedy(corpus, encoder.name)}"
            )
        _check_stage(first_stage)
        index = None
        if first_stage == "disk" or (first_stage == "auto" and table.pooled_nbytes > memory_bytes):
            index = open_candidates(candidates_directory(corpus.path, name), table.stats)
        if first_stage == "disk" and index is None:
            raise RetrieverError(
                f"{corpus.path} has no index on disk of the pooled vectors of {name}: "
                f"{_remedy(corpus, encoder.name)} --first-stage disk"
            )
        self._searcher = Searcher(
            table, search=search, candidates=candidates, memory_bytes=memory_bytes, first_stage=index
        )

    @property
    def searcher(self) -> Searcher:
        """The engine."""
        return self._searcher

    @property
    def recall(self) -> float | None:
        """Recall@10 of two-stage search against exact search as measured by the build, if it was.

        With the pooled vectors on disk, the product of what a scan of them finds and of what the index finds of that.
        """
        stats = self._searcher.table.stats
        scanned: float | None = stats.get("recall_at_10")
        if scanned is None or not self._searcher.on_disk:
            return scanned
        return scanned * float(stats["disk_recall_at_10"])

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries; see :meth:`vrag_env.retrieval.base.Retriever.search`.

        Raises:
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
        """
        check_request(k, where)
        asked = list(dict.fromkeys(query for query in queries if clean_query(query)))
        if not asked or not len(self._searcher.table) or (where is not None and not where):
            return [[] for _ in queries]
        found = self._searcher.search_vectors(self._encoder.encode_queries(asked), k, where)
        answers = dict(zip(asked, found, strict=True))
        return [list(answers.get(query, ())) for query in queries]

    def search_vectors(
        self, queries: Sequence[npt.NDArray[np.floating]], k: int, where: Collection[str] | None = None
    ) -> list[list[Hit]]:
        """Rank pages for encoded queries; see :meth:`vrag_env.retrieval.searcher.Searcher.search_vectors`."""
        return self._searcher.search_vectors(queries, k, where)

    def scores(self, queries: Sequence[npt.NDArray[np.floating]], pages: Rows | None = None) -> Float64:
        """Compute MaxSim of encoded queries with pages; see :meth:`vrag_env.retrieval.searcher.Searcher.scores`."""
        return self._searcher.scores(queries, pages)


def _check_stage(first_stage: str) -> None:
    if first_stage not in FIRST_STAGES:
        raise RetrieverError(f"first_stage must be one of {', '.join(FIRST_STAGES)}, got {first_stage!r}")


def _table_of(corpus: Corpus, encoder: Encoder, pool_factor: int | None) -> str:
    tables = embedding_tables(corpus)
    if pool_factor is not None:
        names = [table_name(encoder.name, encoder.revision, pool_factor)]
    else:
        plain = table_name(encoder.name, encoder.revision)
        factors = (table.removeprefix(f"{plain}_pool") for table in tables if table.startswith(f"{plain}_pool"))
        names = [plain, *(f"{plain}_pool{factor}" for factor in sorted(map(int, filter(str.isdecimal, factors))))]
    name = next((name for name in names if name in tables), None)
    if name is None:
        raise no_embeddings(corpus, encoder.name, encoder.revision)
    return name


def _remedy(corpus: Corpus, name: str) -> str:
    return f"run vrag index PATH... --corpus {corpus.path} --encoder {name}"


def no_embeddings(corpus: Corpus, name: str, revision: str = "") -> RetrieverError:
    """Build the error for a corpus without embeddings by an encoder, which names those that it has."""
    have = ", ".join(embedding_tables(corpus)) or "none"
    which = f"{name} in revision {revision}" if revision else name
    return RetrieverError(f"{corpus.path} has no embeddings by {which} (it has: {have}): {_remedy(corpus, name)}")
