"""The methods of the tables: how a model is asked, each in a class whose ``play`` reads from top to bottom.

Every method works on page images, and, but for those that cut out regions, on the text of pages (from the text layer
or OCR). Prompts are files beside this one, with a version in their names; a changed wording is a new file.

Sources: ReAct (arXiv:2210.03629), Search-R1 (arXiv:2503.09516), VRAG-RL (arXiv:2505.22019), ViDoRAG (arXiv:2502.18017),
EVisRAG (arXiv:2510.09733). The wording of the prompts is our own, and the last two are in the style of their papers,
not copies of their systems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from vrag_agent.evaluation.journal import EvaluationError
from vrag_agent.evaluation.prompt_files import Prompt, read_prompt
from vrag_agent.evaluation.protocol import Ask, Conversation, Model, Script, Turn
from vrag_env.actions import MAX_ANSWER_CHARS, MAX_QUERY_CHARS, Action, Answer, ParsedTurn, Search, format_turn, parse
from vrag_env.episode import Block, Episode, EpisodeConfig, StepResult, Text

PAGES = ("image", "text")
TOP_K = 3
"""Pages that methods without a loop are shown; the paper does not give its number."""
MAX_PAGE_CHARS = 6_000
"""A longer text of a page is cut here."""

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_REACT = re.compile(r"^\s*Action:\s*(Search|Finish)\s*\[(.*)\]\s*$", re.MULTILINE | re.IGNORECASE)


class PromptedPolicy:
    """A model that is asked in the words of a method.

    Args:
        model: The model.
        pages: ``"image"`` or ``"text"``: how pages are shown.
        top_k: Pages per search, for the methods that choose it.
        label: What tables call it; by default the name of the method, and of the kind of pages if it is text.

    Raises:
        EvaluationError: If the method can not work on this kind of pages.
    """

    method: ClassVar[str]
    prompts: ClassVar[tuple[str, ...]]
    crops: bool = False
    on_text: ClassVar[bool] = True

    def __init__(self, model: Model, *, pages: str = "image", top_k: int = TOP_K, label: str = "") -> None:
        if pages not in PAGES:
            raise EvaluationError(f"pages are shown as one of {', '.join(PAGES)}, got {pages!r}")
        if pages == "text" and not self.on_text:
            raise EvaluationError(f"{self.method} cuts regions out of images: it can not work on text")
        if top_k < 1:
            raise EvaluationError(f"top_k must be at least 1, got {top_k}")
        self.model: Model = model
        self.pages, self.top_k = pages, top_k
        self.name = label or (self.method if pages == "image" else f"{self.method}_text")
        self._prompts: dict[str, Prompt] = {name: read_prompt(name) for name in self.prompts}

    @property
    def sees_images(self) -> bool:
        """Whether it looks at pictures."""
        return self.pages == "image"

    def settings(self) -> Mapping[str, Any]:
        """Method, prompts and model."""
        return {
            "policy": self.name,
            "method": self.method,
            "pages": self.pages,
            "top_k": self.top_k if self._chooses_pages else None,
            "prompts": {prompt.file: prompt.digest for prompt in self._prompts.values()},
            "model": dict(self.model.settings()),
        }

    _chooses_pages: ClassVar[bool] = False

    def rules(self, config: EpisodeConfig) -> EpisodeConfig:
        """Play by the environment's rules."""
        return config

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Return the script of an episode; see :class:`vrag_agent.evaluation.protocol.Policy`."""
        raise NotImplementedError

    # ------------------------------------------------------------------ shared by the methods

    def system(self, name: str, episode: Episode) -> str:
        """Return a prompt, in words that fit the kind of pages and the frame of boxes."""
        return self._prompts[name].fill(self.pages, episode.config.box_frame)

    def seen(self, episode: Episode, result: StepResult) -> tuple[Block, ...]:
        """Return what a step has shown: its images as they are, or the text of the pages."""
        if self.pages == "image":
            return result.blocks
        views = episode.turns[-1].views if episode.turns else ()
        if not views:
            return result.blocks
        pages = episode.corpus.pages([view.page_id for view in views])
        shown = [f"Page {view.view_id}:\n{page.text[:MAX_PAGE_CHARS]}" for view, page in zip(views, pages, strict=True)]
        last = ["This is your last turn: answer the question now."] if episode.last_turn else []
        return tuple(Text(text) for text in (*shown, *last))


class VanillaRAG(PromptedPolicy):
    """Searches once with the question itself and answers from the best pages."""

    method = "vanilla_rag"
    prompts = ("vanilla_rag",)
    _chooses_pages = True

    def rules(self, config: EpisodeConfig) -> EpisodeConfig:
        """One search, then the answer."""
        return replace(config, max_turns=1, pages_per_search=self.top_k)

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Search, then ask for the answer."""
        result = yield Turn(search_turn(episode.question.text))
        asked = Text(f"Question: {episode.question.text}")
        reply = yield Ask(Conversation(self.system(self.method, episode)).user(asked, *self.seen(episode, result)))
        yield Turn(answer_turn(reply))


