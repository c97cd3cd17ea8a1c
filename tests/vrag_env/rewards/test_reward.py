from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vrag_env.episode import Episode, StepResult, Text, step_many
from vrag_env.errors import RewardError
from vrag_env.rewards import Judge, JudgeItem, Reward, RuleJudge, make_reward

MakeEpisode = Callable[..., Episode]
SEARCH = "<think>a</think><search>cherry stone</search>"
WRONG_SEARCH = "<think>a</think><search>banana boat</search>"
CROP = "<think>a</think><bbox>[0, 0, 56, 56]</bbox>"
ANSWER = "<think>a</think><answer>58</answer>"
WRONG = "<think>a</think><answer>57</answer>"
INVALID = "no thought"


class CountingJudge:
    """Keeps what it was asked and says what it was told to say."""

    def __init__(self, verdicts: Sequence[Any]) -> None:
        self.verdicts = list(verdicts)
        self.calls: list[list[JudgeItem]] = []

    def judge(self, items: Sequence[JudgeItem]) -> list[float]:
        self.calls.append(list(items))
        return self.verdicts[: len(items)]


def play(episode: Episode, *turns: str) -> list[StepResult]:
    return [episode.step_text(turn) for turn in turns]


def test_paper_adds_up(new_episode: MakeEpisode) -> None:
    results = play(new_episode(), WRONG_SEARCH, SEARCH, INVALID, CROP, ANSWER)
    assert [result.reward for result in results[:-1]] == [0, 0, 0, 0]
    assert results[0].info["reward_terms"].keys() == {"retrieval", "pattern", "region", "cost"}
    terms = results[-1].info["reward_terms"]
    assert terms["retrieval"] == pytest.approx(0.6309297535714575)  # 1 / log2(3)
    assert terms["pattern"] == 0.8
    assert terms["region"] == 1.0
    assert terms["answer"] == 1.0
    assert results[-1].reward == pytest.approx(0.2 * 0.6309297535714575 + 0.7 + 0.1 * 0.8)
    assert results[-1].terminated and results[-1].info["is_success"]


def test_a_wrong_answer_keeps_what_was_earned(new_episode: MakeEpisode) -> None:
    last = play(new_episode(), SEARCH, WRONG)[-1]
    assert last.reward == pytest.approx(0.2 + 0.1)
    assert not last.info["is_success"]


def test_truncation_is_scored_without_a_judge(new_episode: MakeEpisode) -> None:
    judge = CountingJudge([1.0])
    last = play(new_episode(Reward.preset("paper", judge)), SEARCH, SEARCH, SEARCH, SEARCH, SEARCH)[-1]
    assert last.truncated and judge.calls == []
    assert last.info["reward_terms"]["answer"] == 0.0
    assert last.reward == pytest.approx(0.2 + 0.1 * 0.8)  # the last search was not allowed


def test_terms_that_do_not_apply_spread_their_weights(new_episode: MakeEpisode) -> None:
    weights = {"answer": 0.5, "pattern": 0.2, "region": 0.3}
    last = play(new_episode(Reward(weights), evidence=()), INVALID, ANSWER)[-1]
    assert "region" not in last.info["reward_terms"]
    assert last.reward == pytest.approx((0.5 * 1 + 0.2 * 0.5) / 0.7)
    assert play(new_episode(Reward({"region": 0.5}), evidence=()), ANSWER)[-1].reward == 0.0


def test_denial_must_have_looked(new_episode: MakeEpisode) -> None:
    fields = {"gold_pages": (), "evidence": (), "answer": "Not answerable", "answer_format": "None"}
    denial = "<think></think><answer>not answerable</answer>"
    at_once = play(new_episode(**fields), denial)[-1]
    assert at_once.reward == pytest.approx(0.8) and at_once.info["is_success"]
    looked = play(new_episode(**fields), SEARCH, denial)[-1]
    assert looked.reward == pytest.approx(1.0) and looked.info["reward_terms"]["retrieval"] == 1.0
    shaped = play(new_episode(Reward.preset("paper", shaping=0.5), **fields), SEARCH, SEARCH, denial)
    assert [result.reward for result in shaped] == pytest.approx([0.5, 0.0, 1.0 - 0.5])


def test_weights_below_one_keep_their_sum(new_episode: MakeEpisode) -> None:
    reward = Reward({"answer": 0.25, "region": 0.25})
    assert play(new_episode(reward, evidence=()), ANSWER)[-1].reward == 0.5


def test_outcome(new_episode: MakeEpisode) -> None:
    assert play(new_episode(Reward.preset("outcome")), ANSWER)[-1].reward == 1.0
    assert play(new_episode(Reward.preset("outcome")), SEARCH, WRONG)[-1].reward == 0.0


