"""``vrag corpus``: look into a corpus, take pages out of it, bring some in, and compact it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vrag_env.errors import CorpusError

app = typer.Typer(
    help="Look into a corpus, export its pages, and bring some in or take some out.", no_args_is_help=True
)

CorpusOption = Annotated[Path, typer.Option(help="Directory of the corpus, made by 'vrag index'.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
VersionOption = Annotated[
    int | None, typer.Option(min=1, help="Read the corpus as it was at this version. Default: the newest.")
]


@app.command()
def info(corpus: CorpusOption, version: VersionOption = None, as_json: JsonOption = False) -> None:
    """Show how much is in a corpus: documents, pages, bytes, sources of text, embeddings, version.

    Example: vrag corpus info --corpus runs/my_corpus
    """
    from vrag_env.corpus import Corpus
    from vrag_env.corpus.info import corpus_info

    found = corpus_info(Corpus.open(corpus, version))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    sources = ", ".join(f"{name} {count}" for name, count in found.text_sources.items()) or "no page"
    lines = {
        "corpus": found.path,
        "documents": found.documents,
        "pages": found.pages,
        "text": sources,
        "on disk": f"{_size(found.bytes)}, pages {_size(found.page_bytes)}",
        "version": f"{found.version} (layout {found.layout})",
        "fingerprint": found.fingerprint,
    }
    for name, value in lines.items():
        typer.echo(f"{name:<12} {value}")
    for table in found.tables:
        typer.echo(f"{'table':<12} {table.name}: {table.pages} of {found.pages} pages, {_size(table.bytes)}")
        for name, value in sorted(table.notes.items()):
            typer.echo(f"{'':<12}   {_shown(name)}: {_shown(value)[:200]}")


@app.command(name="list")
def list_documents(
    corpus: CorpusOption,
    match: Annotated[str, typer.Option(help="Only documents that fit this pattern, such as 'finance/*.pdf'.")] = "*",
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the documents with their numbers of pages.

    Example: vrag corpus list --corpus runs/my_corpus --match '*2024*'
    """
    from collections import Counter
    from fnmatch import fnmatchcase

    from vrag_env.corpus import Corpus

    store = Corpus.open(corpus, version)
    pages = Counter(store.page_documents().values())
    found = {
        doc_id: {"pages": pages[doc_id], "content_hash": content_hash}
        for doc_id, content_hash in store.documents().items()
        if fnmatchcase(doc_id, match)
    }
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for doc_id, facts in found.items():
        typer.echo(f"{facts['pages']:>6}  {_shown(doc_id)}")
    if not found:
        typer.echo(f"no document matches {match!r}" if pages else "the corpus is empty")


