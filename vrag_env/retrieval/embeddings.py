"""Tables of embeddings: what is stored of each page for one encoder, and how it is read.

One row per page in a LanceDB table of its own beside the pages: the vectors in float16, packed without loss
(:mod:`vrag_env.retrieval.packing`), and a few pooled vectors in eight bits, which the first stage of a search keeps
in memory. Rows are read through a snapshot: an :class:`EmbeddingTable` shows the table
as it was when it was opened, whatever is written to it later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vrag_env.corpus.info import STATS_KEY
from vrag_env.errors import RetrieverError
from vrag_env.retrieval.maxsim import Float16, Rows
from vrag_env.retrieval.packing import pack, unpack_all
from vrag_env.retrieval.pooling import Int8, pool_page, quantise

if TYPE_CHECKING:
    import lancedb

ENCODER_KEY = b"vrag_encoder"
"""Key, in the metadata of a table of embeddings, of the encoder's name: the table's own name is a short form."""

POOLED_VECTORS = 32
"""Pooled vectors of a page by default; a page with fewer vectors than that is its own pooling."""

_DIM_KEY = b"vrag_dim"
_LIGHT = ["page_id", "doc_id", "content_hash", "n", "norm", "scale"]
_READ_ROWS = 128  # rows read at once: about 23 MB of 700 vectors of 128 dimensions


def table_name(name: str, revision: str, pool_factor: int = 1) -> str:
    """Return the name of the table that holds an encoder's embeddings.

    >>> table_name("vidore/colqwen2.5-v0.2", "1a2b3c")
    'emb_colqwen2_5_v0_2_1a2b3c'
    >>> table_name("vidore/colqwen2.5-v0.2", "1a2b3c", pool_factor=3)
    'emb_colqwen2_5_v0_2_1a2b3c_pool3'
    """
    pooled = "" if pool_factor == 1 else f"_pool{pool_factor}"
    return f"emb_{slug(name)}_{slug(revision)}{pooled}"


def slug(text: str) -> str:
    """Shorten a name to its last part, in letters that a table's name may have."""
    last = text.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")


@dataclass(frozen=True)
class PageVectors:
    """The vectors of one page, to be stored.

    Attributes:
        page_id: The page.
        doc_id: Its document.
        content_hash: Hash of the content that was encoded.
        vectors: ``(vectors, dim)``, float16.
    """

    page_id: str
    doc_id: str
    content_hash: str
    vectors: Float16


def schema(encoder: str, dim: int, pooled_vectors: int) -> pa.Schema:
    """Columns of a table of embeddings.

    Args:
        encoder: Name of the encoder.
        dim: Dimensions of a vector.
        pooled_vectors: Pooled vectors per page.
    """
    # Noise to a compressor, or packed already: it takes ten times as long to write and three times to read.
    plain = {"lance-encoding:compression": "none"}
    fields = [
        pa.field("page_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("n", pa.int32(), nullable=False),
        pa.field("norm", pa.float32(), nullable=False),  # length of the page's longest vector
        pa.field("vectors", pa.large_binary(), nullable=False, metadata=plain),
        pa.field("scale", pa.float32(), nullable=False),  # what multiplies the integers of the next column
        pa.field("pooled", pa.list_(pa.int8(), pooled_vectors * dim), nullable=False, metadata=plain),
    ]
    return pa.schema(fields, metadata={ENCODER_KEY: encoder, _DIM_KEY: str(dim)})


def record_batch(encoder: str, pages: Sequence[PageVectors], pooled_vectors: int = POOLED_VECTORS) -> pa.RecordBatch:
    """Turn pages into rows of :func:`schema`.

    Raises:
        RetrieverError: If a page has no vectors, only vectors of length 0, values that are not finite, or another
            number of dimensions than the first; the error names the page.
    """
    dim = pages[0].vectors.shape[-1]
    norms, scales, pooled = [], [], []
    for page in pages:
        norms.append(_checked_norm(page, dim, encoder))
        codes, scale = quantise(pool_page(page.vectors, pooled_vectors))
        pooled.append(codes.reshape(-1))
        scales.append(scale)
    counts = np.array([len(page.vectors) for page in pages], dtype=np.int32)
    columns = [
        pa.array([page.page_id for page in pages]),
        pa.array([page.doc_id for page in pages]),
        pa.array([page.content_hash for page in pages]),
        pa.array(counts),
        pa.array(norms, pa.float32()),
        pa.array([pack(page.vectors) for page in pages], pa.large_binary()),
        pa.array(scales, pa.float32()),
        pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(pooled)), pooled_vectors * dim),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema(encoder, dim, pooled_vectors))