@pytest.mark.parametrize(
    ("turns", "passes"),
    [
        ((SEARCH, ANSWER), True),
        ((SEARCH, CROP, ANSWER), True),
        ((ANSWER,), False),  # no search
        ((SEARCH, INVALID, ANSWER), False),  # a turn that does not parse
        ((CROP, SEARCH, ANSWER), False),  # a crop before any image is not executed
        ((SEARCH, "<think></think><answer>...</answer>"), False),  # an answer of nothing
        (("<think><search>x</search></think><bbox>[0, 0, 9, 9]</bbox>", ANSWER), False),  # tags in a thought
        ((SEARCH, SEARCH, SEARCH, SEARCH, INVALID), False),  # no answer
    ],
)
def test_gate_of_released(new_episode: MakeEpisode, turns: tuple[str, ...], passes: bool) -> None:
    last = play(new_episode(Reward.preset("released")), *turns)[-1]
    assert (last.reward > 0) == passes
    if passes:
        assert last.reward == pytest.approx(1.0)


@pytest.mark.parametrize(
    "turn",
    [
        "<think><answer>58</answer></think><search>58</search>",
        "<think></think><search>the answer is 58</search>",
        "<think></think><answer></answer>",
        "<think></think><answer>58</answer><answer>58</answer>",
        "<think></think><answer>57</answer>\n<answer>58</answer>",
        "<answer>58</answer>",
        "Your previous action is invalid. <answer> 58 </answer>",
        "<think></think><answer>57 or 58</answer>",
        "<think></think><answer>" + " ".join(map(str, range(1500))) + "</answer>",
        "<think></think><answer>" + "58 " * 3000 + "</answer>",
        "<think></think><answer>\u200b</answer>",
    ],
)
def test_tricks_do_not_pay(new_episode: MakeEpisode, turn: str) -> None:
    episode = new_episode(Reward.preset("outcome"))
    while not episode.done:
        result = episode.step_text(turn)
        assert result.reward == 0.0 and not result.info["is_success"]


def test_echoing_the_environment_does_not_pay(new_episode: MakeEpisode) -> None:
    episode = new_episode(Reward.preset("released"), answer="last turn", answer_format="Str")
    text = "nothing"
    while not episode.done:
        result = episode.step_text(text)
        text = "".join(block.text for block in result.blocks if isinstance(block, Text))
    assert result.reward == 0.0


def test_shaping_telescopes(new_episode: MakeEpisode) -> None:
    for turns in [(WRONG_SEARCH, SEARCH, WRONG), (SEARCH, CROP, SEARCH, SEARCH, SEARCH), (ANSWER,)]:
        shaped = play(new_episode(Reward.preset("paper", shaping=0.5)), *turns)
        plain = play(new_episode(), *turns)
        assert sum(r.reward for r in shaped) == pytest.approx(sum(r.reward for r in plain))
    shaped = play(new_episode(Reward.preset("paper", shaping=0.5)), WRONG_SEARCH, SEARCH, SEARCH)
    assert [result.reward for result in shaped] == pytest.approx([0.0, 0.5 * 0.6309297535714575, 0.0])


def test_one_call_of_the_judge_for_a_batch(new_episode: MakeEpisode) -> None:
    judge = CountingJudge([0.25, 1.0])
    reward = Reward({"answer": 1.0}, judge)
    episodes = [new_episode(reward, question_id=name) for name in "abc"]
    results = step_many(episodes, [WRONG, SEARCH, ANSWER])
    assert len(judge.calls) == 1
    assert [item.answer for item in judge.calls[0]] == ["57", "58"]
    assert judge.calls[0][0].references == ("58",)
    assert [result.reward for result in results] == [0.25, 0.0, 1.0]
    assert [result.info["is_success"] for result in results] == [False, False, True]
    assert step_many([episodes[1]], [SEARCH])[0].reward == 0.0
    assert len(judge.calls) == 1  # nobody ended: nobody is judged


