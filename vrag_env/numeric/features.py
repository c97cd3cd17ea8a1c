"""Features: what the numeric face shows of a question and of a view, worked out once for each pair."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from vrag_env.actions import MAX_ANSWER_CHARS, MAX_QUERY_CHARS, Crop
from vrag_env.corpus import Corpus
from vrag_env.corpus.records import Box, Word
from vrag_env.numeric.cache import LRU
from vrag_env.numeric.candidates import CandidateProvider, TextCandidates
from vrag_env.numeric.embedder import Embedder, Vectors, make_embedder, projection, unit_rows
from vrag_env.questions import NOT_ANSWERABLE, Question
from vrag_env.rewards.judges import SUCCESS_THRESHOLD, JudgeItem, RuleJudge
from vrag_env.views import BadBox, View, compose, crop_view, relative_to, to_frame

CANVAS = 84
"""Side of the canvas in pixels, as the convolutions of Stable-Baselines3 expect it."""
_KEPT_PAGES, _KEPT_VIEWS, _KEPT_CANVASES, _KEPT_VERDICTS = 64, 2_048, 256, 16_384
_CHUNK = 12  # words of a view that are embedded together


@dataclass(frozen=True)
class Sizes:
    """How many of each there are.

    Attributes:
        queries: Candidate queries.
        grid: The view is divided into ``grid * grid`` cells.
        answers: Candidate answers, "Not answerable" included.
        embedding: Length of the embeddings that are observed.
    """

    queries: int = 6
    grid: int = 3
    answers: int = 12
    embedding: int = 64

    def __post_init__(self) -> None:
        for name, least in (("queries", 1), ("grid", 1), ("answers", 2), ("embedding", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class ViewFeatures:
    """A question and a view; arrays are shared and must not be written to.

    Attributes:
        queries: Candidate queries, at most ``Sizes.queries``.
        answers: Candidate answers, "Not answerable" first, at most ``Sizes.answers``.
        zooms: The crop of every cell; ``None`` where it would be too small.
        zoom: Which cell of its parent the view is, from 1; 0 for a page, and before the first.
        arrays: The observation's arrays that depend on nothing else, by name.
        oracle: Whether one of the answers is right, by the rules.
    """

    queries: tuple[str, ...]
    answers: tuple[str, ...]
    zooms: tuple[Crop | None, ...]
    zoom: int
    arrays: dict[str, npt.NDArray[np.float32]]
    oracle: bool


class Featurizer:
    """Works out features and keeps those used last.

    Args:
        corpus: The pages.
        embedder: Makes vectors of texts.
        provider: Offers queries and answers.
        sizes: How many of each.
        frame: Frame of the boxes, see :class:`vrag_env.episode.EpisodeConfig`.
        min_word_pixels: A word can be read if it is shown at least so high, in pixels of the view.
    """

    def __init__(
        self,
        corpus: Corpus,
        embedder: Embedder,
        provider: CandidateProvider,
        sizes: Sizes,
        frame: str = "pixel",
        min_word_pixels: float = 5.0,
    ) -> None:
        self.corpus = corpus
        self.sizes = sizes
        self._embedder, self._provider = embedder, provider
        self._frame, self._min_word_pixels = frame, min_word_pixels
        self._projection = projection(embedder.dimensions, sizes.embedding)
        self._judge = RuleJudge()  # never a model: it is asked about every candidate of every view
        self._pages: LRU[tuple[tuple[Word, ...], npt.NDArray[np.float64]]] = LRU(_KEPT_PAGES)
        self._verdicts: LRU[float] = LRU(_KEPT_VERDICTS)
        self._views: LRU[ViewFeatures] = LRU(_KEPT_VIEWS)
        self._canvases: LRU[npt.NDArray[np.uint8]] = LRU(_KEPT_CANVASES)
        self._blank = np.zeros((3, CANVAS, CANVAS), np.uint8)

    def of(self, question: Question, view: View | None, parent: View | None) -> ViewFeatures:
        """Return the features of a question and a view.

        Args:
            question: The question.
            view: The view; ``None`` before the first.
            parent: The view that it was cut from, if it is a crop.
        """
        key = (question, *((view.page_id, view.box, view.size, parent and parent.box) if view else ()))
        return self._views.get(key, lambda: self._make(question, view, parent))

    def canvas(self, view: View | None) -> npt.NDArray[np.uint8]:
        """Return a view as ``uint8 (3, 84, 84)``, squeezed to a square; black before the first. Shared: copy it."""
        if view is None:
            return self._blank
        return self._canvases.get((view.page_id, view.box), lambda: self._draw(view))

    def readable(self, view: View) -> list[Word]:
        """Return the words that can be read in a view: their middle is inside, and they are shown large enough."""
        words, boxes = self._pages.get(view.page_id, lambda: self._read(view.page_id))
        x0, y0, x1, y1 = view.box
        across, down = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        shown = (boxes[:, 3] - boxes[:, 1]) / (y1 - y0) * view.size[1]
        inside = (across >= x0) & (across <= x1) & (down >= y0) & (down <= y1) & (shown >= self._min_word_pixels)
        return [words[place] for place in np.flatnonzero(inside).tolist()]

    def zooms(self, view: View | None) -> tuple[Crop | None, ...]:
        """Return the crop of every cell of a view, row by row, as an agent writes it."""
        if view is None:
            return (None,) * self.sizes.grid**2
        page_size = self.corpus.page_size(view.page_id)
        crops: list[Crop | None] = []
        for cell in range(self.sizes.grid**2):
            written = to_frame(view, compose(view.box, _cell_box(cell, self.sizes.grid)), self._frame)
            try:
                crop_view(view, written, self._frame, page_size)
            except BadBox:
                crops.append(None)
            else:
                crops.append(Crop(written))
        return tuple(crops)

    def _read(self, page_id: str) -> tuple[tuple[Word, ...], npt.NDArray[np.float64]]:
        words = self.corpus.page(page_id).words
        return words, np.array([word.box for word in words], np.float64).reshape(-1, 4)

    def _draw(self, view: View) -> npt.NDArray[np.uint8]:
        page = self.corpus.image(view.page_id)
        x0, y0, x1, y1 = view.box
        source = (x0 * page.width, y0 * page.height, x1 * page.width, y1 * page.height)
        small = page.resize((CANVAS, CANVAS), PILImage.Resampling.BILINEAR, box=source, reducing_gap=2.0)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))

    def _make(self, question: Question, view: View | None, parent: View | None) -> ViewFeatures:
        words = [] if view is None else self.readable(view)
        sizes = self.sizes
        wanted = (plain(text, MAX_QUERY_CHARS) for text in self._provider.queries(question.text, words, sizes.queries))
        queries = tuple(dict.fromkeys(text for text in wanted if text))[: sizes.queries]
        answers = {NOT_ANSWERABLE: question.text}
        if view is not None:
            for candidate in self._provider.answers(question.text, words, sizes.answers - 1):
                text = plain(candidate.text, MAX_ANSWER_CHARS)
                if text and len(answers) < sizes.answers:
                    answers.setdefault(text, candidate.context)
        asked = self._embedder.embed([question.text])[0]
        query_vectors = self._embedder.embed(queries)
        answer_vectors = self._embedder.embed(list(answers))
        fits = self._embedder.embed(list(answers.values())) @ asked
        fits[0] = 0.0  # nothing on the page speaks for or against "Not answerable"
        page_vector, page_score, cell_scores = self._relate(asked, view, words)
        arrays = {
            "question": self._shorten(asked[None])[0],
            "page": self._shorten(page_vector[None])[0],
            "queries": _padded(self._shorten(query_vectors), sizes.queries).ravel(),
            "candidates": _padded(self._shorten(answer_vectors), sizes.answers).ravel(),
            "query_sim": _padded(query_vectors @ asked, sizes.queries),
            "page_sim": np.array([page_score], np.float32),
            "cell_sim": cell_scores,
            "cand_sim": _padded(fits, sizes.answers),
        }
        return ViewFeatures(
            queries=queries,
            answers=tuple(answers),
            zooms=self.zooms(view),
            zoom=0 if view is None or parent is None else 1 + _cell_of(parent.box, view.box, sizes.grid),
            arrays={name: np.clip(array, -1, 1).astype(np.float32) for name, array in arrays.items()},
            oracle=any(self._is_right(question, text) for text in answers),
        )

    def _is_right(self, question: Question, text: str) -> bool:
        """Tell whether an answer is right by the rules; the same answers come back in view after view."""
        score = self._verdicts.get((question, text), lambda: self._judge.judge([JudgeItem.of(question, text)])[0])
        return score >= SUCCESS_THRESHOLD

    def _relate(self, asked: Vectors, view: View | None, words: list[Word]) -> tuple[Vectors, float, Vectors]:
        """Return the vector of a view, its best stretch's cosine with the question, and the same for every cell."""
        cells = np.zeros(self.sizes.grid**2, np.float32)
        if view is None or not words:
            return np.zeros_like(asked), 0.0, cells
        inside: dict[int, list[str]] = {}
        for word in words:
            inside.setdefault(_cell_of(view.box, word.box, self.sizes.grid), []).append(word.text)
        places, stretches = [], []
        for cell, texts in sorted(inside.items()):
            for start in range(0, len(texts), _CHUNK):
                places.append(cell)
                stretches.append(" ".join(texts[start : start + _CHUNK]))
        vectors = self._embedder.embed(stretches)
        np.maximum.at(cells, places, vectors @ asked)
        return unit_rows(vectors.sum(axis=0)[None])[0], float(cells.max()), cells

    def _shorten(self, vectors: Vectors) -> Vectors:
        return vectors if self._projection is None else unit_rows(vectors @ self._projection)


