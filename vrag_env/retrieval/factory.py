"""From a name to a retriever, and to the encoder behind it: the registry."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from vrag_env.corpus.store import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.retrieval.base import Retriever
from vrag_env.retrieval.encoder import ALIASES, Encoder, LateInteractionEncoder, family_of
from vrag_env.retrieval.hybrid import HybridRetriever
from vrag_env.retrieval.late_interaction import (
    ENCODER_KEY,
    LateInteractionRetriever,
    embedding_tables,
    no_embeddings,
)
from vrag_env.retrieval.lexical import LexicalRetriever
from vrag_env.retrieval.remote import RemoteRetriever
from vrag_env.retrieval.sentence import SENTENCE_ALIASES, SentenceEncoder

RETRIEVERS: dict[str, Callable[[Corpus], Retriever]] = {"lexical": LexicalRetriever}
"""Retrievers that need nothing but the corpus, by name; :func:`register_retriever` adds to them."""

HYBRID = "hybrid"


def register_retriever(name: str, factory: Callable[[Corpus], Retriever]) -> None:
    """Give a retriever a name, for ``gym.make(…, retriever=name)`` and as a part of a hybrid.

    Args:
        name: Letters, digits, ``-``, ``_`` and ``.``; not the name of another retriever or model.
        factory: Called with the corpus; its class, if the corpus is all it needs.

    Raises:
        RetrieverError: If the name is taken, or has other characters.

    Example:
        >>> register_retriever("my_retriever", MyRetriever)  # doctest: +SKIP
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise RetrieverError(f"{name!r} can not name a retriever: use letters, digits, '-', '_' and '.'")
    if name in _known() and RETRIEVERS.get(name) is not factory:
        raise RetrieverError(f"{name!r} is the name of another retriever: choose one that is not in {_known()}")
    RETRIEVERS[name] = factory


