"""Controlled retrieval: what a search finds, made worse by known amounts.

How well an agent withstands a bad search engine can only be measured if it is known how bad the engine was.
:class:`Noise` says what is done to a ranking; an environment applies it with ``gym.make("VRAG-v0",
noise={"drop_gold": 0.2, "distractors": 2})``, and :class:`NoisyRetriever` puts it around any retriever.

Every draw depends on a key (the episode, or the seed) and the query alone, never on the batch or on how many
searches came before: the same search asked again gets the same pages, and one in other words a new chance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from vrag_env.corpus.store import Corpus
from vrag_env.errors import RetrieverError
from vrag_env.questions import Question
from vrag_env.retrieval.base import Hit, Retriever

SHUFFLED = 10
"""How many of the best pages change places with each other when a ranking is shuffled."""


@dataclass(frozen=True)
class Noise:
    """What is done to a ranking, in this order: empty it, drop gold pages, shuffle, put distractors first.

    Attributes:
        drop_gold: Probability, for each gold page and query, that the search does not find that page.
        distractors: Number of pages that stand before all others.
        hardest: Take as distractors the best-ranked pages that are not gold, of any document, instead of
            random pages of other documents than the gold pages'. Random ones are drawn once for an episode,
            so that an agent which keeps searching gets past them.
        shuffle: Let the best ten pages change places.
        empty: Probability, for each query, that nothing is found.
        delay: Seconds that a call takes longer. Many queries of one call wait together.
    """

    drop_gold: float = 0.0
    distractors: int = 0
    hardest: bool = False
    shuffle: bool = False
    empty: float = 0.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("drop_gold", "empty"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 1:
                raise RetrieverError(f"noise: {name} is a probability between 0 and 1, got {value!r}")
        if isinstance(self.distractors, bool) or not isinstance(self.distractors, int) or self.distractors < 0:
            raise RetrieverError(f"noise: distractors is a whole number of pages, got {self.distractors!r}")
        for name in ("hardest", "shuffle"):
            if not isinstance(getattr(self, name), bool):
                raise RetrieverError(f"noise: {name} is true or false, got {getattr(self, name)!r}")
        if not _is_number(self.delay) or not 0 <= self.delay <= 3600:
            raise RetrieverError(f"noise: delay is a number of seconds between 0 and 3600, got {self.delay!r}")
        if self.hardest and not self.distractors:
            raise RetrieverError("noise: hardest chooses the distractors: say how many with distractors=")

    def depth(self, k: int, gold: int) -> int:
        """How many hits the retriever must be asked for, so that ``k`` are left.

        Args:
            k: Hits wanted.
            gold: Number of gold pages.
        """
        more = gold if self.drop_gold else 0
        more += self.distractors + gold if self.hardest else 0
        return max(k + more, SHUFFLED if self.shuffle else 0)

    def apply(
        self,
        hits: Sequence[Hit],
        k: int,
        *,
        query: str,
        key: str,
        gold: Collection[str],
        corpus: Corpus,
        where: Collection[str] | None = None,
    ) -> list[Hit]:
        """Return the ranking that the agent gets.

        Args:
            hits: What the retriever found, best first, :meth:`depth` of them.
            k: Most hits to return.
            query: The query.
            key: What the draws depend on beside the query; random distractors depend on it alone.
            gold: Ids of the pages that carry the answer.
            corpus: Where random distractors come from.
            where: Documents that are searched. With it random distractors are other pages of these.

        Returns:
            At most ``k`` hits, best first; scores still fall from first to last.
        """
        rng = random.Random(f"{key}/{query}")
        if rng.random() < self.empty:
            return []
        # Sorted, and one draw per gold page: what happens to a page does not depend on how the rest ranked.
        dropped = {page_id for page_id in sorted(set(gold)) if rng.random() < self.drop_gold}
        ranked = [hit for hit in hits if hit.page_id not in dropped]
        if self.shuffle:
            ranked = _with_scores_of(ranked, rng.sample(ranked[:SHUFFLED], len(ranked[:SHUFFLED])) + ranked[SHUFFLED:])
        if not self.distractors:
            return ranked[:k]
        if self.hardest:
            first = [hit.page_id for hit in ranked if hit.page_id not in set(gold)][: self.distractors]
        else:
            first = _random_pages(corpus, random.Random(key), self.distractors, gold, where)
        top = ranked[0].score if ranked else 0.0
        put = [Hit(page_id, top + len(first) - place) for place, page_id in enumerate(first)]
        return (put + [hit for hit in ranked if hit.page_id not in set(first)])[:k]


def make_noise(spec: Noise | Mapping[str, Any] | None) -> Noise | None:
    """Build a noise from its options.

    Args:
        spec: Options by name, a finished :class:`Noise`, or ``None`` for none.

    Raises:
        RetrieverError: If an option is unknown or does not fit.
    """
    if spec is None or isinstance(spec, Noise):
        return spec
    known = [field.name for field in fields(Noise)]
    if not isinstance(spec, Mapping):
        raise RetrieverError(f"noise is a mapping of {', '.join(known)}; got {type(spec).__name__}")
    unknown = sorted(set(map(str, spec)) - set(known))
    if unknown:
        raise RetrieverError(f"noise: unknown options {unknown}; known are {', '.join(known)}")
    return Noise(**spec)


class NoisyRetriever:
    """A retriever whose rankings are made worse by known amounts.

    Outside an environment: to measure how retrieval metrics fall, or as ``retriever=`` of an environment whose
    agent is to meet the same faults in every episode. ``noise=`` of the environment draws anew for each episode
    and knows its gold pages; this class knows them only by the query.

    Args:
        retriever: What ranks.
        corpus: Its pages.
        gold: From a query to the gold pages; see :func:`gold_of`. Without it no page counts as gold.
        seed: Of all draws.
        **options: Those of :class:`Noise`.

    Raises:
        RetrieverError: If an option is unknown or does not fit.

    Example:
        >>> noisy = NoisyRetriever(clean, corpus, gold=gold_of(questions), drop_gold=0.2)  # doctest: +SKIP
    """

    def __init__(
        self,
        retriever: Retriever,
        corpus: Corpus,
        *,
        gold: Callable[[str], Collection[str]] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        noise = make_noise(options)
        assert noise is not None
        self.noise = noise
        self._retriever = retriever
        self._corpus = corpus
        self._gold = gold
        self._seed = seed

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        """Rank pages for a batch of queries; see :meth:`vrag_env.retrieval.base.Retriever.search`."""
        gold = [self._gold(query) if self._gold is not None else () for query in queries]
        depth = self.noise.depth(k, max(map(len, gold), default=0))
        time.sleep(self.noise.delay)
        found = self._retriever.search(queries, depth, where)
        return [
            self.noise.apply(
                hits[: self.noise.depth(k, len(pages))],
                k,
                query=query,
                key=f"{self._seed}/{query}",
                gold=pages,
                corpus=self._corpus,
                where=where,
            )
            for query, hits, pages in zip(queries, found, gold, strict=True)
        ]


def gold_of(questions: Iterable[Question]) -> Callable[[str], Collection[str]]:
    """Return the function from a query to gold pages that knows the texts and oracle queries of questions.

    Other queries have no gold pages. Questions with the same text have those of all of them.
    """
    pages: dict[str, tuple[str, ...]] = {}
    for question in questions:
        for text in {question.text, question.oracle_query} - {""}:
            pages[text] = tuple(dict.fromkeys((*pages.get(text, ()), *question.gold_pages)))
    return lambda query: pages.get(query, ())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _with_scores_of(ranked: Sequence[Hit], order: Sequence[Hit]) -> list[Hit]:
    """Deal the scores of a ranking to its pages in another order."""
    return [Hit(page.page_id, place.score) for page, place in zip(order, ranked, strict=True)]


def _random_pages(
    corpus: Corpus, rng: random.Random, count: int, gold: Collection[str], where: Collection[str] | None
) -> list[str]:
    documents = corpus.page_documents()
    taken = set(gold)
    if where is None:
        near = {documents[page_id] for page_id in taken if page_id in documents}
        pages = [page_id for page_id, document in documents.items() if document not in near]
    else:
        wanted = set(where)
        pages = [page_id for page_id, doc in documents.items() if doc in wanted and page_id not in taken]
    return rng.sample(pages, min(count, len(pages)))