_SHARED: WeakValueDictionary[tuple[object, ...], Featurizer] = WeakValueDictionary()


def shared_featurizer(
    corpus: Corpus,
    embedder: str | Embedder,
    provider: CandidateProvider | None,
    sizes: Sizes,
    frame: str,
    min_word_pixels: float,
) -> Featurizer:
    """Return the featurizer of all environments of this process with these arguments, so that they share its memory.

    Args:
        corpus: A pinned corpus.
        embedder: See :func:`vrag_env.numeric.embedder.make_embedder`; one that is passed as an object is not shared.
        provider: ``None`` for :class:`vrag_env.numeric.candidates.TextCandidates`; others are not shared.
        sizes: See :class:`Featurizer`, as for the other arguments.
        frame: Frame of the boxes.
        min_word_pixels: Least height of a word that can be read.
    """
    if provider is not None or not isinstance(embedder, str):
        offered = provider if provider is not None else TextCandidates()
        return Featurizer(corpus, make_embedder(embedder), offered, sizes, frame, min_word_pixels)
    key = (corpus.path, corpus.version, corpus.fingerprint, embedder, sizes, frame, min_word_pixels)
    found = _SHARED.get(key)
    if found is None:
        found = Featurizer(corpus, make_embedder(embedder), TextCandidates(), sizes, frame, min_word_pixels)
        _SHARED[key] = found
    return found


def plain(text: str, limit: int) -> str:
    """Make untrusted text fit for the grammar: printable, on one line, without angle brackets, not too long."""
    return " ".join("".join(c if c.isprintable() and c not in "<>" else " " for c in text).split())[:limit].strip()


def _cell_box(cell: int, grid: int) -> Box:
    row, column = divmod(cell, grid)
    return (column / grid, row / grid, (column + 1) / grid, (row + 1) / grid)


def _cell_of(outer: Box, box: Box, grid: int) -> int:
    """Return the cell of a box in which the middle of another one lies."""
    x0, y0, x1, y1 = relative_to(outer, box)
    column, row = (min(max(int((a + b) / 2 * grid), 0), grid - 1) for a, b in ((x0, x1), (y0, y1)))
    return row * grid + column


def _padded(values: npt.NDArray[np.float32], length: int) -> npt.NDArray[np.float32]:
    """Fill up with zeros at the end of the first axis."""
    out = np.zeros((length, *values.shape[1:]), np.float32)
    out[: len(values)] = values
    return out
