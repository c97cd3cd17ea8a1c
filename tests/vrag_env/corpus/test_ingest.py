from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from pdf_files import write_pdf
from PIL import Image

import vrag_env
from vrag_env.corpus import Corpus, ingest
from vrag_env.corpus import pool as pool_module
from vrag_env.corpus.ingest import find_documents
from vrag_env.errors import IngestError


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.create(tmp_path / "corpus")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Good and bad files of every sort in one tree."""
    root = tmp_path / "library"
    write_pdf(root / "reports" / "sales.pdf", ["Sales of 2021\nNorth 42", "Costs of 2021"])
    write_pdf(root / 'it\'s; 100% "ok".pdf', ["quoted"])
    Image.new("RGB", (90, 60), "red").save(root / "scan.png")
    (root / "deck").mkdir()
    for number in (1, 2):
        Image.new("RGB", (60, 90), "blue").save(root / "deck" / f"page_{number}.jpg")
    bad = root / "bad"
    write_pdf(bad / "encrypted.pdf", ["secret"], password="x")
    (bad / "empty.pdf").write_bytes(b"")
    (bad / "corrupt.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    whole = write_pdf(bad / "whole.pdf", ["x" * 80] * 20).read_bytes()
    (bad / "whole.pdf").unlink()
    (bad / "truncated.pdf").write_bytes(whole[:600])
    (bad / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 40)
    (root / "notes.txt").write_text("not a document")
    (root / ".hidden.pdf").write_bytes(b"")
    return root


def test_a_tree_of_good_and_bad_files(library: Path, corpus: Corpus) -> None:
    report = ingest([library], corpus, workers=2, progress=False)
    good = ("deck/page_1.jpg", "deck/page_2.jpg", 'it\'s; 100% "ok".pdf', "reports/sales.pdf", "scan.png")
    assert report.added == corpus.doc_ids() == good
    assert report.pages == len(corpus) == 6
    reasons = dict(report.failures)
    assert sorted(reasons) == [
        f"bad/{name}" for name in ("corrupt.pdf", "empty.pdf", "encrypted.pdf", "picture.png", "truncated.pdf")
    ]
    assert "encrypted" in reasons["bad/encrypted.pdf"]
    assert "empty" in reasons["bad/empty.pdf"]
    assert all("corrupt" in reasons[f"bad/{name}"] for name in ("corrupt.pdf", "truncated.pdf", "picture.png"))
    assert "left out: bad/empty.pdf: empty" in str(report)
    page = corpus.page("reports/sales.pdf#1")
    assert page.text == "Sales of 2021\nNorth 42" and (page.width, page.height) == (1195, 1792)
    assert [word.text for word in page.words] == ["Sales", "of", "2021", "North", "42"]
    assert corpus.image("scan.png#1").size == (90, 60)
    assert Corpus.open(corpus.path).page_ids() == corpus.page_ids()
    assert not (corpus.path / ".staging").exists()


def test_again_does_nothing_and_a_change_replaces(library: Path, corpus: Corpus) -> None:
    first = ingest([library], corpus, workers=1, progress=False)
    again = ingest([library], corpus, workers=1, progress=False)
    assert again.unchanged == first.added and again.added == again.replaced == () and again.pages == 0
    write_pdf(library / "reports" / "sales.pdf", ["Sales of 2022"])
    changed = ingest([library], corpus, workers=1, progress=False)
    assert changed.replaced == ("reports/sales.pdf",) and len(changed.unchanged) == 4
    assert not corpus.has_page("reports/sales.pdf#2")
    assert corpus.page("reports/sales.pdf#1").text == "Sales of 2022"
    resized = ingest([library], corpus, workers=1, progress=False, long_side=200)
    assert len(resized.replaced) == 5
    assert corpus.page_size("reports/sales.pdf#1") == (134, 200)


def test_a_broken_new_version_keeps_the_old_pages(library: Path, corpus: Corpus) -> None:
    ingest([library], corpus, workers=1, progress=False)
    (library / "reports" / "sales.pdf").write_bytes(b"%PDF-1.4 broken")
    report = ingest([library], corpus, workers=1, progress=False)
    assert "reports/sales.pdf" in dict(report.failures)
    assert corpus.page("reports/sales.pdf#2").text == "Costs of 2021"


def test_single_files_and_wrong_paths(library: Path, corpus: Corpus, tmp_path: Path) -> None:
    same = write_pdf(tmp_path / "elsewhere" / "sales.pdf", ["another"])
    paths = [library / "reports" / "sales.pdf", tmp_path / "nowhere", library / "notes.txt", same]
    report = ingest(paths, corpus, workers=1, progress=False)
    assert report.added == ("sales.pdf",)
    assert corpus.page("sales.pdf#2").text == "Costs of 2021"
    reasons = dict(report.failures)
    assert "missing" in reasons[str(tmp_path / "nowhere")]
    assert ".pdf" in reasons[str(library / "notes.txt")]
    assert "same id" in reasons["sales.pdf"]


def test_nothing_found_is_an_error_that_names_the_path(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(IngestError, match=r"void: no PDF, image or zip file .*gone\.pdf: missing"):
        ingest([tmp_path / "void", tmp_path / "gone.pdf"], corpus, progress=False)
    with pytest.raises(IngestError, match="no path was given"):
        ingest([], corpus, progress=False)


@pytest.mark.parametrize("arguments", [{"long_side": 10}, {"long_side": 100_000}, {"workers": 0}, {"ocr": "yes"}])
def test_wrong_arguments(corpus: Corpus, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be (between|at least|one of)"):
        ingest(["x"], corpus, **arguments)


def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.pdf", "wb") as handle:
        handle.write(b"x")
    found, failures = find_documents([tmp_path])
    assert not found and "not valid text" in failures[0][1]


def test_progress_is_told(library: Path, corpus: Corpus, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    ingest([library], corpus, workers=1, progress=lambda done, expected: told.append((done, expected)))
    assert told[-1][0] == 6
    assert all(done <= expected for done, expected in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert "page" not in capfd.readouterr().err
    write_pdf(library / "late.pdf", ["x"])
    ingest([library], corpus, workers=1)
    captured = capfd.readouterr()
    assert "Reading" in captured.err and captured.out == ""


def test_a_reading_process_that_dies_costs_one_document(
    library: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real worker, with a PDF reader that crashes on one document as a broken library would.
    code = """
