from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_env.corpus.text import STOP_WORDS, clean_text, whole_words


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(), max_size=50) | st.text(st.characters(categories=["Cs", "Cc"]), max_size=20))
def test_clean_text_is_always_storable(text: str) -> None:
    clean = clean_text(text)
    clean.encode("utf-8")
    assert not any(ord(char) < 32 and char not in "\t\n\r" for char in clean)


def test_clean_text_keeps_what_is_text() -> None:
    assert clean_text("Müller 你好 π ≤ 3\n\U0001f600") == "Müller 你好 π ≤ 3\n\U0001f600"
    assert clean_text("\ud83d\ude00") == "\U0001f600"  # the halves of one character
    assert clean_text("e\ufb03cient in\u00adcome") == "efficient income"


def test_whole_words_keep_compounds_and_drop_what_stands_around() -> None:
    assert whole_words('("query.h", dh-make; labeling_lboxed...)') == "query.h dh-make labeling_lboxed"
    assert whole_words("non\u2011breaking 3.14 - 7") == "non-breaking 3.14 7"
    assert whole_words("*") == ""


def test_stop_words_are_distinct_words_of_their_own() -> None:
    assert len(set(STOP_WORDS)) == len(STOP_WORDS)
    assert all(word.isalpha() and word.islower() for word in STOP_WORDS)
    assert not {"dog", "cat", "war", "man", "chart"} & set(STOP_WORDS)
