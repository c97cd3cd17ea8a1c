from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
from pdf_files import write_pdf
from PIL import Image

from vrag_env.corpus import Corpus, archives, ingest
from vrag_env.corpus.archives import extract, list_documents, natural_key
from vrag_env.errors import IngestError


def write_zip(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def picture(directory: Path, shade: int) -> bytes:
    path = directory / f"shade_{shade}.png"
    Image.new("L", (40, 30), shade).save(path)
    return path.read_bytes()


def listed(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    documents, failures = list_documents(path, path.name, lambda: None)
    return {document.doc_id: document.members for document in documents}, dict(failures)


def test_natural_order() -> None:
    names = ["p10.png", "p2.png", "p002b.png", "P1.png", "9" * 5000 + ".png", "cover.png"]
    assert sorted(names, key=natural_key) == [
        "9" * 5000 + ".png",
        "cover.png",
        "P1.png",
        "p2.png",
        "p002b.png",
        "p10.png",
    ]


def test_a_deck_is_one_document_and_a_pdf_is_another(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    slides = [(f"talk/slide {number}.png", picture(tmp_path, 20 * number)) for number in (10, 2, 1)]
    pdf = write_pdf(tmp_path / "a.pdf", ["Sales of 2021", "Costs"]).read_bytes()
    members = [*slides, ("papers/a.pdf", pdf), ("cover.png", picture(tmp_path, 7)), ("notes.txt", b"x")]
    hidden = [("__MACOSX/talk/._slide 1.png", b"x"), (".secret/b.pdf", b"x")]
    write_zip(library / "deck.zip", members + hidden)
    corpus = Corpus.create(tmp_path / "corpus")
    report = ingest([library], corpus, workers=2, progress=False)
    assert report.failures == ()
    assert report.added == corpus.doc_ids() == ("deck.zip", "deck.zip/papers/a.pdf", "deck.zip/talk")
    assert corpus.page("deck.zip/papers/a.pdf#1").text == "Sales of 2021"
    shades = [corpus.image(f"deck.zip/talk#{number}").getpixel((5, 5)) for number in (1, 2, 3)]
    assert shades == [(20,) * 3, (40,) * 3, (200,) * 3]  # slides 1, 2 and 10
    assert ingest([library], corpus, workers=1, progress=False).unchanged == report.added
    write_zip(library / "deck.zip", [*slides[1:], ("papers/a.pdf", pdf)])
    changed = ingest([library], corpus, workers=1, progress=False)
    assert (changed.replaced, changed.unchanged) == (("deck.zip/talk",), ("deck.zip/papers/a.pdf",))
    assert not corpus.has_page("deck.zip/talk#3")


@pytest.mark.parametrize(
    "name", ["../out.png", "/etc/out.png", "a/../../out.png", "a\\..\\out.png", "./a.png", "a//b.png"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "a.zip", [(name, picture(tmp_path, 9)), ("good.png", picture(tmp_path, 9))])
    documents, failures = listed(path)
    assert documents == {"a.zip": ("good.png",)}
    assert ["leads out" in reason for reason in failures.values()] == [True]


def test_what_is_refused_in_a_zip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = write_zip(tmp_path / "inner.zip", [("a.png", picture(tmp_path, 1))]).read_bytes()
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(
            tmp_path / "a.zip", [("in.zip", inner), ("t/a.png", b"1"), ("t/a.png", b"2"), ("b.pdf", b"%PDF")]
        )
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("odd/c.png", b"x" * 100)
    documents, failures = listed(path)
    assert documents == {"a.zip/b.pdf": ("b.pdf",)}
    assert "not opened" in failures["a.zip/in.zip"]
    assert "have this name" in failures["a.zip/t/a.png"]
    assert "method 12" in failures["a.zip/odd"]


def test_encrypted_and_damaged_members(tmp_path: Path) -> None:
    noise = Image.effect_noise((60, 60), 90)
    noise.save(tmp_path / "n.png")
    content = (tmp_path / "n.png").read_bytes()
    path = write_zip(tmp_path / "a.zip", [("x/a.png", content), ("y/b.png", content), ("z/c.png", content)])
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("y/b.png").header_offset
    raw[offset + 400] ^= 0xFF  # inside the packed bytes: the checksum no longer fits
    flags = raw.find(b"PK\x01\x02") + 8  # of the first member, in the central directory
    raw[flags] |= 1
    path.write_bytes(raw)
    documents, failures = listed(path)
    assert documents == {"a.zip/z": ("z/c.png",)}
    assert "encrypted" in failures["a.zip/x"] and "corrupt" in failures["a.zip/y"]


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "a.zip", [("a.png", b"0" * 100_000), ("b/c.png", b"1")])
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 50_000)
    documents, failures = listed(path)
    assert documents == {"a.zip/b": ("b/c.png",)}
    assert "unpacks to 100000 bytes" in failures["a.zip"]
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 100_000)
    with pytest.raises(IngestError, match="too large: it unpacks to 100001 bytes, at most 100000"):
        listed(path)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(IngestError, match="2 members, at most 1"):
        listed(path)


def test_a_member_that_declares_less_than_it_holds(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("a.png", b"0" * 100_000)])
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<I", 100_000), struct.pack("<I", 10)))
    documents, failures = listed(path)
    assert documents == {} and "corrupt" in failures["a.zip"]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 and nothing", b"PK\x05\x06" + bytes(18)], ids=["none", "cut", "void"]
)
def test_no_zip_or_an_empty_one_is_named_and_the_rest_ingested(tmp_path: Path, content: bytes) -> None:
    library = tmp_path / "library"
    write_pdf(library / "good.pdf", ["good"])
    (library / "bad.zip").write_bytes(content)
    report = ingest([library], Corpus.create(tmp_path / "corpus"), workers=1, progress=False)
    assert report.added == ("good.pdf",)
    assert [name for name, _ in report.failures] == ["bad.zip"]


def test_a_broken_slide_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("t/1.png", picture(tmp_path, 1)), ("t/2.png", b"no picture")])
    report = ingest([path], Corpus.create(tmp_path / "corpus"), workers=1, progress=False)
    assert report.failures == (("a.zip/t", "t/2.png: corrupt: not a PNG, JPEG, WebP or TIFF image"),)


def test_a_member_that_is_gone(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("a.png", b"x")])
    with pytest.raises(IngestError, match="no longer in the zip file"):
        extract(path, "b.png", tmp_path / "out")