import os, vrag_env.corpus.worker as worker
read = worker.read_pdf
worker.read_pdf = lambda path, side: os.abort() if path.name == "sales.pdf" else read(path, side)
worker.main()
"""
    monkeypatch.setattr(pool_module, "WORKER_CODE", code)
    report = ingest([library], corpus, workers=1, progress=False)
    assert "exit code -6" in dict(report.failures)["reports/sales.pdf"]
    assert len(report.added) == 4


def test_a_reading_process_that_hangs_is_ended(library: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import time, vrag_env.corpus.worker as worker
read = worker.read_pdf
worker.read_pdf = lambda path, side: time.sleep(99) if path.name == "sales.pdf" else read(path, side)
worker.main()
"""
    monkeypatch.setattr(pool_module, "WORKER_CODE", code)
    monkeypatch.setattr(pool_module, "PAGE_SECONDS", 5.0)
    report = ingest([library], corpus, workers=1, progress=False)
    assert "no progress in 5 seconds" in dict(report.failures)["reports/sales.pdf"]
    assert len(report.added) == 4


def test_a_reading_process_that_does_not_start_is_an_error(
    library: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "WORKER_CODE", "raise SystemExit(3)")
    with pytest.raises(IngestError, match="do not start"):
        ingest([library], corpus, workers=1, progress=False)
    assert len(corpus) == 0 and not (corpus.path / ".staging").exists()


