"""Export to and import from Parquet, with the real ``datasets`` library reading what was exported."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vrag_env.corpus import Corpus, Page, Word, page_id_of
from vrag_env.corpus.parquet import EXPORT_SCHEMA, export_parquet
from vrag_env.corpus.parquet_import import import_parquet
from vrag_env.errors import CorpusError, IngestError


def picture(shade: int, size: tuple[int, int] = (30, 20), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """Two documents of 12 and 1 pages; what is odd about a page is on one of them."""
    made = Corpus.create(tmp_path_factory.mktemp("source") / "corpus")
    word = Word("東京", (0.25, 0.5, 0.75, 1.0))
    pages = [
        (Page(page_id_of("a/x.pdf", n), "a/x.pdf", n, 30, 20, f"page {n}", (word,) * n, "h1"), picture(n), "png")
        for n in range(1, 13)
    ]
    made.add(pages)
    made.add([(Page("b's.pdf#1", "b's.pdf", 1, 40, 50, "", (), "h2", "ocr"), picture(9, (40, 50), "JPEG"), "jpeg")])
    yield made


@pytest.fixture(scope="module")
def exported(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export") / "out"
    report = export_parquet(corpus, root, shard_pages=5, progress=False)
    assert [path.name for path in report.files] == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    assert report.pages == 13 and report.bytes == sum(path.stat().st_size for path in report.files)
    return root


def rows(corpus: Corpus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = corpus.table.to_arrow().to_pylist()
    return sorted(found, key=lambda row: (row["doc_id"], row["number"]))


def change(path: Path, row: int, **values: Any) -> None:
    """Rewrite an exported file with other values in one of its rows."""
    table = pq.read_table(path)
    content = table.to_pylist()
    content[row] |= values
    pq.write_table(pa.Table.from_pylist(content, schema=table.schema), path)


def copy(exported: Path, target: Path) -> list[Path]:
    files = sorted((exported / "data").glob("*.parquet"))
    target.mkdir()
    return [Path(target / file.name) for file in files if (target / file.name).write_bytes(file.read_bytes())]


def generic(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_round_trip_is_exact(corpus: Corpus, exported: Path, tmp_path: Path) -> None:
    other = Corpus.create(tmp_path / "copy")
    report = import_parquet([exported], other, progress=False)
    assert (report.added, report.pages, report.failures) == (("a/x.pdf", "b's.pdf"), 13, ())
    assert other.fingerprint == corpus.fingerprint
    assert rows(other) == rows(corpus)
    assert os.listdir(other.path).count(".import") == 0
    again = import_parquet([exported], other, progress=False)
    assert (again.pages, again.unchanged) == (0, ("a/x.pdf", "b's.pdf"))


def test_datasets_reads_it(exported: Path, tmp_path: Path) -> None:
    code = f"""
