r"""Late interaction: every page and every query is a set of vectors, compared by MaxSim.

.. math:: s(q, p) = \sum_i \max_j \langle q_i, p_j \rangle

(ColBERT, arXiv:2004.12832; for page images ColPali, arXiv:2407.01449.) The vectors of a corpus are kept as
float16 in a LanceDB table of their own beside the pages, one table per encoder and revision.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from vrag_env.corpus.schema import sql_in
from vrag_env.corpus.store import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval.base import Hit
from vrag_env.retrieval.encoder import LateInteractionEncoder, Vectors
from vrag_env.retrieval.queries import check_request, clean_query

if TYPE_CHECKING:
    import lancedb

__all__ = [
    "LateInteractionEncoder",
    "LateInteractionRetriever",
    "build_embeddings",
    "embedding_tables",
    "table_name",
]

_COMMIT_PAGES = 32  # encoded pages per write: what a kill can cost
_BLOCK_VECTORS = 8192  # page vectors compared at once; in float32 with 128 dimensions 4 MiB, about a cache


def table_name(name: str, revision: str) -> str:
    """Return the name of the table that holds an encoder's embeddings.

    >>> table_name("vidore/colqwen2.5-v0.2", "1a2b3c")
    'emb_colqwen2_5_v0_2_1a2b3c'
    """
    return f"emb_{_slug(name)}_{_slug(revision)}"


def _slug(text: str) -> str:
    last = text.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")


def embedding_tables(corpus: Corpus, name: str = "") -> list[str]:
    """List the corpus's tables of embeddings, of all encoders or of one in any revision.

    Args:
        corpus: The corpus.
        name: Name of an encoder, or empty for all.
    """
    prefix = f"emb_{_slug(name)}_" if name else "emb_"
    tables: list[str] = corpus.database.list_tables(limit=10_000).tables
    return sorted(table for table in tables if table.startswith(prefix))


def _schema(dim: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("page_id", pa.string(), nullable=False),
            pa.field("content_hash", pa.string(), nullable=False),
            pa.field("n", pa.int32(), nullable=False),
            # LanceDB's own multi-vector type, so that its index can be tried on the column as it is.
            pa.field("vectors", pa.list_(pa.list_(pa.field("item", pa.float16()), dim)), nullable=False),
        ]
    )


def build_embeddings(corpus: Corpus, encoder: LateInteractionEncoder, *, progress: bool = True) -> int:
    """Encode the pages that have no embeddings by this encoder yet, and write them to the corpus.

    May be killed at any moment and goes on where it was. Embeddings of pages that are gone or have changed
    are removed.

    Args:
        corpus: The corpus.
        encoder: The encoder.
        progress: Show a progress bar on standard error.

    Returns:
        Number of pages encoded.
    """
    name = table_name(encoder.name, encoder.revision)
    hashes = corpus.content_hashes()
    have: set[str] = set()
    table: lancedb.table.Table | None = None
    if name in embedding_tables(corpus):
        table = corpus.database.open_table(name)
        stored = _stored(table)
        have = {page_id for page_id, (content_hash, _) in stored.items() if hashes.get(page_id) == content_hash}
        stale = sorted(stored.keys() - have)
        if stale:
            table.delete(sql_in("page_id", stale))
    missing = [page_id for page_id in hashes if page_id not in have]
    with tqdm(total=len(hashes), initial=len(have), unit="page", desc="Encoding", disable=not progress) as bar:
        for start in range(0, len(missing), _COMMIT_PAGES):
            page_ids = missing[start : start + _COMMIT_PAGES]
            vectors = encoder.encode_images([corpus.image(page_id) for page_id in page_ids])
            batch = _batch(page_ids, [hashes[page_id] for page_id in page_ids], vectors)
            if table is None:
                table = corpus.database.create_table(name, schema=batch.schema, exist_ok=True)
            # A merge and not an append: two processes that encode the same corpus leave one row per page.
            merge = table.merge_insert("page_id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(pa.Table.from_batches([batch]))
            bar.update(len(page_ids))
    return len(missing)


def _batch(page_ids: Sequence[str], hashes: Sequence[str], vectors: Sequence[Vectors]) -> pa.RecordBatch:
    dim = vectors[0].shape[1]
    flat = pa.array(np.concatenate(vectors).reshape(-1), pa.float16())
    offsets = np.concatenate([[0], np.cumsum([len(v) for v in vectors])])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.FixedSizeListArray.from_arrays(flat, dim))
    counts = pa.array([len(v) for v in vectors], pa.int32())
    return pa.RecordBatch.from_arrays([pa.array(page_ids), pa.array(hashes), counts, lists], schema=_schema(dim))


def _stored(table: lancedb.table.Table) -> dict[str, tuple[str, int]]:
    """Content hash and number of vectors of every embedded page."""
    rows = table.search().select(["page_id", "content_hash", "n"]).limit(None).to_arrow().to_pydict()
    return {
        page_id: (content_hash, n)
        for page_id, content_hash, n in zip(rows["page_id"], rows["content_hash"], rows["n"], strict=True)
    }


class LateInteractionRetriever:
    """Ranks pages by exact MaxSim over the stored vectors.

    All vectors are held in memory as float16: about 180 kB for a page of 700 vectors of 128 dimensions.
    Scores equal ``score_multi_vector`` of colpali-engine on the stored vectors, but for what that adds by
    padding a batch of pages with zero vectors, which lifts a negative maximum to zero.

    Args:
        corpus: The pages, with embeddings by this encoder (:func:`build_embeddings`).
        encoder: Encodes the queries; its name and revision say which table is read.

    Raises:
        RetrieverError: If the corpus has no embeddings by this encoder in this revision, or not for all
            pages.
    """

    def __init__(self, corpus: Corpus, encoder: LateInteractionEncoder) -> None:
        self._encoder = encoder
        name = table_name(encoder.name, encoder.revision)
        if name not in embedding_tables(corpus):
            raise no_embeddings(corpus, encoder.name, encoder.revision)
        table = corpus.database.open_table(name)
        hashes = corpus.content_hashes()
        counts = {page: n for page, (content, n) in _stored(table).items() if hashes.get(page) == content}
        if len(counts) < len(hashes):
            raise RetrieverError(
                f"{len(hashes) - len(counts)} of {len(hashes)} pages of {corpus.path} have no embeddings by "
                f"{encoder.name}: {_remedy(corpus, encoder.name)}"
            )
        self._page_ids = sorted(counts)  # so that a stable sort by score breaks ties by page id
        pages = corpus.page_documents()
        self._documents = np.array([pages[page_id] for page_id in self._page_ids], dtype=object)
        self._starts = np.concatenate([[0], np.cumsum([counts[page] for page in self._page_ids])]).astype(int)
        self._vectors = self._read(table)

    def _read(self, table: lancedb.table.Table) -> Vectors:
        """Read all vectors into one array ``(vectors, dim)``, page after page."""
        dim = table.schema.field("vectors").type.value_type.list_size
        place = {page_id: index for index, page_id in enumerate(self._page_ids)}
        vectors = np.empty((self._starts[-1], dim), dtype=np.float16)
        for batch in table.search().select(["page_id", "vectors"]).limit(None).to_batches(64):
            for page_id, row in zip(batch["page_id"].to_pylist(), batch["vectors"], strict=True):
                if page_id in place:
                    index = place[page_id]
                    values = row.values.flatten().to_numpy(zero_copy_only=False)
                    vectors[self._starts[index] : self._starts[index + 1]] = values.reshape(-1, dim)
        return vectors

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries; see :meth:`vrag_env.retrieval.base.Retriever.search`.

        Raises:
            ValueError: If ``k`` is below 1, or ``where`` is a single text.
        """
        check_request(k, where)
        pages = np.arange(len(self._page_ids))
        if where is not None:
            pages = pages[np.isin(self._documents[pages], list(where))] if where else pages[:0]
        asked = list(dict.fromkeys(query for query in queries if clean_query(query)))
        if not asked or not len(pages):
            return [[] for _ in queries]
        scores = self.scores(self._encoder.encode_queries(asked), pages)
        answers = {query: self._best(row, pages, k) for query, row in zip(asked, scores, strict=True)}
        return [list(answers.get(query, ())) for query in queries]

    def scores(
        self, queries: Sequence[npt.NDArray[np.float32]], pages: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[np.float32]:
        """Compute MaxSim of encoded queries with pages.

        Args:
            queries: One array ``(vectors, dim)`` per query.
            pages: Places of the pages in the sorted list of page ids; by default all.

        Returns:
            Scores ``(queries, pages)``.

        Raises:
            RetrieverError: If the queries' vectors have another number of dimensions than the pages'.
        """
        if pages is None:
            pages = np.arange(len(self._page_ids))
        dim = self._vectors.shape[1]
        if any(query.shape[1] != dim for query in queries):
            raise RetrieverError(f"the pages' vectors have {dim} dimensions, the queries' {queries[0].shape[1]}")
        stacked = np.concatenate(queries).astype(np.float32).T  # (dim, query vectors)
        first = np.concatenate([[0], np.cumsum([len(query) for query in queries])[:-1]])
        scores = np.empty((len(pages), len(queries)), dtype=np.float32)
        for low, high in self._blocks(pages):
            spans = [(self._starts[page], self._starts[page + 1]) for page in pages[low:high]]
            block = np.concatenate([self._vectors[a:b] for a, b in spans]).astype(np.float32)
            offsets = np.concatenate([[0], np.cumsum([b - a for a, b in spans])[:-1]])
            best = np.maximum.reduceat(block @ stacked, offsets, axis=0)  # (pages, query vectors)
            scores[low:high] = np.add.reduceat(best, first, axis=1)
        return scores.T

    def _blocks(self, pages: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
        """Split pages into runs of about :data:`_BLOCK_VECTORS` vectors."""
        low, vectors = 0, 0
        for index, page in enumerate(pages):
            vectors += self._starts[page + 1] - self._starts[page]
            if vectors >= _BLOCK_VECTORS:
                yield low, index + 1
                low, vectors = index + 1, 0
        if low < len(pages):
            yield low, len(pages)

    def _best(self, scores: npt.NDArray[np.float32], pages: npt.NDArray[Any], k: int) -> list[Hit]:
        order = np.argsort(-scores, kind="stable")[:k]
        return [Hit(self._page_ids[pages[index]], float(scores[index])) for index in order]


def _remedy(corpus: Corpus, name: str) -> str:
    return f"run vrag index PATH... --corpus {corpus.path} --encoder {name}"


def no_embeddings(corpus: Corpus, name: str, revision: str = "") -> RetrieverError:
    """Build the error for a corpus without embeddings by an encoder, which names those that it has."""
    have = ", ".join(embedding_tables(corpus)) or "none"
    which = f"{name} in revision {revision}" if revision else name
    return RetrieverError(f"{corpus.path} has no embeddings by {which} (it has: {have}): {_remedy(corpus, name)}")
