"""Noise: known amounts, the same for the same episode, whatever the batch."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from vrag_env.env import VRAGEnv
from vrag_env.errors import RetrieverError
from vrag_env.players import OraclePlayer
from vrag_env.questions import Question
from vrag_env.retrieval import Hit, LexicalRetriever, Retriever
from vrag_env.retrieval import noisy as noisy_module
from vrag_env.retrieval.noisy import SHUFFLED, Noise, NoisyRetriever, gold_of, make_noise
from vrag_env.vector import VRAGVectorEnv

GOLD = "finance/amber.pdf#1"
SEARCH = "<think>a</think><search>{}</search>"
ANSWER = "<think>a</think><answer>{}</answer>"
RANKED = [Hit(page, 8.0 - place) for place, page in enumerate(
    (GOLD, "finance/cobalt.pdf#1", "finance/amber.pdf#2", "travel/olive.pdf#1", "travel/ivory.pdf#2"))]  # fmt: skip


def pages(hits: Sequence[Hit]) -> list[str]:
    return [hit.page_id for hit in hits]


def apply(noise: Noise, corpus: Any, key: str = "k", query: str = "q", k: int = 5, **more: Any) -> list[Hit]:
    return noise.apply(RANKED, k, query=query, key=key, gold=[GOLD], corpus=corpus, **more)


def test_no_noise_changes_nothing(tiny_corpus: Any) -> None:
    assert apply(Noise(), tiny_corpus) == RANKED
    assert apply(Noise(), tiny_corpus, k=2) == RANKED[:2]
    assert Noise().depth(3, gold=2) == 3


def test_gold_is_dropped_as_often_as_asked(tiny_corpus: Any) -> None:
    noise = Noise(drop_gold=0.3)
    results = [pages(apply(noise, tiny_corpus, key=str(key))) for key in range(2000)]
    dropped = [GOLD not in found for found in results]
    assert abs(np.mean(dropped) - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5
    assert {tuple(page for page in found if page != GOLD) for found in results} == {tuple(pages(RANKED[1:]))}
    assert all(GOLD not in pages(apply(Noise(drop_gold=1.0), tiny_corpus, key=str(key))) for key in range(20))
    assert noise.depth(3, gold=2) == 5  # so that three are left when both are dropped


def test_each_gold_page_is_dropped_on_its_own(tiny_corpus: Any) -> None:
    noise, gold = Noise(drop_gold=0.5), [RANKED[0].page_id, RANKED[1].page_id]
    seen = set()
    for key in range(200):
        found = pages(noise.apply(RANKED, 5, query="q", key=str(key), gold=gold, corpus=tiny_corpus))
        seen.add((gold[0] in found, gold[1] in found))
    assert len(seen) == 4


def test_the_same_query_again_gets_the_same(tiny_corpus: Any) -> None:
    noise = Noise(drop_gold=0.5, distractors=2, shuffle=True, empty=0.2)
    for key in ("1", "2", "3"):
        assert apply(noise, tiny_corpus, key=key) == apply(noise, tiny_corpus, key=key)
    # another query is another chance
    found = {GOLD in pages(apply(Noise(drop_gold=0.5), tiny_corpus, query=f"q{n}")) for n in range(20)}
    assert found == {True, False}


def test_nothing_is_found_as_often_as_asked(tiny_corpus: Any) -> None:
    empty = [not apply(Noise(empty=0.25), tiny_corpus, key=str(key)) for key in range(2000)]
    assert abs(np.mean(empty) - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    assert apply(Noise(empty=1.0), tiny_corpus) == []


def test_random_distractors_come_first(tiny_corpus: Any) -> None:
    first = set()
    for key in range(60):
        found = apply(Noise(distractors=2), tiny_corpus, key=str(key))
        scores = [hit.score for hit in found]
        assert scores == sorted(scores, reverse=True) and len(set(pages(found))) == len(found) == 5
        put = pages(found)[:2]
        assert all(page.partition("#")[0] != "finance/amber.pdf" for page in put)  # never of the gold page's document
        assert pages(found)[2] == GOLD
        first.update(put)
    assert len(first) == 6  # every page of the three other documents
    # they stay for the whole episode: whoever goes on gets past them
    assert pages(apply(Noise(distractors=2), tiny_corpus, query="other"))[:2] == pages(
        apply(Noise(distractors=2), tiny_corpus, query="words")
    )[:2]  # fmt: skip


def test_random_distractors_inside_a_scope(tiny_corpus: Any) -> None:
    found = apply(Noise(distractors=5), tiny_corpus, where=["finance/amber.pdf"])
    assert pages(found)[0] == "finance/amber.pdf#2"  # the only other page there
    assert pages(found)[1] == GOLD


def test_the_hardest_distractors(tiny_corpus: Any) -> None:
    noise = Noise(distractors=2, hardest=True)
    found = apply(noise, tiny_corpus)
    assert pages(found) == ["finance/cobalt.pdf#1", "finance/amber.pdf#2", GOLD, *pages(RANKED[3:])]
    assert noise.depth(1, gold=1) == 4  # the page wanted, two distractors and a gold page among them


def test_shuffling(tiny_corpus: Any) -> None:
    orders = set()
    for key in range(60):
        found = apply(Noise(shuffle=True), tiny_corpus, key=str(key))
        assert sorted(pages(found)) == sorted(pages(RANKED))
        assert [hit.score for hit in found] == [hit.score for hit in RANKED]
        orders.add(tuple(pages(found)))
    assert len(orders) > 30
    assert Noise(shuffle=True).depth(1, gold=0) == SHUFFLED
    many = [Hit(f"d#{n}", -n) for n in range(1, 15)]
    found = Noise(shuffle=True).apply(many, 14, query="q", key="k", gold=[], corpus=tiny_corpus)
    assert found[SHUFFLED:] == many[SHUFFLED:] and found != many


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_gold": 1.5}, "drop_gold is a probability"),
        ({"empty": True}, "empty is a probability"),
        ({"distractors": -1}, "distractors is a whole number"),
        ({"distractors": 1.0}, "distractors is a whole number"),
        ({"shuffle": 1}, "shuffle is true or false"),
        ({"delay": -1}, "delay is a number of seconds"),
        ({"hardest": True}, "say how many"),
        ({"drop": 0.1}, r"unknown options \['drop'\]; known are drop_gold"),
        ([0.1], "noise is a mapping"),
    ],
)
def test_options_that_do_not_fit(options: Any, message: str) -> None:
    with pytest.raises(RetrieverError, match=message):
        make_noise(options)


def test_options() -> None:
    assert make_noise(None) is None
    assert make_noise({"drop_gold": 0.2, "distractors": 2}) == Noise(drop_gold=0.2, distractors=2)
    assert make_noise(Noise(empty=0.1)) == Noise(empty=0.1)


# ---------------------------------------------------------------------- around a retriever


class Recording:
    """A retriever that remembers what it was asked."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self.asked: list[tuple[list[str], int, Any]] = []

    def search(self, queries: Sequence[str], k: int, where: Collection[str] | None = None) -> list[list[Hit]]:
        self.asked.append((list(queries), k, where))
        return self._retriever.search(queries, k, where)


