"""Rows of Parquet files as pages: our own export, or any data set with columns for image, document and page.

The files may come from strangers: every picture is decoded here, under the limits of ingestion.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from vrag_env.corpus.images import STORED_FORMAT, encode_page, read_image
from vrag_env.corpus.parquet import EXPORT_KEY, EXPORT_SCHEMA, EXPORT_VERSION
from vrag_env.corpus.records import Page, Word, page_id_of
from vrag_env.corpus.text import clean_text
from vrag_env.errors import IngestError

COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "page_image", "img", "picture"),
    "document": ("doc_id", "document_id", "document", "doc", "doc_name", "pdf", "file_name", "filename", "source"),
    "page": ("number", "page_number", "page", "page_no", "page_num", "page_idx"),
    "text": ("text", "page_text", "ocr_text", "markdown"),
}
"""Names under which the columns of a data set are looked for, in this order."""

_READ_ROWS = 8  # rows read at once
_MAX_NAME = 1000  # characters of a document's id
_MAX_NUMBER = 10_000_000


@dataclass
class TakenPage:
    """A row that can be stored: the page with its picture and format, and what its document's hash is made of."""

    page: tuple[Page, bytes, str]
    digest: str


class RowReader(ABC):
    """One file: its rows as pages.

    Attributes:
        own: Whether it is an export of a corpus, whose pages carry the hash of their document.
        rows: Number of its rows.
    """

    own = False

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.rows = rows

    @abstractmethod
    def columns(self) -> list[str]:
        """Return the columns that are read."""

    @abstractmethod
    def name(self, row: dict[str, Any]) -> tuple[str, int]:
        """Return document and page number of a row.

        Raises:
            IngestError: If they are missing or can not be taken.
        """

    @abstractmethod
    def take(self, row: dict[str, Any], doc_id: str, number: int) -> TakenPage:
        """Check a row and make a page of it.

        Raises:
            IngestError: If its picture, or anything else of it, can not be taken.
        """

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the rows with the columns that are needed.

        Raises:
            IngestError: If the file is damaged.
        """
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_READ_ROWS, columns=self.columns()):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise IngestError(f"{self.path}: damaged: {error}; nothing was imported") from error


def open_rows(path: Path, columns: Mapping[str, str], first_page: int, long_side: int) -> RowReader:
    """Open a file and choose how to read it; arguments as for ``import_parquet``.

    Raises:
        IngestError: If it is no Parquet file, a column is missing, or it is an export of another version.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise IngestError(f"{path}: not a Parquet file, or damaged: {error}") from error
    version = (schema.metadata or {}).get(EXPORT_KEY)
    if version is None:
        return _AnyReader(path, rows, _choose(path, schema.names, columns), first_page, long_side)
    if version != EXPORT_VERSION:
        raise IngestError(f"{path} is an export of version {version!r}, this package reads {EXPORT_VERSION!r}")
    if not schema.equals(EXPORT_SCHEMA):
        raise IngestError(f"{path} says that it is an export of a corpus, but its columns are others")
    return _OwnReader(path, rows)


