"""Bring the documents of a benchmark into the form that ingestion reads, without copying what can be linked.

A PDF becomes a link to it. A deck of images becomes a zip file with one image per page, which ingestion takes as
one document: its pages keep their numbers, they can be read by OCR, and files from strangers are opened in the
processes made for that.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vrag_env.corpus.archives import ARCHIVE_SUFFIX
from vrag_env.corpus.images import IMAGE_SUFFIXES
from vrag_env.datasets.files import local_name, plain_name
from vrag_env.datasets.records import DeckDocument, Document, ParquetDeck, PdfDocument
from vrag_env.errors import IngestError

BATCH_DECKS = 100
"""Decks that are staged at a time: a hub's parquet holds more pictures than a disk may have room for twice."""
MAX_DECK_PAGES = 20
"""Columns ``page_1`` to ``page_20`` of the hub's parquet."""
_BATCH_ROWS = 8
_MAX_NAME_BYTES = 200  # of 255 that file systems take


@dataclass(frozen=True)
class Staged:
    """Documents that are ready for ingestion.

    Attributes:
        names: Their names in the staging directory.
        blank: ``(name, page number)`` of pages whose picture is missing, with a blank page in its place.
        failures: ``(name, reason)`` of what could not be staged.
    """

    names: tuple[str, ...]
    blank: tuple[tuple[str, int], ...] = ()
    failures: tuple[tuple[str, str], ...] = ()


def document_name(name: str, document: Document) -> str:
    """Return what a document is called in the corpus: the name of its PDF, or of its deck with ``.zip``.

    Raises:
        IngestError: If the name can not be that of a file.
    """
    if isinstance(document, PdfDocument):
        return plain_name(document.path.name)
    stem = plain_name(name).replace("\\", "/").rpartition("/")[2]
    stem = stem[:-4] if stem.lower().endswith(".pdf") else stem
    if not stem or stem.startswith(".") or not stem.isprintable() or len(stem.encode()) > _MAX_NAME_BYTES:
        raise IngestError("its name can not be the name of a file")
    return stem + ARCHIVE_SUFFIX


def stage(documents: Mapping[str, Document], directory: Path) -> Iterator[Staged]:
    """Put documents into a directory, a part of them at a time.

    The caller ingests a part before it asks for the next one, which replaces it.

    Args:
        documents: By their names in the corpus.
        directory: An empty directory.

    Yields:
        What is in the directory now.

    Raises:
        IngestError: If the system does not allow links to files.
    """
    pdfs = {name: found for name, found in documents.items() if isinstance(found, PdfDocument)}
    if pdfs:
        for name, pdf in pdfs.items():
            try:
                os.symlink(pdf.path.absolute(), directory / name)
            except OSError as error:
                raise IngestError(
                    f"can not make a link to {pdf.path} in {directory} ({error.strerror}): put the corpus on a file "
                    "system with links; on Windows switch the developer mode on"
                ) from error
        yield Staged(tuple(pdfs))
        _clear(directory)
    decks = {name: found for name, found in documents.items() if isinstance(found, DeckDocument)}
    rows = {name: found for name, found in documents.items() if isinstance(found, ParquetDeck)}
    names: list[str] = []
    blank: list[tuple[str, int]] = []
    failures: list[tuple[str, str]] = []
    for name, pages, lost in _all_pages(decks, rows):
        if isinstance(pages, str):
            failures.append((name, pages))
        else:
            try:
                blank += [(name, number) for number in _write_deck(directory / name, pages, lost)]
            except OSError as error:
                (directory / name).unlink(missing_ok=True)
                failures.append((name, f"a page can not be read: {error.strerror or error}"))
            else:
                names.append(name)
        if len(names) == BATCH_DECKS:
            yield Staged(tuple(names), tuple(blank), tuple(failures))
            _clear(directory)
            names, blank, failures = [], [], []
    if names or failures:
        yield Staged(tuple(names), tuple(blank), tuple(failures))
        _clear(directory)


Pages = dict[int, tuple[str, bytes | Path]]
"""Suffix and contents of each page by its number."""


def _all_pages(
    decks: Mapping[str, DeckDocument], rows: Mapping[str, ParquetDeck]
) -> Iterator[tuple[str, Pages | str, tuple[int, ...]]]:
    """Yield name, pages (or why there are none) and numbers of lost pages of every deck."""
    for name, deck in decks.items():
        yield name, {number: (_suffix(path.name), path) for number, path in deck.pages}, deck.missing
    by_file: dict[Path, dict[int, str]] = {}
    for name, row in rows.items():
        by_file.setdefault(row.path, {})[row.row] = name
    for path, wanted in by_file.items():
        try:
            for row_number, values in _rows(path, sorted(wanted)):
                yield wanted.pop(row_number), values, ()
        except (OSError, pa.ArrowException) as error:
            yield from ((name, f"{path.name} can not be read: {error}", ()) for name in wanted.values())


def _rows(path: Path, wanted: list[int]) -> Iterator[tuple[int, Pages | str]]:
    """Read the pictures of some rows, skipping the groups of rows that have none of them."""
    with pq.ParquetFile(path) as file:
        columns = [f"page_{number}" for number in range(1, MAX_DECK_PAGES + 1)]
        columns = [column for column in columns if column in file.schema_arrow.names]
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            here = {row for row in wanted if start <= row < end}
            if here:
                offset = start
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns):
                    for row in sorted(here & set(range(offset, offset + batch.num_rows))):
                        yield row, _pictures(batch.slice(row - offset, 1).to_pylist()[0])
                    offset += batch.num_rows
            start = end


def _pictures(row: dict[str, object]) -> Pages | str:
    pages: Pages = {}
    for column, value in row.items():
        name = value.get("path") if isinstance(value, dict) else None
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes) and data:
            pages[int(column.removeprefix("page_"))] = (_suffix(name if isinstance(name, str) else ""), data)
    return pages or "the row holds no picture"


def _write_deck(path: Path, pages: Pages, lost: tuple[int, ...]) -> list[int]:
    """Write the zip file of a deck; return the numbers of the pages that had to be left blank.

    A lost page is not left out: all that follow would change their numbers.
    """
    blank = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(1, max(*pages, *lost, 1) + 1):
            if number not in pages:
                archive.writestr(f"{number}.png", _blank_page())
                blank.append(number)
                continue
            suffix, content = pages[number]
            if isinstance(content, Path):
                archive.write(content, f"{number}{suffix}")
            else:
                archive.writestr(f"{number}{suffix}", content)
    return blank


def _blank_page() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), "white").save(buffer, format="PNG")
    return buffer.getvalue()


def _suffix(name: str) -> str:
    """Return a suffix that ingestion takes; it looks at the contents, whatever the suffix says."""
    suffix = Path(local_name(name)).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES and not suffix.startswith(".tif") else ".jpg"


def _clear(directory: Path) -> None:
    entries: Iterable[Path] = list(directory.iterdir())
    for entry in entries:
        entry.unlink()