@pytest.mark.parametrize("verdicts", [[], [1.5], [-0.1], [float("nan")], [None], [True]])
def test_a_judge_that_misbehaves(new_episode: MakeEpisode, verdicts: list[Any]) -> None:
    episode = new_episode(Reward({"answer": 1.0}, CountingJudge(verdicts)))
    with pytest.raises(RewardError, match="verdict"):
        episode.step_text(ANSWER)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"anwser": 1.0}, "unknown reward term 'anwser'.*retrieval, pattern, region, cost, answer"),
        ({"answer": -0.1}, "0 or more"),
        ({"answer": float("nan")}, "finite"),
        ({"answer": True}, "finite number"),
        ({"answer": "1"}, "finite number"),
        ({"answer": 0.0, "cost": 0.0}, "more than 0"),
        ({}, "more than 0"),
        ({"answer": 0.9, "cost": 0.2}, "at most 1"),
    ],
)
def test_bad_weights(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(RewardError, match=message):
        Reward(weights)


def test_other_bad_arguments() -> None:
    with pytest.raises(RewardError, match="shaping"):
        Reward({"answer": 1.0}, shaping=-1.0)
    with pytest.raises(RewardError, match="judge"):
        Reward({"answer": 1.0}, judge="gpt")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(RewardError, match="mmlongbench"):
        RuleJudge("bleu")


def test_make_reward() -> None:
    assert make_reward("paper").weights == {"retrieval": 0.2, "answer": 0.7, "pattern": 0.1}
    assert make_reward("released").gate and not make_reward("paper").gate
    assert make_reward({"answer": 1}).weights == {"answer": 1.0}
    reward = Reward.preset("outcome")
    assert make_reward(reward) is reward
    with pytest.raises(RewardError, match="paper, released, outcome"):
        make_reward("papers")
    with pytest.raises(RewardError, match="list"):
        make_reward([0.5])  # type: ignore[arg-type]  # the mistake under test


def test_make_reward_with_a_judge() -> None:
    judge = RuleJudge("token_f1")
    assert make_reward("paper", judge).judge is judge
    assert make_reward({"answer": 1.0}, "exact_match").judge.metric == "exact_match"  # type: ignore[attr-defined]  # a RuleJudge
    with pytest.raises(RewardError, match="has its judge"):
        make_reward(Reward.preset("paper"), "rule")
    with pytest.raises(RewardError, match="unknown judge 'gpt'"):
        make_reward("paper", "gpt")
    with pytest.raises(RewardError, match="unknown reward preset"):
        make_reward("papers", "local:/nowhere")  # before a model would be loaded


def test_terms_of_your_own(new_episode: MakeEpisode) -> None:
    seen: list[int] = []

    def brevity(episode: Episode) -> float:
        seen.append(len(episode.turns))
        return np.float32(1 / len(episode.turns))  # type: ignore[return-value]  # numbers of NumPy are numbers

    reward = Reward({"answer": 0.5, "brevity": 0.5}, terms={"brevity": brevity, "never": lambda episode: None})
    results = play(new_episode(reward), SEARCH, ANSWER)
    assert results[-1].reward == 0.5 + 0.5 * 0.5
    assert results[0].info["reward_terms"]["brevity"] == 1.0 and results[0].reward == 0.0
    assert "never" not in results[-1].info["reward_terms"]
    assert type(results[-1].info["reward_terms"]["brevity"]) is float
    assert seen == [1, 2]
    assert list(Reward({"answer": 1.0}).terms) == ["retrieval", "pattern", "region", "cost"]  # nothing leaks over


@pytest.mark.parametrize("value", [1.0001, -0.1, float("nan"), float("inf"), True, "1", np.bool_(True), [0.5]])
def test_a_term_outside_its_range_is_named_at_its_first_use(new_episode: MakeEpisode, value: Any) -> None:
    episode = new_episode(Reward({"answer": 1.0}, terms={"mine": lambda _: value}))
    with pytest.raises(RewardError, match=r"'mine' returned .*from 0 to 1"):
        episode.step_text(SEARCH)
    assert episode.turns == ()  # the step was not taken


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"retrieval": lambda _: 1.0}, "'retrieval'"),
        ({"answer": lambda _: 1.0}, "'answer'"),
        ({"": lambda _: 1.0}, "a name of its own"),
        ({3: lambda _: 1.0}, "a name of its own"),
        ({"mine": 1.0}, "'mine' must be a function"),
    ],
)
def test_bad_terms(terms: dict[Any, Any], message: str) -> None:
    with pytest.raises(RewardError, match=message):
        Reward({"answer": 1.0}, terms=terms)
    with pytest.raises(RewardError, match="unknown reward term 'mine'"):
        Reward({"mine": 1.0})


weights = st.dictionaries(st.sampled_from(["answer", "retrieval", "pattern", "region", "cost"]), st.floats(0, 1))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights, st.booleans())
def test_no_weights_lead_beyond_one(new_episode: MakeEpisode, weights: dict[str, float], gold: bool) -> None:
    total = sum(weights.values())
    if not 0 < total <= 1:
        with pytest.raises(RewardError):
            Reward(weights)
        weights = {name: weight / total for name, weight in weights.items() if total} or {"answer": 1.0}
    fields = {} if gold else {"gold_pages": (), "evidence": ()}
    episode = new_episode(Reward(weights), **fields)
    assert 0 <= play(episode, SEARCH, CROP, ANSWER)[-1].reward <= 1


def test_presets_are_not_shared_and_can_be_sent_to_other_processes() -> None:
    make_reward("paper").weights["answer"] = 0.0
    assert make_reward("paper").weights["answer"] == 0.7
    copy = pickle.loads(pickle.dumps(Reward.preset("released", RuleJudge("token_f1"), shaping=0.1)))
    assert (copy.gate, copy.shaping, copy.judge.metric) == (True, 0.1, "token_f1")
    assert isinstance(copy.judge, Judge)