class EvidenceFirst(VanillaRAG):
    """The same pages, but observations and evidence are written down before the answer (EVisRAG)."""

    method = "evidence_first"
    prompts = ("evidence_first",)


class ReAct(PromptedPolicy):
    """Thought and action in turns, in ReAct's own notation: ``Search[...]`` and ``Finish[...]``."""

    method = "react"
    prompts = ("react",)
    _HINT = "Observation: that was no action. Write one line: Action: Search[query] or Action: Finish[the answer]"

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Go on until it finishes."""
        talk = Conversation(self.system(self.method, episode)).user(f"Question: {episode.question.text}")
        while True:
            reply = yield Ask(talk)
            text = self.turn(reply)
            result = yield Turn(text)
            shown = self.seen(episode, result) if episode.turns[-1].views or text != reply else (Text(self._HINT),)
            talk.user(Text("Observation:"), *shown)

    @staticmethod
    def turn(reply: str) -> str:
        """Translate ReAct's notation into a turn; what holds no action stays as it is, and is invalid."""
        found = _REACT.search(reply)
        if found is None or not found[2].strip():
            return reply
        thought = " ".join(reply[: found.start()].replace("</think>", " ").split()).removeprefix("Thought: ")
        if found[1].lower() == "search":
            return search_turn(found[2], thought)
        return _written(thought, Answer(found[2].strip()))


