"""``vrag serve`` as a process of its own, over real HTTP."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from vrag_agent.serve_command import ServeError, _public_name, read_token
from vrag_env.retrieval import LexicalRetriever
from vrag_env.retrieval.remote import RemoteRetriever

VRAG = [sys.executable, "-m", "vrag_agent.cli"]


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "VRAG_SERVE_TOKEN"}
    return {**kept, "PYTHONUNBUFFERED": "1", **changes}


@contextmanager
def running(*arguments: object, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run the server; gives the process, its first line and its address."""
    process = subprocess.Popen(
        [*VRAG, "serve", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"at http://\S+:(\d+)$", line)
        assert found, (line, process.stderr and process.stderr.read())
        yield process, line, f"http://127.0.0.1:{found[1]}"
    finally:
        process.kill()
        process.communicate()


def refused(*arguments: object, **variables: str) -> str:
    """Run a server that must not start; gives its message."""
    done = subprocess.run(
        [*VRAG, "serve", "--port", "0", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=200,
    )
    assert done.returncode == 2 and done.stderr.startswith("vrag: ") and "Traceback" not in done.stderr, done
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_told_to_end(tiny_corpus: Any, number: signal.Signals) -> None:
    with running("--corpus", tiny_corpus.path, "--max-k", 5) as (process, line, url):
        assert line.startswith(
            f"serving {tiny_corpus.path} (8 pages, retriever lexical, no token) at http://127.0.0.1:"
        )
        remote = RemoteRetriever(url, fingerprint=tiny_corpus.fingerprint)  # leaves a connection open
        assert remote.search(["report"], 5) == LexicalRetriever(tiny_corpus).search(["report"], 5)
        assert httpx.get(url + "/health", trust_env=False, timeout=100).json()["limits"]["max_k"] == 5
        assert (
            httpx.get(url + "/health", headers={"Host": "evil.example"}, trust_env=False, timeout=100).status_code
            == 421
        )
        process.send_signal(number)
        rest, errors = process.communicate(timeout=100)
    assert (process.returncode, rest, errors) == (0, "stopped\n", "")


def test_other_machines_need_a_token(tiny_corpus: Any, tmp_path: Path) -> None:
    message = refused("--corpus", tiny_corpus.path, "--host", "0.0.0.0")
    assert "can be reached from other machines" in message and "--token-file" in message
    secret = tmp_path / "token"
    secret.write_text("s3cret-word\n")
    with running("--corpus", tiny_corpus.path, "--host", "0.0.0.0", "--token-file", secret) as (_, line, url):
        assert "with token" in line and "s3cret" not in line
        body = {"queries": ["report"]}
        assert httpx.post(url + "/search", json=body, trust_env=False, timeout=100).status_code == 401
        right = {"Authorization": "Bearer s3cret-word", "Host": "my.cluster:80"}
        assert httpx.post(url + "/search", json=body, headers=right, trust_env=False, timeout=100).status_code == 200


def test_the_token_may_come_from_the_environment(tiny_corpus: Any) -> None:
    with running("--corpus", tiny_corpus.path, VRAG_SERVE_TOKEN="s3cret-word") as (_, _line, url):
        assert httpx.get(url + "/metrics", trust_env=False, timeout=100).status_code == 401
        assert RemoteRetriever(url, token="s3cret-word").search(["amber"], 1)[0]


def test_what_can_not_be_served(tiny_corpus: Any, tmp_path: Path) -> None:
    assert "no corpus at" in refused("--corpus", tmp_path / "nowhere")
    assert "unknown retriever 'nonesuch'" in refused("--corpus", tiny_corpus.path, "--retriever", "nonesuch")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused("--corpus", tiny_corpus.path, "--port", port)
    assert f"can not listen at 127.0.0.1:{port}" in message and "choose another --port" in message


def test_a_missing_extra_is_named(tiny_corpus: Any) -> None:
    for package in ("uvicorn", "fastapi", "prometheus_client"):
        script = (
            f"import sys; sys.modules[{package!r}] = None; sys.argv = ['vrag', 'serve', '--corpus', "
            f"{str(tiny_corpus.path)!r}]; from vrag_agent.cli import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), timeout=200
        )
        assert done.returncode == 2
        assert done.stderr == f'vrag: {package} is not installed: run pip install "vrag-gym[serve]"\n'


def test_help_teaches() -> None:
    done = subprocess.run([*VRAG, "serve", "--help"], capture_output=True, text=True, env=environment(COLUMNS="200"))
    assert done.returncode == 0
    for part in ("--token-file", "--max-queue", "VRAG_SERVE_TOKEN", "vrag serve --corpus", "curl", "/metrics", "429"):
        assert part in done.stdout


def test_reading_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VRAG_SERVE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("VRAG_SERVE_TOKEN", " from-environment\n")
    assert read_token(None) == "from-environment"
    file = tmp_path / "token"
    file.write_text("\nfrom-file  \n")
    assert read_token(file) == "from-file"
    with pytest.raises(ServeError, match="can not be read"):
        read_token(tmp_path / "nowhere")
    for content in (b"", b"  \n", b"two words", b"two\nlines", "schl\u00fcssel".encode(), b"\xff", b"a\x00b"):
        file.write_bytes(content)
        with pytest.raises(ServeError) as unusable:
            read_token(file)
        assert str(file) in str(unusable.value) and "words" not in str(unusable.value)
    monkeypatch.setenv("VRAG_SERVE_TOKEN", "two words")
    with pytest.raises(ServeError, match="VRAG_SERVE_TOKEN holds no token"):
        read_token(None)


def test_callers_see_no_directory_and_no_address() -> None:
    assert _public_name("lexical") == "lexical" and _public_name("vidore/colqwen2-v1.0") == "colqwen2-v1.0"
    assert _public_name("/srv/secret/my-model") == "my-model" and _public_name("C:\\models\\mine") == "C:mine"
    assert _public_name("hybrid:lexical+/srv/secret/mine*0.5+vidore/x") == "hybrid:lexical+mine*0.5+x"
    assert _public_name("http://10.0.0.1:8000/inner") == "remote"


def test_an_environment_takes_the_address_as_its_retriever(tiny_corpus: Any, tiny_questions: Any) -> None:
    from vrag_env.env import VRAGEnv

    turn = "<think>a</think><search>revenue report</search>"
    with running("--corpus", tiny_corpus.path) as (_, _line, url):
        shown = []
        for retriever in ("lexical", url):
            env = VRAGEnv(corpus=tiny_corpus.path, questions=tiny_questions, retriever=retriever)
            env.reset(seed=0)
            shown.append([env.step(turn)[4]["pages_shown"] for _ in range(3)])
    assert shown[0] == shown[1] and len(shown[0][-1]) == 3
