"""A server that plays the tiny corpus like a strong model: it reads the conversation alone and writes a turn."""

from __future__ import annotations

from typing import Any

from chat_server import Reply

ANSWERS = {
    "What revenue does Amber": "42.5",
    "How many people does Cobalt": "310",
    "Where did most visitors": "Portugal",
    "What is the revenue of": "59.6",
    "What does a night": "Not answerable",
}
"""What the model knows, by how a question begins."""


def texts(body: dict[str, Any]) -> list[str]:
    """All texts of a request in order."""
    found = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [part["text"] for part in parts if part["type"] == "text"]
    return found


def pictures(body: dict[str, Any]) -> list[str]:
    """All images of a request in order, as data URLs."""
    return [
        part["image_url"]["url"]
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]


def turn(body: dict[str, Any], crop: str = "") -> str:
    """Search with the question, then crop if asked to, then answer."""
    question = next(text for text in texts(body) if text.startswith("Question: ")).removeprefix("Question: ")
    messages = body["messages"]
    refused = {i - 1 for i, message in enumerate(messages) if "can not be taken" in str(message["content"])[:200]}
    said = [m["content"] for i, m in enumerate(messages) if m["role"] == "assistant" and i not in refused]
    if not said:
        return f"<think>I look.</think><search>{question}</search>"
    if crop and len(said) == 1 and pictures(body):
        return f"<think>I zoom in.</think>{crop}"
    answer = next(answer for begin, answer in ANSWERS.items() if question.startswith(begin))
    return f"<think>I read it.</think><answer>{answer}</answer>"


def play(number: int, body: dict[str, Any]) -> Reply:
    """Script of a server that always replies."""
    return Reply(turn(body))
