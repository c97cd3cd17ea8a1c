"""Dense text retrieval: the text of pages encoded by any sentence-transformers model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vrag_env.corpus.text import clean_text
from vrag_env.errors import RetrieverError, missing_extra
from vrag_env.retrieval.encoder import Vectors, weights_revision
from vrag_env.retrieval.queries import clean_query

if TYPE_CHECKING:
    from vrag_env.corpus.store import Corpus

SENTENCE_ALIASES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "bge-small": "BAAI/bge-small-en-v1.5",
    "bge-m3": "BAAI/bge-m3",
}
"""Short names of published sentence-transformers models; ``bge-m3`` also reads Chinese."""

PASSAGE_TOKENS = 256
"""Longest passage by default, in tokens; shorter where the model reads less."""
OVERLAP_TOKENS = 32
"""Tokens that a passage shares with the one before it: about a sentence."""
MAX_PASSAGES = 64
"""Most passages of a page; text beyond, some 14,000 tokens, is no page that anyone reads."""
_TITLE_CHARS = 100


class SentenceEncoder:
    """A sentence-transformers model that encodes the text of pages, passage by passage.

    A text model reads a limited number of tokens, and one vector for a full page blurs what is on it. A page
    therefore becomes overlapping passages, each under the name of the page's file, each one vector of length
    1; a page's score is that of its best passage (MaxSim with a query of one vector). What has no text layer
    is found by the name of its file only: ingest scans with OCR.

    Prompts that the model defines for queries and documents are used.

    Args:
        model: A :class:`sentence_transformers.SentenceTransformer`.
        name: The name under which its embeddings are kept.
        revision: Which weights these are; by default a hash of the weights. The size of the passages is
            added, since embeddings of other passages are not the same embeddings.
        batch_size: Passages encoded at once.
        passage_tokens: Longest passage, with the tokens that the model adds and the file's name.
        overlap: Tokens that a passage shares with the one before it.

    Raises:
        RetrieverError: If the model's tokenizer can not say where in the text its tokens are, or passages of
            this size can not be made.

    Example:
        >>> encoder = SentenceEncoder.load("minilm")  # doctest: +SKIP
        >>> build_embeddings(corpus, encoder)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        revision: str | None = None,
        batch_size: int = 32,
        passage_tokens: int = PASSAGE_TOKENS,
        overlap: int = OVERLAP_TOKENS,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        from transformers import PreTrainedTokenizerFast

        self._model = model.eval()
        self._tokenizer = model.tokenizer
        if not isinstance(self._tokenizer, PreTrainedTokenizerFast):  # such as the processor of an image model
            raise RetrieverError(
                f"the tokenizer of {name!r} is a {type(self._tokenizer).__name__}, which does not give the places of "
                "its tokens: use a text model with a fast tokenizer (tokenizer.json)"
            )
        longest = min(passage_tokens, model.max_seq_length or passage_tokens)
        self._window = longest - self._tokenizer.num_special_tokens_to_add()
        self._overlap = overlap
        if not 0 <= overlap < self._window // 2:
            raise RetrieverError(
                f"passages of {longest} tokens with an overlap of {overlap} do not work for {name!r}: the overlap "
                f"must be at least 0 and under {self._window // 2}"
            )
        self._batch_size = batch_size
        self.name = name
        self.revision = f"{revision or weights_revision(model)}-{longest}-{overlap}"

    @classmethod
    def load(
        cls, name: str, *, revision: str | None = None, device: str | None = None, batch_size: int = 32
    ) -> SentenceEncoder:
        """Load a model from the hub or from a directory; code that comes with a model is not run.

        Args:
            name: A name of :data:`SENTENCE_ALIASES`, a hub name, or a directory.
            revision: Branch, tag or commit on the hub.
            device: Torch device; by default the best there is.
            batch_size: Passages encoded at once.

        Raises:
            RetrieverError: If it can not be loaded.
            DependencyError: If the extra ``dense`` is not installed.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "sentence_transformers", "dense") from error
        source = SENTENCE_ALIASES.get(name.lower(), name)
        try:
            model = SentenceTransformer(source, revision=revision, device=device)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise RetrieverError(f"could not load {source!r} as a sentence-transformers model: {error}") from error
        return cls(model, name=source, batch_size=batch_size)

    def encode_pages(self, corpus: Corpus, page_ids: Sequence[str]) -> list[Vectors]:
        """Encode the text of pages.

        Args:
            corpus: The corpus.
            page_ids: Its pages.

        Returns:
            One array ``(passages, dim)`` per page, float16, at least one passage and at most
            :data:`MAX_PASSAGES`.
        """
        if not page_ids:
            return []
        passages = [list(self.passages(page.doc_id, page.text)) for page in corpus.pages(page_ids)]
        vectors = self._model.encode_document(
            [passage for page in passages for passage in page],
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        ).astype(np.float16)
        return np.split(vectors, np.cumsum([len(page) for page in passages])[:-1])

    def encode_queries(self, queries: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Encode queries in one batch.

        Args:
            queries: Texts, none of them empty; what the model's window does not hold is cut.

        Returns:
            One array ``(1, dim)`` per query, float32.
        """
        if not queries:
            return []
        vectors = self._model.encode_query(
            [clean_query(query) for query in queries],
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return list(vectors.astype(np.float32)[:, None, :])

    def passages(self, doc_id: str, text: str) -> Iterator[str]:
        """Cut the text of a page into passages that the model reads whole.

        Args:
            doc_id: The page's document, whose file name stands before each passage.
            text: The text; may be empty.
        """
        title = clean_text(PurePosixPath(doc_id).stem)[:_TITLE_CHARS]
        text = clean_text(text)
        spans = self._tokens(text)
        # Half of the window is the text's own, however long the name is in tokens.
        room = max(self._window - len(self._tokens(f"{title}\n")), self._window // 2)
        for number in range(MAX_PASSAGES):
            low = number * (room - self._overlap)
            part = spans[low : low + room]
            yield f"{title}\n{text[part[0][0] : part[-1][1]]}" if part else title
            if low + room >= len(spans):
                return

    def _tokens(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of a text begin and end."""
        encoded = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        return [span for span in encoded["offset_mapping"] if span[0] < span[1]]
