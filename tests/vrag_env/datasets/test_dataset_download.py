"""Fetching, with the remote end played by a function that puts files where the hub's client would."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from benchmark_files import write_vidoseek, write_zip
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from vrag_env.datasets import SOURCES, download_dataset
from vrag_env.datasets.download import unpack
from vrag_env.errors import DependencyError, IngestError

FAILED = httpx.Response(502, request=httpx.Request("GET", "https://huggingface.co"))


class Remote:
    """The remote end: remembers what it was asked for, and delivers ViDoSeek's repository."""

    def __init__(self, made: Path) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.empty = False
        self._files = write_vidoseek(made)

    def __call__(self, **asked: Any) -> str:
        self.calls.append(asked)
        if self.error is not None:
            raise self.error
        target = Path(asked["local_dir"])
        if not self.empty:
            (target / "vidoseek.json").write_bytes((self._files / "vidoseek.json").read_bytes())
            folder = self._files / "vidoseek_pdf_document"
            write_zip(target / "vidoseek_pdf_document.zip", {p.name: p.read_bytes() for p in folder.iterdir()})
        return str(target)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    played = Remote(tmp_path / "remote")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", played)
    return played


def yes(_: str) -> bool:
    return True


def test_the_licence_comes_first(remote: Remote, tmp_path: Path) -> None:
    shown: list[str] = []

    def no(text: str) -> bool:
        shown.append(text)
        return False

    for name, word in (("mmlongbench", "CC BY-NC 4.0"), ("slidevqa", "evaluation only"), ("vidoseek", "no licence")):
        with pytest.raises(IngestError, match="nothing was fetched"):
            download_dataset(name, tmp_path / "target", confirm=no)
        assert word in shown[-1] and SOURCES[name].address in shown[-1]
    assert remote.calls == [] and not (tmp_path / "target").exists()


def test_fetched_and_unpacked(remote: Remote, tmp_path: Path) -> None:
    target = download_dataset("vidoseek", tmp_path / "target", confirm=yes)
    [call] = remote.calls
    assert (call["repo_id"], call["repo_type"]) == ("autumncc/ViDoSeek", "dataset")
    assert call["allow_patterns"] == ["*vidoseek*.json", "vidoseek_pdf_document.zip"]
    assert (target / "vidoseek_pdf_document" / "bees.pdf").read_bytes().startswith(b"%PDF")


def test_the_subset_of_slidevqa_comes_from_its_own_place(remote: Remote, tmp_path: Path) -> None:
    download_dataset("slidevqa", tmp_path / "target", subset="vrag", confirm=yes)
    assert remote.calls[0]["repo_id"] == "autumncc/ViDoSeek"
    assert remote.calls[0]["allow_patterns"] == ["*slidevqa*.json", "slidevqa_pdf_document.zip"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalEntryNotFoundError("offline"), "could not be fetched.*check the network"),
        (ConnectionError("reset"), "could not be fetched.*reset"),
        (HfHubHTTPError("502 bad gateway", response=FAILED), "could not be fetched.*502"),
    ],
)
def test_a_remote_end_that_fails(remote: Remote, tmp_path: Path, error: Exception, message: str) -> None:
    remote.error = error
    with pytest.raises(IngestError, match=message):
        download_dataset("vidoseek", tmp_path / "target", confirm=yes)


def test_a_gated_data_set(remote: Remote, tmp_path: Path) -> None:
    from huggingface_hub.errors import GatedRepoError

    remote.error = GatedRepoError("403", response=FAILED)
    with pytest.raises(
        IngestError, match=r"NTT-hil-insight/SlideVQA asks its users to accept its terms.*hf auth login"
    ):
        download_dataset("slidevqa", tmp_path / "target", confirm=yes)


def test_a_repository_with_nothing_of_it(remote: Remote, tmp_path: Path) -> None:
    remote.empty = True
    with pytest.raises(IngestError, match=r"none of the files that were expected.*--from"):
        download_dataset("vidoseek", tmp_path / "target", confirm=yes)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match="huggingface_hub is not installed"):
        download_dataset("vidoseek", tmp_path / "target", confirm=yes)
    assert not (tmp_path / "target").exists()


def test_unknown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown data set 'docvqa'"):
        download_dataset("docvqa", tmp_path, confirm=yes)


def test_unpacking_twice_writes_once(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"deep/x.pdf": b"12345", "notes.txt": b"no", "y.json": b"{}"})
    assert unpack(archive, tmp_path / "out") == 2
    target = tmp_path / "out" / "deep" / "x.pdf"
    assert target.read_bytes() == b"12345" and not (tmp_path / "out" / "notes.txt").exists()
    target.write_bytes(b"abcde")  # of the right size: taken for done
    assert unpack(archive, tmp_path / "out") == 2 and target.read_bytes() == b"abcde"
    target.write_bytes(b"12")  # cut off
    unpack(archive, tmp_path / "out")
    assert target.read_bytes() == b"12345"


@pytest.mark.parametrize("name", ["../evil.pdf", "/evil.pdf", "a/../../evil.pdf", "c:evil.pdf", "..\\evil.pdf"])
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {name: b"x"})
    with pytest.raises(IngestError, match="leads out of it"):
        unpack(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*evil*"))


def test_broken_archives(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(IngestError, match=r"can not be unpacked.*fetch it again"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    archive = write_zip(tmp_path / "b.zip", {"x.pdf": b"0123456789" * 50})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF  # inside of the contents: the checksum fails
    archive.write_bytes(bytes(data))
    with pytest.raises(IngestError, match="can not be unpacked"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "x.pdf").exists()


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", {"x.pdf": b"12345"})
    with zipfile.ZipFile(archive) as opened:
        needed = opened.getinfo("x.pdf").file_size
    usage = type("Usage", (), {"free": needed - 1})
    monkeypatch.setattr("vrag_env.datasets.download.shutil.disk_usage", lambda _: usage)
    with pytest.raises(IngestError, match="unpacks to 5 bytes, and there are 4 free"):
        unpack(archive, tmp_path / "out")
