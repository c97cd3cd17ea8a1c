"""MMLongBench-Doc: questions over 135 long PDFs, some across pages, some without an answer.

Ma et al., "MMLongBench-Doc", arXiv:2407.01523. The repository has ``data/samples.json`` (1,082 questions) and
``data/documents``; the hub's ``yubo2333/MMLongBench-Doc`` has a parquet file (1,091 questions) and
``documents``. In both, lists are written as text, and some page numbers are not page numbers of the document:
0, or 1418 for "14, 18".
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from vrag_env.datasets.common import answer_format, field, is_common, read_common, read_entries
from vrag_env.datasets.files import Library, read_json
from vrag_env.datasets.records import Label, Source
from vrag_env.datasets.tables import columns_of, read_rows
from vrag_env.datasets.values import read_pages, read_sources
from vrag_env.errors import IngestError
from vrag_env.questions import NOT_ANSWERABLE

_FIELDS = ["doc_id", "doc_type", "question", "answer", "evidence_pages", "evidence_sources", "answer_format"]
NO_ANSWER_FORMAT = "answers with the format of no answer (format inferred from the answer)"


def read_mmlongbench(directory: Path, questions: Path | None = None) -> Source:
    """Read MMLongBench-Doc.

    A question has no id of its own: it gets the name of its document and its number among the questions of
    the document, from 1.

    Args:
        directory: The download.
        questions: The annotation file, where it is not the only one that could be meant: JSON, parquet, or the
            common JSON of VRAG-RL.

    Raises:
        IngestError: If there is no annotation file, or more than one.
    """
    library = Library(directory)
    path = questions or _annotations(library)
    if path.suffix.lower() == ".parquet":
        entries: Any = read_rows(path, _FIELDS)
    else:
        entries = read_json(path)
        if is_common(entries) and not _is_original(entries):
            return read_common(path, library, prefer="mmlong")
    if not _is_original(entries):
        raise IngestError(f"{path} is not the annotation of MMLongBench-Doc: expected a list with {', '.join(_FIELDS)}")
    count: Counter[str] = Counter()
    numbers = [count.update([str(_document(entry))]) or count[str(_document(entry))] for entry in entries]

    def read(entry: dict[str, Any], index: int) -> Label:
        return _label(entry, numbers[index])

    labels, unreadable = read_entries(entries, path.name, read)
    return Source((path,), labels, partial(library.find, prefer="mmlong"), unreadable)


def _annotations(library: Library) -> Path:
    found = []
    for path in library.annotations:
        if path.suffix.lower() == ".parquet":
            fits = {"doc_id", "evidence_pages"} <= columns_of(path)
        elif path.name == "samples.json" or "mmlong" in path.name.lower():
            entries = read_json(path) if path.suffix.lower() == ".json" else None
            fits = _is_original(entries) or is_common(entries)
        else:
            continue
        if fits:
            found.append(path)
    if len(found) == 1:
        return found[0]
    if not found:
        raise IngestError(
            f"no annotations in {library.directory}: expected samples.json, a parquet file with 'doc_id' and "
            "'evidence_pages', or MMLongDoc.json; give the file with --questions"
        )
    raise IngestError(f"several files of annotations: {', '.join(map(str, found[:5]))}; choose one with --questions")


def _is_original(entries: Any) -> bool:
    return isinstance(entries, list) and any(isinstance(e, dict) and "doc_id" in e and "question" in e for e in entries)


def _document(entry: Any) -> Any:
    return entry.get("doc_id") if isinstance(entry, dict) else None


def _label(entry: dict[str, Any], number: int) -> Label:
    document, answer = field(entry, "doc_id"), field(entry, "answer")
    pages, labelled, page_problems = read_pages(entry.get("evidence_pages"))
    sources, source_problems = read_sources(entry.get("evidence_sources"))
    written, format_problems = answer_format(entry.get("answer_format"))
    if written == "None" and answer.strip().lower() != NOT_ANSWERABLE.lower():
        written, format_problems = None, [(NO_ANSWER_FORMAT, ascii(answer)[:60])]
    return Label(
        uid=f"{document}:{number}",
        text=field(entry, "question"),
        answer=answer,
        document=document,
        pages=pages,
        answer_format=written,
        sources=sources,
        # Its paper counts questions by the number of their evidence pages: single-page and cross-page.
        query_type="" if not pages else "Single-Page" if len(pages) == 1 else "Cross-Page",
        labelled_pages=labelled,
        problems=(*page_problems, *source_problems, *format_problems),
    )
