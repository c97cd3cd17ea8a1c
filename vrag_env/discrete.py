"""The numeric face of an episode, for algorithms that know vectors and numbered actions only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from vrag_env.numeric.base import VERBS, DiscreteState, NumericEnv

__all__ = ["VERBS", "DiscreteState", "DiscreteVRAGEnv", "MultiDiscreteVRAGEnv"]


class DiscreteVRAGEnv(NumericEnv[np.int64]):
    """Answer questions over document pages by choosing among numbered actions.

    ## Description

    The task, the rules and the reward are those of `VRAG-v0`: every action is written as the turn that an agent
    of the text face would write, and the same :class:`vrag_env.episode.Episode` takes it. So the algorithms of
    Stable-Baselines3 and sb3-contrib run on it unchanged, and a MaskablePPO and a vision-language model answer
    the same questions (the same seed asks them in the same order) and are scored by the same code.

    ```python
    import gymnasium as gym, vrag_env
    from sb3_contrib import MaskablePPO
    env = gym.make("VRAG-Discrete-v0", canvas=False)
    model = MaskablePPO("MultiInputPolicy", env).learn(50_000)
    ```

    ## Action Space

    `Discrete(30)` with the default sizes (6 queries, a grid of 3 by 3, 12 answers):

    | Number | Action | Written as |
    |---|---|---|
    | 0 to 5 | search with this candidate query | `<search>` |
    | 6 to 14 | zoom into this cell of the view, row by row | `<bbox>`, the cell in the view's frame |
    | 15 | zoom out: look at the view that this one was cut from | not written |
    | 16 | next hit: the last search once more, which shows the next page | `<search>` |
    | 17 | previous page: look at the page shown before; before the first one comes the last one | not written |
    | 18 to 29 | answer with this candidate; the first is "Not answerable" | `<answer>` |

    The grammar has no word for *zoom out* and *previous page*, because a language model still has the earlier
    images before its eyes. Here they move a cursor over the views that were shown: the observation and the
    candidates are those of the view that is looked at, a previous page is looked at as it was seen last, and a
    search or a zoom sets the cursor to what it shows. Looking again writes no turn and shows nothing new, so
    that retrieval and format are scored as if it had not been; it takes one of the steps that are left (the term
    `cost` reckons with one turn less from then on). A box can be written only in the frame of the image shown
    last: cells of an older view are masked.

    `action_masks()` tells what is possible: candidates that exist and queries not asked before; cells that are
    large enough; zoom out on a crop; next hit after a search that showed a page; previous page from the second
    page on; images as far as `episode_pixels` reaches; in the last turn only answers. A masked action does
    nothing, costs a turn, and is an invalid turn of the episode like any other.

    Candidates come from a provider (:class:`vrag_env.numeric.TextCandidates`), which sees the question and the
    words that can be read in the view, and nothing of the gold. `oracle_ceiling()` tells how many questions
    can be answered with them at all.

    ## Observation Space

    A flat `Dict` of `Box`, float32 in [-1, 1] or [0, 1] unless noted. Embeddings have 64 numbers.

    | Key | Length | What |
    |---|---|---|
    | `canvas` | `uint8 (3, 84, 84)` | the view, squeezed to a square; black before the first; not with `canvas=False` |
    | `question`, `page` | 64 each | embedding of the question, and of the words that can be read in the view |
    | `queries`, `candidates` | 6 x 64, 12 x 64 | embeddings of the candidate queries and answers |
    | `query_sim` | 6 | cosine of each query with the question |
    | `page_sim` | 1 | best cosine of any stretch of the view with the question |
    | `cell_sim` | 9 | the same for each cell |
    | `cand_sim` | 12 | cosine of what stands around each answer with the question; 0 for the first |
    | `zoom` | 10 | which cell the view is, one-hot; the first: a page, or nothing |
    | `progress` | 6 | below |
    | `action_mask` | 30 | 1 where an action is possible; flat in both action spaces |

    `progress`: share of the steps taken; last turn; pages shown, as a share of the steps; next hit possible;
    last step invalid; the newest view is looked at.

    The scores relate question, view and candidates. Without them hardly anything is learned from embeddings.

    ## Rewards

    The reward of the episode, see :class:`vrag_env.env.VRAGEnv`, minus `step_penalty` for every step, or
    `invalid_penalty` where it was impossible. `info["episode_reward"]` is without them: what the text face pays.

    ## Starting State

    As in `VRAG-v0`.

    ## Episode End

    An answer terminates. Without one, `max_turns + 1` steps (the last of which is for an answer only) end the episode
    as `truncated`, as in `VRAG-v0`, and here as `terminated` too: how many steps are left is observed, and an
    algorithm must not add to an episode without an answer the value of its last state, as Stable-Baselines3 does
    after an end that is truncated only. (A PPO that did so learned to answer and then to go on forever.)

    ## Information

    That of `VRAG-v0` without `blocks` and `instructions`, and:

    | Key | What |
    |---|---|
    | `invalid` | the last step was masked, or could not be executed |
    | `turn_text` | the turn that was written; empty for looking again |
    | `episode_reward` | the reward without the penalties |
    | `looks` | steps taken to look again |
    | `view_id` | number of the view that is looked at; 0 before the first |
    | `queries`, `answers` | the candidates, in words |
    | `oracle_in_candidates` | whether one of the answers is right (by rules, whatever the judge) |

    ## Arguments

    | Argument | Default | What |
    |---|---|---|
    | `max_turns` | `11` | steps before the last one |
    | `queries`, `grid`, `answers` | 6, 3, 12 | numbers of candidates and cells |
    | `embedding` | `64` | length of the observed embeddings; longer ones are projected at random |
    | `embedder` | `"hashing"` | or a sentence-transformers model, see :func:`vrag_env.numeric.make_embedder` |
    | `provider` | `None` | a :class:`vrag_env.numeric.CandidateProvider` of your own |
    | `canvas` | `True` | whether the picture is observed; without it, policies need no convolutions |
    | `min_word_pixels` | `5.0` | words shown lower than this can not be read: zooming makes them readable |
    | `step_penalty`, `invalid_penalty` | 0.01, 0.02 | what a step costs |

    All others are those of :class:`vrag_env.env.VRAGEnv`.

    Environments of one process with equal arguments share what they have worked out about pages and questions,
    about 20 MiB when full.

    ## Version History

    * v0: first version
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # the arguments of NumericEnv, checked there
        self.action_space = spaces.Discrete(len(self.actions))

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions are possible now, ``bool (number of actions,)``, as MaskablePPO asks for it."""
        return self.flat_masks()

    def _index(self, action: np.int64) -> int:
        return int(action)


class MultiDiscreteVRAGEnv(NumericEnv[npt.NDArray[np.int64]]):
    """The same with two numbers per action: what to do, and with which candidate or cell.

    ``MultiDiscrete([6, 12])`` with the default sizes. The first number is the place in :data:`VERBS`: search,
    zoom, zoom out, next hit, previous page, answer. The second one is the query, the cell or the answer; the
    other actions ignore it. All else is as in :class:`DiscreteVRAGEnv`.

    Masks of two numbers can not say which pairs are possible: :meth:`action_masks` lets through every verb for
    which something is possible, and every number that some verb can take. An impossible pair does nothing and
    costs a turn. The observation's ``action_mask`` is the exact one, in the flat order.

    ## Version History

    * v0: first version
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # the arguments of NumericEnv, checked there
        sizes = self.sizes
        self.action_space = spaces.MultiDiscrete([len(VERBS), max(sizes.queries, sizes.grid**2, sizes.answers)])
        self._flat = {pair: index for index, pair in enumerate(self.actions)}

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which verbs and which numbers are possible, one after the other, as MaskablePPO asks for it."""
        verbs, numbers = self.action_space.nvec.tolist()  # type: ignore[attr-defined]  # Gymnasium says Space
        masks = np.zeros(verbs + numbers, np.bool_)
        for (verb, number), possible in zip(self.actions, self.flat_masks(), strict=True):
            masks[VERBS.index(verb)] |= possible
            masks[verbs + number] |= possible
        return masks

    def _index(self, action: npt.NDArray[np.int64]) -> int | None:
        verb, number = VERBS[int(action[0])], int(action[1])
        return self._flat.get((verb, number if verb in ("search", "zoom", "answer") else 0))
