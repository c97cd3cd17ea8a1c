"""``vrag corpus`` as a newcomer meets it: on a real corpus, with the right exit codes and no tracebacks."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vrag_agent import cli
from vrag_env.corpus import Corpus


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Vrag = Callable[..., Outcome]


@pytest.fixture
def vrag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vrag:
    """Run ``vrag corpus ...`` as the console script does."""

    def run(*arguments: object, command: str = "corpus") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["vrag", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Outcome(int(caught.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def path(tiny_corpus_path: Path, tmp_path: Path) -> Path:
    """A copy of the small corpus: 4 documents of 2 pages."""
    return Path(shutil.copytree(tiny_corpus_path, tmp_path / "corpus"))


def test_info(vrag: Vrag, path: Path) -> None:
    corpus = Corpus.open(path)
    pages = corpus.content_hashes()
    rows = {"page_id": [*list(pages)[:3], "gone.pdf#1"], "content_hash": [*list(pages.values())[:2], "old", "x"]}
    table = pa.table(rows).replace_schema_metadata({"encoder": "tiny\x1b[2J"})
    corpus.database.create_table("emb_tiny_1", table)
    code, out, _ = vrag("info", "--corpus", path)
    assert code == 0 and corpus.fingerprint in out and "\x1b" not in out
    assert "emb_tiny_1: 2 of 8 pages" in out and "encoder: tiny" in out
    found = json.loads(vrag("info", "--corpus", path, "--json").out)
    assert (found["documents"], found["pages"], found["text_sources"]) == (4, 8, {"layer": 8})
    assert found["version"] == corpus.version and found["layout"] == 2
    assert 0 < found["page_bytes"] < found["bytes"]
    assert [(t["name"], t["rows"], t["pages"]) for t in found["tables"]] == [("emb_tiny_1", 4, 2)]


def test_list(vrag: Vrag, path: Path) -> None:
    assert vrag("list", "--corpus", path).out.split()[:2] == ["2", "finance/amber.pdf"]
    found = json.loads(vrag("list", "--corpus", path, "--match", "finance/*", "--json").out)
    assert {name: facts["pages"] for name, facts in found.items()} == {"finance/amber.pdf": 2, "finance/cobalt.pdf": 2}
    assert "no document matches '*.doc'" in vrag("list", "--corpus", path, "--match", "*.doc").out


def test_show(vrag: Vrag, path: Path, tmp_path: Path) -> None:
    page = "finance/amber.pdf#1"
    code, out, _ = vrag("show", page, "--corpus", path, "--image", tmp_path / "page.png")
    assert code == 0 and "896 x 672 pixels" in out and "Revenue of the North region: 42.5 million" in out
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (896, 672)
    words = vrag("show", page, "--corpus", path, "--words").out.splitlines()
    assert words[1].endswith("  Amber") and all(0 <= float(side) <= 1 for side in words[1].split()[:4])
    found = json.loads(vrag("show", page, "--corpus", path, "--json", "--words").out)
    assert found["number"] == 1 and found["words"][0]["text"] == "Amber"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "finance/amber.pdf#3"], "no page 'finance/amber.pdf#3'"),
        (["show", "finance/amber.pdf"], "a document of 2 pages: name one of them, such as 'finance/amber.pdf#1'"),
        (["show", "finance/amber.pdf#1", "--image", "page.nonsense"], "can not be written to page.nonsense"),
        (["remove", "nothing.pdf", "--yes"], "no document 'nothing.pdf'"),
        (["info", "--version", "999"], "no version 999"),
        (["export", "{corpus}"], "not an empty directory"),
        (["import", "{corpus}/nowhere.parquet"], "no such file"),
        (["import", "{corpus}/vrag_corpus.json"], "not a Parquet file"),
    ],
)
def test_bad_input(vrag: Vrag, path: Path, arguments: list[str], expected: str) -> None:
    code, _, err = vrag(*(argument.format(corpus=path) for argument in arguments), "--corpus", path)
    assert code == 2 and expected in err, err
    assert len(Corpus.open(path)) == 8


@pytest.mark.parametrize("command", ["info", "list", "show x#1", "export out", "remove x", "import {corpus}"])
def test_a_corpus_of_another_layout(vrag: Vrag, path: Path, command: str) -> None:
    (path / "vrag_corpus.json").write_text(json.dumps({"vrag_corpus": 1}))
    if command.startswith("import"):
        pq.write_table(pa.table({"image": [b"x"], "document": ["d"], "page": [1]}), path / "in.parquet")
        command = f"import {path / 'in.parquet'}"
    code, _, err = vrag(*command.split(), "--corpus", path)
    assert code == 2 and "was written by layout version 1, this package reads 2: index the documents again" in err
    assert not Path("out").exists()


def test_export_and_import(vrag: Vrag, path: Path, tmp_path: Path) -> None:
    code, out, _ = vrag("export", tmp_path / "out", "--corpus", path, "--shard-pages", 3)
    assert code == 0 and "8 pages in 3 files" in out
    assert Corpus.open(path).fingerprint in (tmp_path / "out" / "README.md").read_text()
    code, out, _ = vrag("import", tmp_path / "out", "--corpus", tmp_path / "copy")
    assert code == 0 and "4 documents added" in out
    assert Corpus.open(tmp_path / "copy").fingerprint == Corpus.open(path).fingerprint
    code, out, _ = vrag("Heron staff", "--corpus", tmp_path / "copy", "--k", 1, command="search")
    assert code == 0 and "finance/cobalt.pdf#2" in out


def test_import_reports_what_it_left_out(vrag: Vrag, path: Path, tmp_path: Path) -> None:
    table = pa.table({"scan": [b"broken"], "deck": ["d\x1b"], "page": [0]})
    pq.write_table(table, tmp_path / "any.parquet")
    code, _, err = vrag("import", tmp_path / "any.parquet", "--corpus", path)
    assert code == 2 and "name it with --image-column" in err
    names = ["--image-column", "scan", "--document-column", "deck", "--first-page", 0]
    code, out, _ = vrag("import", tmp_path / "any.parquet", "--corpus", path, *names)
    assert code == 1 and "0 pages, 1 left out" in out and "\x1b" not in out


def test_a_mistyped_import_leaves_no_corpus_behind(vrag: Vrag, tmp_path: Path) -> None:
    assert vrag("import", tmp_path / "nowhere", "--corpus", tmp_path / "new").code == 2
    assert not (tmp_path / "new").exists()


def test_remove(vrag: Vrag, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert vrag("remove", "travel/ivory.pdf", "--corpus", path).code == 1
    assert len(Corpus.open(path)) == 8
    code, _, err = vrag("remove", "travel/ivory.pdf", "nothing.pdf", "--corpus", path, "--yes")
    assert code == 2 and "'nothing.pdf'" in err and len(Corpus.open(path)) == 8
    code, out, _ = vrag("remove", "travel/ivory.pdf", "finance/amber.pdf", "--corpus", path, "--yes")
    assert code == 0 and "removed 2 documents with 4 pages" in out and "4 pages are left" in out
    assert Corpus.open(path).doc_ids() == ("finance/cobalt.pdf", "travel/olive.pdf")
    with Corpus.open(path).writing():
        code, _, err = vrag("remove", "travel/olive.pdf", "--corpus", path, "--yes")
    assert code == 2 and "another process is writing" in err


def test_compact(vrag: Vrag, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LANCE_DEFAULT_BATCH_SIZE", "32"), ("LANCE_DEFAULT_IO_BUFFER_SIZE", str(2**26))):
        monkeypatch.setenv(name, value)  # the command sets them where they are not, which would outlive the test
    version = Corpus.open(path).version
    code, out, _ = vrag("compact", "--corpus", path, "--yes")
    assert code == 0 and out.startswith("0 versions deleted; ") and Corpus.open(path, version)
    code, out, _ = vrag("compact", "--corpus", path, "--keep-days", 0, "--yes")
    assert code == 0 and "can be opened is" in out and not out.startswith("0 versions")
    code, _, err = vrag("info", "--corpus", path, "--version", version - 1)
    assert code == 2 and f"no version {version - 1}" in err
    assert vrag("list", "--corpus", path).out.count(".pdf") == 4
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, out, err = vrag("compact", "--corpus", path)
    assert code == 1 and "can not be opened again" in out + err


@pytest.mark.parametrize("command", ["info", "list", "show", "export", "import", "remove", "compact"])
def test_help_teaches_with_an_example(vrag: Vrag, command: str) -> None:
    code, out, _ = vrag(command, "--help")
    assert code == 0 and f"vrag corpus {command}" in out.split("Example:", 1)[1]
