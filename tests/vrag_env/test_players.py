from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from vrag_env.actions import Answer, Crop, Invalid, Search, parse
from vrag_env.corpus import Corpus, ingest
from vrag_env.episode import Episode, EpisodeConfig, step_many
from vrag_env.errors import VRAGError
from vrag_env.players import PLAYERS, OraclePlayer, Player, RandomPlayer, make_player
from vrag_env.questions import Evidence, Question
from vrag_env.retrieval import LexicalRetriever
from vrag_env.rewards import Reward
from vrag_env.views import PixelBudget

PAGES = (
    ("Harbour report", "The harbour of Norden has 48 cranes and 12 tugs."),
    ("Harbour report", "The harbour of Suden has 31 cranes and 9 tugs."),
    ("Harbour staff", "The master of the harbour of Norden is Vera Holm since 2011."),
    ("Annex", "zirconium tariff schedule for pilotage"),
    ("Annex", "quarry ledger for gravel"),
)
MakeEpisode = Callable[..., Episode]


def page_id(number: int) -> str:
    return f"harbour.pdf#{number}"


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, LexicalRetriever]:
    folder: Path = tmp_path_factory.mktemp("harbour")
    canvas = Canvas(str(folder / "harbour.pdf"), pagesize=(600, 600))
    for title, sentence in PAGES:
        canvas.setFont("Helvetica", 24)
        canvas.drawString(60, 520, title)
        canvas.setFont("Helvetica", 12)
        canvas.drawString(60, 300, sentence)
        canvas.showPage()
    canvas.save()
    corpus = Corpus.create(folder / "corpus")
    ingest([folder / "harbour.pdf"], corpus, long_side=600, workers=1, progress=False)
    return corpus, LexicalRetriever(corpus)


@pytest.fixture(scope="module")
def new_episode(retriever: tuple[Corpus, LexicalRetriever]) -> MakeEpisode:
    def make(config: dict[str, Any] | None = None, **fields: Any) -> Episode:
        values: dict[str, Any] = {
            "question_id": "cranes",
            "text": "How many cranes does the harbour of Norden have?",
            "answer": "48",
            "answer_format": "Int",
            "gold_pages": (page_id(1),),
            "evidence": (Evidence(page_id(1), (0.1, 0.48, 0.6, 0.51)),),
            **fields,
        }
        pixels = PixelBudget(56 * 56, 112 * 112)
        episode = Episode(
            Question(**values),
            *retriever,
            Reward.preset("paper"),
            EpisodeConfig(**{"pixels": pixels, **(config or {})}),
        )
        episode.start()
        return episode

    return make


def play(player: Player, episode: Episode) -> Episode:
    while not episode.done:
        episode.step_text(player.act(episode))
    return episode


def kinds(episode: Episode) -> list[type]:
    return [type(turn.action) for turn in episode.turns]


def terms(episode: Episode) -> dict[str, float]:
    return dict(episode.turns[-1].reward_terms)


@pytest.mark.parametrize("box_frame", ["pixel", "1000"])
def test_oracle_searches_crops_answers(new_episode: MakeEpisode, box_frame: str) -> None:
    episode = play(OraclePlayer(), new_episode({"box_frame": box_frame}))
    assert kinds(episode) == [Search, Crop, Answer]
    assert terms(episode)["answer"] == 1.0 and terms(episode)["retrieval"] == 1.0
    crop, target = episode.views[-1].box, episode.question.evidence[0].box
    assert all(crop[i] <= target[i] and crop[i + 2] >= target[i + 2] for i in (0, 1))
    assert terms(episode)["region"] > 0.3  # boxes are rounded outwards to pixels of a small image
    assert episode.turns[-1].reward == pytest.approx(1.0)


def test_oracle_reaches_all_pages_before_it_crops(new_episode: MakeEpisode) -> None:
    fields: dict[str, Any] = {
        "gold_pages": (page_id(1), page_id(2), page_id(1)),
        "evidence": (
            Evidence(page_id(1), (0.1, 0.48, 0.6, 0.51)),
            Evidence(page_id(2), (0.1, 0.48, 0.6, 0.51)),
        ),
    }
    assert kinds(play(OraclePlayer(), new_episode(**fields))) == [Search, Crop, Search, Crop, Answer]
    for max_turns, expected in ((2, [Search, Search, Answer]), (3, [Search, Crop, Search, Answer])):
        episode = play(OraclePlayer(), new_episode({"max_turns": max_turns}, **fields))
        assert kinds(episode) == expected
        assert terms(episode)["retrieval"] == 1.0
    short = play(OraclePlayer(), new_episode({"max_turns": 1}, **fields))
    assert kinds(short) == [Search, Answer]
    assert short.turns[-1].thought == "I answer without having seen every page."


def test_oracle_enlarges_boxes_of_one_page_together(new_episode: MakeEpisode) -> None:
    boxes = (Evidence(page_id(1), (0.1, 0.1, 0.3, 0.2)), Evidence(page_id(1), (0.2, 0.48, 0.6, 0.51)))
    episode = play(OraclePlayer(), new_episode(evidence=boxes))
    assert kinds(episode) == [Search, Crop, Answer]
    assert episode.views[-1].box == pytest.approx((0.1, 0.1, 0.6, 0.51), abs=0.02)


def test_oracle_pads_a_box_too_small_to_cut(new_episode: MakeEpisode) -> None:
    dot = Evidence(page_id(1), (0.5, 0.5, 0.501, 0.501))
    episode = play(OraclePlayer(), new_episode(evidence=(dot,), config={"box_frame": "1000"}))
    assert kinds(episode) == [Search, Crop, Answer]


