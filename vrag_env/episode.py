"""Episode: the rules of one question, with no Gymnasium in it. Every face of the environment stands on it.

A turn goes through :meth:`Episode.begin` (parse), :meth:`Episode.execute` (act) and :meth:`Episode.settle`
(reward). Between them a search waits for its hits and an answer for its judge, so that many episodes can
share one retrieval call and one call of the judge (:func:`step_many`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from PIL import Image as PILImage

from vrag_env.actions import Action, Answer, Crop, Invalid, ParsedTurn, Search, describe, parse
from vrag_env.blocks import Block, Image, Text
from vrag_env.corpus import Box, Corpus
from vrag_env.pictures import Pixels, draw, draw_all, pixels
from vrag_env.questions import Question
from vrag_env.retrieval import Hit, Retriever
from vrag_env.retrieval.noisy import Noise
from vrag_env.rewards import Reward, Scored
from vrag_env.views import FULL_PAGE, BadBox, PixelBudget, View, crop_view

__all__ = ["Block", "Episode", "EpisodeConfig", "EpisodeState", "Image", "StepResult", "Text", "Turn", "step_many"]

BOX_FRAMES = ("pixel", "1000")


@dataclass(frozen=True)
class StepResult:
    """What one step gives back.

    Attributes:
        blocks: What the policy sees next, in order.
        reward: Reward of this step.
        terminated: The policy has answered.
        truncated: The turns are used up without an answer.
        info: See :class:`vrag_env.env.VRAGEnv`, section Information.
    """

    blocks: tuple[Block, ...]
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """What happened in one turn; kept for scoring and replay.

    Attributes:
        text: What the agent wrote, as it wrote it.
        thought: Its thought.
        action: Its action as parsed and checked; :class:`~vrag_env.actions.Invalid` if it was not executed.
        hits: What the retriever returned, best first (searches only).
        views: Views that the turn showed.
        message: Text that the turn gave back.
        reward: Reward of the step.
        reward_terms: The terms of the reward after this turn.
    """

    text: str
    thought: str
    action: Action
    hits: tuple[Hit, ...] = ()
    views: tuple[View, ...] = ()
    message: str = ""
    reward: float = 0.0
    reward_terms: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class EpisodeConfig:
    """The rules that can be chosen.

    Attributes:
        max_turns: Turns in which every action is allowed. An episode without an answer then gets one last
            turn in which only an answer counts. VRAG-RL: 4.
        pages_per_search: Pages shown per search. VRAG-RL: 1.
        pixels: Budget of each shown image.
        episode_pixels: Most pixels shown over the whole episode; ``None`` for no limit.
        box_frame: ``"pixel"``: boxes are in pixels of the image seen last; ``"1000"``: from 0 to 1000 on both
            axes of it, as Qwen3-VL writes them.
        noise: What is done to the pages that a search finds, before the agent sees them; ``None`` for nothing.
    """

    max_turns: int = 4
    pages_per_search: int = 1
    pixels: PixelBudget = field(default_factory=PixelBudget)
    episode_pixels: int | None = None
    box_frame: str = "pixel"
    noise: Noise | None = None

    def __post_init__(self) -> None:
        if self.max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, got {self.max_turns}")
        if self.pages_per_search < 1:
            raise ValueError(f"pages_per_search must be at least 1, got {self.pages_per_search}")
        if self.box_frame not in BOX_FRAMES:
            raise ValueError(f"box_frame must be one of {BOX_FRAMES}, got {self.box_frame!r}")
        if self.episode_pixels is not None and self.episode_pixels < self.pixels.min_pixels:
            raise ValueError(
                f"episode_pixels must allow one image of {self.pixels.min_pixels} pixels, got {self.episode_pixels}"
            )


@dataclass(frozen=True)
class EpisodeState:
    """Everything that changes in an episode; immutable, so that it can be kept and restored at will.

    Attributes:
        turns: The turns so far.
        views: The views shown so far, by ``view_id - 1``.
        terminated: See :class:`StepResult`.
        truncated: See :class:`StepResult`.
        potential: Value of the shaping potential after the last turn.
        is_success: Whether the episode has ended with an answer that was judged right.
        noise_seed: What the noise of this episode is drawn from.
    """

    turns: tuple[Turn, ...] = ()
    views: tuple[View, ...] = ()
    terminated: bool = False
    truncated: bool = False
    potential: float = 0.0
    is_success: bool = False
    noise_seed: int = 0


class Episode:
    """One question, from the first look to the answer.

    Args:
        question: What is asked.
        corpus: Where the pages are.
        retriever: What a search asks.
        reward: How the episode is scored.
        config: The rules.

    Example:
        >>> episode = Episode(question, corpus, retriever, Reward.preset("paper"))  # doctest: +SKIP
        >>> result = episode.step_text("<think>…</think><search>revenue</search>")  # doctest: +SKIP
    """

    def __init__(
        self,
        question: Question,
        corpus: Corpus,
        retriever: Retriever,
        reward: Reward,
        config: EpisodeConfig | None = None,
    ) -> None:
        self.question = question
        self.corpus = corpus
        self.retriever = retriever
        self.reward = reward
        self.config = config if config is not None else EpisodeConfig()
        self.state = EpisodeState()
        self._pending: ParsedTurn | None = None
        self._pending_text = ""

    # ------------------------------------------------------------------ what can be asked of an episode

    @property
    def instructions(self) -> str:
        """The task and the grammar, in words for a chat policy."""
        return describe(self.config.box_frame)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns so far."""
        return self.state.turns

    @property
    def views(self) -> tuple[View, ...]:
        """The views shown so far."""
        return self.state.views

    @property
    def view(self) -> View | None:
        """The view that the policy saw last, in whose frame it writes its next box."""
        return self.state.views[-1] if self.state.views else None

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self.state.terminated or self.state.truncated

    @property
    def is_success(self) -> bool:
        """Whether the episode has ended with an answer that was judged right."""
        return self.state.is_success

    @property
    def last_turn(self) -> bool:
        """Whether the next turn is the extra one, in which only an answer counts."""
        return len(self.state.turns) >= self.config.max_turns

    @property
    def answer(self) -> str | None:
        """The answer given, or ``None``."""
        last = self.state.turns[-1].action if self.state.turns else None
        return last.text if isinstance(last, Answer) and self.state.terminated else None

    @property
    def pages_shown(self) -> tuple[str, ...]:
        """Ids of the distinct pages in the order in which they were shown."""
        return tuple(dict.fromkeys(view.page_id for view in self.state.views))

    @property
    def evidence_recall(self) -> float | None:
        """Share of the question's gold pages that were shown; ``None`` if it has none."""
        gold = set(self.question.gold_pages)
        return len(gold.intersection(self.pages_shown)) / len(gold) if gold else None

    @property
    def pixels_spent(self) -> int:
        """Pixels of all images shown so far."""
        return sum(view.size[0] * view.size[1] for view in self.state.views)

    @property
    def state_key(self) -> str:
        """A short key of the state: question, set of pages shown, current view (box to 1/100), last turn."""
        view = self.view
        here = [view.page_id, *(round(value, 2) for value in view.box)] if view else []
        record = [self.question.question_id, sorted(self.pages_shown), here, self.last_turn, self.done]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]

    def image(self, view: View) -> PILImage.Image:
        """Draw a view; see :func:`vrag_env.pictures.draw`."""
        return draw(self.corpus, view)

    def pixels(self, view: View) -> Pixels:
        """Draw a view for :class:`Image`; may be called from several threads."""
        return pixels(self.corpus, view)

    # ------------------------------------------------------------------ the course of an episode

    def start(self, noise_seed: int = 0) -> StepResult:
        """Begin (again) and return the question.

        Args:
            noise_seed: Seed of the noise, if the rules have one.

        Returns:
            One text block with the question; reward 0.
        """
        self.state = EpisodeState(noise_seed=noise_seed)
        self._pending = None
        return self._result((Text(f"Question: {self.question.text}"),))

    def step_text(self, action: str) -> StepResult:
        """Take one turn.

        Args:
            action: What the agent wrote. Nothing it writes raises an error.

        Raises:
            RuntimeError: If the episode has ended.
        """
        return step_many([self], [action])[0]

    def begin(self, text: str) -> Search | None:
        """Read a turn; the first part of a step.

        Returns:
            The search whose hits :meth:`execute` needs, or ``None`` if no retrieval is needed.
        """
        if self.done:
            raise RuntimeError("the episode has ended: call start() or reset() before the next step")
        parsed = parse(text)
        if self.last_turn and isinstance(parsed.action, Search | Crop):
            parsed = replace(parsed, action=Invalid("this was the last turn: only an answer was possible"))
        self._pending = parsed
        self._pending_text = text if isinstance(text, str) else repr(text)
        return parsed.action if isinstance(parsed.action, Search) else None

    def hits_needed(self) -> int:
        """How many hits a search must ask for, so that enough of them are new."""
        return len(self.pages_shown) + self.config.pages_per_search

    def worsen(self, query: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Apply the noise of the rules to what a retriever found; without noise, only cut to what is needed.

        Args:
            query: The query.
            hits: What was found, best first, :attr:`search_depth` of them.
        """
        noise, k = self.config.noise, self.hits_needed()
        if noise is None:
            return hits[:k]
        return noise.apply(
            hits[: self.search_depth],
            k,
            query=query,
            key=f"{self.state.noise_seed}/{self.question.question_id}",
            gold=self.question.gold_pages,
            corpus=self.corpus,
            where=self.question.scope,
        )

    @property
    def search_depth(self) -> int:
        """How many hits the retriever is asked for: what is needed, and what the noise takes away."""
        noise, k = self.config.noise, self.hits_needed()
        return k if noise is None else noise.depth(k, len(self.question.gold_pages))

    def execute(self, hits: Sequence[Hit] = ()) -> tuple[View | Text, ...]:
        """Act on the turn that :meth:`begin` read; the second part of a step.

        Args:
            hits: The answer to the search, best first; ignored for other actions.

        Returns:
            What the policy sees next, in order; the pictures of the views are still to be drawn.
        """
        if self._pending is None:
            raise RuntimeError("execute() needs a turn: call begin() first")
        parsed, text, self._pending = self._pending, self._pending_text, None
        turn = Turn(text=text, thought=parsed.thought, action=parsed.action)
        if isinstance(parsed.action, Search):
            turn = self._search(turn, hits)
        elif isinstance(parsed.action, Crop):
            turn = self._crop(turn, parsed.action)
        elif isinstance(parsed.action, Invalid):
            turn = replace(turn, message=f"Invalid turn: {parsed.action.reason}.")

        terminated = isinstance(turn.action, Answer)
        truncated = not terminated and self.last_turn
        if not terminated and not truncated and len(self.state.turns) + 1 == self.config.max_turns:
            notice = "This is your last turn: answer the question now."
            turn = replace(turn, message=f"{turn.message} {notice}".strip())
        self.state = replace(
            self.state,
            turns=(*self.state.turns, turn),
            views=(*self.state.views, *turn.views),
            terminated=terminated,
            truncated=truncated,
        )
        return (*turn.views, Text(turn.message)) if turn.message else turn.views

    def settle(self, blocks: tuple[Block, ...], scored: Scored) -> StepResult:
        """Enter the reward of the turn; the last part of a step.

        Args:
            blocks: What :meth:`execute` returned, drawn.
            scored: What :meth:`vrag_env.rewards.Reward.score` says of this episode.
        """
        turn = replace(self.state.turns[-1], reward=scored.reward, reward_terms=tuple(scored.terms.items()))
        self.state = replace(
            self.state,
            turns=(*self.state.turns[:-1], turn),
            potential=scored.potential,
            is_success=scored.is_success,
        )
        return self._result(blocks, scored.reward)

    def _search(self, turn: Turn, hits: Sequence[Hit]) -> Turn:
        shown = set(self.pages_shown)
        new = [page_id for page_id in dict.fromkeys(hit.page_id for hit in hits) if page_id not in shown]
        turn = replace(turn, hits=tuple(hits))
        if not new:
            return replace(turn, message="No page that you have not seen yet matches this search.")
        return self._show(turn, [(page_id, FULL_PAGE, None) for page_id in new[: self.config.pages_per_search]])

    def _crop(self, turn: Turn, action: Crop) -> Turn:
        view = self.view
        if view is None:
            return _refuse(turn, "there is no image yet: search for a page first")
        page = self.corpus.page_size(view.page_id)
        try:
            region = crop_view(view, action.box, self.config.box_frame, page)
        except BadBox as error:
            return _refuse(turn, str(error))
        return self._show(turn, [(view.page_id, region, view.view_id)])

    def _show(self, turn: Turn, regions: Sequence[tuple[str, Box, int | None]]) -> Turn:
        """Add views of regions as far as the episode's pixel budget reaches."""
        left = None if self.config.episode_pixels is None else self.config.episode_pixels - self.pixels_spent
        views: list[View] = []
        for page_id, box, parent_id in regions:
            width, height = self.corpus.page_size(page_id)
            size = self.config.pixels.fit((box[2] - box[0]) * width, (box[3] - box[1]) * height)
            if left is not None:
                if size[0] * size[1] > left:
                    break
                left -= size[0] * size[1]
            views.append(View(len(self.state.views) + len(views) + 1, page_id, box, parent_id, size))
        if not views:
            return _refuse(turn, "the budget of pixels is used up: answer with what you have seen")
        message = " ".join(f"Image {view.view_id}: {view.size[0]} x {view.size[1]}." for view in views)
        return replace(turn, views=tuple(views), message=message)

    def _result(self, blocks: tuple[Block, ...], reward: float = 0.0) -> StepResult:
        state, terms = self.state, dict(self.state.turns[-1].reward_terms) if self.state.turns else {}
        left = self.config.episode_pixels
        info: dict[str, Any] = {
            "question_id": self.question.question_id,
            "blocks": blocks,
            "turn": len(state.turns),
            "turns_left": 0 if self.done else self.config.max_turns + 1 - len(state.turns),
            "pixels_spent": self.pixels_spent,
            "pixels_left": None if left is None else left - self.pixels_spent,
            "pages_shown": self.pages_shown,
            "state_key": self.state_key,
            "invalid": bool(state.turns) and isinstance(state.turns[-1].action, Invalid),
            "reward_terms": terms,
            "is_success": state.is_success,
        }
        # Left out where it is not defined, so that vector environments batch numbers, with a mask beside them.
        if (recall := self.evidence_recall) is not None:
            info["evidence_recall"] = recall
        return StepResult(blocks, reward, state.terminated, state.truncated, info)


def _refuse(turn: Turn, reason: str) -> Turn:
    """Turn an action that can not be executed into an invalid one."""
    return replace(turn, action=Invalid(reason), message=f"Invalid turn: {reason}.")


def step_many(episodes: Sequence[Episode], actions: Sequence[str]) -> list[StepResult]:
    """Take one turn in each of many episodes, with one call per retriever (and scope) and one per reward.

    If a retriever or a judge raises an error, as one behind a network may, all episodes stay as they were, so
    that the step can be taken again.

    Args:
        episodes: Running episodes.
        actions: What each agent wrote, in the same order.

    Returns:
        The results in the same order; equal to stepping the episodes one by one.
    """
    before = [episode.state for episode in episodes]
    try:
        searches = [episode.begin(action) for episode, action in zip(episodes, actions, strict=True)]
        hits = _retrieve(episodes, searches)
        shown = [episode.execute(found) for episode, found in zip(episodes, hits, strict=True)]
        blocks = _draw(episodes, shown)
        scores = _score(episodes)
    except BaseException:
        for episode, state in zip(episodes, before, strict=True):
            episode.state = state
        raise
    return [episode.settle(seen, scored) for episode, seen, scored in zip(episodes, blocks, scores, strict=True)]


def _draw(episodes: Sequence[Episode], shown: Sequence[tuple[View | Text, ...]]) -> list[tuple[Block, ...]]:
    """Draw all views of a step together."""
    jobs = [
        partial(episode.pixels, block)
        for episode, blocks in zip(episodes, shown, strict=True)
        for block in blocks
        if isinstance(block, View)
    ]
    drawn = iter(draw_all(jobs))
    return [tuple(Image(next(drawn), b) if isinstance(b, View) else b for b in blocks) for blocks in shown]


def _retrieve(episodes: Sequence[Episode], searches: Sequence[Search | None]) -> list[Sequence[Hit]]:
    hits: list[Sequence[Hit]] = [()] * len(episodes)
    waiting: dict[tuple[int, tuple[str, ...] | None], list[tuple[int, str]]] = {}
    for index, search in enumerate(searches):
        if search is not None:
            together = (id(episodes[index].retriever), episodes[index].question.scope)
            waiting.setdefault(together, []).append((index, search.query))
    delays = [0.0]
    for (_, scope), queries in waiting.items():
        retriever = episodes[queries[0][0]].retriever
        most = max(episodes[index].search_depth for index, _ in queries)
        found = retriever.search([query for _, query in queries], most, scope)
        for (index, query), ranked in zip(queries, found, strict=True):
            hits[index] = episodes[index].worsen(query, ranked)
            noise = episodes[index].config.noise
            delays.append(0.0 if noise is None else noise.delay)
    if max(delays) > 0:  # sleeping for no time still gives the core away
        time.sleep(max(delays))
    return hits


def _score(episodes: Sequence[Episode]) -> list[Scored]:
    scored: dict[int, Scored] = {}
    by_reward: dict[int, list[int]] = {}
    for index, episode in enumerate(episodes):
        by_reward.setdefault(id(episode.reward), []).append(index)
    for indices in by_reward.values():
        group = [episodes[index] for index in indices]
        scored.update(zip(indices, group[0].reward.score(group), strict=True))
    return [scored[index] for index in range(len(episodes))]