def test_around_a_retriever(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> None:
    clean = Recording(LexicalRetriever(tiny_corpus))
    texts = [question.text for question in tiny_questions]
    gold = gold_of(tiny_questions)
    noisy = NoisyRetriever(clean, tiny_corpus, gold=gold, seed=3, drop_gold=1.0)
    assert isinstance(noisy, Retriever)
    found = noisy.search([*texts, "report"], 4)
    assert len(clean.asked) == 1 and clean.asked[0][1] == 6  # the question with two gold pages
    for hits, question in zip(found, tiny_questions, strict=False):
        every = clean.search([question.text], 8)[0]
        assert hits == [hit for hit in every if hit.page_id not in question.gold_pages][:4]
    assert found[-1] == clean.search(["report"], 4)[0]  # of other queries no page is gold
    assert noisy.search(["report"], 8, ["travel/olive.pdf"])[0] == clean.search(["report"], 8, ["travel/olive.pdf"])[0]


def test_the_batch_does_not_matter(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> None:
    def make(seed: int) -> NoisyRetriever:
        return NoisyRetriever(
            LexicalRetriever(tiny_corpus),
            tiny_corpus,
            gold=gold_of(tiny_questions),
            seed=seed,
            drop_gold=0.5,
            distractors=1,
            shuffle=True,
            empty=0.3,
        )

    texts = [question.text for question in tiny_questions]
    together = make(1).search(texts, 5)
    assert [make(1).search([text], 5)[0] for text in texts] == together
    assert make(1).search(texts[::-1], 5)[::-1] == together
    assert make(2).search(texts, 5) != together


def test_gold_of_questions_with_the_same_text() -> None:
    one = Question("a", "Who?", "x", gold_pages=("d#1", "d#2"), oracle_query="find it")
    gold = gold_of([one, replace(one, question_id="b", gold_pages=("d#2", "e#1"), oracle_query="")])
    assert gold("Who?") == ("d#1", "d#2", "e#1")
    assert gold("find it") == ("d#1", "d#2")
    assert gold("") == gold("else") == ()


def test_a_delay_is_one_for_all(tiny_corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(noisy_module, "time", SimpleNamespace(sleep=waited.append))
    noisy = NoisyRetriever(LexicalRetriever(tiny_corpus), tiny_corpus, delay=0.2)
    assert len(noisy.search(["report"] * 20, 1)) == 20
    assert waited == [0.2]


# ---------------------------------------------------------------------- in an environment

NOISE = {"drop_gold": 0.5, "distractors": 1, "shuffle": True, "empty": 0.2}
SCRIPT = [SEARCH.format("amber north revenue"), SEARCH.format("report"), SEARCH.format("staff"), ANSWER.format("42.5")]


@pytest.fixture
def arguments(tiny_corpus: Any, tiny_questions: Any) -> dict[str, Any]:
    return {"corpus": tiny_corpus, "questions": tiny_questions, "noise": NOISE}


def run(env: VRAGEnv, seed: int, episodes: int = 4) -> list[Any]:
    results: list[Any] = []
    for episode in range(episodes):
        results.append(env.reset(seed=seed if episode == 0 else None))
        results += [env.step(action) for action in SCRIPT]
    return results


def test_the_same_seed_gives_the_same_bytes(arguments: dict[str, Any]) -> None:
    one, other = run(VRAGEnv(**arguments), 5), run(VRAGEnv(**arguments), 5)
    assert data_equivalence(one, other, exact=True)
    assert not data_equivalence(one, run(VRAGEnv(**arguments), 6), exact=True)
    clean = run(VRAGEnv(**{**arguments, "noise": None}), 5)
    assert [r[-1]["question_id"] for r in clean[:5]] == [r[-1]["question_id"] for r in one[:5]]
    assert not data_equivalence(one, clean, exact=True)


def test_episodes_of_one_question_differ(arguments: dict[str, Any]) -> None:
    env = VRAGEnv(**{**arguments, "noise": {"distractors": 1}})
    shown = set()
    for _ in range(12):
        env.reset(options={"question_id": "amber-revenue"})
        shown.add(env.step(SCRIPT[0])[-1]["pages_shown"][0])
    assert len(shown) > 2 and GOLD not in shown


def test_a_patient_agent_gets_past_distractors(arguments: dict[str, Any]) -> None:
    env = VRAGEnv(**{**arguments, "noise": {"distractors": 2}})
    for seed in range(5):
        env.reset(seed=seed, options={"question_id": "amber-revenue"})
        for query in ("amber falcon north", "revenue north amber", "amber north"):
            info = env.step(SEARCH.format(query))[-1]
        assert info["pages_shown"].index(GOLD) == 2


def test_a_dropped_page_is_never_shown(arguments: dict[str, Any]) -> None:
    env = VRAGEnv(**{**arguments, "noise": {"drop_gold": 1.0}}, max_turns=9)
    env.reset(seed=0, options={"question_id": "amber-revenue"})
    for _ in range(9):
        info = env.step(SEARCH.format("amber falcon north revenue report"))[-1]
    assert len(info["pages_shown"]) == 7 and GOLD not in info["pages_shown"]


def test_the_oracle_knows_the_noise(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> None:
    def accuracy(noise: dict[str, Any], max_turns: int) -> float:
        env = VRAGEnv(corpus=tiny_corpus, questions=tiny_questions[:1], noise=noise, max_turns=max_turns)
        seen = []
        for seed in range(12):
            env.reset(seed=seed)
            while not env.episode.done:
                env.step(OraclePlayer().act(env.episode))
            seen.append(GOLD in env.episode.pages_shown)
        return float(np.mean(seen))

    assert accuracy({"drop_gold": 0.3}, 2) == 1.0  # another query finds what the first one misses
    assert accuracy({"drop_gold": 1.0}, 2) == 0.0
    assert accuracy({"distractors": 3}, 3) == 0.0
    assert accuracy({"distractors": 3}, 4) == 1.0


def test_states_keep_their_noise(arguments: dict[str, Any]) -> None:
    env = VRAGEnv(**arguments)
    for seed in range(4):
        env.reset(seed=seed)
        env.step(SCRIPT[0])
        state = env.clone_state()
        first = [env.step(action) for action in SCRIPT[1:]]
        env.reset(seed=99)
        env.restore_state(state)
        assert data_equivalence(first, [env.step(action) for action in SCRIPT[1:]], exact=True)


def test_the_vector_equals_singles(arguments: dict[str, Any]) -> None:
    envs = gym.make_vec("VRAG-v0", num_envs=3, **arguments)
    assert isinstance(envs, VRAGVectorEnv)
    singles = [VRAGEnv(**arguments) for _ in range(3)]
    observations, _ = envs.reset(seed=5)
    alone = [env.reset(seed=5 + index)[0] for index, env in enumerate(singles)]
    for action in [*SCRIPT, None, *SCRIPT]:
        for index in range(3):
            for key in ("question", "text", "turns_left"):
                assert observations[key][index] == alone[index][key]
            assert np.array_equal(observations["image"][index], alone[index]["image"])
        observations, *_ = envs.step([action or SCRIPT[0]] * 3)
        alone = [env.step(action)[0] if action else env.reset()[0] for env in singles]


def test_one_retrieval_call_and_what_it_asks(arguments: dict[str, Any]) -> None:
    retriever = Recording(LexicalRetriever(arguments["corpus"]))
    envs = VRAGVectorEnv(3, **{**arguments, "noise": {"distractors": 2, "hardest": True}}, retriever=retriever)
    envs.reset(seed=0, options={"question_ids": ["amber-revenue", "north-sum", "olive-price"]})
    envs.step([SEARCH.format("report")] * 3)
    assert [(len(queries), k, where) for queries, k, where in retriever.asked] == [(3, 5, None)]


def test_a_scope_restricts_the_search(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> None:
    retriever = Recording(LexicalRetriever(tiny_corpus))
    scoped = replace(tiny_questions[0], scope=("finance/amber.pdf",))
    envs = VRAGVectorEnv(2, corpus=tiny_corpus, questions=[scoped, tiny_questions[1]], retriever=retriever)
    envs.reset(seed=0, options={"question_ids": ["amber-revenue", "cobalt-staff"]})
    for _ in range(3):
        _, _, _, _, infos = envs.step([SEARCH.format("report")] * 2)
    assert sorted(infos["pages_shown"][0]) == ["finance/amber.pdf#1", "finance/amber.pdf#2"]
    assert len(infos["pages_shown"][1]) == 3
    assert [where for _, _, where in retriever.asked] == [("finance/amber.pdf",), None] * 3


def test_a_scope_that_is_not_there(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> None:
    with pytest.raises(ValueError, match=r"searches in \['none.pdf'\], which are not in the corpus"):
        VRAGEnv(corpus=tiny_corpus, questions=[replace(tiny_questions[0], scope=("none.pdf",))])
