"""VRAGEnv: the Gymnasium face of an episode, with a text action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from vrag_env.corpus import Corpus
from vrag_env.episode import Episode, EpisodeConfig, EpisodeState, Image, StepResult, Text
from vrag_env.questions import Question
from vrag_env.render import render_ansi, render_rgb
from vrag_env.retrieval import Retriever, make_retriever
from vrag_env.retrieval.noisy import Noise, make_noise
from vrag_env.rewards import Judge, Reward, make_reward
from vrag_env.sources import MAX_QUESTION_CHARS, open_sources, select_questions
from vrag_env.spaces import ImageSpace, TurnText, UnicodeText
from vrag_env.views import PixelBudget, View

MAX_TURN_CHARS = 1_000_000
"""Longest turn in the action space; longer ones are stepped like any other text."""
MAX_TEXT_CHARS = 1_000_000
"""Longest text of an observation."""

Observation = dict[str, Any]


@dataclass(frozen=True)
class EnvState:
    """What :meth:`VRAGEnv.clone_state` keeps: the whole state of the environment, nothing of the corpus.

    Attributes:
        question_id: The question of the running episode.
        episode: The state of the episode.
        order: Positions of the questions, in the order in which resets take them.
        position: How many of them have been taken.
        rng: State of the random number generator.
        seed: The seed that it was made from.
    """

    question_id: str
    episode: EpisodeState
    order: tuple[int, ...]
    position: int
    rng: Mapping[str, Any]
    seed: int | None


class VRAGEnv(gymnasium.Env[Observation, str]):
    """Answer questions over document pages that can only be seen as images.

    ## Description

    The agent gets a question about a collection of documents. It searches for pages, which it sees as images,
    cuts out and enlarges regions that are too small to read, and answers. The task, and the grammar of its
    turns, are those of VRAG-RL [1]; the rules are written down in :mod:`vrag_env.episode`.

    ```python
    import gymnasium as gym, vrag_env
    env = gym.make("VRAG-v0")  # a built-in corpus: nothing to download
    obs, info = env.reset(seed=0)
    obs, reward, terminated, truncated, info = env.step("<think>…</think><search>revenue by region</search>")
    obs, reward, terminated, truncated, info = env.step("<think>…</think><bbox>[120, 80, 460, 300]</bbox>")
    obs, reward, terminated, truncated, info = env.step("<think>…</think><answer>42.5 million</answer>")
    ```

    ## Action Space

    Text (:class:`vrag_env.spaces.TurnText`). One turn is a thought and then exactly one action:

    | Turn | Meaning |
    |---|---|
    | `<think>…</think><search>query</search>` | show the best matching page that was not shown yet |
    | `<think>…</think><bbox>[x1, y1, x2, y2]</bbox>` | cut this region from the image seen last, enlarged |
    | `<think>…</think><answer>text</answer>` | answer and end the episode |

    Any other text is a legal action too: it costs a turn, and the observation says what was wrong. No text
    raises an error. A box is in pixels of the image seen last, or from 0 to 1000 on both its axes
    (`box_frame="1000"`); the region is always cut from the stored page at full resolution.
    `info["instructions"]` of `reset` holds all this in words for a language model.

    ## Observation Space

    A `Dict`:

    | Key | Space | What |
    |---|---|---|
    | `question` | `UnicodeText` | the question |
    | `text` | `UnicodeText` | what the last turn gave back in words |
    | `image` | `ImageSpace` | the image seen last, `uint8 (height, width, 3)`; `(0, 0, 3)` if none was |
    | `turns_left` | `Discrete` | turns that can still be taken, the last one for an answer only |
    | `pixels_left` | `Box (1,) int64` | pixels that can still be shown in this episode |

    Images keep their true size, a multiple of `pixel_multiple` on each side inside `min_pixels` and
    `max_pixels`, as the image processors of the Qwen-VL models choose it. Chat policies read `info["blocks"]`
    instead: all new texts and images in order.

    ## Rewards

    Named terms in [0, 1] are combined with weights and given at the end of the episode. `reward="paper"` is
    0.2 retrieval + 0.7 answer + 0.1 pattern: the NDCG of the pages shown (without gold pages: whether there was
    a search at all), the answer judged against the reference, and the share of turns that follow the grammar.
    Other presets are `"released"` and `"outcome"`;
    a mapping of terms to weights, or a :class:`vrag_env.rewards.Reward`, is taken as it is.

    ## Starting State

    Nothing has been shown. `reset(seed=…)` shuffles the questions; further resets take the next question in
    that order and shuffle again after the last. `reset(options={"question_id": …})` picks one question and
    leaves the order alone. The same seed and the same actions give the same bytes.

    ## Episode End

    An answer terminates the episode. After `max_turns` turns without an answer the agent is told that its
    next turn is the last; if that turn is not an answer the episode is truncated.

    ## Information

    `reset` and `step` return:

    | Key | What |
    |---|---|
    | `question_id` | id of the question |
    | `blocks` | what the agent sees next, in order: `Text` and `Image` (`image` for PIL, `pixels`, `view`) |
    | `turn`, `turns_left` | turns taken and left |
    | `pixels_spent`, `pixels_left` | pixels shown, and left of `episode_pixels` (`None` without a limit) |
    | `pages_shown` | ids of the distinct pages in the order shown |
    | `evidence_recall` | share of the gold pages that were shown; no such key where the question has none |
    | `state_key` | short key of the state: question, pages shown, current view |
    | `invalid` | whether the last turn could not be executed |
    | `reward_terms` | the terms of the reward so far |
    | `is_success` | whether the episode has ended with a right answer |
    | `instructions` | task and grammar in words (`reset` only) |

    ## Arguments

    All of them can be written as JSON; the objects that some also take can not.

    | Argument | Default | What |
    |---|---|---|
    | `corpus` | `None` | directory of a corpus, or a `Corpus`; `None`: the built-in generated documents |
    | `questions` | `None` | questions file or `Question` objects; `None`: those of the built-in corpus |
    | `retriever` | `"lexical"` | name or object, see :func:`vrag_env.retrieval.make_retriever` |
    | `reward` | `"paper"` | preset, weights or object, see :func:`vrag_env.rewards.make_reward` |
    | `judge` | `None` | who judges answers: `"rule"`, `"api:MODEL@URL"`, ..., see :func:`vrag_env.rewards.make_judge` |
    | `max_turns` | `4` | turns before the last turn |
    | `pages_per_search` | `1` | pages shown per search |
    | `min_pixels`, `max_pixels` | 200704, 401408 | pixels of a shown image: 256, 512 tokens of 28 by 28 |
    | `pixel_multiple` | `28` | sides of shown images are multiples of it; 32 for Qwen3-VL |
    | `episode_pixels` | `None` | most pixels over a whole episode |
    | `box_frame` | `"pixel"` | `"pixel"` or `"1000"` |
    | `split` | `None` | take only the questions of this split, such as `"train"` |
    | `noise` | `None` | worse retrieval, such as `{"drop_gold": 0.2, "distractors": 2}`: see below |
    | `corpus_version` | `None` | version of the corpus to play on; `None`: the newest, see below |
    | `world` | `None` | dials of a generated world in place of a corpus, such as `{"questions": 500, "seed": 3}` |
    | `render_mode` | `None` | `"ansi"`: the conversation so far; `"rgb_array"`: the view and its parent |

    `noise` takes the options of :class:`vrag_env.retrieval.noisy.Noise`: `drop_gold` and `empty`
    (probabilities that a search misses a gold page, or finds nothing), `distractors` (pages put first; with
    `hardest` the best-ranked wrong ones instead of random ones), `shuffle` and `delay`. It is drawn from the
    environment's own random numbers, once per episode.

    `world` takes the dials of :class:`vrag_env.corpus.generate.WorldDials`. The world is generated and ingested when it
    is first asked for, which takes a minute or two for 1,000 pages, and kept in the cache (`VRAG_CACHE`).

    The corpus is pinned at construction: pages and search results stay the same for the environment's life,
    whatever is added, replaced or removed meanwhile, here or in another process. The attribute
    `corpus_version` tells the version; given as an argument, it plays on the same pages another day (until old
    versions are cleaned up). A `Corpus` that is passed stays writable, and the environment does not see what it
    writes; a retriever that is passed as an object should be made from `corpus.pinned()` for the same reason.
    Under `AsyncVectorEnv`, every process opens a path by itself: pass a `Corpus`, or `corpus_version`, where
    the corpus is growing at that moment.

    Many environments at once: `gym.make_vec("VRAG-v0", num_envs=32)` steps all of them with one retrieval
    call. Under `AsyncVectorEnv` pass `vector_kwargs={"shared_memory": False, "context": "spawn"}`: images
    have no fixed shape, and LanceDB does not survive a fork.

    ## References

    [1] Q. Wang et al., "VRAG-RL: Empower Vision-Perception-Based RAG for Visually Rich Information
    Understanding via Iterative Reasoning with Reinforcement Learning", arXiv:2505.22019, 2025.

    ## Version History

    * v0: first version
    """

    # Gymnasium declares it as an attribute of instances, so it can not be a ClassVar.
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        corpus: str | Path | Corpus | None = None,
        questions: str | Path | Sequence[Question] | None = None,
        retriever: str | Retriever = "lexical",
        reward: str | Mapping[str, float] | Reward = "paper",
        judge: str | Judge | None = None,
        max_turns: int = 4,
        pages_per_search: int = 1,
        min_pixels: int = PixelBudget.min_pixels,
        max_pixels: int = PixelBudget.max_pixels,
        pixel_multiple: int = PixelBudget.multiple,
        episode_pixels: int | None = None,
        box_frame: str = "pixel",
        split: str | None = None,
        render_mode: str | None = None,
        noise: Mapping[str, Any] | Noise | None = None,
        corpus_version: int | None = None,
        world: Mapping[str, Any] | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode = render_mode
        self.config = EpisodeConfig(
            max_turns=max_turns,
            pages_per_search=pages_per_search,
            pixels=PixelBudget(min_pixels, max_pixels, pixel_multiple),
            episode_pixels=episode_pixels,
            box_frame=box_frame,
            noise=make_noise(noise),
        )
        self.corpus, everything = open_sources(corpus, questions, corpus_version, world)
        self.questions = select_questions(everything, self.corpus, split)
        self.retriever = make_retriever(retriever, self.corpus)
        self.reward = make_reward(reward, judge)

        # Without a limit, the budget is what all turns together can show.
        self._pixel_budget = max_turns * pages_per_search * max_pixels if episode_pixels is None else episode_pixels
        self.action_space = TurnText(MAX_TURN_CHARS)
        self.observation_space = spaces.Dict(
            {
                "question": UnicodeText(MAX_QUESTION_CHARS),
                "text": UnicodeText(MAX_TEXT_CHARS),
                "image": ImageSpace(max_pixels),
                "turns_left": spaces.Discrete(max_turns + 2),
                "pixels_left": spaces.Box(0, self._pixel_budget, (1,), np.int64),
            }
        )

        self._by_id = {question.question_id: index for index, question in enumerate(self.questions)}
        self._order: tuple[int, ...] = ()
        self._position = 0
        self._episode: Episode | None = None
        self._seen: tuple[View | None, np.ndarray] = (None, np.zeros((0, 0, 3), np.uint8))

    # ------------------------------------------------------------------ the interface of Gymnasium

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds the order of the questions and begins it anew.
            options: ``{"question_id": id}`` picks the question.

        Returns:
            The observation and the information, see the class.

        Raises:
            ValueError: If an option or the id of a question is unknown.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._order, self._position = (), 0
        return self.begin(self._choose(options or {}))

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one turn.

        Args:
            action: The turn as the agent wrote it.

        Returns:
            Observation, reward, terminated, truncated, information; see the class.

        Raises:
            gymnasium.error.ResetNeeded: Before the first :meth:`reset`.
            RuntimeError: If the episode has ended.
        """
        return self.observe(self.episode.step_text(action))

    def render(self) -> Any:
        """Draw the state as ``render_mode`` says.

        Returns:
            The conversation so far (``"ansi"``, text), or an image (``"rgb_array"``, ``uint8`` array
            ``(height, width, 3)`` whose shape never changes).

        Raises:
            gymnasium.error.ResetNeeded: Before the first :meth:`reset`.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(
                'render() needs a render mode: gym.make("VRAG-v0", render_mode="ansi") or "rgb_array"'
            )
            return None
        draw = render_ansi if self.render_mode == "ansi" else render_rgb
        return draw(self.episode)

    def close(self) -> None:
        """Let go of the episode; may be called more than once."""
        self._episode = None
        self._seen = (None, np.zeros((0, 0, 3), np.uint8))

    # ------------------------------------------------------------------ beyond it

    @property
    def episode(self) -> Episode:
        """The running episode.

        Raises:
            gymnasium.error.ResetNeeded: Before the first :meth:`reset`.
        """
        if self._episode is None:
            raise ResetNeeded("there is no episode: call reset() first")
        return self._episode

    @property
    def corpus_version(self) -> int:
        """Version of the corpus that this environment keeps to; as ``corpus_version=`` it plays the same again."""
        return self.corpus.version

    def shared(self) -> dict[str, Any]:
        """Arguments by which further environments share corpus, questions, retriever and reward with this one.

        ``VRAGEnv(**{**arguments, **env.shared()})``, where ``arguments`` are those that this one was made with.
        """
        return {
            "corpus": self.corpus,
            "corpus_version": None,  # the corpus is pinned already
            "world": None,  # it is the corpus
            "questions": self.questions,
            "retriever": self.retriever,
            "reward": self.reward,
            "judge": None,  # the reward has it
        }

    @property
    def state_key(self) -> str:
        """Short key of the state, see :attr:`vrag_env.episode.Episode.state_key`."""
        return self.episode.state_key

    @property
    def seen(self) -> np.ndarray:
        """The image seen last, ``uint8 (height, width, 3)``, ``(0, 0, 3)`` if none was; must not be written to."""
        view = self.episode.view
        if self._seen[0] != view:  # a new episode, or one restored from a saved state
            self._seen = (view, self._draw(view))
        return self._seen[1]

    def begin(self, question: Question) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode on a question; what :meth:`reset` does when it has chosen one."""
        self._episode = Episode(question, self.corpus, self.retriever, self.reward, self.config)
        # Drawn only where it is used: without noise the random numbers are those of earlier versions.
        noise_seed = 0 if self.config.noise is None else int(self.np_random.integers(2**62))
        observation, _, _, _, info = self.observe(self._episode.start(noise_seed))
        info["instructions"] = self._episode.instructions
        return observation, info

    def observe(
        self, result: StepResult, own_image: bool = True
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Turn a result of :attr:`episode` into what :meth:`step` returns.

        The vector environment steps many episodes together and then asks each of its environments for this.

        Args:
            result: The result.
            own_image: Whether the image of the observation is a copy for the caller; if not, it is the one that
                this environment keeps, and must not be written to.
        """
        episode = self.episode
        images = [block for block in result.blocks if isinstance(block, Image)]
        if images:
            self._seen = (images[-1].view, images[-1].pixels)
        observation: Observation = {
            "question": episode.question.text,
            "text": "\n".join(block.text for block in result.blocks if isinstance(block, Text)),
            "image": self.seen.copy() if own_image else self.seen,
            "turns_left": result.info["turns_left"],
            "pixels_left": np.array([self._pixel_budget - episode.pixels_spent], np.int64),
        }
        return observation, float(result.reward), result.terminated, result.truncated, dict(result.info)

    def clone_state(self) -> EnvState:
        """Keep the whole state, to branch an episode or to come back to a turn.

        The state is immutable and small: it holds what was written and shown, no pixels.
        """
        return EnvState(
            question_id=self.episode.question.question_id,
            episode=self.episode.state,
            order=self._order,
            position=self._position,
            rng=deepcopy(self.np_random.bit_generator.state),
            seed=self.np_random_seed,
        )

    def restore_state(self, state: EnvState) -> None:
        """Go back to a kept state; the same actions then give the same results again.

        Args:
            state: From :meth:`clone_state` of this environment, or of one with the same arguments.

        Raises:
            ValueError: If the state is of other questions.
        """
        question = self._find(state.question_id)
        if state.order and len(state.order) != len(self.questions):
            raise ValueError(
                f"the state is of an environment with {len(state.order)} questions; this one has {len(self.questions)}"
            )
        self._episode = Episode(question, self.corpus, self.retriever, self.reward, self.config)
        self._episode.state = state.episode
        self._order, self._position = state.order, state.position
        self.np_random.bit_generator.state = deepcopy(dict(state.rng))
        self._np_random_seed = state.seed

    # ------------------------------------------------------------------ private

    def _choose(self, options: Mapping[str, Any]) -> Question:
        unknown = set(options) - {"question_id"}
        if unknown:
            raise ValueError(f"unknown reset options {sorted(map(str, unknown))}: only 'question_id' is known")
        if "question_id" in options:
            return self._find(options["question_id"])
        if self._position == len(self._order):
            self._order = tuple(self.np_random.permutation(len(self.questions)).tolist())
            self._position = 0
        self._position += 1
        return self.questions[self._order[self._position - 1]]

    def _find(self, question_id: Any) -> Question:
        if not isinstance(question_id, str) or question_id not in self._by_id:
            raise ValueError(
                f"there is no question {question_id!r} among the {len(self.questions)} of this environment, "
                f"such as {self.questions[0].question_id!r}"
            )
        return self.questions[self._by_id[question_id]]

    def _draw(self, view: View | None) -> np.ndarray:
        return np.zeros((0, 0, 3), np.uint8) if view is None else self.episode.pixels(view)
