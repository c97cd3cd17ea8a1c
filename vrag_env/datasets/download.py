"""Fetch a benchmark from its hub, after its licence was shown and accepted."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vrag_env.corpus.images import IMAGE_SUFFIXES
from vrag_env.errors import IngestError, missing_extra

_SUFFIXES = (".pdf", ".json", ".jsonl", *IMAGE_SUFFIXES)
_BLOCK = 2**20


@dataclass(frozen=True)
class HubSource:
    """Where a benchmark is published.

    Attributes:
        repository: Name of the data set on the Hugging Face hub.
        patterns: The files that are needed.
        licence: What its makers allow.
    """

    repository: str
    patterns: tuple[str, ...]
    licence: str

    @property
    def address(self) -> str:
        """The page of the data set."""
        return f"https://huggingface.co/datasets/{self.repository}"


_NTT = (
    "SlideVQA: NTT's software license agreement for evaluation. Internal testing and evaluation only; no "
    "distribution, no modification. The slides belong to their authors."
)

SOURCES = {
    "slidevqa": HubSource(
        "NTT-hil-insight/SlideVQA",
        ("*.parquet",),
        f"{_NTT} The hub asks you to accept the agreement there first. About 11 GB.",
    ),
    "slidevqa-vrag": HubSource(
        "autumncc/ViDoSeek",
        ("*slidevqa*.json", "slidevqa_pdf_document.zip"),
        f"{_NTT} The refined questions come from ViDoRAG: see the page of the data set for their licence.",
    ),
    "vidoseek": HubSource(
        "autumncc/ViDoSeek",
        ("*vidoseek*.json", "vidoseek_pdf_document.zip"),
        "ViDoSeek: no licence is known to this project; the page of the data set says what is allowed.",
    ),
    "mmlongbench": HubSource(
        "yubo2333/MMLongBench-Doc",
        ("data/*.parquet", "documents/*.pdf"),
        "MMLongBench-Doc: CC BY-NC 4.0, for research; no commercial use. The documents belong to their authors. "
        "About 0.7 GB.",
    ),
}
"""Where each benchmark is; SlideVQA's subset ``vrag`` is published apart from it."""


def download_dataset(
    dataset: str,
    directory: str | Path,
    *,
    subset: str | None = None,
    confirm: Callable[[str], bool],
) -> Path:
    """Fetch a benchmark and unpack it. A download that was cut off goes on where it ended.

    Args:
        dataset: ``slidevqa``, ``vidoseek`` or ``mmlongbench``.
        directory: Where to; made if it does not exist.
        subset: As for :func:`vrag_env.datasets.importer.import_dataset`.
        confirm: Gets the licence, and says whether the user accepts it.

    Returns:
        The directory.

    Raises:
        DependencyError: If huggingface_hub is not installed.
        IngestError: If the licence is not accepted, or the files can not be fetched or unpacked.
        ValueError: If the data set is unknown.
    """
    if dataset not in SOURCES:
        raise ValueError(f"unknown data set {dataset!r}: choose one of {', '.join(SOURCES)}")
    source = SOURCES.get(f"{dataset}-{subset}", SOURCES[dataset])
    try:
        import huggingface_hub
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
    except ModuleNotFoundError as error:
        raise missing_extra("huggingface_hub", "agent") from error
    if not confirm(f"{source.licence}\n{source.address}"):
        raise IngestError(f"nothing was fetched: the licence of {dataset} was not accepted")
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    try:
        huggingface_hub.snapshot_download(
            repo_id=source.repository, repo_type="dataset", allow_patterns=list(source.patterns), local_dir=target
        )
    except GatedRepoError as error:
        raise IngestError(
            f"{source.address} asks its users to accept its terms: do so there, make a token, and log in with "
            "'hf auth login'"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise IngestError(
            f"{source.address} could not be fetched ({error}): check the network and try again"
        ) from error
    for archive in sorted(target.glob("*.zip")):
        unpack(archive, target / archive.stem)
    if not any(path.suffix.lower() in (".parquet", ".json") for path in target.rglob("*")):
        raise IngestError(
            f"{source.address} has none of the files that were expected ({', '.join(source.patterns)}): "
            "fetch it by hand, and import it with --from"
        )
    return target


def unpack(archive: Path, directory: Path) -> int:
    """Unpack the documents and annotations of a zip file; other members are passed over.

    A member that is there already with the right size is kept.

    Args:
        archive: The zip file.
        directory: Where to; made if it does not exist.

    Returns:
        Number of files of the archive that are there now.

    Raises:
        IngestError: If the file is no zip file, a member's name leads out of the directory, or the disk has no
            room for what it declares.
    """
    count = 0
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not m.is_dir() and m.filename.lower().endswith(_SUFFIXES)]
            directory.mkdir(parents=True, exist_ok=True)
            needed, free = sum(member.file_size for member in members), shutil.disk_usage(directory).free
            if needed > free:
                raise IngestError(f"{archive} unpacks to {needed} bytes, and there are {free} free: make room first")
            for member in members:
                parts = PurePosixPath(member.filename).parts
                if {"..", "/"} & set(parts) or "\\" in member.filename or ":" in member.filename:
                    raise IngestError(f"{archive} holds {member.filename!a}, which leads out of it: do not use it")
                target = directory.joinpath(*parts)
                if not target.exists() or target.stat().st_size != member.file_size:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _extract(opened, member, target)
                count += 1
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise IngestError(f"{archive} can not be unpacked ({error}): delete it and fetch it again") from error
    except OSError as error:
        raise IngestError(f"{archive} can not be unpacked: {error.strerror or error}") from error
    return count


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one member, whole or not at all, and no more than it declares."""
    temporary = target.with_name(f".{target.name}.part")
    written = 0
    with opened.open(member) as source, temporary.open("wb") as sink:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > member.file_size:
                raise IngestError(f"{member.filename} unpacks to more than it declares: do not use this file")
            sink.write(block)
    temporary.replace(target)
