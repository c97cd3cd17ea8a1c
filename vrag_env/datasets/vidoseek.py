"""ViDoSeek: 1,142 questions over slide decks, annotated in the common JSON, with the decks as PDFs.

Wang et al., "ViDoRAG", arXiv:2502.18017. The hub's repository ``autumncc/ViDoSeek`` has ``vidoseek.json``, and
the PDFs in ``vidoseek_pdf_document.zip``; beside them lie the refined questions and the PDFs of SlideVQA.
"""

from __future__ import annotations

from pathlib import Path

from vrag_env.datasets.common import is_common, read_common
from vrag_env.datasets.files import Library, read_json
from vrag_env.datasets.records import Source
from vrag_env.errors import IngestError

_NAMES = ("vidoseek", "slidebench")  # the second is what VRAG-RL's scripts call it


def read_vidoseek(directory: Path, questions: Path | None = None) -> Source:
    """Read ViDoSeek.

    Args:
        directory: The download, archives unpacked.
        questions: The annotation file, where it is not the only one that could be meant.

    Raises:
        IngestError: If there is no annotation file, or more than one.
    """
    library = Library(directory)
    return read_common(questions or find_common(library, _NAMES), library, prefer="vidoseek")


def find_common(library: Library, names: tuple[str, ...]) -> Path:
    """Find the one annotation file in the common JSON.

    Args:
        library: Where to look.
        names: Words in the name of the right file; where no file has one, any file in this form will do.

    Raises:
        IngestError: If there is none, or more than one.
    """
    files = [path for path in library.annotations if path.suffix.lower() == ".json"]
    named = [path for path in files if any(name in path.name.lower() for name in names)]
    found = [path for path in named or files if is_common(read_json(path))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise IngestError(
            f"no annotations in {library.directory}: expected a JSON file with 'examples' and {names[0]!r} in its "
            "name; give it with --questions"
        )
    raise IngestError(f"several files of annotations: {', '.join(map(str, found[:5]))}; choose one with --questions")
