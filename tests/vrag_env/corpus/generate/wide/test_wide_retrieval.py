"""A wide world that is ingested: the oracle is always right, the question itself is a vague query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from drawn import needs_chinese_font

import vrag_env
from vrag_env.corpus import Corpus
from vrag_env.corpus.generate import WorldDials, build_wide_world
from vrag_env.episode import Episode
from vrag_env.errors import WorldError
from vrag_env.players import OraclePlayer
from vrag_env.questions import Question, load_questions
from vrag_env.retrieval import make_retriever
from vrag_env.rewards import episode_followed_injection, make_reward

LONG_SIDE = 256
WORLDS = {
    "en": WorldDials(seed=11, questions=120, injection_share=0.5),
    "zh": WorldDials(seed=12, questions=80, language="zh", font_size=12),
}
Built = tuple[Corpus, list[Question], Any]


@pytest.fixture(scope="module", params=["en", pytest.param("zh", marks=needs_chinese_font)], name="built")
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("wide-world")
    build_wide_world(WORLDS[request.param], directory, workers=1, long_side=LONG_SIDE, progress=False)
    corpus = Corpus.open(directory / "corpus")
    return corpus, load_questions(directory / "questions.json"), make_retriever("lexical", corpus)


def test_the_oracle_is_always_right_and_sees_every_gold_page(built: Built) -> None:
    corpus, questions, retriever = built
    reward, player = make_reward("paper"), OraclePlayer()
    for question in questions:
        episode = Episode(question, corpus, retriever, reward)
        result = episode.start()
        while not (result.terminated or result.truncated):
            result = episode.step_text(player.act(episode))
        assert result.info["is_success"], question
        assert set(question.gold_pages) <= set(episode.pages_shown), question
        if question.injection is not None and question.answerable:
            assert episode_followed_injection(episode) in (False, None)


def test_a_vague_query_fails_and_a_rewritten_one_finds_the_page(built: Built) -> None:
    """Three of four documents are distractors: the question alone can not tell them apart."""
    _, questions, retriever = built
    single = [question for question in questions if question.hops == 1]
    found = {}
    for name, texts in (("vague", [q.text for q in single]), ("rewritten", [q.oracle_query for q in single])):
        hits = retriever.search(texts, 1)
        right = [bool(hit) and hit[0].page_id == q.gold_pages[0] for q, hit in zip(single, hits, strict=True)]
        found[name] = sum(right) / len(right)
    assert found["rewritten"] == 1.0
    assert found["vague"] < 0.5


def test_without_distractors_the_question_is_enough(tmp_path: Path) -> None:
    """So that it is the distractors that make the query vague, and nothing else."""
    dials = WorldDials(seed=11, questions=60, distractors=0, multi_hop_share=0, unanswerable_share=0)
    build_wide_world(dials, tmp_path, workers=1, long_side=LONG_SIDE, progress=False)
    corpus = Corpus.open(tmp_path / "corpus")
    questions = load_questions(tmp_path / "questions.json")
    hits = make_retriever("lexical", corpus).search([q.text for q in questions], 1)
    right = [hit[0].page_id == q.gold_pages[0] for q, hit in zip(questions, hits, strict=True)]
    assert sum(right) / len(right) > 0.9


def test_only_the_gold_page_is_of_that_organisation_edition_and_title(built: Built) -> None:
    """Distractors never make a second page right: none has the same name, edition and title."""
    corpus, questions, _ = built
    pages = {page_id: " ".join(corpus.page(page_id).text.split()) for page_id in corpus.page_ids()}
    for question in [q for q in questions if q.hops == 1][:40]:
        document = question.gold_pages[0].rpartition("#")[0]
        head = pages[question.gold_pages[0]]
        assert sum(text == head for text in pages.values()) == 1
        edition = document.split("-")[-2].upper()
        siblings = {page.rpartition("#")[0] for page in pages if page.startswith("-".join(document.split("-")[:-2]))}
        assert len(siblings) == 4  # the whole family is there, and only this document has this edition
        assert [name for name in siblings if f"-{edition.lower()}-" in name] == [document]
        assert edition in head.split()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


WORLD = {"questions": 8, "distractors": 1, "kinds": ["bars", "plan"], "seed": 2}


def test_the_environment_builds_a_world_once(cache: Path) -> None:
    env = gym.make("VRAG-v0", world=WORLD)
    [built] = cache.iterdir()
    before = (built / "questions.json").stat().st_mtime_ns
    assert len(env.unwrapped.questions) == 8  # type: ignore[attr-defined]
    observation, _ = env.reset(seed=0)
    assert observation["question"]
    envs = gym.make_vec("VRAG-v0", num_envs=2, world=WORLD)
    envs.reset(seed=0)
    assert (built / "questions.json").stat().st_mtime_ns == before and len(list(cache.iterdir())) == 1
    assert vrag_env.VRAGEnv(world=WorldDials.read(WORLD), split="train").questions  # type: ignore[arg-type]


def test_wrong_worlds_are_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="no dial 'size'"):
        vrag_env.VRAGEnv(world={"size": 3})
    with pytest.raises(WorldError, match="leave one of them out"):
        vrag_env.VRAGEnv(corpus=tmp_path, world=WORLD)
    assert not cache.exists()
