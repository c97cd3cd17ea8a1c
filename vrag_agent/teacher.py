"""Teacher: a strong vision-language model behind a server plays episodes, so that a small one can imitate them.

As in VRAG-RL it has two roles, which may be two models: the *writer* thinks, searches and answers; the *grounder*
says where the region is that the writer wants enlarged. Without a grounder the writer gives the boxes itself.
Each may write boxes in a frame of its own; the environment reads them in its own.

Neither sees anything of the question but its text. VRAG-RL's released pipeline chose the page to show by the
list of right pages and told the teacher to crop each; :class:`LeakingEpisode` does the same, for comparison only.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vrag_env.actions import Answer, Crop, Invalid, Search, describe, format_turn, parse
from vrag_env.chat import ChatClient, ChatReply, Message, image_part, text_part
from vrag_env.episode import BOX_FRAMES, Block, Episode, Image, Text
from vrag_env.errors import VRAGError
from vrag_env.retrieval import Hit
from vrag_env.views import View

TEACHER_KEY_VARIABLE = "VRAG_TEACHER_API_KEY"
"""Environment variable of the writer's key."""
GROUNDER_KEY_VARIABLE = "VRAG_GROUNDER_API_KEY"
"""Environment variable of the grounder's key."""
LEAK_HINT = "You should call crop tool to crop this image."
"""What the released pipeline says with every page."""
LEAK_DEPTH = 10
"""How many pages the released search engine returns."""

_REPAIRS = 2  # further tries at a turn that does not parse
_MAX_REGION_CHARS = 500
_REGION = re.compile(r"\s*<think>((?:(?!</think>).)*)</think>\s*<region>([^<>]*)</region>\s*", re.DOTALL)
_NUMBER = r"\s*(-?\d{1,6}(?:\.\d{1,6})?)\s*"
_BOX = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]")
_BOX_LINE = re.compile(r"^- <bbox>.*$", re.MULTILINE)
_REGION_LINE = (
    "- <region>description</region> enlarges a region of the image you saw last; describe it so that somebody "
    "who sees only that image can point at it."
)


@dataclass(frozen=True)
class Spent:
    """What an episode took of the models.

    Attributes:
        requests: Replies of models; repetitions after faults of the network are in the clients' counters.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, reply: ChatReply) -> Spent:
        """Add a reply."""
        return Spent(
            self.requests + 1,
            self.prompt_tokens + reply.prompt_tokens,
            self.completion_tokens + reply.completion_tokens,
        )


class Teacher:
    """Plays by asking models.

    Args:
        writer: The model that writes the turns.
        grounder: The model that gives the boxes; ``None`` lets the writer give them.
        frame: Frame in which the writer gives boxes: ``"pixel"`` (Qwen2.5-VL) or ``"1000"`` (Qwen3-VL).
        grounder_frame: The same of the grounder.
        leak: Tell it to crop each page, as the released pipeline does.

    Raises:
        VRAGError: If a frame is not known.
    """

    def __init__(
        self,
        writer: ChatClient,
        grounder: ChatClient | None = None,
        *,
        frame: str = "pixel",
        grounder_frame: str = "pixel",
        leak: bool = False,
    ) -> None:
        for name in (frame, grounder_frame):
            if name not in BOX_FRAMES:
                raise VRAGError(f"the frame of a teacher's boxes is one of {', '.join(BOX_FRAMES)}, got {name!r}")
        self.writer, self.grounder = writer, grounder
        self.frame, self.grounder_frame, self.leak = frame, grounder_frame, leak

    @property
    def name(self) -> str:
        """The models' names, for records."""
        return f"api:{self.writer.model}" + (f"+{self.grounder.model}" if self.grounder is not None else "")

    @property
    def concurrency(self) -> int:
        """How many episodes can wait for it at once."""
        return self.writer.concurrency

    @property
    def instructions(self) -> str:
        """What the writer is told: the environment's instructions, with its own way to point at a region."""
        told = describe(self.frame)
        return told if self.grounder is None else _BOX_LINE.sub(_REGION_LINE, told)

    def open(self, episode: Episode, seed: int = 0) -> TeacherSession:
        """Begin to play an episode.

        Args:
            episode: A started episode.
            seed: Sent with every request of the episode, so that another attempt can go another way.
        """
        return TeacherSession(self, episode, seed)


