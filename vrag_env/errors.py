"""The errors that a user of the package can cause, each with a message that names the thing and the remedy."""

from __future__ import annotations


class VRAGError(ValueError):
    """Base class: bad input from the user, never a bug of the package."""


class CorpusError(VRAGError):
    """A directory is not a corpus, a page is missing, or a corpus was written by another version."""


class IngestError(VRAGError):
    """One document could not be read: missing, empty, encrypted, corrupt or beyond a size limit."""


class QuestionError(VRAGError):
    """A questions file is missing, is not JSON, or has a missing or wrong field."""


class WorldError(VRAGError):
    """A dial of a generated world is unknown or out of its range, or a font that it needs is missing."""


class RetrieverError(VRAGError):
    """An unknown retriever, or one whose embeddings are not in the corpus."""


class RewardError(VRAGError):
    """An unknown reward term or preset, or weights that do not fit."""


class JudgeError(RewardError):
    """A judge that asks a model is set up wrongly, can not be reached, or gave no verdict."""


class ServerError(VRAGError):
    """A model behind a server is set up wrongly, can not be reached, or did not reply."""


class DemonstrationError(VRAGError):
    """A file or directory of demonstrations is missing, damaged, or of another kind than what is asked of it."""


class DependencyError(VRAGError, ImportError):
    """An optional package is missing; the message names the extra to install."""


def missing_extra(package: str, extra: str) -> DependencyError:
    """Build the error for a missing optional package.

    Args:
        package: Import name of the missing package.
        extra: The extra of ``vrag-gym`` that installs it.
    """
    return DependencyError(f'{package} is not installed: run pip install "vrag-gym[{extra}]"')
