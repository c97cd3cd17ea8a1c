"""The table of pages: its columns, and a page as one of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

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
        pa.field("image", pa.large_binary(), nullable=False),
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


def page_row(page: Page, image: bytes, image_format: str) -> dict[str, Any]:
    """Turn a page and its encoded picture into a row of :data:`PAGE_SCHEMA`."""
    text = clean_text(page.text)
    # The file's name often says what every page of it is about, and pages rarely repeat it.
    search_text = f"{PurePosixPath(page.doc_id).stem}\n{text}"
    return {
        "page_id": page.page_id,
        "doc_id": page.doc_id,
        "number": page.number,
        "width": page.width,
        "height": page.height,
        "image": image,
        "image_format": image_format,
        "text": text,
        "search_text": search_text,
        "search_words": whole_words(search_text),
        "words": [
            {"text": clean_text(word.text)} | dict(zip(("x0", "y0", "x1", "y1"), word.box, strict=True))
            for word in page.words
        ],
        "content_hash": page.content_hash,
        "text_source": page.text_source,
    }


def sql_in(column: str, values: Iterable[str]) -> str:
    """SQL filter ``column IN (...)`` with every value quoted: document ids come from file names."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"
