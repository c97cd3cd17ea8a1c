"""``vrag app``: start the web page."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vrag_agent.commands import make_env
from vrag_env.errors import VRAGError, missing_extra

PASSWORD_VARIABLE = "VRAG_APP_PASSWORD"


def run_app(
    *,
    env_options: Mapping[str, Any],
    agents: Sequence[str],
    runs: Path,
    host: str,
    port: int,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the web page until Ctrl-C.

    Args:
        env_options: Keyword arguments of the environment: corpus, questions, retriever, rules.
        agents: Who can play, see :func:`vrag_agent.app.agents.make_agent`; the first is chosen at first.
        runs: Directory of recorded runs.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        say: Prints where the page is.

    Raises:
        VRAGError: If the extra is missing, an agent can not be made, or the address would be open to others
            without a password.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported: no request leaves the machine
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import uvicorn

        from vrag_agent.app.page import LOOPBACK, make_app
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "app") from error
    from vrag_agent.app.agents import make_agent
    from vrag_agent.app.session import World

    local = host in LOOPBACK
    password = os.environ.get(PASSWORD_VARIABLE)
    if not local and not password:
        raise VRAGError(
            f"{host} can be reached by others: set a password in the environment variable {PASSWORD_VARIABLE}, "
            "or listen at 127.0.0.1"
        )
    env = make_env(env_options)
    world = World(
        corpus=env.corpus,
        retriever=env.retriever,
        questions={question.question_id: question for question in env.questions},
        reward=env.reward,
        config=env.config,
        agents={name: make_agent(name) for name in agents},
    )
    app = make_app(world, runs, loopback=local, auth=("vrag", password) if password else None)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise VRAGError(
                f"can not listen at {host}, port {port} ({error.strerror}): choose another --port"
            ) from error
        bound.listen()
        where = f"[{host}]" if ":" in host else host
        say(f"VRAG-Gym is at http://{where}:{bound.getsockname()[1]} (Ctrl-C ends it)")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        server.run(sockets=[bound])
