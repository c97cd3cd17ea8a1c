"""The actions of an agent, the grammar in which it writes them, and the printer that is its inverse.

One turn is a thought and then exactly one action, with nothing but white space around them::

    turn   = "<think>" text "</think>" action
    action = "<search>" query "</search>"
           | "<bbox>" "[" number "," number "," number "," number "]" "</bbox>"
           | "<answer>" text "</answer>"

A thought ends at the first ``</think>``; what stands inside it is thought, whatever tags it holds. The prompt
text (:func:`describe`), the parser (:func:`parse`) and the printer (:func:`format_turn`) live in this one
file, so that they can not drift apart.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MAX_QUERY_CHARS = 1_000
MAX_ANSWER_CHARS = 10_000

TAGS = ("search", "bbox", "answer")
_ANY_TAG = re.compile(r"</?(?:think|search|bbox|answer)>")
_NUMBER = r"\s*[+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*"
_BOX = re.compile(rf"\s*\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]\s*")
_NO_SURROGATES = {code: 0xFFFD for code in range(0xD800, 0xE000)}


@dataclass(frozen=True)
class Search:
    """Look for pages.

    Attributes:
        query: The query, stripped, without control characters.
    """

    query: str


@dataclass(frozen=True)
class Crop:
    """Cut a region out of the image seen last and enlarge it.

    Attributes:
        box: ``(x1, y1, x2, y2)`` as written, in the frame that the episode was told to use.
    """

    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Answer:
    """Answer the question and end the episode.

    Attributes:
        text: The answer, stripped.
    """

    text: str


@dataclass(frozen=True)
class Invalid:
    """A turn that can not be executed.

    Attributes:
        reason: What was wrong, in words that the policy can act on; contains no tag.
    """

    reason: str


Action = Search | Crop | Answer | Invalid


@dataclass(frozen=True)
class ParsedTurn:
    """What one turn says.

    Attributes:
        thought: The text of the thought; empty if there is none.
        action: The action, or why there is none.
    """

    thought: str
    action: Action


def parse(text: object) -> ParsedTurn:
    """Read one turn.

    Args:
        text: What the agent wrote. Anything that is not a string is an invalid turn.

    Returns:
        The thought and the action. Never raises: whatever does not fit the grammar is :class:`Invalid`.

    >>> parse("<think>I need the page.</think><search>revenue 2021</search>").action
    Search(query='revenue 2021')
    >>> parse("<think><search>x</search></think><answer>42</answer>").action
    Answer(text='42')
    >>> parse("<think>a</think><search>x</search><answer>42</answer>").action
    Invalid(reason='there is text after the action: write exactly one action and nothing after it')
    """
    if not isinstance(text, str):
        return ParsedTurn("", Invalid(f"the turn must be text, not {type(text).__name__}"))
    text = text.translate(_NO_SURROGATES)
    rest = text.lstrip()
    if not rest.startswith("<think>"):
        return ParsedTurn("", Invalid("a turn starts with a thought in think tags"))
    thought, closed, rest = rest[len("<think>") :].partition("</think>")
    if not closed:
        return ParsedTurn("", Invalid("the think tag is not closed"))
    return ParsedTurn(thought.strip(), _parse_action(rest.strip()))


def _parse_action(rest: str) -> Action:
    tag = next((tag for tag in TAGS if rest.startswith(f"<{tag}>")), None)
    if tag is None:
        if not rest:
            return Invalid("there is no action after the thought: write a search, bbox or answer tag")
        return Invalid("after the thought comes a search, bbox or answer tag and no other text")
    body, closed, tail = rest[len(tag) + 2 :].partition(f"</{tag}>")
    if not closed:
        return Invalid(f"the {tag} tag is not closed")
    if tail:
        return Invalid("there is text after the action: write exactly one action and nothing after it")
    if _ANY_TAG.search(body):
        return Invalid(f"there is a tag inside the {tag} tag: write exactly one action")
    body = body.strip()
    if not body:
        return Invalid(f"the {tag} tag is empty")
    if tag == "bbox":
        return _parse_box(body)
    if tag == "search":
        query = " ".join("".join(c if c.isprintable() else " " for c in body).split())
        if not query:
            return Invalid("the search tag is empty")
        if len(query) > MAX_QUERY_CHARS:
            return Invalid(f"the query has {len(query)} characters; at most {MAX_QUERY_CHARS} are allowed")
        return Search(query)
    if len(body) > MAX_ANSWER_CHARS:
        return Invalid(f"the answer has {len(body)} characters; at most {MAX_ANSWER_CHARS} are allowed")
    return Answer(body)


def _parse_box(body: str) -> Action:
    if not _BOX.fullmatch(body):
        return Invalid("a bbox holds four numbers in square brackets: [x1, y1, x2, y2]")
    x1, y1, x2, y2 = (float(part) for part in body.strip()[1:-1].split(","))
    return Crop((x1, y1, x2, y2))


def format_action(action: Search | Crop | Answer) -> str:
    """Write an action as an agent would; the inverse of the parser.

    Raises:
        ValueError: If the action's text holds a tag of the grammar, or is empty or too long, so that it could
            not be read back.

    >>> format_action(Crop((1, 2, 30, 40)))
    '<bbox>[1, 2, 30, 40]</bbox>'
    """
    if isinstance(action, Search):
        written = f"<search>{action.query}</search>"
    elif isinstance(action, Answer):
        written = f"<answer>{action.text}</answer>"
    else:
        written = f"<bbox>[{', '.join(_number(value) for value in action.box)}]</bbox>"
    if parse(f"<think></think>{written}").action != action:
        raise ValueError(f"an action that can not be written in the grammar: {action!r}")
    return written


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"a box holds finite numbers, got {value}")
    return str(int(value)) if value == int(value) else f"{value:.9f}".rstrip("0")


def format_turn(thought: str, action: Search | Crop | Answer) -> str:
    """Write one turn.

    Raises:
        ValueError: If the thought holds ``</think>`` or the action can not be written.
    """
    if "</think>" in thought:
        raise ValueError("a thought can not hold the closing think tag")
    return f"<think>{thought}</think>{format_action(action)}"


def describe(box_frame: str = "pixel") -> str:
    """Return the instructions for a chat policy: the task, the grammar, the frame of the boxes.

    Args:
        box_frame: ``"pixel"`` or ``"1000"``, see :class:`vrag_env.episode.EpisodeConfig`.
    """
    frame = (
        "in pixels of the image you saw last, origin at the top left"
        if box_frame == "pixel"
        else "from 0 to 1000 across and down the image you saw last, origin at the top left"
    )
    return (
        "You answer questions about a collection of document pages that you can only see as images.\n"
        "In every turn, first think inside <think> and </think>, then take exactly one action:\n"
        "- <search>query</search> shows the best matching page that you have not seen yet.\n"
        f"- <bbox>[x1, y1, x2, y2]</bbox> enlarges a region; the numbers are {frame}.\n"
        "- <answer>text</answer> gives the final answer, as short as possible; "
        "write Not answerable if the pages do not hold it.\n"
        "Write nothing else."
    )
