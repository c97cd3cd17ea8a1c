"""What ``vrag play`` does: a person plays one episode in the terminal."""

from __future__ import annotations

import base64
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from PIL import Image as PILImage

from vrag_agent.commands import make_env
from vrag_env.actions import Answer, Crop, Search, format_turn
from vrag_env.episode import Block, Episode, Image
from vrag_env.errors import VRAGError
from vrag_env.questions import Question
from vrag_env.render import printable
from vrag_env.replay import write_replay

HELP = """\
You see only what an agent sees. Every search, cut or answer takes a turn; open the pictures in any viewer.

  s QUERY          search: shows the best page that you have not seen yet
  c X1 Y1 X2 Y2    cut this region out of the picture seen last and enlarge it: left, upper, right and
                   lower edge, {frame}
  a ANSWER         answer, which ends the episode ("a Not answerable" if the pages do not hold it)
  ?                this help
  q                stop"""
_CHUNK = 4096  # bytes of one escape sequence of kitty's protocol


def run_play(
    env_options: Mapping[str, Any],
    *,
    question: str | None = None,
    seed: int = 0,
    pictures: Path | None = None,
    out: Path | None = None,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
) -> Episode:
    """Play one episode with a person.

    Args:
        env_options: Keyword arguments of :class:`vrag_env.env.VRAGEnv`.
        question: Id of the question; by default the first one in the order of ``seed``.
        seed: Of the environment.
        pictures: Directory for the pictures. By default they are shown in the terminal where it can (kitty and
            iTerm2, and those that speak like them), and else written to a temporary directory.
        out: Where the replay goes, also of an episode that was left early.
        stdin: Where the commands come from.
        stdout: Where everything is shown.

    Returns:
        The episode, ended or left.

    Raises:
        VRAGError: If an option does not fit, there is no such question, or ``out`` can not be written.
    """
    source, screen = stdin or sys.stdin, stdout or sys.stdout
    if out is not None and not out.parent.is_dir():  # before an episode is played in vain
        raise VRAGError(f"there is no directory {out.parent} for the replay {out.name}: make it first")
    env = make_env(env_options)
    try:
        _, info = env.reset(seed=seed, options={} if question is None else {"question_id": question})
    except VRAGError:
        raise
    except ValueError as error:  # an unknown id
        raise VRAGError(str(error)) from error
    player = _Table(env.episode, source, screen, pictures)
    try:
        player.play(info["blocks"])
    except KeyboardInterrupt:
        player.say("\nStopped.")
    player.close(env.episode.question)
    if out is not None:
        write_replay(out, env.episode, f"A person plays: {env.episode.question.question_id}")
        player.say(f"Replay: {out}")
    return env.episode


def inline_protocol(environ: Mapping[str, str]) -> str | None:
    """Tell by the environment variables how a terminal shows pictures: ``"kitty"``, ``"iterm2"`` or not at all.

    >>> inline_protocol({"TERM": "xterm-kitty"}), inline_protocol({"TERM": "xterm"})
    ('kitty', None)
    """
    program = environ.get("TERM_PROGRAM", "")
    if environ.get("TMUX") or environ.get("TERM", "").startswith(("screen", "tmux")):
        return None  # multiplexers swallow the sequences, or print them as text
    if "KITTY_WINDOW_ID" in environ or environ.get("TERM") in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return None


def inline_picture(image: PILImage.Image, protocol: str) -> str:
    """Write a picture as escape sequences.

    Args:
        image: The picture.
        protocol: ``"kitty"`` (its graphics protocol, PNG in chunks) or ``"iterm2"`` (inline images).
    """
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    if protocol == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(buffer.getvalue())}:{data}\x07\n"
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    parts = []
    for index, chunk in enumerate(chunks):
        first = "a=T,f=100," if index == 0 else ""
        parts.append(f"\x1b_G{first}m={int(index + 1 < len(chunks))};{chunk}\x1b\\")
    return "".join(parts) + "\n"