def _choose(path: Path, have: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    chosen = {}
    for what, names in COLUMN_NAMES.items():
        given = columns.get(what)
        found = [name for name in ((given,) if given is not None else names) if name in have]
        if found:
            chosen[what] = found[0]
        elif what != "text" or given is not None:
            wanted = f"no column {given!r}" if given is not None else f"no column for the {what} ({', '.join(names)})"
            raise IngestError(f"{path}: {wanted}; it has {', '.join(have)}: name it with --{what}-column")
    return chosen


class _OwnReader(RowReader):
    """An export of a corpus."""

    own = True

    def columns(self) -> list[str]:
        return list(EXPORT_SCHEMA.names)

    def name(self, row: dict[str, Any]) -> tuple[str, int]:
        doc_id, number = _checked_name(row["doc_id"], row["number"])
        if row["page_id"] != page_id_of(doc_id, number):
            raise IngestError(f"the page's id {row['page_id']!r} is not that of page {number} of {doc_id!r}")
        return doc_id, number

    def take(self, row: dict[str, Any], doc_id: str, number: int) -> TakenPage:
        data = _bytes_of(row["image"])
        size = (row["width"], row["height"])
        frames, pages = read_image(io.BytesIO(data), max(1, *(side or 1 for side in size)))
        decoded = [page.image.size for page in pages]
        with Image.open(io.BytesIO(data)) as image:  # opened before, by the line above
            kind = str(image.format).lower()
        if frames != 1 or decoded != [size] or kind != row["image_format"]:
            raise IngestError(f"the picture is not one {row['image_format']} image of {size[0]} by {size[1]} pixels")
        if row["text_source"] not in ("layer", "ocr") or not row["content_hash"] or row["text"] is None:
            raise IngestError("its text, text_source or content_hash is missing or unknown")
        words = tuple(_word(word) for word in row["words"] or ())
        page = Page(row["page_id"], doc_id, number, *size, row["text"], words, row["content_hash"], row["text_source"])
        return TakenPage((page, data, kind), row["content_hash"])


class _AnyReader(RowReader):
    """A data set with columns for image, document and page."""

    def __init__(self, path: Path, rows: int, chosen: Mapping[str, str], first_page: int, long_side: int) -> None:
        super().__init__(path, rows)
        self._chosen = chosen
        self._first_page = first_page
        self._long_side = long_side

    def columns(self) -> list[str]:
        return list(self._chosen.values())

    def name(self, row: dict[str, Any]) -> tuple[str, int]:
        value = row[self._chosen["page"]]
        try:
            number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None:
            raise IngestError(f"its page number is {value!r:.80}: a whole number is expected")
        if number < self._first_page:
            hint = "; pass first_page=0 (--first-page 0) if pages count from 0" if number == 0 else ""
            raise IngestError(f"its page number is {number}, below {self._first_page}{hint}")
        return _checked_name(row[self._chosen["document"]], number + 1 - self._first_page)

    def take(self, row: dict[str, Any], doc_id: str, number: int) -> TakenPage:
        data = _bytes_of(row[self._chosen["image"]])
        frames, pages = read_image(io.BytesIO(data), self._long_side)
        if frames != 1:
            raise IngestError(f"the picture has {frames} frames: one image per row is expected")
        [raw] = list(pages)
        text = row[self._chosen["text"]] if "text" in self._chosen else ""
        if text is not None and not isinstance(text, str):
            raise IngestError(f"its text is of type {type(text).__name__}: a string is expected")
        text = text or ""
        page = Page(page_id_of(doc_id, number), doc_id, number, *raw.image.size, text, (), "")
        settings = json.dumps(["vrag import 1", self._long_side, number, text])
        digest = hashlib.sha256(settings.encode("utf-8", "surrogatepass") + data).hexdigest()
        return TakenPage((page, encode_page(raw.image), STORED_FORMAT), digest)


def _checked_name(doc_id: Any, number: Any) -> tuple[str, int]:
    if not isinstance(doc_id, str) or not doc_id.strip() or len(doc_id) > _MAX_NAME:
        raise IngestError(f"its document is {doc_id!r:.80}: a name of 1 to {_MAX_NAME} characters is expected")
    if clean_text(doc_id) != doc_id or any(ord(char) < 32 for char in doc_id):
        raise IngestError(f"the name of its document, {doc_id!a:.80}, has characters that can not be shown")
    if not isinstance(number, int) or not 1 <= number <= _MAX_NUMBER:
        raise IngestError(f"its page number is {number!r:.40}: 1 to {_MAX_NUMBER} is expected")
    return doc_id, number


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes")  # never the path beside it: it would read this machine's files
    if not isinstance(value, bytes) or not value:
        raise IngestError("its image has no bytes: export the data set with the images inside of it")
    return value


def _word(value: Any) -> Word:
    if value is None or value["text"] is None:
        raise IngestError("a word has no text")
    x0, y0, x1, y1 = (math.nan if value[side] is None else value[side] for side in ("x0", "y0", "x1", "y1"))
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise IngestError("a word has no box")
    return Word(value["text"], (x0, y0, x1, y1))