def test_a_reading_process_imports_what_it_needs() -> None:
    package = Path(vrag_env.__file__).parent
    told = "print([name for name in ('gymnasium', 'lancedb', 'tqdm', 'pypdfium2') if name in sys.modules])"
    code = pool_module.WORKER_CODE.replace("\nmain()", f"\n{told}")
    command = [sys.executable, "-c", code, str(package), str(package / "corpus")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "['pypdfium2']\n"


def test_what_can_not_be_written_is_an_error(library: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Corpus, "commit", full)
        ingest([library], corpus, workers=1, progress=False)
    assert not (corpus.path / ".staging").exists()
    assert len(ingest([library], corpus, workers=1, progress=False).added) == 5  # the next run makes up for it


def test_works_in_a_script_without_a_main_guard(library: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from vrag_env.corpus import Corpus, ingest\n"
        f"print(ingest([{str(library)!r}], Corpus.create({str(tmp_path / 'c')!r}), workers=2).pages)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(vrag_env.__file__).parents[1])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.stdout == "6\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in directories")
def test_pipes_devices_and_broken_links_are_named_and_not_read(library: Path) -> None:
    os.mkfifo(library / "pipe.pdf")
    (library / "endless.pdf").symlink_to("/dev/zero")
    (library / "broken.pdf").symlink_to("nowhere.pdf")
    (library / "link.pdf").symlink_to(library / "reports" / "sales.pdf")
    (library / "loop").symlink_to(library)
    found, failures = find_documents([library])
    assert {name for name, _ in failures} == {"pipe.pdf", "endless.pdf", "broken.pdf"}
    assert "link.pdf" in found and not any(name.startswith("loop/") for name in found)


def test_a_tree_deeper_than_the_recursion_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(sys.getrecursionlimit() + 50):
        os.mkdir("d")
        os.chdir("d")
    Path("deep.pdf").write_bytes(b"x")
    found, failures = find_documents([tmp_path])
    assert [name.count("/") for name in found] == [sys.getrecursionlimit() + 50]
    assert not failures
    while Path.cwd() != tmp_path:  # pytest's own clean-up is recursive
        os.chdir("..")
        Path("d/deep.pdf").unlink(missing_ok=True)
        os.rmdir("d")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user who may not read everything")
def test_a_directory_that_may_not_be_read_is_named(library: Path) -> None:
    (library / "deck").chmod(0)
    _, failures = find_documents([library])
    (library / "deck").chmod(0o700)
    assert [name for name, _ in failures] == [str(library / "deck")]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_reading_process_can_not_take_all_memory() -> None:
    code = "from vrag_env.corpus import worker; worker._limit_memory(); bytearray(worker.MAX_MEMORY_BYTES + 1)"
    environment = {**os.environ, "PYTHONPATH": str(Path(vrag_env.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.stderr.strip().endswith("MemoryError")


def raw_pdf(objects: list[bytes]) -> bytes:
    """A PDF file of given objects, the first one being its catalogue."""
    content, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(content))
    return content + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def test_bombs_cost_little_and_are_named(tmp_path: Path, corpus: Corpus) -> None:
    library = tmp_path / "bombs"
    write_pdf(library / "good.pdf", ["good"])
    catalogue, page = b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]"
    packed = zlib.compress(b" " * 2**26, 9)
    stream = b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed)
    one = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    huge = page.replace(b"600 600", b"9000000 9000000") + b">>"
    bombs = {
        "none.pdf": [catalogue, b"<</Type/Pages/Kids[]/Count 0>>"],
        "lie.pdf": [catalogue, b"<</Type/Pages/Kids[]/Count 1000000000>>"],
        "deflate.pdf": [catalogue, one, page + b"/Contents 4 0 R>>", stream],
        "huge.pdf": [catalogue, one, huge],
        "many.pdf": [catalogue, b"<</Type/Pages/Kids[" + b"3 0 R " * 10_000 + b"]/Count 10000>>", page + b">>"],
    }
    for name, objects in bombs.items():
        (library / name).write_bytes(raw_pdf(objects))
    header = b"\x00\x00\x00\rIHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    header += zlib.crc32(header[4:]).to_bytes(4, "big")
    (library / "wide.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + b"\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e")
    report = ingest([library], corpus, workers=1, progress=False, long_side=128)
    reasons = dict(report.failures)
    assert report.added == ("deflate.pdf", "good.pdf", "huge.pdf")
    assert corpus.page_size("huge.pdf#1") == (128, 128)
    assert "corrupt" in reasons["none.pdf"] and "corrupt" in reasons["lie.pdf"]
    assert "10000 pages, at most 5000" in reasons["many.pdf"]
    assert "too large" in reasons["wide.png"]
