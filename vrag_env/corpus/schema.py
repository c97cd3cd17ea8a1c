"""The table of pages: its columns, and a page as one of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from vrag_env.corpus.records import Page
from vrag_env.corpus.text import clean_text, whole_words

PAGE_SCHEMA = pa.schema(
    [
        pa.field("page_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        # Stored as it is: JPEG and PNG are compressed already; Lance spent more time on them than on all else.
        pa.field("image", pa.large_binary(), nullable=False, metadata={"lance-encoding:compression": "none"}),
        pa.field("image_format", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("search_text", pa.string(), nullable=False),
        pa.field("search_words", pa.string(), nullable=False),
        pa.field(
            "words",
            pa.list_(pa.struct([("text", pa.string()), *((side, pa.float32()) for side in ("x0", "y0", "x1", "y1"))])),
        ),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("text_source", pa.string(), nullable=False),
    ]
)
"""One row per page. ``words`` has the boxes of :class:`~vrag_env.corpus.records.Word`; ``search_text`` and
``search_words`` are what the full-text indexes read (:mod:`vrag_env.corpus.text`)."""


def page_batch(pages: Sequence[tuple[Page, bytes, str]]) -> pa.RecordBatch:
    """Turn pages into rows of :data:`PAGE_SCHEMA`, column by column.

    ``RecordBatch.from_pylist`` does the same from rows, and takes several times as long over the words.

    Args:
        pages: ``(page, encoded picture, its format)`` of each page.
    """
    records = [page for page, _, _ in pages]
    texts = [clean_text(page.text) for page in records]
    # The file's name often says what every page of it is about, and pages rarely repeat it.
    searched = [f"{PurePosixPath(page.doc_id).stem}\n{text}" for page, text in zip(records, texts, strict=True)]
    columns: dict[str, list[Any] | pa.Array] = {
        "page_id": [page.page_id for page in records],
        "doc_id": [page.doc_id for page in records],
        "number": [page.number for page in records],
        "width": [page.width for page in records],
        "height": [page.height for page in records],
        "image": [image for _, image, _ in pages],
        "image_format": [image_format for _, _, image_format in pages],
        "text": texts,
        "search_text": searched,
        "search_words": [whole_words(text) for text in searched],
        "words": _word_column(records),
        "content_hash": [page.content_hash for page in records],
        "text_source": [page.text_source for page in records],
    }
    arrays = [
        column if isinstance(column := columns[field.name], pa.Array) else pa.array(column, field.type)
        for field in PAGE_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=PAGE_SCHEMA)


def _word_column(pages: Sequence[Page]) -> pa.Array:
    kind = PAGE_SCHEMA.field("words").type
    words = [word for page in pages for word in page.words]
    boxes = np.array([word.box for word in words], np.float32).reshape(-1, 4)  # (words, x0 y0 x1 y1)
    sides = [pa.array(np.ascontiguousarray(boxes[:, side])) for side in range(4)]
    texts = pa.array([clean_text(word.text) for word in words], pa.string())
    offsets = np.cumsum([0] + [len(page.words) for page in pages], dtype=np.int32)
    flat = pa.StructArray.from_arrays([texts, *sides], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, type=kind)


def sql_in(column: str, values: Iterable[str]) -> str:
    """SQL filter ``column IN (...)`` with every value quoted: document ids come from file names."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"
