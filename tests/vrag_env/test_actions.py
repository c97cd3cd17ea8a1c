"""The grammar: what is an action, what is not, and that no text raises."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.actions import (
    MAX_ANSWER_CHARS,
    MAX_QUERY_CHARS,
    Answer,
    Crop,
    Invalid,
    ParsedTurn,
    Search,
    describe,
    format_action,
    format_turn,
    parse,
)

TAG = re.compile(r"</?\w+>")
PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "<search>", "</search>", "<bbox>", "</bbox>", "<answer>", "</answer>"),
        *(
            "[1, 2, 3, 4]",
            "[",
            "]",
            ",",
            "1e999",
            "nan",
            " ",
            "\n",
            "text",
            "\x00",
            "\ud800",
            "<",
            ">",
            "/",
            "٣",
        ),
    ]
)
ANY_TEXT = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cs", "Cc", "Lu"])),
    st.lists(PIECES, max_size=14).map("".join),
)


@pytest.mark.parametrize(
    ("text", "thought", "action"),
    [
        ("<think>a</think><search>b c</search>", "a", Search("b c")),
        ("  <think> a </think>\n<search>\n b \t c </search>\n ", "a", Search("b c")),
        ("<think></think><answer>42</answer>", "", Answer("42")),
        ("<think>a</think><answer> two\nlines </answer>", "a", Answer("two\nlines")),
        ("<think>a</think><bbox>[1, 2, 3, 4]</bbox>", "a", Crop((1, 2, 3, 4))),
        ("<think>a</think><bbox> [ -1.5,+2 , .5, 7. ] </bbox>", "a", Crop((-1.5, 2, 0.5, 7))),
        ("<think>a<think>b</think><answer>c</answer>", "a<think>b", Answer("c")),
        ("<think><answer>no</answer></think><answer>yes</answer>", "<answer>no</answer>", Answer("yes")),
        ("<think>a</think><answer>x < y > z</answer>", "a", Answer("x < y > z")),
        ("<think>a</think><answer><b>bold</b></answer>", "a", Answer("<b>bold</b>")),
        ("<think>a</think><search>a\x00b\x1b[31mc</search>", "a", Search("a b [31mc")),
        ("<think>a\ud800</think><answer>\udfff</answer>", "a\ufffd", Answer("\ufffd")),
    ],
)
def test_valid_turns(text: str, thought: str, action: object) -> None:
    assert parse(text) == ParsedTurn(thought, action)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "starts with a thought"),
        ("<answer>42</answer>", "starts with a thought"),
        ("Sure! <think>a</think><answer>42</answer>", "starts with a thought"),
        ("<Think>a</Think><answer>42</answer>", "starts with a thought"),
        ("<think>a<answer>42</answer>", "think tag is not closed"),
        ("<think>a</think>", "no action after the thought"),
        ("<think>a</think>  \n", "no action after the thought"),
        ("<think>a</think>42", "no other text"),
        ("<think>a</think>so <answer>42</answer>", "no other text"),
        ("<think>a</think><think>b</think><answer>42</answer>", "no other text"),
        ("<think>a</think></think><answer>42</answer>", "no other text"),
        ("<think>a</think><Answer>42</Answer>", "no other text"),
        ("<think>a</think><answer >42</answer>", "no other text"),
        ("<think>a</think><answer>42", "answer tag is not closed"),
        ("<think>a</think><answer>42</search>", "answer tag is not closed"),
        ("<think>a</think><answer>42</answer>.", "text after the action"),
        ("<think>a</think><answer>1</answer><answer>2</answer>", "text after the action"),
        ("<think>a</think><search>q</search><answer>2</answer>", "text after the action"),
        ("<think>a</think><answer>1<answer>2</answer>", "tag inside the answer tag"),
        ("<think>a</think><answer><search>q</search></answer>", "tag inside the answer tag"),
        ("<think>a</think><search>q</think></search>", "tag inside the search tag"),
        ("<think>a</think><answer> \n </answer>", "answer tag is empty"),
        ("<think>a</think><search></search>", "search tag is empty"),
        ("<think>a</think><search>\x00\x1f</search>", "search tag is empty"),
        ("<think>a</think><bbox></bbox>", "bbox tag is empty"),
        (f"<think>a</think><search>{'q' * (MAX_QUERY_CHARS + 1)}</search>", "at most 1000"),
        (f"<think>a</think><answer>{'q' * (MAX_ANSWER_CHARS + 1)}</answer>", "at most 10000"),
        (None, "must be text, not NoneType"),
        (3, "must be text, not int"),
        (["<think>"], "must be text, not list"),
    ],
)
def test_invalid_turns(text: object, reason: str) -> None:
    action = parse(text).action
    assert isinstance(action, Invalid)
    assert reason in action.reason
    assert "<" not in action.reason


@pytest.mark.parametrize(
    "box",
    [
        "1, 2, 3, 4",
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[1 2 3 4]",
        "[[1, 2, 3, 4]]",
        "[1, 2, 3, 4] [5, 6, 7, 8]",
        "[nan, 2, 3, 4]",
        "[inf, 2, 3, 4]",
        "[1e999, 2, 3, 4]",
        "[1e3, 2, 3, 4]",
        "[0x1, 2, 3, 4]",
        "[1_0, 2, 3, 4]",
        "[--1, 2, 3, 4]",
        "[., 2, 3, 4]",
        "[1, 2, 3, 9999999999]",
        "[a, b, c, d]",
        "{1, 2, 3, 4}",
    ],
)
def test_a_box_is_four_plain_numbers(box: str) -> None:
    action = parse(f"<think>a</think><bbox>{box}</bbox>").action
    assert action == Invalid("a bbox holds four numbers in square brackets: [x1, y1, x2, y2]")


def test_the_longest_texts_are_still_read() -> None:
    assert parse(f"<think></think><search>{'q' * MAX_QUERY_CHARS}</search>").action == Search("q" * 1000)
    assert parse(f"<think></think><answer>{'q' * MAX_ANSWER_CHARS}</answer>").action == Answer("q" * 10_000)
    assert parse(f"<think>{'t' * 1_000_000}</think><answer>1</answer>").action == Answer("1")


@settings(deadline=None, max_examples=400)
@given(ANY_TEXT, ANY_TEXT)
def test_no_text_raises_or_smuggles_a_tag(thought: str, rest: str) -> None:
    for text in (thought + rest, f"<think>{thought}</think>{rest}"):
        parsed = parse(text)
        parsed.thought.encode()  # no surrogate gets through
        if isinstance(parsed.action, Invalid):
            assert not TAG.search(parsed.action.reason)
        else:
            assert parse(format_turn(parsed.thought, parsed.action)) == parsed


@settings(deadline=None, max_examples=200)
@given(
    st.text(max_size=50),
    st.one_of(
        st.builds(Search, st.text(max_size=30)),
        st.builds(Answer, st.text(max_size=30)),
        st.builds(Crop, st.tuples(*[st.one_of(st.integers(-99, 9999), st.floats(-9e9, 9e9))] * 4)),
    ),
)
def test_what_is_written_is_read_back_or_refused(thought: str, action: Search | Answer | Crop) -> None:
    try:
        text = format_turn(thought, action)
    except ValueError:
        return
    assert parse(text).action == action


@settings(deadline=None, max_examples=100)
@given(st.text("abc -.5%ü中", min_size=1, max_size=30), st.tuples(*[st.integers(-999, 9999)] * 4))
def test_ordinary_actions_can_be_written(text: str, box: tuple[int, int, int, int]) -> None:
    assert parse(format_turn("I look.", Crop(box))).action == Crop(box)
    body = " ".join(text.split())
    if body:
        assert parse(format_turn(text, Search(body))).action == Search(body)
        assert parse(format_turn(text, Answer(body))).action == Answer(body)


@pytest.mark.parametrize(
    "action",
    [
        Answer("a</answer>b"),
        Answer(""),
        Answer(" padded "),
        Search("two  spaces"),
        Search("a<think>"),
        Search("q" * 1001),
        Crop((float("nan"), 0, 1, 1)),
        Crop((float("inf"), 0, 1, 1)),
        Crop((1e12, 0, 1, 1)),
        Crop((1e-12, 0, 1, 1)),
    ],
)
def test_actions_that_can_not_be_read_back_are_not_written(action: Search | Answer | Crop) -> None:
    with pytest.raises(ValueError, match=r"can not be written|finite"):
        format_action(action)


def test_a_thought_can_not_close_itself() -> None:
    with pytest.raises(ValueError, match="closing think tag"):
        format_turn("a</think>b", Answer("42"))


def test_numbers_are_written_plainly() -> None:
    assert format_action(Crop((1.0, 2.5, 0.125, -3))) == "<bbox>[1, 2.5, 0.125, -3]</bbox>"


@pytest.mark.parametrize(("frame", "words"), [("pixel", "in pixels"), ("1000", "from 0 to 1000")])
def test_the_instructions_state_the_grammar_and_the_frame(frame: str, words: str) -> None:
    text = describe(frame)
    assert words in text
    for tag in ("think", "search", "bbox", "answer"):
        assert f"<{tag}>" in text
