"""Parquet files of a hub, read with pyarrow: a few columns of all rows, never the pictures with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vrag_env.errors import IngestError


def columns_of(path: Path) -> set[str]:
    """Return the names of a parquet file's columns.

    Raises:
        IngestError: If the file can not be read.
    """
    try:
        return set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise IngestError(f"{path} is not a parquet file ({error}): download it again") from error


def read_rows(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Read some columns of a parquet file; those that it does not have are left out.

    Raises:
        IngestError: If the file can not be read.
    """
    there = columns_of(path)
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=[c for c in columns if c in there]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise IngestError(f"{path} can not be read ({error}): download it again") from error
    return rows