def test_oracle_finds_a_page_that_the_question_does_not_name(new_episode: MakeEpisode) -> None:
    fields: dict[str, Any] = {"gold_pages": (page_id(4),), "evidence": ()}
    found = play(OraclePlayer(), new_episode(**fields))
    assert terms(found)["retrieval"] == 1.0 and found.pages_shown == (page_id(4),)
    told = play(OraclePlayer(), new_episode(oracle_query="pilotage", **fields))
    assert told.turns[0].action == Search("pilotage")
    misled = play(OraclePlayer(), new_episode(oracle_query="gravel", **fields))
    assert misled.turns[0].action != Search("gravel") and terms(misled)["retrieval"] == 1.0


def test_oracle_on_an_unanswerable_question(new_episode: MakeEpisode) -> None:
    fields = {"answer": "Not answerable", "answer_format": "None", "gold_pages": (), "evidence": ()}
    episode = play(OraclePlayer(), new_episode(**fields))
    assert kinds(episode) == [Search, Answer]
    assert terms(episode)["answer"] == 1.0 and episode.turns[-1].reward == pytest.approx(1.0)
    labelled = play(OraclePlayer(), new_episode(**{**fields, "gold_pages": (page_id(4),)}))
    assert kinds(labelled) == [Search, Answer] and labelled.pages_shown == (page_id(4),)


def test_oracle_looks_where_no_page_is_labelled(new_episode: MakeEpisode) -> None:
    episode = play(OraclePlayer(), new_episode(gold_pages=(), evidence=()))
    assert kinds(episode) == [Search, Answer]
    assert episode.turns[-1].reward == pytest.approx(1.0)


def test_oracle_respects_the_budget_of_pixels(new_episode: MakeEpisode) -> None:
    episode = play(OraclePlayer(), new_episode({"episode_pixels": 112 * 112 + 100}))
    assert kinds(episode) == [Search, Answer]


def test_random_is_valid_and_does_not_depend_on_the_batch(new_episode: MakeEpisode) -> None:
    names = [f"question {number}" for number in range(40)]
    alone = [play(RandomPlayer(3), new_episode({"max_turns": 6}, question_id=name)) for name in names]
    assert not any(Invalid in kinds(episode) for episode in alone)
    assert {kind for episode in alone for kind in kinds(episode)} == {Search, Crop, Answer}
    together = [new_episode({"max_turns": 6}, question_id=name) for name in reversed(names)]
    player = RandomPlayer(3)
    while running := [episode for episode in together if not episode.done]:
        step_many(running, [player.act(episode) for episode in running])
    assert [e.turns for e in reversed(together)] == [e.turns for e in alone]
    other = [play(RandomPlayer(4), new_episode({"max_turns": 6}, question_id=name)) for name in names]
    assert [e.turns for e in other] != [e.turns for e in alone]


@pytest.mark.parametrize(
    ("text", "answer", "answer_format", "gold"),
    [
        ("How many cranes does the harbour of Suden have?", "31", "Int", 2),
        ("Who is the master of the harbour of Norden?", "Vera Holm", "Str", 3),
    ],
)
def test_retrieve_then_answer_on_easy_questions(
    new_episode: MakeEpisode, text: str, answer: str, answer_format: str, gold: int
) -> None:
    fields = {"text": text, "answer": answer, "answer_format": answer_format, "gold_pages": (page_id(gold),)}
    episode = play(make_player("retrieve_then_answer"), new_episode(**fields))
    assert kinds(episode) == [Search, Answer]
    assert episode.answer == answer


def test_retrieve_then_answer_finds_nothing(new_episode: MakeEpisode) -> None:
    episode = play(make_player("retrieve_then_answer"), new_episode(text="qwx vbn"))
    assert episode.answer == "Not answerable"


def test_only_the_oracle_reads_the_gold(new_episode: MakeEpisode) -> None:
    for name in ("random", "retrieve_then_answer"):
        honest = play(make_player(name), new_episode())
        gold = {"answer": "secret", "answer_format": "Str", "gold_pages": (page_id(5),), "evidence": ()}
        other = play(make_player(name), new_episode(**gold))
        assert [turn.text for turn in honest.turns] == [turn.text for turn in other.turns]


def test_make_player() -> None:
    assert [type(make_player(name)).__name__ for name in PLAYERS] == [
        "OraclePlayer",
        "RandomPlayer",
        "RetrieveThenAnswerPlayer",
    ]
    with pytest.raises(VRAGError, match="oracle, random, retrieve_then_answer"):
        make_player("orcale")


hostile = st.one_of(
    st.text(st.characters(), max_size=60),
    st.sampled_from(["</search><answer>x</answer>", "<answer>", "</think>", "\0", "\ud800", "x" * 20_000, " "]),
)


@settings(deadline=None, max_examples=60)
@given(text=hostile, answer=hostile, query=hostile, name=st.sampled_from(PLAYERS))
def test_players_write_valid_turns_whatever_the_question(
    new_episode: MakeEpisode, text: str, answer: str, query: str, name: str
) -> None:
    fields = {"text": text, "answer": answer, "answer_format": "Str", "oracle_query": query}
    episode = new_episode(**fields)
    while not episode.done:
        turn = make_player(name).act(episode)
        assert not isinstance(parse(turn).action, Invalid)
        episode.step_text(turn)
    assert Invalid not in kinds(episode)
