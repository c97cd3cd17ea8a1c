"""What is known of every page without reading its row: enough for an environment's reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import lancedb

_COLUMNS = ["page_id", "doc_id", "number", "width", "height", "content_hash"]


class PageEntry(NamedTuple):
    """One page: ``size`` is ``(width, height)`` in pixels, ``row_id`` its place in the table's version."""

    doc_id: str
    number: int
    size: tuple[int, int]
    content_hash: str
    row_id: int


@dataclass(frozen=True)
class PageIndex:
    """All pages of one version of the table.

    Attributes:
        pages: Entry of every page by its id, in order of document and page number.
        documents: Content hash of every document by its id, in order.
    """

    pages: dict[str, PageEntry]
    documents: dict[str, str]


def read_page_index(table: lancedb.table.Table) -> PageIndex:
    """Read the small columns of all pages; 20,000 pages take some hundredths of a second."""
    columns = table.search().with_row_id(True).select(_COLUMNS).limit(None).to_arrow().to_pydict()
    rows = sorted(zip(*(columns[name] for name in (*_COLUMNS, "_rowid")), strict=True), key=lambda row: row[1:3])
    pages = {
        page_id: PageEntry(doc_id, number, (width, height), content_hash, row_id)
        for page_id, doc_id, number, width, height, content_hash, row_id in rows
    }
    return PageIndex(pages, {entry.doc_id: entry.content_hash for entry in pages.values()})
