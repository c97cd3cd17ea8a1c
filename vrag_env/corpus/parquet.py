"""Export of a corpus as a data set in Parquet files, in the form of the Hugging Face ``datasets`` library.

One row per page: the picture in the form of ``datasets.Image`` (``{bytes, path}``), the words as a list of
structures, and everything else that :mod:`vrag_env.corpus.parquet_import` needs to make the same corpus again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from vrag_env.corpus.schema import PAGE_SCHEMA
from vrag_env.corpus.store import Corpus
from vrag_env.errors import CorpusError

EXPORT_KEY = b"vrag_export"
"""Key in the metadata of an exported file; its value is :data:`EXPORT_VERSION`."""
EXPORT_VERSION = b"1"
SHARD_PAGES = 2000
"""Default number of pages in one file: about half a gigabyte of scans."""

_READ_PAGES = 16  # pages read from the corpus at once
_GROUP_PAGES = 64  # most pages of a row group, which readers hold in memory as a whole
_GROUP_BYTES = 32 * 2**20  # or pictures of so many bytes
_PLAIN = ("page_id", "doc_id", "number", "width", "height", "image_format", "text", "content_hash", "text_source")
_REPEATING = ["doc_id", "image_format", "content_hash", "text_source"]


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


# What ``datasets`` reads from the metadata; a list around the structure is the form that all its versions know.
_FEATURES: dict[str, Any] = {
    "image": {"_type": "Image"},
    **{name: _value("int32" if PAGE_SCHEMA.field(name).type == pa.int32() else "string") for name in _PLAIN},
    "words": [{"text": _value("string"), **{side: _value("float32") for side in ("x0", "y0", "x1", "y1")}}],
}

EXPORT_SCHEMA = pa.schema(
    [
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *(pa.field(name, PAGE_SCHEMA.field(name).type) for name in _PLAIN),
        pa.field("words", PAGE_SCHEMA.field("words").type),
    ],
    metadata={
        b"huggingface": json.dumps({"info": {"features": _FEATURES}}).encode(),
        EXPORT_KEY: EXPORT_VERSION,
    },
)
"""Columns of an exported file."""

_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
tags:
- document-pages
---

# Document pages

{pages} pages of {documents} documents, exported from a corpus of VRAG-Gym. One row per page:

| column | what |
|---|---|
| `image` | the page as a picture |
| `page_id`, `doc_id`, `number` | its id, its document, its number in it from 1 |
| `width`, `height`, `image_format` | of the stored picture, in pixels |
| `text`, `text_source` | its text, from the file itself (`layer`) or read from the picture (`ocr`) |
| `words` | words with boxes `x0, y0, x1, y1`, from 0 to 1 of width and height, from the top left |
| `content_hash` | hash of the document and of how it was read |

```python
from datasets import load_dataset
pages = load_dataset("PATH", split="train")  # pages[0]["image"] is a PIL image
```

Back into a corpus: `vrag corpus import PATH --corpus DIRECTORY`. The rights in the documents stay with their
authors.

Corpus fingerprint: `{fingerprint}`
"""


@dataclass(frozen=True)
class ExportReport:
    """What :func:`export_parquet` wrote.

    Attributes:
        files: The Parquet files, in order.
        pages: Number of pages in them.
        bytes: Their size.
    """

    files: tuple[Path, ...]
    pages: int
    bytes: int


def export_parquet(
    corpus: Corpus, directory: str | os.PathLike[str], *, shard_pages: int = SHARD_PAGES, progress: bool = True
) -> ExportReport:
    """Write all pages of a corpus as a data set that ``datasets.load_dataset(directory)`` reads.

    Pages are streamed in the order of :meth:`Corpus.page_ids`, whatever the size of the corpus; other processes
    may write to it meanwhile. A file gets its name when it is complete.

    Args:
        corpus: The corpus.
        directory: Where to write: a directory that does not exist or is empty.
        shard_pages: Most pages of one file.
        progress: Show a progress bar on standard error.

    Raises:
        CorpusError: If the directory can not be written or is not empty, or the corpus is empty.
        ValueError: If ``shard_pages`` is below 1.
    """
    if shard_pages < 1:
        raise ValueError(f"shard_pages must be at least 1, got {shard_pages}")
    corpus = corpus.pinned()
    if len(corpus) == 0:
        raise CorpusError(f"{corpus.path} has no pages: there is nothing to export")
    root = Path(directory)
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise CorpusError(f"{root} is not an empty directory: choose another one for the export")
        (root / "data").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{root} can not be written ({error.strerror})") from error
    page_ids = corpus.page_ids()
    shards = -(-len(page_ids) // shard_pages)
    files = []
    with tqdm(total=len(page_ids), unit="page", desc="Exporting", disable=not progress) as bar:
        for shard in range(shards):
            path = root / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet"
            unfinished = path.with_suffix(".unfinished")
            _write(corpus, page_ids[shard * shard_pages : (shard + 1) * shard_pages], unfinished, bar)
            unfinished.replace(path)
            files.append(path)
    card = _CARD.format(pages=len(page_ids), documents=len(corpus.doc_ids()), fingerprint=corpus.fingerprint)
    (root / "README.md").write_text(card, encoding="utf-8")
    return ExportReport(tuple(files), len(page_ids), sum(path.stat().st_size for path in files))


def _write(corpus: Corpus, page_ids: Sequence[str], path: Path, bar: Any) -> None:
    import pyarrow.parquet as pq

    writer = pq.ParquetWriter(
        path,
        EXPORT_SCHEMA,
        compression="zstd",
        use_dictionary=_REPEATING,
        write_statistics=list(_PLAIN),  # not of the pictures: a row group would keep two of them in its statistics
    )
    with writer:
        group: list[dict[str, Any]] = []
        size = 0
        for row in _rows(corpus, page_ids):
            group.append(row)
            size += len(row["image"]["bytes"])
            if len(group) == _GROUP_PAGES or size >= _GROUP_BYTES:
                writer.write_batch(pa.RecordBatch.from_pylist(group, schema=EXPORT_SCHEMA))
                bar.update(len(group))
                group, size = [], 0
        if group:
            writer.write_batch(pa.RecordBatch.from_pylist(group, schema=EXPORT_SCHEMA))
            bar.update(len(group))


def _rows(corpus: Corpus, page_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(page_ids), _READ_PAGES):
        for row in corpus.rows(page_ids[start : start + _READ_PAGES], [*_PLAIN[1:], "image", "words"]):
            name = f"{row['page_id']}.{row['image_format']}"
            yield {**row, "image": {"bytes": row["image"], "path": name}}
