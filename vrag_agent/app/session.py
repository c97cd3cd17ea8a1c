"""Session: what one visitor of the page does; no web library in it."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vrag_env.actions import Answer, Crop, Search, format_turn
from vrag_env.corpus import Corpus, ingest
from vrag_env.corpus.ingest import IngestReport
from vrag_env.episode import Episode, EpisodeConfig
from vrag_env.errors import VRAGError
from vrag_env.players import Player
from vrag_env.questions import Question
from vrag_env.replay import EpisodeRecord
from vrag_env.retrieval import Hit, Retriever, make_retriever
from vrag_env.rewards import Reward
from vrag_env.views import View

MAX_QUESTION_CHARS = 2_000
MAX_UPLOADS = 20
"""Most files of one visitor."""
MAX_UPLOAD_BYTES = 100 * 1024 * 1024
"""Most bytes of all files of one visitor."""
SIGNATURES = {
    ".pdf": (b"%PDF-",),
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".webp": (b"RIFF",),
    ".tif": (b"II*\x00", b"MM\x00*"),
    ".tiff": (b"II*\x00", b"MM\x00*"),
}
"""First bytes of the files that can be added, by the ending of their names. A PDF may start with some junk."""


@dataclass(frozen=True)
class World:
    """What all visitors share.

    Attributes:
        corpus: The documents.
        retriever: Searches them.
        questions: Questions whose answers are known, by id.
        reward: Scores episodes of known questions.
        config: The rules.
        agents: Who can play, by name.
        long_side: Longer side of the pages of added documents, in pixels.
    """

    corpus: Corpus
    retriever: Retriever
    questions: Mapping[str, Question]
    reward: Reward
    config: EpisodeConfig
    agents: Mapping[str, Player]
    long_side: int = 1792


@dataclass
class Session:
    """One visitor: the documents they added, and the episode that runs.

    Args:
        world: What all visitors share.
    """

    world: World
    own: Corpus | None = None
    episode: Episode | None = None
    agent: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    _seconds: list[float] = field(default_factory=list)
    _uploads: int = 0
    _bytes: int = 0
    _directory: Path | None = None
    _retriever: Retriever | None = None

    # ------------------------------------------------------------------ documents

    def corpus(self, mine: bool) -> Corpus:
        """The documents: those of everybody, or those that the visitor added.

        Raises:
            VRAGError: If the visitor has added none.
        """
        if not mine:
            return self.world.corpus
        if self.own is None or not len(self.own):
            raise VRAGError("you have not added a document yet: add one on the page 'Documents'")
        return self.own

    def retriever(self, mine: bool) -> Retriever:
        """Searches :meth:`corpus`."""
        if not mine:
            return self.world.retriever
        corpus = self.corpus(mine)
        if self._retriever is None:
            self._retriever = make_retriever("lexical", corpus)
        return self._retriever

    def add(self, paths: Sequence[str], progress: Callable[[int, int], None] | None = None) -> IngestReport:
        """Read documents into the visitor's own corpus.

        Args:
            paths: Uploaded files; their names and first bytes are checked before anything parses them.
            progress: Called with the pages read and the pages expected.

        Raises:
            VRAGError: If a file is not what its name says, or there are too many or too large ones.
        """
        files = [Path(path) for path in paths]
        if not files:
            raise VRAGError("no file was given: choose PDFs or page images first")
        sizes = [check_upload(path) for path in files]
        if self._uploads + len(files) > MAX_UPLOADS or self._bytes + sum(sizes) > MAX_UPLOAD_BYTES:
            raise VRAGError(
                f"at most {MAX_UPLOADS} files of {MAX_UPLOAD_BYTES // 1024**2} MB together can be added to one session"
            )
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="vrag-app-"))
        own = self.own if self.own is not None else Corpus.create(self._directory / "corpus")
        report = ingest(files, own, long_side=self.world.long_side, workers=1, progress=progress or False)
        self._uploads += len(files)
        self._bytes += sum(sizes)
        self.own, self._retriever = own, None
        return report

    def close(self) -> None:
        """Stop what runs and remove the visitor's documents."""
        self.stop.set()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    # ------------------------------------------------------------------ search without an agent

    def search(self, query: str, k: int, mine: bool) -> list[Hit]:
        """Search the documents."""
        return list(self.retriever(mine).search([query], k)[0])

    # ------------------------------------------------------------------ an episode

    def begin(self, text: str, mine: bool = False, question_id: str | None = None) -> Episode:
        """Begin an episode.

        Args:
            text: The question.
            mine: Whether it is about the visitor's own documents.
            question_id: Id of a known question; it counts only while ``text`` is that question's own.

        Raises:
            VRAGError: If the question is empty or too long.
        """
        text = text.strip()
        if not text:
            raise VRAGError("type a question first")
        if len(text) > MAX_QUESTION_CHARS:
            raise VRAGError(f"a question has at most {MAX_QUESTION_CHARS} characters, this has {len(text)}")
        known = None if mine or question_id is None else self.world.questions.get(question_id)
        question = known if known is not None and known.text == text else Question("asked", text, "")
        reward, config = self.world.reward, self.world.config
        self.stop.clear()
        self._seconds = []
        self.agent = ""
        self.episode = Episode(question, self.corpus(mine), self.retriever(mine), reward, config)
        self.episode.start()
        return self.episode

    @property
    def known(self) -> bool:
        """Whether the running episode asks a question whose answer is known."""
        return self.episode is not None and bool(self.episode.question.answer)

    def let(self, agent: str) -> None:
        """Let an agent take one turn.

        Raises:
            VRAGError: If no episode runs, there is no such agent, or it can not play this question.
        """
        episode = self._running()
        if agent not in self.world.agents:
            raise VRAGError(f"there is no agent {agent!r}: choose one of {', '.join(self.world.agents)}")
        if agent == "oracle" and not self.known:
            raise VRAGError("the oracle only plays questions whose answers it knows: choose one from the list")
        started = time.perf_counter()
        self.take(self.world.agents[agent].act(episode), started)
        self.agent = agent

    def play(self, agent: str) -> Iterator[None]:
        """Let an agent take turns until the end or until :attr:`stop` is set; yields after every turn."""
        while not self._running(ended=True).done and not self.stop.is_set():
            self.let(agent)
            yield

    def take(self, turn: str, started: float | None = None) -> None:
        """Take one turn, whoever wrote it."""
        began = time.perf_counter() if started is None else started
        self._running().step_text(turn)
        self._seconds.append(time.perf_counter() - began)

    def take_search(self, query: str) -> None:
        """Search in place of the agent."""
        self._act(Search(query.strip()), "type a query first", bool(query.strip()))

    def take_crop(self, box: Sequence[float]) -> None:
        """Cut out a region in place of the agent; the box is in pixels of the image seen last.

        Raises:
            VRAGError: If no page has been shown yet, or there is no box.
        """
        view = self._running().view
        if view is None:
            raise VRAGError("there is no image to cut from yet: search first")
        x0, y0, x1, y1 = (float(value) for value in box)
        if self._running().config.box_frame == "1000":
            x0, x1 = x0 * 1000 / view.size[0], x1 * 1000 / view.size[0]
            y0, y1 = y0 * 1000 / view.size[1], y1 * 1000 / view.size[1]
        corners = (round(min(x0, x1)), round(min(y0, y1)), round(max(x0, x1)), round(max(y0, y1)))
        self._act(Crop(corners), "draw a box on the image first", corners[2] > corners[0] and corners[3] > corners[1])

    def take_answer(self, text: str) -> None:
        """Answer in place of the agent."""
        self._act(Answer(text.strip()), "type an answer first", bool(text.strip()))

    def _act(self, action: Search | Crop | Answer, otherwise: str, complete: bool) -> None:
        if not complete:
            raise VRAGError(otherwise)
        try:
            turn = format_turn("I do this myself.", action)
        except ValueError as error:
            raise VRAGError(str(error)) from error
        self.take(turn)
        self.agent = f"{self.agent} and you" if self.agent and "you" not in self.agent else self.agent or "you"

    def _running(self, ended: bool = False) -> Episode:
        if self.episode is None:
            raise VRAGError("no episode has begun: ask a question first")
        if self.episode.done and not ended:
            raise VRAGError("the episode has ended: ask again to begin a new one")
        return self.episode

    def record(self) -> EpisodeRecord:
        """The record so far; without rewards where no answer is known to compare with."""
        episode = self._running(ended=True)
        record = EpisodeRecord.of(episode, self.agent, seconds=self._seconds)
        if self.known:
            return record
        turns = tuple(replace(turn, reward=0.0, reward_terms=()) for turn in record.turns)
        return replace(record, turns=turns, weights={}, is_success=False)

    @property
    def view(self) -> View | None:
        """The view that the agent saw last."""
        return None if self.episode is None else self.episode.view


def check_upload(path: Path) -> int:
    """Check an uploaded file by its ending, size and first bytes, before anything parses it.

    Returns:
        Its size in bytes.

    Raises:
        VRAGError: If it is not of a kind that can be added, or not what its name says.
    """
    expected = SIGNATURES.get(path.suffix.lower())
    if expected is None:
        raise VRAGError(f"{path.name}: expected a file that ends with {', '.join(SIGNATURES)}")
    size = path.stat().st_size
    if size > MAX_UPLOAD_BYTES:
        raise VRAGError(f"{path.name}: {size // 1024**2} MB is over the limit of {MAX_UPLOAD_BYTES // 1024**2} MB")
    with path.open("rb") as file:
        head = file.read(1024)
    if path.suffix.lower() == ".pdf":
        if expected[0] not in head:
            raise VRAGError(f"{path.name} is not a PDF")
    elif not head.startswith(expected):
        raise VRAGError(f"{path.name} is not what its ending {path.suffix} says")
    return size