@app.command()
def show(
    page: Annotated[str, typer.Argument(help="A page: the document's id, '#', and the page's number from 1.")],
    corpus: CorpusOption,
    image: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the picture to this file; its ending says the format.")
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="List the words with their boxes, from 0 to 1.")] = False,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a page: its size, where its text comes from, and the text.

    Example: vrag corpus show 'report.pdf#3' --corpus runs/my_corpus --image page.png
    """
    from vrag_env.corpus import Corpus

    store = Corpus.open(corpus, version)
    if not store.has_page(page) and page in store.doc_ids():
        count = sum(doc_id == page for doc_id in store.page_documents().values())
        raise CorpusError(f"{page!r} is a document of {count} pages: name one of them, such as {page + '#1'!r}")
    found = store.page(page)
    if image is not None:
        try:
            store.image(page).save(image)
        except (OSError, ValueError) as error:
            raise CorpusError(f"the picture can not be written to {image}: {error}; try a name in .png") from error
    if as_json:
        typer.echo(json.dumps(asdict(found) if words else {**asdict(found), "words": len(found.words)}, indent=2))
        return
    source = {"layer": "from the file", "ocr": "by OCR"}.get(found.text_source, found.text_source)
    typer.echo(f"{_shown(page)}: {found.width} x {found.height} pixels, {len(found.words)} words, text {source}")
    if words:
        for word in found.words:
            typer.echo("  ".join(f"{side:.4f}" for side in word.box) + f"  {word.text}")
    else:
        typer.echo(found.text or "(no text)")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(file_okay=False, help="Directory that is empty or does not exist.")],
    corpus: CorpusOption,
    shard_pages: Annotated[int, typer.Option(min=1, help="Most pages of one file.")] = 2000,
    version: VersionOption = None,
) -> None:
    """Write all pages as a data set in Parquet files, which Hugging Face's datasets library reads.

    Example: vrag corpus export exports/my_corpus --corpus runs/my_corpus

    Then: datasets.load_dataset("exports/my_corpus", split="train")[0]["image"] is a picture.
    """
    from vrag_env.corpus import Corpus
    from vrag_env.corpus.parquet import export_parquet

    report = export_parquet(Corpus.open(corpus, version), out, shard_pages=shard_pages)
    typer.echo(f"{report.pages} pages in {len(report.files)} files, {_size(report.bytes)}, in {out}")


@app.command(name="import")
def import_pages(
    paths: Annotated[list[Path], typer.Argument(help="Parquet files, or directories of them.")],
    corpus: Annotated[Path, typer.Option(help="Directory of the corpus; made if it does not exist.")],
    image_column: Annotated[str | None, typer.Option(help="Column of pictures. Default: a common name.")] = None,
    document_column: Annotated[str | None, typer.Option(help="Column of documents. Default: a common name.")] = None,
    page_column: Annotated[str | None, typer.Option(help="Column of page numbers. Default: a common name.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of text. Default: a common name, or none.")] = None,
    first_page: Annotated[int, typer.Option(min=0, max=1, help="Number of a document's first page there.")] = 1,
    long_side: Annotated[int, typer.Option(min=64, max=8192, help="Longer side of a stored page, in pixels.")] = 1792,
) -> None:
    """Bring in pages from Parquet files: an export of a corpus, or any data set with a column of images.

    An export comes back as it was, with the same fingerprint. Of other data sets, columns for image, document and
    page number are needed. A page that can not be read is left out and named at the end; the exit code is 1 then.

    Example: vrag corpus import exports/my_corpus --corpus runs/copy

    Example: vrag corpus import slides/*.parquet --corpus runs/slides --document-column deck --first-page 0
    """
    from vrag_env.corpus import Corpus
    from vrag_env.corpus.parquet_import import find_parquet, import_parquet

    find_parquet(paths)  # do not leave an empty corpus behind a mistyped path
    given = {"image": image_column, "document": document_column, "page": page_column, "text": text_column}
    report = import_parquet(
        paths,
        Corpus.create(corpus),
        columns={what: name for what, name in given.items() if name is not None},
        first_page=first_page,
        long_side=long_side,
    )
    typer.echo(_shown(str(report), keep="\n"))
    if report.failures:
        raise typer.Exit(1)


@app.command()
def remove(
    documents: Annotated[list[str], typer.Argument(help="Ids of documents, as 'vrag corpus list' shows them.")],
    corpus: CorpusOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove documents. Their embeddings are dropped when embeddings are built the next time.

    Environments that are running keep the pages with which they began.

    Example: vrag corpus remove old/report.pdf --corpus runs/my_corpus
    """
    from vrag_env.corpus import Corpus

    store = Corpus.open(corpus)
    wanted = list(dict.fromkeys(documents))
    unknown = [doc_id for doc_id in wanted if doc_id not in store.documents()]
    if unknown:
        raise CorpusError(
            f"no document {', '.join(map(repr, unknown))} in {corpus}: see vrag corpus list --corpus {corpus}"
        )
    pages = sum(doc_id in set(wanted) for doc_id in store.page_documents().values())
    what = f"{len(wanted)} documents with {pages} pages" if len(wanted) > 1 else f"{wanted[0]!r} with {pages} pages"
    if not yes:
        typer.confirm(f"Remove {what} from {corpus}?", abort=True)
    store.remove(*wanted)
    typer.echo(f"removed {what}; {len(store)} pages are left")


@app.command()
def compact(
    corpus: CorpusOption,
    keep_days: Annotated[
        float, typer.Option(min=0, help="Versions younger than this stay. 0 deletes all but the newest.")
    ] = 7.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete old versions of a corpus and merge its small files. Otherwise both stay on disk for ever.

    The pages and what searches find stay the same. A version that is deleted can never be opened again: not with
    --version, nor by a run that wrote down its number, and an environment that is running on it fails at its next
    page. End such runs first, or keep versions as young as they are.

    Merging needs free disk space for a copy of the corpus.

    Example: vrag corpus compact --corpus runs/my_corpus --keep-days 1
    """
    import os
    from datetime import timedelta

    # Read when LanceDB is imported, below: it would hold 8192 rows at once, which are gigabytes of pictures.
    os.environ.setdefault("LANCE_DEFAULT_BATCH_SIZE", "32")
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(2**26))
    from vrag_env.corpus import Corpus
    from vrag_env.corpus.compact import compact as compact_corpus

    store = Corpus.open(corpus)
    if not yes:
        age = f"older than {keep_days:g} days" if keep_days else "but the newest"
        typer.confirm(f"Delete all versions of {corpus} {age}? They can not be opened again.", abort=True)
    report = compact_corpus(store, timedelta(days=keep_days))
    typer.echo(
        f"{report.versions} versions deleted; {_size(report.bytes_before)} before, {_size(report.bytes_after)} now; "
        f"the oldest version that can be opened is {report.oldest}"
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _shown(text: str, keep: str = "") -> str:
    """Return text without the characters that could steer a terminal: names come from files of strangers."""
    return "".join(char if char.isprintable() or char in keep else "\ufffd" for char in text)