class TeacherSession:
    """One episode of a teacher.

    Attributes:
        spent: What it took so far.
    """

    def __init__(self, teacher: Teacher, episode: Episode, seed: int) -> None:
        self.teacher, self.episode, self.seed = teacher, episode, seed
        self.spent = Spent()
        self._messages: list[Message] = [{"role": "system", "content": teacher.instructions}]

    def prepare(self, blocks: Sequence[Block]) -> None:
        """Take in what the environment returned."""
        parts = []
        for block in blocks:
            parts.append(text_part(block.text) if isinstance(block, Text) else image_part(block.image))
            if self.teacher.leak and isinstance(block, Image) and block.view.parent_id is None:
                parts.append(text_part(LEAK_HINT))
        self._messages.append({"role": "user", "content": parts})

    def next_turn(self, stop: threading.Event) -> str:
        """Ask for the next turn; may be called from another thread, since the episode stands still.

        A turn that does not parse is asked for again, with the reason; the failed tries are not part of the
        conversation afterwards. What does not parse in the end is returned as it is.

        Args:
            stop: See :meth:`vrag_env.json_client.JSONClient.post`.

        Returns:
            The turn with its box, if any, in the environment's frame.

        Raises:
            Unanswered: If a model does not reply.
            VRAGError: If a model's address or key is wrong.
        """
        tried: list[Message] = []
        for _ in range(1 + _REPAIRS):
            reply = self._ask(self.teacher.writer, [*self._messages, *tried], stop)
            written = {"role": "assistant", "content": reply.text}
            turn, fault = self._read(reply, stop)
            if not fault:
                self._messages.append(written)
                return turn
            tried += [written, {"role": "user", "content": f"That turn can not be taken: {fault}. Write it again."}]
        self._messages.append(written)
        return reply.text

    def _ask(self, client: ChatClient, messages: Sequence[Message], stop: threading.Event) -> ChatReply:
        reply = client.ask(messages, stop, {"seed": self.seed})
        self.spent = self.spent.plus(reply)
        return reply

    def _read(self, reply: ChatReply, stop: threading.Event) -> tuple[str, str]:
        """Return the turn in the environment's grammar and frame, or what is wrong with it."""
        if reply.cut_off:
            return "", "it is too long and was cut off"
        view = self.episode.view
        region = _REGION.fullmatch(reply.text) if self.teacher.grounder is not None else None
        if region is not None:
            if view is None:
                return "", "there is no image yet: search for a page first"
            box = self._ground(view, " ".join(region[2].split())[:_MAX_REGION_CHARS], stop)
            if box is None:
                return "", "the region was not found in the image: describe it in other words"
            return self._written(region[1].strip(), Crop(box), self.teacher.grounder_frame, view)
        parsed = parse(reply.text)
        if isinstance(parsed.action, Invalid):
            return "", parsed.action.reason
        if isinstance(parsed.action, Crop) and self.teacher.grounder is not None:
            return "", "describe the region in a region tag, without a box"
        if isinstance(parsed.action, Crop) and view is None:
            return "", "there is no image yet: search for a page first"
        return self._written(parsed.thought, parsed.action, self.teacher.frame, view)

    def _written(self, thought: str, action: Search | Crop | Answer, frame: str, view: View | None) -> tuple[str, str]:
        if isinstance(action, Crop) and view is not None:
            action = replace(action, box=convert_box(action.box, view, frame, self.episode.config.box_frame))
        try:
            return format_turn(thought, action), ""
        except ValueError:  # a box with numbers too large to be written
            return "", "the box does not lie in the image"

    def _ground(self, view: View, region: str, stop: threading.Event) -> tuple[float, float, float, float] | None:
        """Ask the grounder where a region is, in its own frame."""
        assert self.teacher.grounder is not None
        frame = (
            f"in pixels of the image, which is {view.size[0]} wide and {view.size[1]} high"
            if self.teacher.grounder_frame == "pixel"
            else "from 0 to 1000 across and down the image"
        )
        question = (
            f"Find this region of the image: {region}\n"
            f"Reply with its box alone, as [x1, y1, x2, y2], {frame}, origin at the top left."
        )
        parts = [image_part(self.episode.image(view)), text_part(question)]
        reply = self._ask(self.teacher.grounder, [{"role": "user", "content": parts}], stop)
        found = _BOX.findall(reply.text)
        if len(found) != 1:  # none, or several to choose from: nothing is guessed
            return None
        x1, y1, x2, y2 = map(float, found[0])
        return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def convert_box(
    box: tuple[float, float, float, float], view: View, source: str, target: str
) -> tuple[float, float, float, float]:
    """Bring a box from one frame of an image into another; a box that stays in its frame is left as it is.

    Args:
        box: ``(x1, y1, x2, y2)`` in the frame ``source``.
        view: The image.
        source: ``"pixel"`` or ``"1000"``.
        target: ``"pixel"`` or ``"1000"``.

    Returns:
        The box in whole numbers of the frame ``target``.
    """
    if source == target:
        return box
    width, height = view.size
    x_scale, y_scale = (1000 / width, 1000 / height) if target == "1000" else (width / 1000, height / 1000)
    x1, y1, x2, y2 = box
    return (round(x1 * x_scale), round(y1 * y_scale), round(x2 * x_scale), round(y2 * y_scale))


class LeakingEpisode(Episode):
    """An episode that shows the right pages first, as VRAG-RL's released teacher pipeline does.

    Of the first ten pages found, the first right one that was not shown yet is shown. For comparison only: a
    policy that imitates such episodes never learns what to do after a search that missed.
    """

    @property
    def search_depth(self) -> int:
        """At least the ten pages of the released engine."""
        return max(super().search_depth, LEAK_DEPTH)

    def worsen(self, query: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Put the right pages that were not shown yet in front."""
        gold = set(self.question.gold_pages) - set(self.pages_shown)
        first = [hit for hit in hits[:LEAK_DEPTH] if hit.page_id in gold]
        rest = [hit for hit in hits if hit not in first]
        return [*first, *rest][: self.hits_needed()]