class TagLoop(PromptedPolicy):
    """The environment's own grammar, turn by turn, with a prompt of the method."""

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Go on until it answers."""
        talk = Conversation(self.opening(episode)).user(*start.blocks)
        while True:
            reply = yield Ask(talk)
            result = yield Turn(reply)
            talk.user(*self.seen(episode, result))

    def opening(self, episode: Episode) -> str:
        """Return the system text."""
        return self.system(self.method, episode)


class SearchR1(TagLoop):
    """Search and answer only: Search-R1 on text, Search-R1-VL on images."""

    method = "search_r1"
    prompts = ("search_r1",)


class VRAG(TagLoop):
    """Search, cut out, answer: the action space of VRAG-RL."""

    method = "vrag"
    prompts = ("vrag",)
    crops = True
    on_text = False


class Native(TagLoop):
    """In the words of the environment, or in those that a checkpoint was trained with: what ``vrag train`` makes.

    Args:
        model: The model.
        system: The system text of the checkpoint; ``None`` for the environment's instructions.
        crops: Whether regions can be cut out.
        label: What tables call it.
    """

    method = "native"
    prompts = ()
    on_text = False

    def __init__(self, model: Model, *, system: str | None = None, crops: bool = True, label: str = "") -> None:
        super().__init__(model, label=label)
        self._system = system
        self.crops = crops

    def opening(self, episode: Episode) -> str:
        """Return the system text."""
        return episode.instructions if self._system is None else self._system

    def settings(self) -> Mapping[str, Any]:
        """Method and model, and whether there is a crop."""
        return {**super().settings(), "crops": self.crops}


class ViDoRAG(PromptedPolicy):
    """Three roles in ViDoRAG's way: one keeps pages, one checks whether they suffice, one answers."""

    method = "vidorag"
    prompts = ("vidorag_seeker", "vidorag_inspector", "vidorag_answer")
    _chooses_pages = True

    def rules(self, config: EpisodeConfig) -> EpisodeConfig:
        """Several pages per search."""
        return replace(config, pages_per_search=self.top_k)

    def play(self, episode: Episode, start: StepResult, seed: int) -> Script:
        """Search and keep pages until they suffice, then answer."""
        question = Text(f"Question: {episode.question.text}")
        query, queries, draft = episode.question.text, [], ""
        kept: list[Block] = []
        for searches in range(1, episode.config.max_turns + 1):
            result = yield Turn(search_turn(query))
            queries.append(query)
            pages = self._numbered(episode, result)
            if pages:
                needs = Text(f"Still needed: {query}")
                shown = [block for page in pages.values() for block in page]
                reply = yield Ask(Conversation(self.system("vidorag_seeker", episode)).user(question, needs, *shown))
                kept += [block for number in _numbers(reply) for block in pages.pop(number, ())]
            if searches == episode.config.max_turns:
                break
            before = Text("Queries so far: " + " | ".join(queries))
            talk = Conversation(self.system("vidorag_inspector", episode)).user(question, before, *kept)
            reply = yield Ask(talk)
            draft = _tagged(reply, "draft")
            query = _tagged(reply, "query") or episode.question.text
            if draft:
                break
        opinion = Text(f"Draft: {draft or 'none'}")
        reply = yield Ask(Conversation(self.system("vidorag_answer", episode)).user(question, *kept, opinion))
        yield Turn(answer_turn(reply))

    def _numbered(self, episode: Episode, result: StepResult) -> dict[int, tuple[Block, ...]]:
        """Return each page that a search has shown by its number in the episode, with that number in front."""
        views = episode.turns[-1].views
        shown = self.seen(episode, result)[: len(views)]
        if self.pages == "text":  # its text says its number
            return {view.view_id: (block,) for view, block in zip(views, shown, strict=True)}
        return {view.view_id: (Text(f"Page {view.view_id}:"), block) for view, block in zip(views, shown, strict=True)}


METHODS: dict[str, type[PromptedPolicy]] = {
    kind.method: kind for kind in (VanillaRAG, ReAct, SearchR1, VRAG, ViDoRAG, EvidenceFirst)
}
"""The methods with a prompt, by name."""


def search_turn(query: str, thought: str = "") -> str:
    """Write a search, whatever the query holds."""
    return format_turn(thought, Search(_plain(query, MAX_QUERY_CHARS) or "page"))


def answer_turn(reply: str) -> str:
    """Write the answer of a reply: what its last answer tags hold, or all of it; an empty one is an invalid turn."""
    found = _ANSWER.findall(reply)
    text = (found[-1] if found else reply).strip()
    return _written("", Answer(text)) if text else reply


def _written(thought: str, action: Answer) -> str:
    """Write an answer as it is where the grammar allows it, else cleaned."""
    turn: Action = action
    if parse(f"<think></think><answer>{action.text}</answer>") != ParsedTurn("", turn):
        action = Answer(_plain(action.text, MAX_ANSWER_CHARS) or "none")
    return format_turn(thought.replace("</think>", " "), action)


def _plain(text: str, limit: int) -> str:
    return " ".join("".join(c if c.isprintable() and c not in "<>" else " " for c in text).split())[:limit].strip()


def _tagged(reply: str, tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", reply, re.DOTALL)
    return found[1].strip() if found else ""


def _numbers(reply: str) -> Sequence[int]:
    return [int(number) for number in re.findall(r"\d{1,4}", _tagged(reply, "select"))]
