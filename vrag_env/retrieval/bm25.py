r"""BM25 in memory: the scores of LanceDB's full-text index, without its cost per query.

.. math:: s(q, p) = \sum_{w \in q} \ln\Big(1 + \frac{N - n_w + 1/2}{n_w + 1/2}\Big)
          \frac{f_{wp} (k_1 + 1)}{f_{wp} + k_1 (1 - b + b\,l_p / \bar l)}

with :math:`f_{wp}` the times that word :math:`w` is on page :math:`p`, :math:`n_w` the pages that have it,
:math:`N` the pages that have any, :math:`l_p` the words of the page, and :math:`\bar l` their mean (Robertson and
Zaragoza 2009, with the idf of Lucene). A word that a query repeats counts each time. The words are those of
LanceDB's own tokenizer.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import numpy.typing as npt

from vrag_env.corpus.text import TOKENIZERS

K1 = 1.2
B = 0.75

_COMMON = 1 / 4  # share of the pages from which on a word keeps a score for every page: adding a row is quicker
_BLOCK = 20_000  # pieces of text cut into words at once
_COUNTED = 500_000  # pieces of text between two counts: bounds the memory while the index is made


def tokenize(text: str, column: str) -> list[str]:
    """Cut a text into the words under which the full-text index of a column keeps it.

    >>> tokenize("Charts of the regions", "search_text")
    ['chart', 'region']
    """
    from lancedb import tokenize as words_of

    return [token.text for token in words_of(text, **TOKENIZERS[column])]


@dataclass(frozen=True)
class _Postings:
    """The pages of every word of one column, word after word."""

    words: dict[str, int]
    starts: npt.NDArray[np.int64]  # (words + 1,)
    places: npt.NDArray[np.int32]  # (postings,), ascending within a word
    impacts: npt.NDArray[np.float32]  # (postings,), what the word adds to the page's score
    common: dict[int, npt.NDArray[np.float32]]  # (pages,) for each word that is on many pages

    @property
    def nbytes(self) -> int:
        rows = sum(row.nbytes for row in self.common.values())
        return self.starts.nbytes + self.places.nbytes + self.impacts.nbytes + rows

    def add(self, words: Iterable[str], scores: npt.NDArray[np.float64]) -> None:
        for word in words:
            number = self.words.get(word)
            if number is None:
                continue
            if number in self.common:
                scores += self.common[number]
            else:
                span = slice(self.starts[number], self.starts[number + 1])
                scores[self.places[span]] += self.impacts[span]  # a page is at most once in a word's span


class BM25Index:
    """Postings of all pages; immutable, about 8 bytes for every different word of a page.

    Args:
        pages: The place of every page, together a permutation of ``range(pages)``, and its searched columns
            (:data:`vrag_env.corpus.text.TOKENIZERS`).

    Example:
        >>> index = BM25Index([(0, {"search_text": "red cats", "search_words": "red cats"}),
        ...                    (1, {"search_text": "dogs", "search_words": "dogs"})])
        >>> places, scores = index.search({"search_text": "cat", "search_words": "cat"}, 5)
        >>> places.tolist()
        [0]
    """

    def __init__(self, pages: Iterable[tuple[int, Mapping[str, str]]]) -> None:
        columns = [_Column(name) for name in TOKENIZERS]
        places = []
        for place, page in pages:
            places.append(place)
            for column in columns:
                column.add(page[column.name])
        self._pages = len(places)
        self._postings = {column.name: column.postings(np.array(places, dtype=np.int64)) for column in columns}

    def __len__(self) -> int:
        """Number of pages."""
        return self._pages

    @property
    def nbytes(self) -> int:
        """Bytes of the postings, without the vocabulary."""
        return sum(postings.nbytes for postings in self._postings.values())

    def search(
        self, query: Mapping[str, str], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Find the best pages.

        Args:
            query: The text to look for in each column; the scores of the columns are added.
            k: Most pages.
            allowed: Which places may be found, ``(pages,)``; by default all. The statistics of BM25 are
                those of all pages.

        Returns:
            Places and scores, best first, ties by place. Pages without any of the words are left out.
        """
        sums = np.zeros(self._pages, dtype=np.float64)
        for column, text in query.items():
            self._postings[column].add(tokenize(text, column), sums)
        if allowed is not None:
            sums[~allowed] = 0
        # float32 before the order: what differs only by the order of a sum is a tie
        scores = sums.astype(np.float32)
        if k < len(scores):
            bar = np.partition(scores, len(scores) - k)[len(scores) - k]
            places = np.flatnonzero((scores >= bar) & (scores > 0))  # more than k where pages tie at the cut
        else:
            places = np.flatnonzero(scores)
        places = places[np.argsort(-scores[places], kind="stable")[:k]]
        return places, scores[places]


