"""Zipped decks: which documents a zip file holds, and taking one member out of it.

The rule: a PDF in the zip is a document, named by the zip and its path inside it; the images of one folder
of the zip are together one document, a deck, its pages in natural order of their names (``2.png`` before
``10.png``), named by the zip and the folder, or by the zip alone where they lie at its top.

A zip file comes from a stranger. Names in it are never used as paths; what it may hold is limited by what it
declares, and again by what comes out of it; a zip inside of a zip is not opened.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vrag_env.corpus.images import IMAGE_SUFFIXES
from vrag_env.errors import IngestError

ARCHIVE_SUFFIX = ".zip"
MAX_MEMBERS = 10_000
"""A zip file with more members is refused."""
MAX_MEMBER_BYTES = 2 * 2**30
"""Largest unpacked size of one member."""
MAX_TOTAL_BYTES = 16 * 2**30
"""Largest unpacked size of all members together."""
MAX_RATIO = 200
"""A member that grows by more when it is unpacked is refused, once it is over :data:`RATIO_FREE_BYTES`."""
RATIO_FREE_BYTES = 16 * 2**20
"""Members up to this unpacked size may shrink as they like: a white page in a TIFF file does."""

_BLOCK = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1  # bit of a member's flags
# What zipfile lets out on a damaged file, seen by feeding it mutated ones.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class ArchivedDocument:
    """One document in a zip file.

    Attributes:
        doc_id: Its id in the corpus.
        members: Names of its members: one PDF, or the images of its pages in order.
        digest: SHA-256 of their contents.
        bytes: Their unpacked size.
    """

    doc_id: str
    members: tuple[str, ...]
    digest: str
    bytes: int


def list_documents(
    path: Path, archive_id: str, alive: Callable[[], None]
) -> tuple[list[ArchivedDocument], list[tuple[str, str]]]:
    """Find the documents in a zip file, and hash them.

    Hidden members, those of ``__MACOSX``, and other kinds of files are passed over.

    Args:
        path: The zip file.
        archive_id: What the ids of its documents start with.
        alive: Called after each member and each block of one, to show progress.

    Returns:
        The documents, and ``(name, reason)`` of what is left out.

    Raises:
        IngestError: If the file is no zip file, has more than :data:`MAX_MEMBERS` members or unpacks to more
            than :data:`MAX_TOTAL_BYTES`, or holds no document.
    """
    with _open(path) as archive:
        members, failures = _sort_out(archive, archive_id)
        documents = []
        for doc_id, infos in members.items():
            digest, size = hashlib.sha256(), 0
            try:
                for info in infos:
                    digest.update(f"{len(infos)} {info.file_size}\n".encode())
                    for block in _blocks(archive, info):
                        digest.update(block)
                        size += len(block)
                        alive()
            except IngestError as error:
                failures.append((doc_id, str(error)))
                continue
            names = tuple(info.filename for info in infos)
            documents.append(ArchivedDocument(doc_id, names, digest.hexdigest(), size))
    if not documents and not failures:
        raise IngestError("no PDF or image in this zip file")
    return documents, failures


def extract(path: Path, member: str, target: Path) -> None:
    """Unpack one member of a zip file.

    Args:
        path: The zip file.
        member: Name of the member in it.
        target: The file to write.

    Raises:
        IngestError: If the member is missing, encrypted, corrupt or too large.
    """
    with _open(path) as archive, open(target, "wb") as unpacked:
        try:
            info = archive.getinfo(member)
        except KeyError as error:
            raise IngestError(f"{member!r} is no longer in the zip file: it changed while it was read") from error
        for block in _blocks(archive, info):
            unpacked.write(block)


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key under which numbers in a name count as numbers.

    >>> sorted(["slide 10.png", "slide 2.png", "Slide 1.png"], key=natural_key)
    ['Slide 1.png', 'slide 2.png', 'slide 10.png']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    # a number as its length and its digits: names may have thousands of them, more than int() takes
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    return (*zip(parts[::2], [(len(number), number) for number in numbers] + [(0, "")], strict=True), name)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise IngestError("corrupt: not a zip file that can be read") from error
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        archive.close()
        raise IngestError(f"too long: {len(infos)} members, at most {MAX_MEMBERS} are taken; split the file")
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL_BYTES:
        archive.close()
        raise IngestError(f"too large: it unpacks to {total} bytes, at most {MAX_TOTAL_BYTES} are taken")
    return archive


def _sort_out(
    archive: zipfile.ZipFile, archive_id: str
) -> tuple[dict[str, list[zipfile.ZipInfo]], list[tuple[str, str]]]:
    """Group the members into documents by the rule of the module."""
    documents: dict[str, list[zipfile.ZipInfo]] = {}
    decks: dict[str, list[zipfile.ZipInfo]] = {}
    failures: list[tuple[str, str]] = []
    copies = Counter(info.filename for info in archive.infolist())
    for info in archive.infolist():
        name = info.filename
        suffix = Path(name).suffix.lower()
        if info.is_dir() or suffix not in (".pdf", ARCHIVE_SUFFIX, *IMAGE_SUFFIXES):
            continue
        parts = name.split("/")
        reason = _refusal(info, parts)
        if reason is None and copies[name] > 1:
            reason = "two members of the zip file have this name"
        if reason is not None:
            shown = name if name.isprintable() else ascii(name)[1:-1]
            failures.append((f"{archive_id}/{shown}", reason))
        elif any(part.startswith(".") for part in parts) or parts[0] == "__MACOSX":
            continue
        elif suffix == ".pdf":
            documents[f"{archive_id}/{name}"] = [info]
        else:
            decks.setdefault("/".join([archive_id, *parts[:-1]]), []).append(info)
    for doc_id, infos in decks.items():
        if doc_id in documents:
            failures.append((doc_id, "a folder of images and a PDF of this zip file have the same name"))
        else:
            documents[doc_id] = sorted(infos, key=lambda info: natural_key(info.filename))
    return documents, sorted(set(failures))


def _refusal(info: zipfile.ZipInfo, parts: list[str]) -> str | None:
    if {"", ".", ".."} & set(parts) or "\\" in info.filename:
        return "its name leads out of the zip file, or is no plain path"
    if any(0xD800 <= ord(char) <= 0xDFFF or ord(char) < 32 for char in info.filename):
        return "the name is not valid text"
    if parts[-1].lower().endswith(ARCHIVE_SUFFIX):
        return "a zip file inside of a zip file is not opened: unpack it first"
    return None


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpack a member block by block."""
    name = info.filename
    if info.flag_bits & _ENCRYPTED:
        raise IngestError(f"{name}: encrypted: save a copy without the password")
    if info.compress_type not in _METHODS:
        raise IngestError(f"{name}: packed by method {info.compress_type}: only stored and deflated are read")
    most = MAX_MEMBER_BYTES
    if info.file_size > RATIO_FREE_BYTES:
        most = min(most, MAX_RATIO * info.compress_size)
    if info.file_size > most:
        raise IngestError(f"{name}: too large: it unpacks to {info.file_size} bytes, at most {most} are taken")
    size = 0
    try:
        with archive.open(info) as member:
            while block := member.read(_BLOCK):
                size += len(block)
                if size > info.file_size:  # it declares less than there is
                    raise IngestError(f"{name}: corrupt: it unpacks to more than it declares")
                yield block
    except IngestError:
        raise
    except _BROKEN as error:
        raise IngestError(f"{name}: corrupt: {error}") from error
    if size != info.file_size:
        raise IngestError(f"{name}: corrupt: it unpacks to {size} bytes and declares {info.file_size}")
