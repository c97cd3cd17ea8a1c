"""DemonstrationStore: a directory of demonstrations that survives being killed at any moment.

``episodes.jsonl`` is the journal: every episode that was played, rejected ones too, one line each, written as
soon as it has ended. ``demonstrations.parquet`` holds those to imitate, written whole at the end.
``images/`` holds each image once, named by the hash of its pixels. ``collect.json`` says how they were made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

from vrag_agent.demonstrations.record import Demonstration
from vrag_env.errors import DemonstrationError

JOURNAL = "episodes.jsonl"
PARQUET = "demonstrations.parquet"
SETTINGS = "collect.json"
IMAGES = "images"
_HEX = frozenset("0123456789abcdef")

_PART = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", pa.string())])
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(_PART))])
SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("expert", pa.string()),
        ("attempt", pa.int32()),
        ("system", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("box_frame", pa.string()),
        ("rewards", pa.list_(pa.float64())),
        ("reward_terms", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))),
        ("is_success", pa.bool_()),
        ("answered", pa.bool_()),
        ("searches", pa.int32()),
        ("crops", pa.int32()),
        ("invalid", pa.int32()),
        ("leak", pa.bool_()),
        ("rejected", pa.string()),
        ("requests", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
    ]
)


class DemonstrationStore:
    """The directory.

    Args:
        directory: Made if it does not exist.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    # ------------------------------------------------------------------ images

    def put_image(self, image: PILImage.Image) -> str:
        """Keep an image.

        Returns:
            Its hash, of size and pixels; equal images are kept once.
        """
        name = _hash(image)
        path = self.image_path(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{name}.{os.getpid()}.part")
            image.save(unfinished, format="PNG", compress_level=1)
            unfinished.replace(path)
        return name

    def image(self, name: str) -> PILImage.Image:
        """Read an image.

        Raises:
            DemonstrationError: If it is missing, or is not the one that was kept.
        """
        path = self.image_path(name)
        try:
            with PILImage.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError, PILImage.DecompressionBombError) as error:
            raise DemonstrationError(f"the image {path} is missing or damaged ({error}): collect it again") from error
        if _hash(image) != name:
            raise DemonstrationError(f"the image {path} is not the one that was kept: collect it again")
        return image

    def image_path(self, name: str) -> Path:
        """Say where an image is."""
        if len(name) != 64 or not set(name) <= _HEX:  # it becomes a part of a path
            raise DemonstrationError(f"{name[:80]!r} is not the hash of an image")
        return self.directory / IMAGES / name[:2] / f"{name}.png"

    # ------------------------------------------------------------------ the journal

    def append(self, demonstration: Demonstration) -> None:
        """Write an episode to the journal; once this returns it survives a kill."""
        self.directory.mkdir(parents=True, exist_ok=True)
        line = json.dumps(demonstration.to_record(), ensure_ascii=True) + "\n"
        with (self.directory / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def journal(self) -> list[Demonstration]:
        """Read the journal; a last line that a kill has cut off is removed from the file.

        Raises:
            DemonstrationError: If another line is damaged.
        """
        path = self.directory / JOURNAL
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
        found = []
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                found.append(Demonstration.from_record(json.loads(line)))
            except ValueError as error:
                raise DemonstrationError(f"{path}, line {number}: {error}") from error
        return found

    # ------------------------------------------------------------------ what is to be imitated

    def write(self, demonstrations: Sequence[Demonstration]) -> Path:
        """Write the demonstrations to imitate, whole or not at all.

        Returns:
            The file.
        """
        rows = [demonstration.to_record() for demonstration in demonstrations]
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / PARQUET
        unfinished = path.with_name(path.name + ".part")
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), unfinished, compression="zstd")
        unfinished.replace(path)
        return path

    def read(self) -> list[Demonstration]:
        """Read the demonstrations to imitate.

        Raises:
            DemonstrationError: If there are none, or the file is something else.
        """
        path = self.directory / PARQUET
        if not path.is_file():
            raise DemonstrationError(f"{self.directory} holds no {PARQUET}: make one with vrag collect")
        try:
            rows = pq.read_table(path).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise DemonstrationError(f"{path} can not be read ({error}): run vrag collect again") from error
        return [Demonstration.from_record(row) for row in rows]

    # ------------------------------------------------------------------ how they were made

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep how demonstrations are made, or compare it with what the directory says already.

        Raises:
            DemonstrationError: If the directory was begun with other settings.
        """
        path = self.directory / SETTINGS
        wanted = json.loads(json.dumps(dict(settings)))
        if path.exists():
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DemonstrationError(f"{path} is damaged: choose another directory") from error
            other = sorted(key for key in {*known, *wanted} if known.get(key) != wanted.get(key))
            if other:
                was = ", ".join(f"{key} {known.get(key)!r} (now {wanted.get(key)!r})" for key in other)
                raise DemonstrationError(
                    f"{self.directory} was begun with {was}: go on with the same, or choose another directory"
                )
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)


def total_usage(demonstrations: Iterable[Demonstration]) -> tuple[int, int, int]:
    """Requests, tokens read and tokens written of all of them."""
    requests = read = written = 0
    for demonstration in demonstrations:
        requests += demonstration.requests
        read += demonstration.prompt_tokens
        written += demonstration.completion_tokens
    return requests, read, written


def _hash(image: PILImage.Image) -> str:
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()
