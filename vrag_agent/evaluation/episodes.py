"""Episodes as the engine plays them: without pictures where nobody looks, without the crop where it is no action."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image as PILImage

from vrag_env.actions import Crop, Invalid, Search
from vrag_env.corpus import Corpus
from vrag_env.episode import Episode, EpisodeConfig
from vrag_env.questions import Question
from vrag_env.retrieval import Retriever
from vrag_env.rewards import Reward
from vrag_env.views import View

_BLANK = PILImage.new("RGB", (1, 1))
NO_CROP = "regions can not be cut out here: search or answer"


class PlayedEpisode(Episode):
    """An episode that can leave out two things.

    Args:
        question: See :class:`~vrag_env.episode.Episode`, as for the next four.
        corpus: See there.
        retriever: See there.
        reward: See there.
        config: See there.
        draws: Whether pictures are drawn; without it they are one blank pixel, in the record all is the same.
        crops: Whether a region can be cut out; without it, trying is an invalid turn.
    """

    def __init__(
        self,
        question: Question,
        corpus: Corpus,
        retriever: Retriever,
        reward: Reward,
        config: EpisodeConfig | None = None,
        *,
        draws: bool = True,
        crops: bool = True,
    ) -> None:
        super().__init__(question, corpus, retriever, reward, config)
        self.draws, self.crops = draws, crops

    @property
    def instructions(self) -> str:
        """Task and grammar in words, without the crop where there is none."""
        lines = super().instructions.split("\n")
        return "\n".join(line for line in lines if self.crops or not line.startswith("- <bbox>"))

    def image(self, view: View) -> PILImage.Image:
        """Draw a view, if pictures are drawn."""
        return super().image(view) if self.draws else _BLANK

    def begin(self, text: str) -> Search | None:
        """Read a turn; see :meth:`vrag_env.episode.Episode.begin`."""
        search = super().begin(text)
        if not self.crops and self._pending is not None and isinstance(self._pending.action, Crop):
            self._pending = replace(self._pending, action=Invalid(NO_CROP))
        return search