def read_command(line: str) -> Search | Crop | Answer:
    """Read a command that takes a turn.

    Raises:
        ValueError: If it is none, or its argument does not fit; the message says what was expected.

    >>> read_command("c 10 20 300, 400")
    Crop(box=(10.0, 20.0, 300.0, 400.0))
    """
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if name == "s" and rest:
        action: Search | Crop | Answer = Search(rest)
    elif name == "a" and rest:
        action = Answer(rest)
    elif name == "c":
        try:
            x1, y1, x2, y2 = (float(part) for part in rest.replace(",", " ").split())
        except ValueError as error:
            raise ValueError("c needs four numbers: c X1 Y1 X2 Y2") from error
        action = Crop((x1, y1, x2, y2))
    elif name in ("s", "a"):
        raise ValueError(f"{name} needs a text: {name} " + ("QUERY" if name == "s" else "ANSWER"))
    else:
        raise ValueError(f"unknown command {printable(name)[:20]!r}: a line starts with s, c or a; type ? for help")
    try:
        format_turn("", action)
    except ValueError as error:
        raise ValueError("this can not be written as a turn: it is too long, or holds a tag of the grammar") from error
    return action


class _Table:
    """Where the episode is shown and the commands are read."""

    def __init__(self, episode: Episode, source: TextIO, screen: TextIO, pictures: Path | None) -> None:
        self._episode = episode
        self._source = source
        self._screen = screen
        self._protocol = inline_protocol(os.environ) if pictures is None and screen.isatty() else None
        self._pictures = pictures

    def say(self, text: str, end: str = "\n") -> None:
        """Print a text; what the terminal's encoding does not have is escaped."""
        encoding = self._screen.encoding or "utf-8"
        self._screen.write(text.encode(encoding, "backslashreplace").decode(encoding) + end)
        self._screen.flush()

    def play(self, blocks: tuple[Block, ...]) -> None:
        """Show what is new, take a turn, and so on to the end of the episode or of the commands."""
        frame = "in its pixels" if self._episode.config.box_frame == "pixel" else "from 0 to 1000 on both axes"
        self.say(HELP.format(frame=frame) + "\n")
        self._show(blocks)
        for line in self._lines():
            command = line.strip()
            if command == "q":
                self.say("Left.")
                return
            if command in ("?", "h", "help"):
                self.say(HELP.format(frame=frame))
                continue
            if not command:
                continue
            try:
                action = read_command(command)
            except ValueError as error:
                self.say(f"{error}. No turn was used.")
                continue
            self._show(self._episode.step_text(format_turn("", action)).blocks)
            if self._episode.done:
                return
        self.say("\nNo more input: left.")

    def close(self, question: Question) -> None:
        """Show how it ended."""
        episode = self._episode
        if episode.done:
            self.say("Right." if episode.is_success else "Not judged right.")
            self.say(f"The reference answer: {printable(question.answer)}")
        if episode.turns:
            self.say(f"Reward: {sum(turn.reward for turn in episode.turns):.3f}")
            for name, value in episode.turns[-1].reward_terms:
                weight = episode.reward.weights.get(name)
                counts = "does not count" if weight is None else f"weight {weight:g}"
                self.say(f"  {name:<10} {value:.3f}  {counts}")
        pages = ", ".join(map(printable, question.gold_pages)) or "(none)"
        if episode.done:
            self.say(f"Pages with the answer: {pages}")
            self.say(f"Pages that you saw: {', '.join(map(printable, episode.pages_shown)) or '(none)'}")

    def _lines(self) -> Iterator[str]:
        while True:
            left = self._episode.config.max_turns + 1 - len(self._episode.turns)
            self.say(f"[{left} turn{'s' if left != 1 else ''} left] > ", end="")
            line = self._source.readline()
            if not line:
                return
            if not self._source.isatty():
                self.say(printable(line.rstrip("\n")))  # so that a transcript shows what was typed
            yield line

    def _show(self, blocks: tuple[Block, ...]) -> None:
        for block in blocks:
            if isinstance(block, Image):
                self._show_picture(block)
            else:
                self.say(printable(block.text))

    def _show_picture(self, block: Image) -> None:
        if self._protocol is not None:
            self._screen.write(inline_picture(block.image, self._protocol))
            self._screen.flush()
            return
        if self._pictures is None:
            self._pictures = Path(tempfile.mkdtemp(prefix="vrag-play-"))
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = self._pictures / f"image-{block.view.view_id}.png"
        block.image.save(path)
        self.say(f"Picture of {printable(block.view.page_id)}: {shlex.quote(str(path))}")