def make_retriever(spec: str | Retriever, corpus: Corpus) -> Retriever:
    """Build a retriever.

    Args:
        spec: One of

            - ``"lexical"``, or another name of :data:`RETRIEVERS`;
            - a model by which the corpus has embeddings: an alias such as ``"colqwen2.5"`` or ``"minilm"``, a
              hub name such as ``"vidore/colqwen2.5-v0.2"``, or a directory; of colpali-engine (page images)
              or of sentence-transformers (text);
            - ``"hybrid"``: lexical and the one model by which the corpus has embeddings, with equal weights;
              ``"hybrid:colqwen2.5"`` names the model; ``"hybrid:lexical+colqwen2.5*0.7+minilm*0.5"`` names
              every part and, where it is not 1, its weight (for a directory with a ``+`` or ``*`` in its name,
              make a :class:`~vrag_env.retrieval.hybrid.HybridRetriever` and pass that);
            - ``"http://…"`` or ``"https://…"``: the address of a ``vrag serve`` for the same corpus;
            - a retriever, which is returned as it is.
        corpus: The pages to search.

    Raises:
        RetrieverError: If the name is unknown, the corpus has no embeddings by that model, or the server can
            not be reached or serves another corpus.
        DependencyError: If the extra that a model or a server needs is not installed.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Retriever):
            return spec
        raise RetrieverError(f"expected a retriever's name or an object with a search method, got {spec!r}")
    if spec in RETRIEVERS:
        return RETRIEVERS[spec](corpus)
    if spec == HYBRID or spec.startswith(f"{HYBRID}:"):
        return _make_hybrid(spec, corpus)
    if spec.startswith(("http://", "https://")):
        return RemoteRetriever(spec, fingerprint=corpus.fingerprint)
    name = _source(spec)
    if not _is_hub_name(name) and family_of(name) is None and not (name and Path(name).is_dir()):
        raise _unknown(spec)
    if not embedding_tables(corpus, name):  # before gigabytes of weights are loaded for nothing
        raise no_embeddings(corpus, name)
    return LateInteractionRetriever(corpus, load_encoder(name))


def load_encoder(name: str, *, revision: str | None = None, device: str | None = None) -> Encoder:
    """Load a model that encodes pages and queries.

    Args:
        name: An alias (:data:`~vrag_env.retrieval.encoder.ALIASES`,
            :data:`~vrag_env.retrieval.sentence.SENTENCE_ALIASES`), a hub name, or a directory. One with a
            ``modules.json`` is a sentence-transformers model, which reads text; others are models of
            colpali-engine, which see images.
        revision: Branch, tag or commit on the hub.
        device: Torch device; by default a GPU if there is one.

    Raises:
        RetrieverError: If it is neither kind of model, or can not be loaded.
        DependencyError: If the extra ``colvision`` or ``dense`` that it needs is not installed.
    """
    source = _source(name)
    if not _is_hub_name(source) and not Path(source).is_dir():
        raise _unknown_encoder(name)
    kind: type[SentenceEncoder] | type[LateInteractionEncoder]
    kind = SentenceEncoder if _is_sentence_model(source, revision) else LateInteractionEncoder
    return kind.load(source, revision=revision, device=device)


def _is_hub_name(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _source(name: str) -> str:
    return (ALIASES | SENTENCE_ALIASES).get(name.lower(), name)


def _is_sentence_model(source: str, revision: str | None) -> bool:
    if Path(source).is_dir():
        return (Path(source) / "modules.json").is_file()
    if source.startswith("sentence-transformers/") or source in SENTENCE_ALIASES.values():
        return True
    if family_of(source) is not None or find_spec("sentence_transformers") is None:
        return False
    from sentence_transformers.util import is_sentence_transformer_model  # asks the hub

    return bool(is_sentence_transformer_model(source, revision=revision))


def _make_hybrid(spec: str, corpus: Corpus) -> HybridRetriever:
    parts = spec.removeprefix(HYBRID).removeprefix(":")
    if not parts:
        if spec != HYBRID:
            raise RetrieverError(f"{spec!r} names no retriever: write 'hybrid', 'hybrid:NAME' or 'hybrid:A+B*0.5'")
        parts = _only_encoder(corpus)
    names, weights = [], []
    for part in parts.split("+"):
        name, star, weight = part.strip().partition("*")
        if name.partition(":")[0] == HYBRID:
            raise RetrieverError(f"{spec!r}: a hybrid is no part of a hybrid: name its parts instead")
        names.append(name.strip())
        weights.append(_weight(weight, spec) if star else 1.0)
    if len(names) == 1 and names[0] != "lexical":
        names.insert(0, "lexical")
        weights.insert(0, 1.0)
    if len({_source(name) for name in names}) < max(2, len(names)):
        raise RetrieverError(f"{spec!r}: a hybrid needs two different retrievers: write 'hybrid:A+B*0.5'")
    return HybridRetriever([make_retriever(name, corpus) for name in names], weights)


def _weight(text: str, spec: str) -> float:
    if not re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*", text, re.ASCII) or float(text) == 0:
        raise RetrieverError(
            f"{spec!r}: {text!r} is no weight: write a number above 0, as in 'hybrid:lexical+minilm*0.5'"
        )
    return float(text)


def _only_encoder(corpus: Corpus) -> str:
    """Name of the one encoder by which a corpus has embeddings."""
    names = embedded_with(corpus)
    if not names:
        raise RetrieverError(
            f"'hybrid' fuses lexical with a model, and {corpus.path} has no embeddings by any: run vrag index PATH... "
            f"--corpus {corpus.path} --encoder NAME, with NAME such as 'minilm' (text) or 'colqwen2.5' (page images)"
        )
    if len(names) > 1:
        raise RetrieverError(
            f"{corpus.path} has embeddings by several models: write which one 'hybrid' is to use: "
            + " or ".join(f"'hybrid:{name}'" for name in names)
        )
    return names[0]


def embedded_with(corpus: Corpus) -> list[str]:
    """Names of the encoders by which a corpus has embeddings, sorted."""
    tables = [corpus.database.open_table(table) for table in embedding_tables(corpus)]
    return sorted({table.schema.metadata[ENCODER_KEY].decode() for table in tables})


def _known() -> list[str]:
    return [*RETRIEVERS, HYBRID, *ALIASES, *SENTENCE_ALIASES]


def _guess(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.strip().lower(), known, n=2)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""


def _unknown_encoder(name: str) -> RetrieverError:
    known = [*ALIASES, *SENTENCE_ALIASES]
    return RetrieverError(
        f"unknown encoder {name!r}: {_guess(name, known)}known are {', '.join(ALIASES)} (page images) and "
        f"{', '.join(SENTENCE_ALIASES)} (text), or give the hub name (OWNER/NAME) or directory of a model of "
        "colpali-engine or sentence-transformers"
    )


def _unknown(spec: str) -> RetrieverError:
    return RetrieverError(
        f"unknown retriever {spec!r}: {_guess(spec, _known())}known are {', '.join(_known())}, the hub name or "
        "directory of a model of colpali-engine or sentence-transformers, or the http:// address of a 'vrag serve'"
    )
