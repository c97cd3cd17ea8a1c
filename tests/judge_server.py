"""The server of :mod:`chat_server` as a judging model."""

from __future__ import annotations

import json
from typing import Any

import chat_server
from chat_server import ChatServer

CORRECT = "<verdict>correct</verdict>"
INCORRECT = "<verdict>incorrect</verdict>"


class Reply(chat_server.Reply):
    """One reply of the server; by default the verdict that the answer is correct."""

    def __init__(self, text: str | None = CORRECT, **options: Any) -> None:
        super().__init__(text, **options)


class JudgeServer(ChatServer):
    """The server; it says that everything is correct until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.script = lambda number, body: Reply()


def payload(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the one line of JSON in a request holds."""
    lines = body["messages"][1]["content"].split("\n")
    assert len(lines) == 3
    return json.loads(lines[1])
