from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

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
    with pytest.raises(IngestError, match=r"void: no PDF or image .*gone\.pdf: missing"):
        ingest([tmp_path / "void", tmp_path / "gone.pdf"], corpus, progress=False)
    with pytest.raises(IngestError, match="no path was given"):
        ingest([], corpus, progress=False)


@pytest.mark.parametrize("arguments", [{"long_side": 10}, {"long_side": 100_000}, {"workers": 0}])
def test_wrong_arguments(corpus: Corpus, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ingest(["x"], corpus, **arguments)  # type: ignore[arg-type]  # one of two integer options


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


def test_mutated_files_end_no_process(tmp_path: Path, corpus: Corpus) -> None:
    random = Random(0)
    (tmp_path / "fuzz").mkdir()
    seeds = [("pdf", write_pdf(tmp_path / "seed.pdf", ["hello docu-\nmentation", "two"]).read_bytes())]
    for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("TIFF", "tiff")):
        buffer = io.BytesIO()
        Image.effect_noise((40, 30), 60).save(buffer, kind)
        seeds.append((suffix, buffer.getvalue()))
    for number in range(100):
        suffix, seed = seeds[number % len(seeds)]
        content = bytearray(seed)
        for _ in range(random.randint(1, 12)):
            place = random.randrange(len(content))
            content[place : place + random.randint(0, 9)] = random.randbytes(random.randint(0, 9))
        (tmp_path / "fuzz" / f"{number}.{suffix}").write_bytes(content)
    report = ingest([tmp_path / "fuzz"], corpus, workers=1, progress=False, long_side=200)
    assert len(report.added) + len(report.failures) == 100
    assert not [reason for _, reason in report.failures if "reading process" in reason]


def test_works_in_a_script_without_a_main_guard(library: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from vrag_env.corpus import Corpus, ingest\n"
        f"print(ingest([{str(library)!r}], Corpus.create({str(tmp_path / 'c')!r}), workers=2).pages)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(vrag_env.__file__).parents[1])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.stdout == "6\n"


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.8])
def test_killed_and_run_again(tmp_path: Path, corpus: Corpus, delay: float) -> None:
    library = tmp_path / "many"
    for number in range(12):
        write_pdf(library / f"{number:02}.pdf", [f"document {number} page {page}" for page in range(8)])
    code = (
        "import sys; from vrag_env.corpus import Corpus, ingest, ingest as i; import vrag_env.corpus.ingest\n"
        "sys.modules['vrag_env.corpus.ingest']._COMMIT_PAGES = 8\n"
        f"ingest([{str(library)!r}], Corpus.create({str(corpus.path)!r}), workers=1, progress="
        "lambda done, expected: print(done, flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()  # it has begun
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    between = Corpus.open(corpus.path)
    for doc_id in between.doc_ids():  # whole documents only
        assert sum(page_id.startswith(f"{doc_id}#") for page_id in between.page_ids()) == 8
    kept = between.documents()
    report = ingest([library], Corpus.open(corpus.path), workers=2, progress=False)
    assert set(report.unchanged) == set(kept) and len(report.unchanged) + len(report.added) == 12
    after = Corpus.open(corpus.path)
    assert len(after) == 96
    assert after.page("07.pdf#3").text == "document 7 page 2"


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