def _checked_norm(page: PageVectors, dim: int, encoder: str) -> float:
    """Length of the longest vector of a page, rounded up."""
    shape = page.vectors.shape
    if len(shape) != 2 or shape[0] == 0 or shape[1] != dim:
        raise RetrieverError(f"{encoder} gave page {page.page_id!r} vectors of shape {shape}, expected (n, {dim})")
    wide = page.vectors.astype(np.float32)
    norm = float(np.sqrt(np.einsum("ij,ij->i", wide, wide).max()))
    if not np.isfinite(norm):
        raise RetrieverError(
            f"{encoder} gave page {page.page_id!r} vectors with values that are not finite: its weights are damaged, "
            "or they do not fit the precision that they run in (float16 overflows at 65504)"
        )
    if norm == 0:
        raise RetrieverError(f"{encoder} gave page {page.page_id!r} only vectors of length 0: its weights are damaged")
    return norm * (1 + 1e-5)


def write_embeddings(
    database: lancedb.DBConnection,
    name: str,
    revision: str,
    batches: Iterable[Sequence[PageVectors]],
    *,
    pool_factor: int = 1,
    pooled_vectors: int = POOLED_VECTORS,
) -> str:
    """Write a table of embeddings in one step, streamed; one that is there already is replaced.

    :func:`~vrag_env.retrieval.late_interaction.build_embeddings` encodes the pages of a corpus and goes on after a
    kill; this is for vectors that come from elsewhere.

    Args:
        database: The LanceDB database, such as :attr:`Corpus.database <vrag_env.corpus.store.Corpus.database>`.
        name: Name of the encoder.
        revision: Its revision.
        batches: Pages, a batch at a time; at least one page.
        pool_factor: The factor by which the vectors were pooled; part of the table's name.
        pooled_vectors: Pooled vectors per page for choosing candidates.

    Returns:
        Name of the table.
    """
    rows = (record_batch(name, pages, pooled_vectors) for pages in batches if len(pages))
    first = next(rows, None)
    if first is None:
        raise RetrieverError("there are no pages to write embeddings of")
    table = table_name(name, revision, pool_factor)

    def all_rows() -> Iterator[pa.RecordBatch]:
        yield first
        yield from rows

    database.create_table(table, pa.RecordBatchReader.from_batches(first.schema, all_rows()), mode="overwrite")
    return table


