"""The files of a download: what lies where, found by name and never by cutting names at a dot."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vrag_env.corpus.images import IMAGE_SUFFIXES
from vrag_env.datasets.records import DeckDocument, Document, PdfDocument
from vrag_env.errors import IngestError

_PAGE_IMAGE = re.compile(r"(.+)_([0-9]{1,6})")
MAX_JSON_BYTES = 2**31
"""Largest annotation file that is read as a whole."""


class Library:
    """The tree of a download, walked once.

    Args:
        directory: Its root. Hidden files and directories are passed over; links to directories are not
            followed.

    Raises:
        IngestError: If the directory is missing or can not be read.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise IngestError(f"no directory {directory}: give the one with the download, or fetch it with --download")
        self.directory = directory
        self.annotations: list[Path] = []
        self.archives: list[Path] = []
        self._pdfs: dict[str, list[Path]] = {}
        self._folders: dict[str, list[Path]] = {}
        self._images: dict[Path, dict[str, Path]] = {}
        self._pages: dict[str, dict[int, list[Path]]] = {}
        for path in _walk(directory):
            self._sort_in(path)

    def _sort_in(self, path: Path) -> None:
        name = Path(local_name(path.name))
        suffix = name.suffix.lower()
        if suffix == ".pdf":
            self._pdfs.setdefault(plain_name(path.name), []).append(path)
        elif suffix in IMAGE_SUFFIXES:
            if path.parent not in self._images:
                self._folders.setdefault(plain_name(path.parent.name), []).append(path.parent)
            self._images.setdefault(path.parent, {})[plain_name(name.name)] = path
            numbered = _PAGE_IMAGE.fullmatch(plain_name(name.stem))
            if numbered:
                pages = self._pages.setdefault(numbered[1], {})
                pages.setdefault(int(numbered[2]), []).append(path)
        elif suffix in (".json", ".jsonl", ".parquet"):
            self.annotations.append(path)
        elif suffix in (".zip", ".tar", ".gz", ".tgz"):
            self.archives.append(path)

    def find(self, name: str, prefer: str = "") -> Document | str:
        """Find a document by the name that a label gives it.

        It is a PDF of that name (``.pdf`` may be missing in the label), or page images ``NAME_1.jpg``,
        ``NAME_2.jpg``, ..., numbered from 1, as VRAG-RL's script writes them.

        Args:
            name: The name; of a path only the last part counts.
            prefer: Word in the path of the right file inside the download, where several have the name.

        Returns:
            The document, or why there is none.
        """
        last = plain_name(name.replace("\\", "/").rpartition("/")[2])
        for candidate in (last, f"{last}.pdf"):
            if candidate in self._pdfs:
                found = _one_of(self._pdfs[candidate], prefer, self.directory)
                return PdfDocument(found) if isinstance(found, Path) else found
        stem = last[:-4] if last.lower().endswith(".pdf") else last
        if stem not in self._pages:
            return "no PDF and no page images of this name"
        pages: list[tuple[int, Path]] = []
        for number, files in sorted(self._pages[stem].items()):
            image = _one_of(files, prefer, self.directory)
            if not isinstance(image, Path):
                return image
            pages.append((number, image))
        if pages[0][0] < 1:
            return f"page images are numbered from {pages[0][0]}, expected from 1"
        missing = set(range(1, pages[-1][0])) - {number for number, _ in pages}
        return DeckDocument(tuple(pages), tuple(sorted(missing)))

    def find_deck(self, name: str, files: list[str], prefer: str = "") -> Document | str:
        """Find a folder of page images by its name, and the pages in it by the names of their files.

        Args:
            name: Name of the folder.
            files: Names of the images in the order of the pages.
            prefer: Word in the path of the right folder, where several have the name.

        Returns:
            The document, or why there is none.
        """
        folders = self._folders.get(plain_name(name), [])
        if not folders:
            return "no folder of images of this name"
        folder = _one_of(folders, prefer, self.directory, same=False)
        if not isinstance(folder, Path):
            return folder
        images = self._images[folder]
        pages = [(number, images.get(plain_name(local_name(file)))) for number, file in enumerate(files, start=1)]
        there = tuple((number, path) for number, path in pages if path is not None)
        if not there:
            return "none of its images is in the folder of this name"
        return DeckDocument(there, tuple(number for number, path in pages if path is None))


def plain_name(name: str) -> str:
    """Bring a name to one form of Unicode: some systems store an accent as a character of its own."""
    return unicodedata.normalize("NFC", name)


def local_name(address: str) -> str:
    """Return the file name in a URL, or in the name that a download script made of one.

    >>> local_name("https://host/95/slug-1-1024.jpg?cb=1312893449")
    'slug-1-1024.jpg'
    """
    return address.partition("?")[0].rpartition("/")[2]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        IngestError: If it can not be read, is too large or is not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise IngestError(f"{path} is larger than {MAX_JSON_BYTES} bytes: this is no file of annotations")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise IngestError(f"{path} can not be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise IngestError(f"{path} is not JSON ({error}): download it again") from error


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield ``(place, value)`` of every line of a JSON Lines file; the error itself where a line is broken.

    Raises:
        IngestError: If the file can not be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    try:
                        value = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        value = error
                    yield f"{path.name}, line {number}", value
    except OSError as error:
        raise IngestError(f"{path} can not be read: {error.strerror}") from error


def _walk(directory: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise IngestError(f"{error.filename} can not be read: {error.strerror}") from error

    for folder, folders, names in os.walk(directory, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _one_of(paths: list[Path], prefer: str, directory: Path, same: bool = True) -> Path | str:
    """Choose among files of the same name, or say that it can not be done.

    Only the part of a path inside the download counts, which itself may well be called ``ViDoSeek``.
    """
    if len(paths) == 1:
        return paths[0]
    better = [path for path in paths if prefer and prefer in path.relative_to(directory).as_posix().lower()]
    if len(better) == 1:
        return better[0]
    if same and all(path.read_bytes() == paths[0].read_bytes() for path in paths[1:]):
        return paths[0]
    return f"{len(paths)} have this name: {', '.join(str(path) for path in paths[:3])}"
