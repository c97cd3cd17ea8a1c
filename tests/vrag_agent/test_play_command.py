"""A person at the terminal: commands in, pictures and rewards out, and every way to leave."""

import base64
import io
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from vrag_agent import cli
from vrag_agent.play_command import inline_picture, inline_protocol, read_command, run_play
from vrag_env.actions import Answer, Crop, Search
from vrag_env.episode import Episode
from vrag_env.errors import VRAGError
from vrag_env.questions import save_questions

QUESTION = "amber-revenue"
WINNING = "s amber falcon north revenue\nc 80 120 660 200\na 42.5\n"


@pytest.fixture
def play(tiny_corpus: Any, tiny_questions: Any, tmp_path: Path) -> Any:
    """Return a function that plays with lines of input: ``play(text, **options)`` -> episode, what was shown."""

    def run(text: str, question: str | None = QUESTION, **options: Any) -> tuple[Episode, str]:
        env = {"corpus": tiny_corpus, "questions": tiny_questions, **options.pop("env", {})}
        screen = io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8"))
        options.setdefault("pictures", tmp_path / "pictures")
        episode = run_play(env, question=question, stdin=io.StringIO(text), stdout=screen, **options)
        screen.flush()
        return episode, screen.buffer.getvalue().decode(screen.encoding)  # type: ignore[attr-defined]

    return run


def test_a_whole_episode(play: Any, tmp_path: Path) -> None:
    episode, shown = play(WINNING, out=tmp_path / "replay.html")
    assert episode.is_success and episode.done
    assert [type(turn.action) for turn in episode.turns] == [Search, Crop, Answer]
    for part in (
        "Question: What revenue does Amber Falcon report",
        "[5 turns left] > ",
        "[3 turns left] > ",
        "Picture of finance/amber.pdf#1",
        "Right.",
        "The reference answer: 42.5",
        "Reward: 1.000\n",
        "  retrieval  1.000  weight 0.2\n",
        "  answer     1.000  weight 0.7\n",
        "  pattern    1.000  weight 0.1\n",
        "does not count",
        "Pages with the answer: finance/amber.pdf#1",
    ):
        assert part in shown, part
    for number, view in enumerate(episode.views, start=1):
        with PILImage.open(tmp_path / "pictures" / f"image-{number}.png") as image:
            assert image.size == view.size
    assert "42.5" in (tmp_path / "replay.html").read_text(encoding="utf-8")


def test_the_reference_is_not_shown_before_the_end(play: Any) -> None:
    _, shown = play("s amber falcon north revenue\n")
    assert "No more input: left." in shown
    assert "reference answer" not in shown and "Pages with the answer" not in shown and "amber.pdf#2" not in shown
    episode, shown = play("a 7\n")
    assert "Not judged right." in shown and "The reference answer: 42.5" in shown and not episode.is_success


def test_mistakes_cost_nothing(play: Any) -> None:
    lines = "\n?\nx\ns\na  \nc 1 2 3\nc a b c d\nc 1 2 3 nan\ns <search>x</search>\nsearch for it\nq\n"
    episode, shown = play(lines)
    assert episode.turns == () and shown.count("No turn was used.") == 8
    assert shown.count("s QUERY  ") == 2 and "Left." in shown


def test_turns_that_the_rules_refuse_are_used(play: Any) -> None:
    episode, shown = play("c 10 10 200 200\ns ambrosia\nc 5 5 6 6\nq\n")
    assert len(episode.turns) == 3
    assert "there is no image yet" in shown and shown.count("Invalid turn:") == 2


def test_out_of_turns(play: Any) -> None:
    episode, shown = play("s report\n" * 5)
    assert episode.state.truncated and "This is your last turn" in shown and "[1 turn left] > " in shown
    assert "Not judged right." in shown


def test_control_characters_stay_out_of_the_terminal(play: Any) -> None:
    _, shown = play("s \x1b[2Jred\x07 report\na \x1b]0;owned\x07\n")
    assert "\x1b" not in shown and "\x07" not in shown


def test_a_terminal_of_another_encoding(play: Any) -> None:
    episode, shown = play("a caf\u00e9 \u4e2d\u6587\n", encoding="ascii")
    assert episode.answer == "caf\u00e9 \u4e2d\u6587" and "\\u4e2d" in shown


def test_a_seed_draws_the_question(play: Any) -> None:
    drawn = {seed: play("q\n", question=None, seed=seed)[0].question.question_id for seed in range(6)}
    assert len(set(drawn.values())) > 1
    assert play("q\n", question=None, seed=3)[0].question.question_id == drawn[3]


