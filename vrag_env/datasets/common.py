"""The common JSON of VRAG-RL, in which ViDoSeek and SlideVQA-Refined are published, read label by label.

:func:`vrag_env.questions.load_questions` reads the same form and refuses a file with a fault in it; here a
faulty entry is reported, and the others are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vrag_env.datasets.files import Library, read_json
from vrag_env.datasets.records import Label, Source
from vrag_env.datasets.values import UNKNOWN_FORMAT, read_hops, read_pages, read_sources, read_text
from vrag_env.errors import IngestError
from vrag_env.questions import ANSWER_FORMATS

NO_BOXES = "boxes of the evidence (not read: no benchmark has them)"


def read_common(path: Path, library: Library, prefer: str) -> Source:
    """Read a file in the common form.

    Args:
        path: ``{"examples": [...]}``, or the list alone.
        library: Where the documents are.
        prefer: See :meth:`vrag_env.datasets.files.Library.find`.

    Raises:
        IngestError: If the file is not in this form.
    """
    entries = _entries(read_json(path))
    if entries is None:
        raise IngestError(
            f"{path} is not in the common JSON of VRAG-RL: expected {{'examples': [{{'uid', 'query', "
            "'reference_answer', 'meta_info'}, ...]}"
        )
    labels, unreadable = read_entries(entries, path.name, _label)
    return Source((path,), labels, partial(library.find, prefer=prefer), unreadable, given=True)


def is_common(value: Any) -> bool:
    """Whether a value read from JSON is in the common form."""
    return _entries(value) is not None


def read_entries(
    entries: Sequence[Any], name: str, read: Callable[[dict[str, Any], int], Label]
) -> tuple[tuple[Label, ...], tuple[tuple[str, str], ...]]:
    """Read a list of entries, and name those that are no questions.

    Args:
        entries: The entries.
        name: What holds them, for the report.
        read: Reads one entry and its place; raises ``ValueError`` or ``KeyError``.

    Returns:
        The labels, and ``(place, reason)`` of the entries that could not be read.
    """
    labels: list[Label] = []
    unreadable: list[tuple[str, str]] = []
    for index, entry in enumerate(entries):
        place = f"{name}, entry {index + 1}"
        if not isinstance(entry, dict):
            unreadable.append((place, "not an object"))
            continue
        try:
            labels.append(read(entry, index))
        except KeyError as error:
            unreadable.append((place, f"no field {error}"))
        except ValueError as error:
            unreadable.append((place, str(error)))
    return tuple(labels), tuple(unreadable)


def field(entry: dict[str, Any], name: str) -> str:
    """Return a text field.

    Raises:
        KeyError: If there is none.
        ValueError: If it is not a text with something in it.
    """
    try:
        return read_text(entry[name])
    except ValueError as error:
        raise ValueError(f"field {name!r} is {error}") from error


def answer_format(value: Any) -> tuple[str | None, list[tuple[str, str]]]:
    """Read an answer format; ``None``, to be inferred from the answer, where it is missing or not known."""
    if value in ANSWER_FORMATS or value is None:
        return value, []
    return None, [(UNKNOWN_FORMAT, ascii(value)[:60])]


def _entries(value: Any) -> list[Any] | None:
    entries = value.get("examples") if isinstance(value, dict) else value
    if not isinstance(entries, list) or not entries:
        return None
    fits = any(isinstance(entry, dict) and "query" in entry and "meta_info" in entry for entry in entries)
    return entries if fits else None


def _label(entry: dict[str, Any], _: int) -> Label:
    meta = entry["meta_info"]
    if not isinstance(meta, dict):
        raise ValueError("field 'meta_info' is not an object")
    pages, labelled, page_problems = read_pages(meta.get("reference_page"))
    sources, source_problems = read_sources(meta.get("source_type"))
    written, format_problems = answer_format(meta.get("answer_format"))
    variants = entry.get("answer_variants")
    reference = meta.get("reference")
    if isinstance(reference, list) and any(_document(pair) != meta.get("file_name") for pair in reference):
        raise ValueError("gold pages in several documents: index them with 'vrag index', and use the file as it is")
    box_problems = [(NO_BOXES, "")] if meta.get("evidence_box") else []
    return Label(
        uid=field(entry, "uid"),
        text=field(entry, "query"),
        answer=field(entry, "reference_answer"),
        answer_variants=tuple(v for v in variants if isinstance(v, str)) if isinstance(variants, list) else (),
        # A question without an answer, and without pages, need not name a document.
        document=field(meta, "file_name") if labelled or meta.get("file_name") else "",
        pages=pages,
        answer_format=written,
        sources=sources,
        query_type=read_hops(meta.get("query_type")),
        split=meta["split"] if isinstance(meta.get("split"), str) else "",
        labelled_pages=labelled,
        problems=(*page_problems, *source_problems, *format_problems, *box_problems),
    )


def _document(pair: Any) -> Any:
    return pair[0] if isinstance(pair, list) and pair else None
