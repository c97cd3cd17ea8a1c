"""NumericEnv: what the numeric faces share, whatever their action space; see :mod:`vrag_env.discrete`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from vrag_env.actions import Answer, Crop, Search, format_turn
from vrag_env.env import EnvState, VRAGEnv
from vrag_env.episode import Episode, StepResult
from vrag_env.numeric.cache import CachedRetriever
from vrag_env.numeric.candidates import CandidateProvider
from vrag_env.numeric.embedder import HASHING, Embedder
from vrag_env.numeric.features import CANVAS, Sizes, ViewFeatures, shared_featurizer
from vrag_env.numeric.oracle import OracleCeiling, oracle_ceiling
from vrag_env.pictures import Pixels
from vrag_env.questions import Question
from vrag_env.render import render_ansi, render_rgb
from vrag_env.views import View, crop_view

VERBS = ("search", "zoom", "zoom_out", "next_hit", "previous_page", "answer")
"""The kinds of action, in the order in which they are numbered."""
IMPOSSIBLE = "<think>I can not do this here.</think>"
"""The turn that is written for an action that is masked: it holds no action."""
_PROGRESS = 6

Observation = dict[str, npt.NDArray[Any]]
ActionT = TypeVar("ActionT")
_BLANK: Pixels = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class DiscreteState:
    """What :meth:`NumericEnv.clone_state` keeps.

    Attributes:
        env: Question, episode, order of the questions and random numbers.
        looks: Steps taken to look again at what was shown.
        cursor: Number of the view that is looked at; 0 before the first.
        invalid: Whether the last step was impossible.
    """

    env: EnvState
    looks: int
    cursor: int
    invalid: bool


class NumericEpisode(Episode):
    """An episode whose pictures are not drawn, since nobody looks at its blocks, and in which one can look again."""

    def pixels(self, view: View) -> Pixels:
        """Return a blank: the numeric face draws its own small canvas."""
        return _BLANK

    def look(self) -> StepResult:
        """Spend one of the turns on looking again: it leaves no turn in the record and one less to take."""
        self.config = replace(self.config, max_turns=self.config.max_turns - 1)
        return self._result(())


class NumericEnv(gymnasium.Env[Observation, ActionT], Generic[ActionT]):
    """What both action spaces share; see :class:`vrag_env.discrete.DiscreteVRAGEnv`."""

    # Gymnasium declares it as an attribute of instances, so it can not be a ClassVar.
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        max_turns: int = 11,
        queries: int = Sizes.queries,
        grid: int = Sizes.grid,
        answers: int = Sizes.answers,
        embedding: int = Sizes.embedding,
        embedder: str | Embedder = HASHING,
        provider: CandidateProvider | None = None,
        canvas: bool = True,
        min_word_pixels: float = 5.0,
        step_penalty: float = 0.01,
        invalid_penalty: float = 0.02,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in (("step_penalty", step_penalty), ("invalid_penalty", invalid_penalty)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be 0 to 1, got {value}")
        # The text face reads the arguments and chooses the questions: the same seed asks the same in both.
        self._text = VRAGEnv(max_turns=max_turns, render_mode=render_mode, **kwargs)
        self.render_mode = render_mode
        self.config = self._text.config
        self.corpus, self.questions, self.reward = self._text.corpus, self._text.questions, self._text.reward
        self.retriever = CachedRetriever(self._text.retriever)
        self.sizes = Sizes(queries, grid, answers, embedding)
        self.featurizer = shared_featurizer(
            self.corpus, embedder, provider, self.sizes, self.config.box_frame, min_word_pixels
        )
        self.step_penalty, self.invalid_penalty = step_penalty, invalid_penalty
        counts = (queries, grid**2, 1, 1, 1, answers)
        self.actions: tuple[tuple[str, int], ...] = tuple(
            (verb, number) for verb, count in zip(VERBS, counts, strict=True) for number in range(count)
        )
        """Verb and argument of every flat action."""
        self.canvas = canvas
        boxes: spaces.Space[Any] = spaces.Dict(self._boxes())
        self.observation_space = boxes
        self._episode: NumericEpisode | None = None
        self._features: ViewFeatures
        self._mask = np.zeros(len(self.actions), np.bool_)
        self._looks, self._cursor, self._invalid = 0, 0, False

    def _boxes(self) -> dict[str, spaces.Space[Any]]:
        sizes = self.sizes
        lengths = {
            "question": sizes.embedding,
            "page": sizes.embedding,
            "queries": sizes.queries * sizes.embedding,
            "candidates": sizes.answers * sizes.embedding,
            "query_sim": sizes.queries,
            "page_sim": 1,
            "cell_sim": sizes.grid**2,
            "cand_sim": sizes.answers,
        }
        shares = {"zoom": sizes.grid**2 + 1, "progress": _PROGRESS, "action_mask": len(self.actions)}
        boxes: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(-1.0, 1.0, (length,), np.float32) for name, length in lengths.items()
        }
        boxes |= {name: spaces.Box(0.0, 1.0, (length,), np.float32) for name, length in shares.items()}
        if self.canvas:
            boxes["canvas"] = spaces.Box(0, 255, (3, CANVAS, CANVAS), np.uint8)
        return boxes

    # ------------------------------------------------------------------ the interface of Gymnasium

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; see :meth:`vrag_env.env.VRAGEnv.reset`, whose order of questions it takes.

        Args:
            seed: Seeds the order of the questions and begins it anew.
            options: ``{"question_id": id}`` picks the question.

        Raises:
            ValueError: If an option or the id of a question is unknown.
        """
        super().reset(seed=seed)
        self._text.reset(seed=seed, options=options)
        started = self._text.episode
        result = self._begin(started.question).start(started.state.noise_seed)
        self._looks, self._cursor, self._invalid = 0, 0, False
        return self._observe(), self._info(result, "")

    def step(self, action: ActionT) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: A member of the action space, masked or not.

        Returns:
            Observation, reward, terminated, truncated, information; see the class.

        Raises:
            gymnasium.error.ResetNeeded: Before the first :meth:`reset`.
            gymnasium.error.InvalidAction: If it is no member of the action space.
            RuntimeError: If the episode has ended.
        """
        episode = self.episode
        if episode.done:
            raise RuntimeError("the episode has ended: call reset() before the next step")
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(f"expected a member of {self.action_space}, got {action!r}")
        index = self._index(action)
        self._invalid = index is None or not self._mask[index]
        verb, number = ("", 0) if index is None or self._invalid else self.actions[index]
        written = ""
        if verb in ("zoom_out", "previous_page"):
            result = episode.look()
            self._looks += 1
            self._cursor = self._look_at(verb)
        else:
            written = self._write(verb, number)
            seen = len(episode.views)
            result = episode.step_text(written)
            if len(episode.views) > seen:
                self._cursor = len(episode.views)
        reward = result.reward - (self.invalid_penalty if self._invalid else self.step_penalty)
        # The steps that are left are observed, so that using them up is an end of the task like any other. Of an end
        # that is only truncated, algorithms estimate how it would have gone on, and learn never to answer.
        terminated = result.terminated or result.truncated
        return self._observe(), float(reward), terminated, result.truncated, self._info(result, written)

    def render(self) -> Any:
        """Draw the record of the episode as :meth:`vrag_env.env.VRAGEnv.render` does, in full size.

        Raises:
            gymnasium.error.ResetNeeded: Before the first :meth:`reset`.
        """
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render mode: pass render_mode='ansi' or 'rgb_array' to gym.make")
            return None
        mine = self.episode
        full = Episode(mine.question, self.corpus, self.retriever, self.reward, mine.config)
        full.state = mine.state
        return render_ansi(full) if self.render_mode == "ansi" else render_rgb(full)

    def close(self) -> None:
        """Let go of the episode; may be called more than once."""
        self._episode = None
        self._text.close()

    # ------------------------------------------------------------------ beyond it

    @property
    def episode(self) -> NumericEpisode:
        """The running episode; its pictures are blank.

        Raises:
            gymnasium.error.ResetNeeded: Before the first :meth:`reset`.
        """
        if self._episode is None:
            raise ResetNeeded("there is no episode: call reset() first")
        return self._episode

    @property
    def horizon(self) -> int:
        """Most steps of an episode."""
        return self.config.max_turns + 1

    @property
    def view(self) -> View | None:
        """The view that is looked at: the newest one, or an older one that was gone back to."""
        return self.episode.views[self._cursor - 1] if self._cursor else None

    def flat_masks(self) -> npt.NDArray[np.bool_]:
        """Return which flat actions are possible now, ``bool (len(actions),)``."""
        return self._mask.copy()

    def oracle_ceiling(self, limit: int | None = None) -> OracleCeiling:
        """Measure how many of the questions can be answered with the candidates that are offered.

        Args:
            limit: Look only at the first so many questions; ``None``: at all.
        """
        return oracle_ceiling(self.questions[:limit], self.featurizer, self.retriever, self.config)

    def clone_state(self) -> DiscreteState:
        """Keep the whole state, to branch an episode or to come back to a step."""
        kept = replace(self._text.clone_state(), episode=self.episode.state)
        return DiscreteState(kept, self._looks, self._cursor, self._invalid)

    def restore_state(self, state: DiscreteState) -> None:
        """Go back to a kept state; the same actions then give the same results again.

        Args:
            state: From :meth:`clone_state` of this environment, or of one with the same arguments.

        Raises:
            ValueError: If it does not fit this environment.
        """
        self._text.restore_state(state.env)
        self._np_random, self._np_random_seed = self._text.np_random, self._text.np_random_seed
        episode = self._begin(self._text.episode.question)
        episode.config = replace(self.config, max_turns=self.config.max_turns - state.looks)
        episode.state = state.env.episode
        self._looks, self._cursor, self._invalid = state.looks, state.cursor, state.invalid
        self._look()

    # ------------------------------------------------------------------ private

    def _index(self, action: ActionT) -> int | None:
        """Return the flat number of an action; ``None`` if its parts do not fit together."""
        raise NotImplementedError

    def _begin(self, question: Question) -> NumericEpisode:
        self._np_random, self._np_random_seed = self._text.np_random, self._text.np_random_seed
        self._episode = NumericEpisode(question, self.corpus, self.retriever, self.reward, self.config)
        return self._episode

    def _write(self, verb: str, number: int) -> str:
        """Write an action as the agent of the text face would."""
        if verb == "search":
            return format_turn("", Search(self._features.queries[number]))
        if verb == "next_hit":
            return format_turn("", Search(self._searches()[-1]))
        if verb == "answer":
            return format_turn("", Answer(self._features.answers[number]))
        crop = self._features.zooms[number] if verb == "zoom" else None
        return IMPOSSIBLE if crop is None else format_turn("", crop)

    def _look_at(self, verb: str) -> int:
        """Return the number of the view that a look goes back to."""
        view = self.view
        if view is None:
            raise RuntimeError("there is no view to go back from")
        if verb == "zoom_out":
            return view.parent_id or view.view_id
        pages = self.episode.pages_shown
        before = pages[pages.index(view.page_id) - 1]
        return max(seen.view_id for seen in self.episode.views if seen.page_id == before)

    def _searches(self) -> list[str]:
        return [turn.action.query for turn in self.episode.turns if isinstance(turn.action, Search)]

    def _look(self) -> None:
        """Work out what can be seen and done now."""
        episode, view = self.episode, self.view
        parent = episode.views[view.parent_id - 1] if view is not None and view.parent_id else None
        self._features = self.featurizer.of(episode.question, view, parent)
        features, sizes = self._features, self.sizes
        answers = [number < len(features.answers) for number in range(sizes.answers)]
        if episode.last_turn or episode.done:
            self._mask[:] = [False] * (len(self.actions) - sizes.answers) + answers
            return
        left = None if self.config.episode_pixels is None else self.config.episode_pixels - episode.pixels_spent
        room = left is None or left >= self.config.pixels.min_pixels
        searches = self._searches()
        asked = set(searches)
        queries = [room and query not in asked for query in features.queries]
        newest = view is not None and self._cursor == len(episode.views)
        zooms = [newest and crop is not None and self._fits(crop, left) for crop in features.zooms]
        found = next((bool(turn.views) for turn in reversed(episode.turns) if isinstance(turn.action, Search)), False)
        self._mask[:] = [
            *queries,
            *[False] * (sizes.queries - len(queries)),
            *zooms,
            parent is not None,
            room and found,
            len(episode.pages_shown) > 1,
            *answers,
        ]

    def _fits(self, crop: Crop, left: int | None) -> bool:
        """Tell whether the pixels that are left allow a crop of the newest view."""
        view = self.view
        if left is None or view is None:
            return True
        width, height = size = self.corpus.page_size(view.page_id)
        box = crop_view(view, crop.box, self.config.box_frame, size)
        shown = self.config.pixels.fit((box[2] - box[0]) * width, (box[3] - box[1]) * height)
        return shown[0] * shown[1] <= left

    def _observe(self) -> Observation:
        self._look()
        episode, features = self.episode, self._features
        zoom = np.zeros(self.sizes.grid**2 + 1, np.float32)
        zoom[features.zoom] = 1.0
        next_hit = len(self.actions) - self.sizes.answers - 2
        progress = (
            (len(episode.turns) + self._looks) / self.horizon,
            episode.last_turn,
            min(len(episode.pages_shown) / self.horizon, 1.0),
            self._mask[next_hit],
            self._invalid,
            self._cursor == len(episode.views),
        )
        observation: Observation = {name: array.copy() for name, array in features.arrays.items()}
        observation["zoom"] = zoom
        observation["progress"] = np.array(progress, np.float32)
        observation["action_mask"] = self._mask.astype(np.float32)
        if self.canvas:
            observation["canvas"] = self.featurizer.canvas(self.view).copy()
        return observation

    def _info(self, result: StepResult, written: str) -> dict[str, Any]:
        info = {name: value for name, value in result.info.items() if name != "blocks"}
        view = self.view
        return info | {
            # The last turn may have been invalid and still be the last one after looking again.
            "invalid": self._invalid or (bool(written) and info["invalid"]),
            "turn_text": written,
            "episode_reward": float(result.reward),
            "looks": self._looks,
            "view_id": view.view_id if view is not None else 0,
            "queries": self._features.queries,
            "answers": self._features.answers,
            "oracle_in_candidates": self._features.oracle,
        }