def test_a_replay_of_an_episode_that_was_left(play: Any, tmp_path: Path) -> None:
    _, shown = play("s ambrosia\nq\n", out=tmp_path / "left.html")
    assert "ambrosia" in (tmp_path / "left.html").read_text(encoding="utf-8") and "Replay:" in shown


def test_bad_options(play: Any, tmp_path: Path) -> None:
    with pytest.raises(VRAGError, match="there is no question 'none'"):
        play("q\n", question="none")
    with pytest.raises(VRAGError, match="there is no directory"):
        play("q\n", out=tmp_path / "none" / "replay.html")
    with pytest.raises(VRAGError, match="max_turns must be at least 1"):
        play("q\n", env={"max_turns": 0})


def test_pictures_go_to_a_directory_of_their_own(play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _, shown = play("s ambrosia\nq\n", pictures=None)
    [made] = tmp_path.glob("vrag-play-*/image-1.png")
    assert str(made) in shown


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("s two words", Search("two words")),
        ("  a  42.5  ", Answer("42.5")),
        ("c 1 2.5 3 4", Crop((1.0, 2.5, 3.0, 4.0))),
        ("c 1, 2, 3, 4", Crop((1.0, 2.0, 3.0, 4.0))),
        ("s c 1 2 3 4", Search("c 1 2 3 4")),
    ],
)
def test_commands(line: str, action: object) -> None:
    assert read_command(line) == action


# ---------------------------------------------------------------------- pictures in the terminal


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM_PROGRAM": "Apple_Terminal", "TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_which_terminals_show_pictures(environ: dict[str, str], protocol: str | None) -> None:
    assert inline_protocol(environ) == protocol


def test_the_picture_survives_the_protocols() -> None:
    image = PILImage.effect_noise((200, 120), 90).convert("RGB")
    kitty = inline_picture(image, "kitty")
    parts = [part.removeprefix("\x1b_G") for part in kitty.strip("\n").split("\x1b\\") if part]
    heads = [part.partition(";")[0] for part in parts]
    assert len(parts) > 3 and heads[0] == "a=T,f=100,m=1" and set(heads[1:-1]) == {"m=1"} and heads[-1] == "m=0"
    assert all(len(part.partition(";")[2]) <= 4096 for part in parts)
    iterm = inline_picture(image, "iterm2")
    assert iterm.startswith("\x1b]1337;File=inline=1;size=") and iterm.endswith("\x07\n")
    for data in ("".join(part.partition(";")[2] for part in parts), iterm.partition(":")[2].strip("\x07\n")):
        with PILImage.open(io.BytesIO(base64.b64decode(data))) as shown:
            assert shown.tobytes() == image.tobytes()


# ---------------------------------------------------------------------- as a program


@pytest.fixture
def command(tiny_corpus_path: Path, tiny_questions: Any, tmp_path: Path) -> list[str]:
    save_questions(tmp_path / "questions.json", tiny_questions)
    program = [sys.executable, "-m", "vrag_agent.cli", "play", "--corpus", str(tiny_corpus_path)]
    return [*program, "--questions", str(tmp_path / "questions.json"), "--question", QUESTION]


def test_piped(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "r.html"), "--pictures", str(tmp_path / "p")],
        input=WINNING,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == "", done
    assert "Right." in done.stdout and (tmp_path / "r.html").exists() and (tmp_path / "p" / "image-2.png").exists()


def test_at_a_terminal_with_pictures_and_ctrl_c(command: list[str]) -> None:
    pty = pytest.importorskip("pty")
    main, side = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-kitty", "TMUX": ""}
    process = subprocess.Popen(
        command,
        stdin=side,
        stdout=side,
        stderr=side,
        env=environ,
        start_new_session=True,
        # A test run in the background ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(side)
    shown = b""

    def wait_for(text: bytes) -> None:
        nonlocal shown
        limit = time.monotonic() + 200
        while text not in shown:
            assert time.monotonic() < limit, shown
            if select.select([main], [], [], 30)[0]:
                shown += os.read(main, 65536)
            elif text == b"Stopped.":  # the signal came between Python's look for it and the read
                process.send_signal(signal.SIGINT)

    try:
        wait_for(b"turns left] > ")
        os.write(main, b"s ambrosia\n")
        wait_for(b"[4 turns left] > ")
        assert b"\x1b_Ga=T,f=100" in shown and b"image-1.png" not in shown
        process.send_signal(signal.SIGINT)
        wait_for(b"Stopped.")
        assert process.wait(100) == 0
        assert b"Traceback" not in shown
    finally:
        process.kill()
        os.close(main)


def test_a_bad_question_is_a_message(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vrag", *command[3:-1], "none"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("vrag: there is no question 'none'")