class EmbeddingTable:
    """A table of embeddings as it was when it was opened, its pages in the order of their ids.

    Args:
        table: The LanceDB table, at the version that is to be read.
        keep: Content hash by page id: only these pages, with this content, are shown; by default all.

    Attributes:
        page_ids: Ids of the pages, sorted: a row's number below is a place in this list.
        documents: Document of each page.
        counts: Vectors of each page.
        norms: Length of each page's longest vector.
        dim: Dimensions of a vector.
        pooled_vectors: Pooled vectors per page.
        encoder: Name of the encoder.

    Raises:
        RetrieverError: If the table has other columns, since another version of this package wrote it.
    """

    def __init__(self, table: lancedb.table.Table, keep: dict[str, str] | None = None) -> None:
        if not is_current(table):
            raise RetrieverError(
                f"the embeddings {table.name} were written by another version of this package: build them again with "
                "vrag index PATH... --corpus DIRECTORY --encoder NAME"
            )
        self._table = table
        self.name: str = table.name
        self.version: int = table.version
        self.dim = int(table.schema.metadata[_DIM_KEY])
        self.pooled_vectors: int = table.schema.field("pooled").type.list_size // self.dim
        self.encoder: str = table.schema.metadata[ENCODER_KEY].decode()
        rows = table.search().with_row_id(True).select(_LIGHT).limit(None).to_arrow()
        ids = np.array(rows["page_id"].to_pylist(), dtype=object)
        order = np.argsort(ids, kind="stable")
        if keep is not None:
            hashes = rows["content_hash"].to_pylist()
            order = order[[keep.get(ids[row]) == hashes[row] for row in order]]
        if len(order):  # a page once, should two processes have encoded it at the same time
            order = order[np.concatenate([[True], ids[order[1:]] != ids[order[:-1]]])]
        self.page_ids: list[str] = ids[order].tolist()
        self.documents = np.array(rows["doc_id"].to_pylist(), dtype=object)[order]
        self.counts: npt.NDArray[np.int64] = rows["n"].to_numpy()[order].astype(np.int64)
        self.norms: npt.NDArray[np.float32] = rows["norm"].to_numpy()[order]
        self._scales: npt.NDArray[np.float32] = rows["scale"].to_numpy()[order]
        self._row_ids: npt.NDArray[np.uint64] = rows["_rowid"].to_numpy()[order]

    @classmethod
    def open(cls, database: lancedb.DBConnection, name: str, keep: dict[str, str] | None = None) -> EmbeddingTable:
        """Open a table by its name (:func:`table_name`)."""
        return cls(database.open_table(name), keep)

    def __len__(self) -> int:
        """Number of pages."""
        return len(self.page_ids)

    @property
    def nbytes(self) -> int:
        """Size of all vectors in float16, in bytes."""
        return int(self.counts.sum()) * self.dim * 2

    @property
    def stats(self) -> dict[str, Any]:
        """What was measured when the table was built; empty if nothing was."""
        metadata = self._table.schema.field("pooled").metadata or {}
        return dict(json.loads(metadata.get(STATS_KEY, b"{}")))

    def rows_of(self, documents: Collection[str]) -> Rows:
        """Rows of the pages of some documents, ascending."""
        return np.flatnonzero(np.isin(self.documents, list(documents))) if documents else np.empty(0, dtype=np.int64)

    def take(self, rows: Rows) -> list[Float16]:
        """Read the vectors of pages, in one request.

        Args:
            rows: The pages.

        Returns:
            One array ``(vectors, dim)`` per page, in the order asked for.
        """
        if not len(rows):
            return []
        ids = self._row_ids[rows]
        order = np.argsort(ids)
        found = self._table.take_row_ids(ids[order].tolist()).with_row_id().select(["vectors"]).to_arrow()
        pages = dict(zip(found["_rowid"].to_pylist(), unpack_all(found["vectors"].to_pylist(), self.dim), strict=True))
        return [pages[int(row_id)] for row_id in ids]

    def read(self, rows: Rows) -> tuple[Float16, Rows]:
        """Read the vectors of pages into one array.

        Args:
            rows: The pages.

        Returns:
            The vectors ``(vectors, dim)``, page after page; and the first vector of each page, with the number of
            vectors at the end.
        """
        starts = np.concatenate([[0], np.cumsum(self.counts[rows])]).astype(np.int64)
        vectors = np.empty((starts[-1], self.dim), dtype=np.float16)
        for low in range(0, len(rows), _READ_ROWS):
            for index, page in enumerate(self.take(rows[low : low + _READ_ROWS]), start=low):
                vectors[starts[index] : starts[index + 1]] = page
        return vectors, starts

    def pooled(self, rows: Rows | None = None) -> tuple[Int8, npt.NDArray[np.float32]]:
        """Read the pooled vectors of pages.

        Args:
            rows: The pages; by default all, which is read faster in one piece.

        Returns:
            Integers ``(pages, pooled vectors, dim)``, and what multiplies those of each page, ``(pages,)``.
        """
        wanted = self._row_ids if rows is None else self._row_ids[rows]
        codes = np.empty((len(wanted), self.pooled_vectors * self.dim), dtype=np.int8)
        known = np.argsort(wanted)
        sorted_ids = wanted[known]
        if len(wanted):
            batches: Iterable[pa.RecordBatch]
            if rows is None:
                batches = self._table.search().with_row_id(True).select(["pooled"]).limit(None).to_batches(1024)
            else:
                taken = self._table.take_row_ids(sorted_ids.tolist()).with_row_id().select(["pooled"])
                batches = taken.to_arrow().to_batches()
            for batch in batches:
                ids = batch["_rowid"].to_numpy()
                places = np.minimum(np.searchsorted(sorted_ids, ids), len(wanted) - 1)
                kept = sorted_ids[places] == ids
                codes[known[places[kept]]] = batch["pooled"].flatten().to_numpy().reshape(len(ids), -1)[kept]
        return codes.reshape(-1, self.pooled_vectors, self.dim), self._scales if rows is None else self._scales[rows]

    @property
    def pooled_nbytes(self) -> int:
        """Size of all pooled vectors in memory, in bytes."""
        return len(self) * self.pooled_vectors * self.dim

    @property
    def row_ids(self) -> npt.NDArray[np.uint64]:
        """Numbers by which LanceDB knows the rows, ``(pages,)``."""
        return self._row_ids

    @property
    def scales(self) -> npt.NDArray[np.float32]:
        """What multiplies the pooled integers of each page, ``(pages,)``."""
        return self._scales


def is_current(table: lancedb.table.Table) -> bool:
    """Whether a table has the columns of :func:`schema`; earlier versions of this package had others."""
    metadata = table.schema.metadata or {}
    if not {ENCODER_KEY, _DIM_KEY} <= metadata.keys() or "pooled" not in table.schema.names:
        return False
    dim = int(metadata[_DIM_KEY])
    expected = schema(metadata[ENCODER_KEY].decode(), dim, table.schema.field("pooled").type.list_size // dim)
    return bool(table.schema.equals(expected))


def write_stats(table: lancedb.table.Table, stats: dict[str, Any]) -> None:
    """Keep what was measured with the table, in the metadata of a column."""
    update = {"path": "pooled", "metadata": {STATS_KEY.decode(): json.dumps(stats, sort_keys=True)}}
    table.update_field_metadata(update)
