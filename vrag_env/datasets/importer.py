"""Import a benchmark: from its download to pages in a corpus, questions.json and report.json beside them."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrag_env.corpus import LONG_SIDE, Corpus, ingest
from vrag_env.corpus.records import page_id_of
from vrag_env.datasets.mmlongbench import read_mmlongbench
from vrag_env.datasets.records import Document, Label, Source
from vrag_env.datasets.report import ImportReport
from vrag_env.datasets.slidevqa import read_slidevqa
from vrag_env.datasets.staging import Staged, document_name, stage
from vrag_env.datasets.vidoseek import read_vidoseek
from vrag_env.errors import IngestError, QuestionError
from vrag_env.questions import NOT_ANSWERABLE, Question, load_questions, question_from_example, save_questions

QUESTIONS = "questions.json"
REPORT = "report.json"
SCOPES = ("corpus", "document")
SUBSETS = ("vrag",)

BEYOND = "page numbers beyond the end of the document (left out of the gold pages)"
NO_PAGES = "answerable questions without gold pages"
PAGES_UNANSWERABLE = "unanswerable questions with gold pages (pages left out)"
_LEFTOVER_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Dataset:
    """What is particular to a benchmark.

    Attributes:
        read: Reads a download; the second argument is the annotation file, or ``None`` to look for it.
        in_vrag: Whether a question belongs to the subset that VRAG-RL evaluates on.
        vrag_size: Number of questions of that subset (VRAG-RL, camera-ready version, table 4).
        vrag_is_given: The subset is a file, in the common JSON, and no rule leads from the benchmark's own
            annotations to it.
    """

    read: Callable[[Path, Path | None], Source]
    in_vrag: Callable[[Label], bool]
    vrag_size: int
    vrag_is_given: bool = False


def _everything(label: Label) -> bool:
    return True


def _answerable_with_pages(label: Label) -> bool:
    return label.labelled_pages and not _unanswerable(label)


DATASETS = {
    # 2,020 questions rewritten by ViDoRAG so that they are unique in a pool of documents
    "slidevqa": Dataset(read_slidevqa, _everything, 2020, vrag_is_given=True),
    "vidoseek": Dataset(read_vidoseek, _everything, 1142),
    # the rule that leads from the repository's 1,082 questions to the 847 of the paper
    "mmlongbench": Dataset(read_mmlongbench, _answerable_with_pages, 847),
}
"""The benchmarks by name."""


def import_dataset(
    dataset: str,
    directory: str | Path,
    out: str | Path,
    *,
    subset: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    scope: str = "corpus",
    questions: str | Path | None = None,
    long_side: int = LONG_SIDE,
    ocr: str = "never",
    workers: int | None = None,
    progress: bool = True,
) -> ImportReport:
    """Read a benchmark's original download into a corpus.

    Documents and questions get the name of the benchmark in front (``mmlongbench/report.pdf``), so that all
    three can go into one corpus: ``questions.json`` keeps the questions of the others, and replaces those of
    this benchmark. Its documents are those that its questions name, whichever of them are kept, so that the
    questions of a subset are asked against the whole pool; with ``limit``, only those of the kept questions.

    Args:
        dataset: ``slidevqa``, ``vidoseek`` or ``mmlongbench``.
        directory: The download, archives unpacked.
        out: Directory of the corpus; made if it does not exist. ``questions.json`` and ``report.json`` go into it.
        subset: ``"vrag"`` takes the questions that VRAG-RL evaluates on; ``None`` takes all.
        split: Only the questions of this split, and their documents.
        limit: Only the first questions, and their documents.
        scope: ``"corpus"``: an episode searches in all documents of the corpus; ``"document"``: only in that
            of its question.
        questions: The annotation file, where it is not the only one in ``directory``; needed for the subset
            ``"vrag"`` of SlideVQA, which is a file of its own.
        long_side: Longer side of a stored page in pixels.
        ocr: See :func:`vrag_env.corpus.ingest`. The slides of SlideVQA's own forms are pictures without text.
        workers: Reading processes.
        progress: Show a progress bar.

    Returns:
        The report.

    Raises:
        IngestError: If the download is not what was expected, or no question can be kept.
        CorpusError: If ``out`` holds something else than a corpus.
        ValueError: If an argument is unknown.
    """
    _check(dataset, subset, scope, limit)
    started = time.monotonic()
    kind = DATASETS[dataset]
    source = kind.read(Path(directory), None if questions is None else Path(questions))
    if subset == "vrag" and kind.vrag_is_given and not source.given:
        raise IngestError(
            f"the subset 'vrag' of {dataset} is a file of its own, with rewritten questions, that can not be made "
            f"from {source.files[0].name}: pass the released one (slidevqa_refined.json of ViDoSeek's hub, or "
            "SlideVQA_test.json of VRAG-RL) with --questions"
        )
    report = ImportReport(dataset, subset or "", files=tuple(path.name for path in source.files))
    report.expected = kind.vrag_size if subset == "vrag" else None
    report.read = len(source.labels) + len(source.unreadable)
    for place, reason in source.unreadable:
        report.left_out.add(reason, place)
    pool = _unique([label for label in source.labels if split is None or label.split == split], report)
    if split is not None and not pool:
        raise IngestError(f"no question has the split {split!r}; there are {sorted({x.split for x in source.labels})}")
    chosen = [label for label in pool if subset is None or kind.in_vrag(label)]
    report.selected = len(chosen)
    if limit is not None:
        report.limited = max(0, len(chosen) - limit)
        chosen = pool = chosen[:limit]

    found = _locate(dataset, source, pool, report, Path(directory))
    corpus = Corpus.create(out)
    _ingest(dataset, found, corpus, report, long_side=long_side, ocr=ocr, workers=workers, progress=progress)
    last = _last_pages(corpus)
    report.pages = sum(last.get(doc_id, 0) for doc_id in found.documents)
    written = [
        question
        for label in chosen
        if (question := _question(dataset, label, found, last, set(report.blank), scope, report)) is not None
    ]
    if not written:
        raise IngestError(f"no question of {dataset} can be kept:\n{report}")
    _save(Path(out), dataset, written, report, started)
    return report


def _check(dataset: str, subset: str | None, scope: str, limit: int | None) -> None:
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}: choose one of {', '.join(DATASETS)}")
    if subset is not None and subset not in SUBSETS:
        raise ValueError(f"unknown subset {subset!r}: the only one is 'vrag'")
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")


def _unanswerable(label: Label) -> bool:
    if label.answer_format is not None:
        return label.answer_format == "None"
    return label.answer.strip().lower() == NOT_ANSWERABLE.lower()


def _unique(labels: Sequence[Label], report: ImportReport) -> list[Label]:
    seen: dict[str, Label] = {}
    for label in labels:
        if label.uid in seen:
            report.left_out.add("have the id of an earlier question", label.uid)
        else:
            seen[label.uid] = label
    return list(seen.values())


@dataclass(frozen=True)
class _Found:
    """The documents of the labels: id in the corpus by the name in a label, and what they are by id."""

    ids: dict[str, str]
    documents: dict[str, Document]


def _locate(dataset: str, source: Source, labels: Iterable[Label], report: ImportReport, directory: Path) -> _Found:
    found = _Found({}, {})
    names = list(dict.fromkeys(label.document for label in labels if label.document))
    report.documents = len(names)
    for name in names:
        document = source.find(name)
        if isinstance(document, str):
            report.missing.add(document, name)
            continue
        try:
            doc_id = f"{dataset}/{document_name(name, document)}"
        except IngestError as error:
            report.missing.add(str(error), name)
            continue
        found.ids[name] = doc_id
        found.documents[doc_id] = document
    if not found.documents:
        archives = sorted(path.name for path in directory.rglob("*.zip"))
        hint = f"; unpack {', '.join(archives[:3])} first" if archives else ""
        raise IngestError(
            f"none of the {len(names)} documents that the questions name is in {directory}, such as {names[:1]}{hint}"
        )
    return found


def _ingest(
    dataset: str, found: _Found, corpus: Corpus, report: ImportReport, *, progress: bool, **options: Any
) -> None:
    for left in corpus.path.glob(".import-*"):  # by a run that was killed
        if time.time() - left.stat().st_mtime > _LEFTOVER_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    names = {doc_id.partition("/")[2]: document for doc_id, document in found.documents.items()}
    without_text = 0
    advice = ""
    with tempfile.TemporaryDirectory(dir=corpus.path, prefix=".import-") as temporary:
        directory = Path(temporary, dataset)
        directory.mkdir()
        for staged in stage(names, directory):
            _note(staged, dataset, report)
            if not staged.names:
                continue
            result = ingest([temporary], corpus, progress=progress, **options)
            for name, reason in result.failures:
                report.missing.add(reason, name)
            without_text += result.pages_without_text
            advice = result.advice
    if without_text:
        report.text = f"{without_text} pages have no text, words can not find them: {advice}"


def _note(staged: Staged, dataset: str, report: ImportReport) -> None:
    report.blank += [page_id_of(f"{dataset}/{name}", number) for name, number in staged.blank]
    for name, reason in staged.failures:
        report.missing.add(reason, f"{dataset}/{name}")


def _last_pages(corpus: Corpus) -> dict[str, int]:
    """Number of pages of every document."""
    return dict(Counter(corpus.page_documents().values()))


def _question(
    dataset: str,
    label: Label,
    found: _Found,
    last: dict[str, int],
    blank: set[str],
    scope: str,
    report: ImportReport,
) -> Question | None:
    """Make a question of a label, or say why there is none."""
    anywhere = not label.document and _unanswerable(label) and scope == "corpus"
    doc_id = found.ids.get(label.document, "")
    if doc_id not in last and not anywhere:
        report.left_out.add("are about a document that is missing", label.uid)
        return None
    for kind, detail in label.problems:
        report.notes.add(kind, f"{label.uid}: {detail}" if detail else label.uid)
    end = last.get(doc_id, 0)
    pages = [page for page in label.pages if page <= end]
    for page in label.pages:
        if page > end:
            report.notes.add(BEYOND, f"{label.uid}: {page} of {end}")
    lost = [page for page in pages if page_id_of(doc_id, page) in blank]
    if lost:
        report.left_out.add("need a page whose picture is missing", label.uid)
        return None
    if _unanswerable(label):
        if label.labelled_pages:
            report.notes.add(PAGES_UNANSWERABLE, label.uid)
        pages = []
    elif not pages:
        report.notes.add(NO_PAGES, label.uid)
    meta: dict[str, Any] = {
        "reference": [[doc_id, page] for page in pages],
        "source_type": list(label.sources),
        "query_type": label.query_type,
        "split": label.split,
        "dataset": dataset,
    }
    if label.answer_format is not None:
        meta["answer_format"] = label.answer_format
    if scope == "document":
        meta["scope"] = [doc_id]
    example = {
        "uid": f"{dataset}/{label.uid}",
        "query": label.text,
        "reference_answer": label.answer,
        "answer_variants": list(label.answer_variants),
        "meta_info": meta,
    }
    try:
        return question_from_example(example)
    except QuestionError as error:
        report.left_out.add("can not be written", f"{label.uid} ({error})")
        return None


def _save(out: Path, dataset: str, written: list[Question], report: ImportReport, started: float) -> None:
    """Write questions and report, keeping what is there of other benchmarks."""
    others = [q for q in load_questions(out / QUESTIONS) if q.dataset != dataset] if (out / QUESTIONS).exists() else []
    save_questions(out / QUESTIONS, [*others, *written])
    report.kept = len(written)
    report.counts = {
        "splits": dict(Counter(q.split for q in written)),
        "types": dict(Counter(q.query_type for q in written)),
        "sources": dict(Counter(kind for q in written for kind in q.source_type.split(", "))),
        "answers": dict(Counter(q.answer_format for q in written)),
    }
    report.seconds = time.monotonic() - started
    reports = json.loads((out / REPORT).read_text(encoding="utf-8")) if (out / REPORT).exists() else {}
    reports[dataset] = report.to_dict()
    temporary = out / f".{REPORT}.part"
    temporary.write_text(json.dumps(reports, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    temporary.replace(out / REPORT)
