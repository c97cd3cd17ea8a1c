"""Thousands of damaged files in one call: each one is ingested or named, and no process ends or hangs."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from random import Random

import pytest
from pdf_files import write_pdf
from PIL import Image

from vrag_env.corpus import Corpus, ingest


def seeds(directory: Path) -> list[tuple[str, bytes]]:
    """Small files of every kind, with their suffixes."""
    pdf = write_pdf(directory / "seed.pdf", ["hello docu-\nmentation", "two"]).read_bytes()
    plain = write_pdf(directory / "plain.pdf", ["one page (with) 'signs' 12,5 %"]).read_bytes()
    files = [("pdf", pdf), ("pdf", plain)]
    for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("TIFF", "tiff")):
        buffer = io.BytesIO()
        Image.effect_noise((40, 30), 60).save(buffer, kind)
        files.append((suffix, buffer.getvalue()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.pdf", plain)
        archive.writestr("deck/1.png", files[2][1])
        archive.writestr("deck/2.jpg", files[3][1])
    files.append(("zip", buffer.getvalue()))
    return files


def mutate(random: Random, content: bytes, other: bytes) -> bytes:
    """Flip bits, cut, splice in a piece of another file, or write large numbers over the head."""
    damaged = bytearray(content)
    kind = random.randrange(5)
    if kind == 0:
        for _ in range(random.randint(1, 20)):
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    elif kind == 1:
        del damaged[random.randrange(len(damaged)) :]
    elif kind == 2:
        start, length = random.randrange(len(other)), random.randint(1, 200)
        place = random.randrange(len(damaged))
        damaged[place : place + random.choice((0, length))] = other[start : start + length]
    elif kind == 3:
        for _ in range(random.randint(1, 3)):
            place = random.randrange(min(len(damaged), 80))
            lie = struct.pack(random.choice("<>") + "I", random.choice((0, 1, 0xFFFF, 100_000, 2**31, 2**32 - 1)))
            damaged[place : place + 4] = lie
    else:
        for _ in range(random.randint(1, 12)):
            place = random.randrange(len(damaged))
            damaged[place : place + random.randint(0, 9)] = random.randbytes(random.randint(0, 9))
    return bytes(damaged)


def fuzz(tmp_path: Path, count: int, seed: int) -> None:
    random = Random(seed)
    kinds = seeds(tmp_path)
    folder = tmp_path / "fuzz"
    folder.mkdir()
    names = set()
    for number in range(count):
        suffix, content = kinds[number % len(kinds)]
        name = f"{number:04}.{suffix}"
        (folder / name).write_bytes(mutate(random, content, random.choice(kinds)[1]))
        names.add(name)
    corpus = Corpus.create(tmp_path / "corpus")
    report = ingest([folder], corpus, workers=1, progress=False, long_side=64)
    told = {doc_id.split("/")[0] for doc_id in report.added}
    told |= {doc_id.split("/")[0] for doc_id, _ in report.failures}
    assert told == names  # of a zip file, at least one document or failure
    assert len(report.added) > count / 20 and len(report.failures) > count / 20
    assert not [reason for _, reason in report.failures if "reading process" in reason or "no progress" in reason]
    assert all(reason.strip() for _, reason in report.failures)
    assert set(Corpus.open(corpus.path).doc_ids()) == set(report.added)


def test_a_hundred_damaged_files(tmp_path: Path) -> None:
    fuzz(tmp_path, 105, 0)


@pytest.mark.slow
def test_thousands_of_damaged_files(tmp_path: Path) -> None:
    fuzz(tmp_path, 2100, 1)
