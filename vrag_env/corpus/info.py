"""What is in a corpus, in numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from vrag_env.corpus.store import SCHEMA_VERSION, Corpus

STATS_KEY = b"vrag_stats"
"""Key, in the metadata of a column of a table beside the pages, of what its maker has measured, as JSON."""


@dataclass(frozen=True)
class SideTable:
    """A table beside the pages, such as the embeddings of one encoder.

    Attributes:
        name: The table.
        version: Its version.
        rows: Number of its rows.
        pages: How many of the corpus's present pages it covers; of tables without a column ``page_id``, 0.
        bytes: Size on disk.
        notes: What its maker wrote down about it: encoder, revision, measured recall and the like.
    """

    name: str
    version: int
    rows: int
    pages: int
    bytes: int
    notes: dict[str, str]


@dataclass(frozen=True)
class CorpusInfo:
    """A corpus in numbers.

    Attributes:
        path: The directory.
        documents: Number of documents.
        pages: Number of pages.
        text_sources: Pages by where their text comes from; those without any text are under ``"none"``.
        bytes: Size of the directory on disk, with old versions.
        page_bytes: Size of the table of pages in it.
        layout: Version of the directory's layout.
        version: Version of the table of pages.
        fingerprint: See :attr:`Corpus.fingerprint`.
        tables: The tables beside the pages.
    """

    path: str
    documents: int
    pages: int
    text_sources: dict[str, int]
    bytes: int
    page_bytes: int
    layout: int
    version: int
    fingerprint: str
    tables: tuple[SideTable, ...]


def corpus_info(corpus: Corpus) -> CorpusInfo:
    """Count what is in a corpus; reads no picture and no vector."""
    corpus = corpus.pinned()
    sources = {
        source: corpus.table.count_rows(f"text_source = '{source}' AND text <> ''") for source in ("layer", "ocr")
    }
    sources["none"] = corpus.table.count_rows("text = ''")
    return CorpusInfo(
        path=str(corpus.path),
        documents=len(corpus.doc_ids()),
        pages=len(corpus),
        text_sources={name: count for name, count in sources.items() if count},
        bytes=_bytes_below(corpus, ""),
        page_bytes=_bytes_below(corpus, "pages.lance"),
        layout=SCHEMA_VERSION,
        version=corpus.version,
        fingerprint=corpus.fingerprint,
        tables=tuple(_side_table(corpus, name) for name in corpus.side_tables()),
    )


def _side_table(corpus: Corpus, name: str) -> SideTable:
    table = corpus.open_side_table(name)
    columns = [column for column in ("page_id", "content_hash") if column in table.schema.names]
    covered: set[str] = set()
    if "page_id" in columns:
        hashes = corpus.content_hashes()
        for batch in table.search().select(columns).limit(None).to_batches():
            for row in batch.to_pylist():
                present = hashes.get(row["page_id"])
                if present is not None and row.get("content_hash", present) == present:
                    covered.add(row["page_id"])
    notes = {_text(key): _text(value) for key, value in (table.schema.metadata or {}).items()}
    for field in table.schema:  # a column's metadata can be written without writing the table again
        measured = (field.metadata or {}).get(STATS_KEY, b"{}")
        notes |= {key: str(value) for key, value in json.loads(measured).items()}
    return SideTable(
        name, int(table.version), table.count_rows(), len(covered), _bytes_below(corpus, f"{name}.lance"), notes
    )


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace")


def _bytes_below(corpus: Corpus, name: str) -> int:
    total = 0
    for file in (corpus.path / name).rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # another process has just moved it
            continue
    return total
