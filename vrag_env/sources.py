"""Where the pages and the questions of an environment come from, and whether they fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrag_env.corpus import Corpus
from vrag_env.errors import QuestionError, WorldError
from vrag_env.questions import Question, load_questions

MAX_QUESTION_CHARS = 100_000
"""Longest question; a longer one is a mistake in the data."""


def open_sources(
    corpus: str | Path | Corpus | None,
    questions: str | Path | Sequence[Question] | None,
    version: int | None,
    world: Mapping[str, Any] | None,
) -> tuple[Corpus, Sequence[Question]]:
    """Open the corpus, pinned, and read the questions; a generated world stands in for both or for the corpus."""
    if world is not None and corpus is not None:
        raise WorldError("corpus= and world= are two different sources of pages: leave one of them out")
    if corpus is None:
        from vrag_env.corpus.generate import WorldDials, builtin_world, cached_world

        directory = builtin_world() if world is None else cached_world(WorldDials.read(world))
        corpus = directory / "corpus"
        questions = directory / "questions.json" if questions is None else questions
    elif questions is None:
        raise QuestionError(
            "a corpus needs questions: pass questions= with the path of a questions file "
            'or a list of Question objects, such as [Question("q1", "How many …?", "42")]'
        )
    if isinstance(corpus, Corpus):
        opened = corpus.pinned() if version is None else Corpus.open(corpus.path, version)
    else:
        opened = Corpus.open(corpus, version).pinned()
    if isinstance(questions, str | Path):
        return opened, load_questions(questions)
    wrong = next((item for item in questions if not isinstance(item, Question)), None)
    if wrong is not None:
        raise QuestionError(f"questions must be a path or Question objects, got {type(wrong).__name__}")
    return opened, questions


def select_questions(questions: Sequence[Question], corpus: Corpus, split: str | None) -> tuple[Question, ...]:
    """Take the questions of a split and check that every one can be played on the corpus."""
    chosen = tuple(item for item in questions if split is None or item.split == split)
    if not questions:
        raise QuestionError("there is no question: questions= is empty")
    if not chosen:
        splits = sorted({item.split for item in questions})
        raise QuestionError(f"no question has split={split!r}; the splits are {splits}")
    seen: set[str] = set()
    for item in chosen:
        if item.question_id in seen:
            raise QuestionError(f"two questions have the id {item.question_id!r}: ids must be unique")
        seen.add(item.question_id)
        if len(item.text) > MAX_QUESTION_CHARS:
            raise QuestionError(
                f"question {item.question_id!r} has {len(item.text)} characters; "
                f"at most {MAX_QUESTION_CHARS} are allowed"
            )
    known = set(corpus.page_ids())
    missing = {
        item.question_id: pages for item in chosen if (pages := [page for page in _pages_of(item) if page not in known])
    }
    if missing:
        first = "; ".join(f"{name!r} needs {pages[:3]}" for name, pages in list(missing.items())[:3])
        raise QuestionError(
            f"{len(missing)} of {len(chosen)} questions have gold pages that are not in the corpus "
            f"{corpus.path}: {first}. The id of a document is its path relative to what was indexed: index "
            "the directory from which the names in the questions start, or leave these questions out"
        )
    _check_scopes(chosen, corpus)
    return chosen


def _check_scopes(questions: Sequence[Question], corpus: Corpus) -> None:
    """Check that the documents in which questions search are there."""
    known = set(corpus.doc_ids())
    for item in questions:
        missing = [name for name in item.scope or () if name not in known]
        if missing:
            raise QuestionError(
                f"question {item.question_id!r} searches in {missing[:3]}, which are not in the corpus "
                f"{corpus.path}: index these documents, or take 'scope' out of the question"
            )


def _pages_of(question: Question) -> list[str]:
    return [*question.gold_pages, *(evidence.page_id for evidence in question.evidence)]