class _Column:
    """Collects the words of one column, page after page.

    No word crosses a space, so that a piece between spaces is cut into words once, however often it comes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pieces: dict[str, int] = {}
        self._words: dict[str, int] = {}
        self._words_of = [array("i"), array("i")]  # numbers of the words of all cut pieces; how many of each
        self._occurrences = array("i")  # numbers of pieces on the pages that are not counted yet
        self._sizes = array("i")  # pieces of each of those pages
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._counted: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]] = []

    def add(self, text: str) -> None:
        # At these spaces only: to the tokenizer, a no-break space is a word.
        pieces = text.replace("\r", " ").replace("\n", " ").split(" ")
        numbers = self._pieces
        self._occurrences.extend([numbers.setdefault(piece, len(numbers)) for piece in pieces])
        self._sizes.append(len(pieces))
        if len(self._occurrences) >= _COUNTED:
            self._count()

    def _count(self) -> None:
        """Reduce the pages at hand to words and how often each is on each page."""
        flat, sizes = self._words_of
        for tokens in _cut(list(islice(self._pieces, len(sizes), None)), self.name):
            flat.extend([self._words.setdefault(token, len(self._words)) for token in tokens])
            sizes.append(len(tokens))
        # From pieces to their words: piece i has the words flat[ends[i] - sizes[i] : ends[i]].
        pieces, of_piece = np.array(self._occurrences), np.array(sizes)
        counts = of_piece[pieces]  # words of every occurrence
        first = np.cumsum(of_piece)[pieces] - counts
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        words = np.array(flat)[np.repeat(first, counts) + inside].astype(np.int64)
        lengths = np.diff(np.concatenate([[0], np.cumsum(counts)])[np.cumsum(np.array(self._sizes))], prepend=0)
        # One number for each pair of word and page: sorting brings equal ones together.
        pairs, times = np.unique(words * len(lengths) + np.repeat(np.arange(len(lengths)), lengths), return_counts=True)
        numbers, pages = np.divmod(pairs, len(lengths))
        done = sum(map(len, self._lengths))
        self._counted.append((numbers.astype(np.int32), (pages + done).astype(np.int32), times.astype(np.int32)))
        self._lengths.append(lengths)
        self._occurrences, self._sizes = array("i"), array("i")

    def postings(self, places: npt.NDArray[np.int64]) -> _Postings:
        """Finish. ``places`` are those of the pages in the order in which they came."""
        if self._sizes:
            self._count()
        lengths = np.zeros(len(places), dtype=np.int64)
        if self._lengths:
            lengths[places] = np.concatenate(self._lengths)
        numbers, pages, times = (
            np.concatenate([part[i] for part in self._counted] or [np.zeros(0, np.int32)]) for i in range(3)
        )
        pages = places[pages].astype(np.int32)
        order = np.lexsort((pages, numbers))
        return _score(self._words, numbers[order], pages[order], times[order], lengths)


def _cut(pieces: Sequence[str], column: str) -> Iterator[list[str]]:
    """Cut many pieces of text into words, in few calls."""
    for start in range(0, len(pieces), _BLOCK):
        block = pieces[start : start + _BLOCK]
        for number in count():
            # A mark after every piece; one that is also a word of the pieces comes too often, and is changed.
            (mark,) = tokenize(f"qz{number}qz", column)
            tokens = tokenize("".join(f"{piece}\n{mark}\n" for piece in block), column)
            ends = [place for place, token in enumerate(tokens) if token == mark]
            if len(ends) == len(block):
                break
        low = 0
        for end in ends:
            yield tokens[low:end]
            low = end + 1


def _score(
    words: dict[str, int],
    numbers: npt.NDArray[np.int32],
    places: npt.NDArray[np.int32],
    times: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int64],
) -> _Postings:
    """Make the postings from how often (``times``) each word (``numbers``) is on each page, sorted by word."""
    pages = len(lengths)
    written = np.count_nonzero(lengths)  # LanceDB does not count pages without a word
    spread = np.bincount(numbers, minlength=len(words))  # pages that have the word
    idf = np.log1p((written - spread + 0.5) / (spread + 0.5))
    relative = lengths * (written / max(1, lengths.sum()))
    impacts = (idf[numbers] * times * (K1 + 1) / (times + K1 * (1 - B + B * relative[places]))).astype(np.float32)

    many = spread > _COMMON * pages
    ends = np.cumsum(spread)
    common = {}
    for number in np.flatnonzero(many).tolist():
        span = slice(ends[number] - spread[number], ends[number])
        common[number] = np.zeros(pages, dtype=np.float32)
        common[number][places[span]] = impacts[span]
    rare = ~many[numbers]
    starts = np.concatenate([[0], np.cumsum(np.where(many, 0, spread))])
    return _Postings(words, starts, places[rare], impacts[rare], common)