import json, datasets
whole = datasets.load_dataset({str(exported)!r}, split="train")
files = datasets.load_dataset("parquet", data_files={str(exported / "data")!r} + "/*.parquet", split="train")
assert whole.features == files.features
first, last = whole[2], files[12]
print(json.dumps([
    len(whole), len(files), type(first["image"]).__name__, first["image"].getpixel((0, 0)), first["words"],
    last["image"].size, last["image"].format, last["doc_id"], last["text_source"], last["words"],
]))
"""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [
        13,
        13,
        "PngImageFile",
        [3, 0, 0],
        [{"text": "東京", "x0": 0.25, "y0": 0.5, "x1": 0.75, "y1": 1.0}] * 3,
        [40, 50],
        "JPEG",
        "b's.pdf",
        "ocr",
        [],
    ]


def test_export_refuses_a_directory_in_use(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(CorpusError, match="not an empty directory"):
        export_parquet(corpus, tmp_path, progress=False)
    with pytest.raises(CorpusError, match="not an empty directory"):
        export_parquet(corpus, tmp_path / "thesis.tex", progress=False)
    with pytest.raises(CorpusError, match="no pages"):
        export_parquet(Corpus.create(tmp_path / "empty"), tmp_path / "out", progress=False)


def test_row_groups_are_small(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrag_env.corpus.parquet._GROUP_PAGES", 4)
    [file] = export_parquet(corpus, tmp_path / "pages", progress=False).files
    metadata = pq.ParquetFile(file).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [4, 4, 4, 1]
    monkeypatch.setattr("vrag_env.corpus.parquet._GROUP_BYTES", 1)
    [file] = export_parquet(corpus, tmp_path / "bytes", progress=False).files
    assert pq.ParquetFile(file).metadata.num_row_groups == 13


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"image": {"bytes": picture(1)[:40], "path": None}}, "corrupt"),
        ({"image": {"bytes": None, "path": "/etc/passwd"}}, "no bytes"),
        ({"image": {"bytes": picture(1, (31, 20)), "path": None}}, "not one png image of 30 by 20"),
        ({"image_format": "jpeg"}, "not one jpeg image"),
        ({"page_id": "a/x.pdf#7"}, "is not that of page 2"),
        ({"number": 0}, "page number is 0"),
        ({"doc_id": "a\x1b[2J.pdf"}, "can not be shown"),
        ({"text_source": "guess"}, "text_source"),
        ({"content_hash": "h3"}, "different content hashes"),
        ({"words": [{"text": "w", "x0": float("nan"), "y0": 0.0, "x1": 1.0, "y1": 1.0}]}, "no box"),
        ({"page_id": "a/x.pdf#1", "number": 1}, "twice"),
    ],
)
def test_a_wrong_row_of_an_export_leaves_its_document_out(
    exported: Path, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    files = copy(exported, tmp_path / "in")
    change(files[0], 1, **values)
    other = Corpus.create(tmp_path / "copy")
    report = import_parquet([tmp_path / "in"], other, progress=False)
    [(_, why)] = report.failures
    assert reason in why, why
    if "doc_id" in values:  # the row belongs to no document, and the rest of the document is there
        assert other.doc_ids() == ("a/x.pdf", "b's.pdf") and len(other) == 12
    else:
        assert other.doc_ids() == ("b's.pdf",) and "whole document" in why


def test_damaged_or_missing_files_import_nothing(exported: Path, tmp_path: Path) -> None:
    files = copy(exported, tmp_path / "in")
    other = Corpus.create(tmp_path / "copy")
    content = bytearray(files[1].read_bytes())
    content[100:3000] = bytes(2900)
    files[1].write_bytes(content)
    with pytest.raises(IngestError, match=r"train-00001.*damaged"):
        import_parquet([tmp_path / "in"], other, progress=False)
    files[1].write_bytes(content[:500])
    with pytest.raises(IngestError, match="not a Parquet file, or damaged"):
        import_parquet([tmp_path / "in"], other, progress=False)
    files[1].unlink()
    with pytest.raises(IngestError, match="only 2 of the 3 parts"):
        import_parquet([tmp_path / "in"], other, progress=False)
    with pytest.raises(IngestError, match="no such file"):
        import_parquet([tmp_path / "nowhere"], other, progress=False)
    (tmp_path / "none").mkdir()
    with pytest.raises(IngestError, match=r"no \*\.parquet"):
        import_parquet([tmp_path / "none"], other, progress=False)
    assert len(other) == 0 and ".import" not in os.listdir(other.path)


def test_another_export_version_is_an_error(exported: Path, tmp_path: Path) -> None:
    files = copy(exported, tmp_path / "in")
    table = pq.read_table(files[0])
    pq.write_table(table.replace_schema_metadata({b"vrag_export": b"99"}), files[0])
    with pytest.raises(IngestError, match="version b'99'"):
        import_parquet([files[0]], Corpus.create(tmp_path / "copy"), progress=False)
    pq.write_table(table.drop_columns(["words"]).replace_schema_metadata(EXPORT_SCHEMA.metadata), files[0])
    with pytest.raises(IngestError, match="its columns are others"):
        import_parquet([files[0]], Corpus.create(tmp_path / "copy"), progress=False)


def test_any_data_set_with_common_names(tmp_path: Path) -> None:
    structs = [{"bytes": picture(n, (200, 100)), "path": None} for n in range(4)]
    path = generic(
        tmp_path / "any.parquet", image=structs, document=["z", "y", "z", "y"], page=[2, 1, 1, 2], text=list("abcd")
    )
    corpus = Corpus.create(tmp_path / "corpus")
    report = import_parquet([path], corpus, long_side=100, progress=False)
    assert (report.added, report.pages, report.failures) == (("y", "z"), 4, ())
    assert corpus.page_ids() == ("y#1", "y#2", "z#1", "z#2")
    assert corpus.page("z#1").text == "c" and corpus.page_size("z#1") == (100, 50)
    [row] = corpus.rows(["z#2"], ["image"])
    assert row["image"][:2] == b"\xff\xd8"  # encoded anew as JPEG, whatever came
    assert import_parquet([path], corpus, long_side=100, progress=False).unchanged == ("y", "z")
    structs[0] = {"bytes": picture(200, (200, 100)), "path": None}
    generic(path, image=structs, document=["z", "y", "z", "y"], page=[2, 1, 1, 2], text=list("abcd"))
    report = import_parquet([path], corpus, long_side=100, progress=False)
    assert (report.replaced, report.unchanged, report.pages) == (("z",), ("y",), 2)
    assert corpus.image("z#2").getextrema()[0][0] > 150  # type: ignore[index]  # of RGB it is a tuple of pairs


def test_columns_by_name_pages_from_zero_and_what_is_left_out(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    Image.new("1", (10_000, 9_000)).save(bomb, "PNG")  # 90 million pixels in some kilobytes
    frames = io.BytesIO()
    Image.new("L", (9, 9)).save(frames, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))])
    path = generic(
        tmp_path / "any.parquet",
        scan=[picture(1), bomb.getvalue(), b"no image", None, frames.getvalue(), picture(2), picture(3), picture(4)],
        deck=["d", "d", "d", "d", "d", "d", None, "d"],
        slide=["0", "1", "2", "3", "4", "x", "6", "0"],
    )
    corpus = Corpus.create(tmp_path / "corpus")
    with pytest.raises(IngestError, match=r"no column for the image .*it has scan, deck, slide: name it"):
        import_parquet([path], corpus, progress=False)
    columns = {"image": "scan", "document": "deck", "page": "slide"}
    report = import_parquet([path], corpus, columns=columns, first_page=0, progress=False)
    assert corpus.page_ids() == ("d#1",)
    assert [name for name, _ in report.failures] == [
        "d#2",
        "d#3",
        "d#4",
        "d#5",
        "any.parquet row 6",
        "any.parquet row 7",
        "d#1",
    ]
    expected = ["too large", "corrupt", "no bytes", "2 frames", "'x'", "None", "twice"]
    assert all(part in reason for part, (_, reason) in zip(expected, report.failures, strict=True)), report.failures
    report = import_parquet([path], Corpus.create(tmp_path / "one"), columns=columns, progress=False)
    assert "first_page=0" in report.failures[0][1]


def test_a_killed_import_leaves_nothing_half_done(exported: Path, tmp_path: Path) -> None:
    Corpus.create(tmp_path / "copy")
    code = f"""
import os
from vrag_env.corpus import Corpus, parquet_import
write = parquet_import._Run.write
parquet_import._Run.write = lambda run: os.kill(os.getpid(), 9)
parquet_import.import_parquet([{str(exported)!r}], Corpus.open({str(tmp_path / "copy")!r}), progress=False)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    corpus = Corpus.open(tmp_path / "copy")
    assert len(corpus) == 0 and (corpus.path / ".import").is_dir()
    assert import_parquet([exported], corpus, progress=False).pages == 13
    assert not (corpus.path / ".import").exists()
