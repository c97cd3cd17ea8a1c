"""From a name to a retriever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vrag_env.corpus.store import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval.base import Retriever
from vrag_env.retrieval.encoder import ALIASES, LateInteractionEncoder, family_of
from vrag_env.retrieval.late_interaction import (
    LateInteractionRetriever,
    embedding_tables,
    no_embeddings,
)
from vrag_env.retrieval.lexical import LexicalRetriever

RETRIEVERS: dict[str, Callable[[Corpus], Retriever]] = {"lexical": LexicalRetriever}
"""Retrievers that need nothing but the corpus, by name."""


def make_retriever(spec: str | Retriever, corpus: Corpus) -> Retriever:
    """Build a retriever.

    Args:
        spec: A name of :data:`RETRIEVERS`; the name of a late-interaction model (an alias such as
            ``"colqwen2.5"``, a hub name such as ``"vidore/colqwen2.5-v0.2"``, or a directory); or a
            retriever, which is returned as it is.
        corpus: The pages to search.

    Raises:
        RetrieverError: If the name is unknown, or the corpus has no embeddings by that model.
        DependencyError: If a model is named and the extra ``colvision`` is not installed.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Retriever):
            return spec
        raise RetrieverError(f"expected a retriever's name or an object with a search method, got {spec!r}")
    if spec in RETRIEVERS:
        return RETRIEVERS[spec](corpus)
    name = ALIASES.get(spec.lower(), spec)
    if "/" not in name and family_of(name) is None and not (name and Path(name).is_dir()):
        known = ", ".join([*RETRIEVERS, *ALIASES])
        raise RetrieverError(
            f"unknown retriever {spec!r}: known are {known}, or the hub name of a late-interaction model"
        )
    if not embedding_tables(corpus, name):  # before gigabytes of weights are loaded for nothing
        raise no_embeddings(corpus, name)
    return LateInteractionRetriever(corpus, LateInteractionEncoder.load(name))
