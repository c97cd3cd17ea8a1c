from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vrag_env.corpus.images import RawPage, encode_page, flatten, read_image
from vrag_env.errors import IngestError


def read(path: Path, long_side: int = 500) -> list[RawPage]:
    count, pages = read_image(path, long_side)
    read_pages = list(pages)
    assert len(read_pages) == count
    return read_pages


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises a picture that is not there."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (300, 200), (10, 200, 30)).save(path)
    (page,) = read(path)
    assert page.image.mode == "RGB" and page.image.size == (300, 200)
    assert page.text == "" and page.words == ()
    assert np.asarray(page.image)[100, 150].tolist() == pytest.approx([10, 200, 30], abs=4)


def test_large_is_reduced_and_small_is_kept(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000)).save(tmp_path / "large.png")
    Image.new("RGB", (40, 20)).save(tmp_path / "small.png")
    assert read(tmp_path / "large.png")[0].image.size == (500, 250)
    assert read(tmp_path / "small.png")[0].image.size == (40, 20)


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), "white")
    image.paste((255, 0, 0), (0, 0, 20, 20))  # red on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the left side comes to the top
    image.save(tmp_path / "a.png", exif=exif)
    (page,) = read(tmp_path / "a.png")
    assert page.image.size == (20, 60)
    assert page.image.getpixel((10, 5)) == (255, 0, 0)
    assert page.image.getpixel((10, 55)) == (255, 255, 255)


def test_transparent_becomes_white_and_deep_grey_keeps_its_shades() -> None:
    assert flatten(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.full((2, 2), 32896, dtype=np.uint16))
    assert flatten(deep).getpixel((0, 0)) == (128, 128, 128)


def test_tiff_has_a_page_per_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (50, 50), shade) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    assert [int(np.asarray(page.image)[5, 5, 0]) for page in read(tmp_path / "a.tiff")] == [0, 100, 200]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png_header(100_000, 100_000), "too large"),
        (png_header(12_000, 9_000), "12000 by 9000 pixels"),
        (png_header(5000, 10), "too thin"),
        (b"GIF89a nothing", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
    ],
    ids=["bomb", "large", "thin", "other format", "signature only"],
)
def test_refused_from_the_header(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(IngestError, match=reason):
        read_image(tmp_path / "a.png", 500)


def test_truncated(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(buffer, "JPEG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[:2000])
    with pytest.raises(IngestError, match="corrupt"):
        read(tmp_path / "a.jpg")


def test_encoded_pages_are_near_the_original() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = (255, 0, 0)  # one-pixel red lines: subsampled colour would smear them
    stored = np.asarray(Image.open(io.BytesIO(encode_page(Image.fromarray(stripes)))).convert("RGB"))
    assert np.abs(stored.astype(int) - stripes).mean() < 12
