"""The Gymnasium face: the checker, seeding, options, states, spaces, errors."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence

import vrag_env
from vrag_env.env import VRAGEnv
from vrag_env.errors import CorpusError, QuestionError, RetrieverError, RewardError
from vrag_env.questions import Question
from vrag_env.rewards import Reward
from vrag_env.spaces import ImageSpace, TurnText, UnicodeText

SCRIPT = [
    "<think>a</think><search>ambrosia</search>",
    "<think>b</think><bbox>[73, 133, 655, 186]</bbox>",
    "nonsense",
    "<think>c</think><search>report</search>",
    "<think>d</think><answer>42.5</answer>",
]


@pytest.fixture
def make(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> Callable[..., VRAGEnv]:
    def build(**kwargs: Any) -> VRAGEnv:
        return VRAGEnv(**{"corpus": tiny_corpus, "questions": tiny_questions, **kwargs})

    return build


def ids(env: VRAGEnv, count: int) -> list[str]:
    return [env.reset()[1]["question_id"] for _ in range(count)]


# ---------------------------------------------------------------------- Gymnasium


@pytest.mark.parametrize("arguments", [{}, {"render_mode": "ansi"}, {"render_mode": "rgb_array"}])
def test_the_checker_of_gymnasium(tiny_corpus_path: Path, tiny_questions, arguments: dict[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("VRAG-v0", corpus=str(tiny_corpus_path), questions=tiny_questions, **arguments)
        check_env(env.unwrapped)
        env.close()


@pytest.mark.slow
def test_the_built_in_corpus() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("VRAG-v0")
        check_env(env.unwrapped)
        observation, info = env.reset(seed=0)
        assert observation["question"]
        assert {env.reset()[1]["question_id"] for _ in range(10)} - {info["question_id"]}
        splits = {q.split for q in env.unwrapped.questions}
    assert splits == {"train", "test"}
    assert {q.split for q in VRAGEnv(split="test").questions} == {"test"}


def test_the_specification_is_json(tiny_corpus_path: Path, tmp_path: Path, tiny_questions) -> None:
    from vrag_env.questions import save_questions

    save_questions(tmp_path / "q.json", tiny_questions)
    env = gym.make("VRAG-v0", corpus=str(tiny_corpus_path), questions=str(tmp_path / "q.json"), reward={"answer": 1.0})
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    first, second = env.reset(seed=1), again.reset(seed=1)
    assert data_equivalence(first, second, exact=True)
    assert again.unwrapped.reward.weights == {"answer": 1.0}


def test_objects_go_through_gymnasium_too(tiny_corpus, tiny_questions) -> None:
    env = gym.make("VRAG-v0", corpus=tiny_corpus, questions=tiny_questions, reward=Reward.preset("outcome"))
    assert env.unwrapped.corpus is tiny_corpus.pinned()
    assert env.reset(seed=0)[0] in env.observation_space
    assert env.spec is not None


def test_a_passive_checker_finds_nothing(tiny_corpus_path: Path, tiny_questions) -> None:
    env = gym.make("VRAG-v0", corpus=str(tiny_corpus_path), questions=tiny_questions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.action_space.seed(3)
        for seed in range(5):
            env.reset(seed=seed)
            done = False
            while not done:
                observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
                assert observation in env.observation_space
                done = terminated or truncated


# ---------------------------------------------------------------------- observations and information


def test_observations(make: Callable[..., VRAGEnv]) -> None:
    env = make()
    start, info = env.reset(options={"question_id": "amber-revenue"})
    assert start["question"] == "What revenue does Amber Falcon report for the North region, in million?"
    assert start["text"] == f"Question: {start['question']}"
    assert start["image"].shape == (0, 0, 3)
    assert start["turns_left"] == 5
    assert start["pixels_left"].tolist() == [4 * 401_408]  # four turns of one image of 512 * 28 * 28
    assert "<bbox>" in info["instructions"]

    page, _, _, _, info = env.step(SCRIPT[0])
    assert page["image"].shape == (532, 728, 3)
    np.testing.assert_array_equal(page["image"], np.asarray(info["blocks"][0].image))
    assert page["pixels_left"].tolist() == [4 * 401_408 - 532 * 728]
    assert "instructions" not in info

    zoomed, _, _, _, info = env.step(SCRIPT[1])
    np.testing.assert_array_equal(zoomed["image"], np.asarray(info["blocks"][0].image))
    invalid, _, _, _, info = env.step(SCRIPT[2])
    np.testing.assert_array_equal(invalid["image"], zoomed["image"])  # still what was seen last
    assert invalid["text"].startswith("Invalid turn")
    assert invalid["turns_left"] == 2
    assert env.reset(seed=0)[0]["image"].shape == (0, 0, 3)


def test_observations_are_the_callers_own(make: Callable[..., VRAGEnv]) -> None:
    env = make()
    env.reset(options={"question_id": "amber-revenue"})
    first, *_, info = env.step(SCRIPT[0])
    first["image"][:] = 0
    info["reward_terms"]["retrieval"] = -1
    second, *_, info = env.step("nonsense")
    assert second["image"].any()
    assert info["reward_terms"]["retrieval"] == 1.0


def test_the_pixels_of_an_episode(make: Callable[..., VRAGEnv]) -> None:
    env = make(episode_pixels=600_000)
    observation, info = env.reset(seed=0)
    assert observation["pixels_left"].tolist() == [info["pixels_left"]] == [600_000]
    observation, *_, info = env.step(SCRIPT[0])
    assert observation["pixels_left"].tolist() == [info["pixels_left"]] == [600_000 - 532 * 728]


def test_a_return_of_one(make: Callable[..., VRAGEnv]) -> None:
    env = make(max_turns=5)
    env.reset(options={"question_id": "amber-revenue"})
    steps = [env.step(action) for action in SCRIPT]
    assert [step[2:4] for step in steps] == [(False, False)] * 4 + [(True, False)]
    # NDCG 1, right, four of five turns valid
    assert sum(step[1] for step in steps) == pytest.approx(0.2 + 0.7 + 0.08)
    assert steps[-1][4]["is_success"] is True


# ---------------------------------------------------------------------- seeding and options


def test_a_seed_fixes_the_order(make: Callable[..., VRAGEnv]) -> None:
    env, other = make(), make()
    first = [env.reset(seed=7)[1]["question_id"], *ids(env, 11)]
    second = [other.reset(seed=7)[1]["question_id"], *ids(other, 11)]
    assert first == second
    for start in (0, 5):  # every question once before any comes again
        assert len(set(first[start : start + 5])) == 5
    env.reset(seed=7)
    assert ids(env, 4) == first[1:5]
    orders = {tuple([env.reset(seed=seed)[1]["question_id"], *ids(env, 4)]) for seed in range(8)}
    assert len(orders) > 4


def test_rounds_differ(make: Callable[..., VRAGEnv]) -> None:
    env = make()
    env.reset(seed=0)
    ids(env, 4)
    assert len({tuple(ids(env, 5)) for _ in range(8)}) > 4


def test_the_same_seed_and_actions_give_the_same_bytes(make: Callable[..., VRAGEnv]) -> None:
    def run(env: VRAGEnv) -> list[Any]:
        return [env.reset(seed=3), *(env.step(action) for action in SCRIPT)]

    assert data_equivalence(run(make(max_turns=5)), run(make(max_turns=5)), exact=True)


def test_a_question_can_be_picked(make: Callable[..., VRAGEnv]) -> None:
    env = make()
    env.reset(seed=7)
    expected = ids(env, 3)
    env.reset(seed=7)
    assert env.reset(options={"question_id": "olive-price"})[1]["question_id"] == "olive-price"
    assert ids(env, 3) == expected  # the order goes on where it was


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"question_id": "nobody"}, "no question 'nobody' among the 5"),
        ({"question_id": ["amber-revenue"]}, "no question"),
        ({"question": "amber-revenue"}, r"unknown reset options \['question'\]"),
        ({1: 2, "x": 3}, "unknown reset options"),
    ],
)
def test_wrong_options(make: Callable[..., VRAGEnv], options: dict[Any, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make().reset(options=options)


def test_order_of_calls(make: Callable[..., VRAGEnv]) -> None:
    env = make(render_mode="ansi")
    for early in (lambda: env.step("x"), env.render, env.clone_state, lambda: env.state_key):
        with pytest.raises(ResetNeeded, match="reset"):
            early()
    env.reset(seed=0)
    env.step("<think>a</think><answer>1</answer>")
    with pytest.raises(RuntimeError, match="has ended"):
        env.step("<think>a</think><answer>1</answer>")
    env.close()
    env.close()


# ---------------------------------------------------------------------- states


def test_every_turn_can_be_branched(make: Callable[..., VRAGEnv]) -> None:
    env = make(max_turns=5)
    env.reset(seed=2)
    env.reset(options={"question_id": "amber-revenue"})
    states, steps = [], []
    for action in SCRIPT:
        states.append(env.clone_state())
        steps.append(env.step(action))
    after = ids(env, 9)
    for turn, state in enumerate(states):
        env.restore_state(state)
        assert env.state_key == (steps[turn - 1][4]["state_key"] if turn else env.state_key)
        env.step("<think>another branch</think><search>gondola</search>")
        env.reset(seed=99)
        env.restore_state(state)
        again = [env.step(action) for action in SCRIPT[turn:]]
        assert data_equivalence(again, steps[turn:], exact=True)
        assert ids(env, 9) == after  # the order of questions, and the shuffles to come, belong to the state


def test_a_state_moves_to_another_environment(make: Callable[..., VRAGEnv]) -> None:
    env, other = make(max_turns=5), make(max_turns=5)
    env.reset(options={"question_id": "amber-revenue"}, seed=2)
    env.step(SCRIPT[0])
    other.restore_state(env.clone_state())
    assert other.np_random_seed == 2
    assert data_equivalence(env.step(SCRIPT[1]), other.step(SCRIPT[1]), exact=True)
    assert data_equivalence(env.reset(), other.reset(), exact=True)
    assert env.np_random is not other.np_random


def test_a_state_of_other_questions(make: Callable[..., VRAGEnv]) -> None:
    env = make()
    env.reset(seed=0)
    while env.episode.question.split != "test":
        env.reset()
    with pytest.raises(ValueError, match="no question"):
        make(split="train").restore_state(env.clone_state())
    with pytest.raises(ValueError, match="5 questions; this one has 2"):
        make(split="test").restore_state(env.clone_state())


# ---------------------------------------------------------------------- what users get wrong


def test_questions_of_a_split(make: Callable[..., VRAGEnv]) -> None:
    assert [q.question_id for q in make(split="test").questions] == ["ivory-origin", "olive-price"]
    with pytest.raises(QuestionError, match=r"split='dev'; the splits are \['test', 'train'\]"):
        make(split="dev")


def test_gold_pages_must_be_there(make: Callable[..., VRAGEnv]) -> None:
    question = Question("q9", "What?", "42", gold_pages=("amber.pdf#1",))
    with pytest.raises(QuestionError, match=r"1 of 1 questions .*'q9' needs \['amber.pdf#1'\].*relative to"):
        make(questions=[question])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"questions": None}, QuestionError, "a corpus needs questions"),
        ({"questions": []}, QuestionError, "there is no question"),
        ({"questions": ["What?"]}, QuestionError, "got str"),
        ({"questions": [Question("a", "x", "y"), Question("a", "z", "y")]}, QuestionError, "two questions"),
        ({"questions": [Question("a", "x" * 100_001, "y")]}, QuestionError, "100001 characters"),
        ({"questions": "nowhere.json"}, QuestionError, "nowhere.json"),
        ({"corpus": "nowhere"}, CorpusError, "vrag index"),
        ({"retriever": "telepathy/"}, RetrieverError, "telepathy"),
        ({"reward": "generous"}, RewardError, "generous"),
        ({"reward": {"kindness": 1.0}}, RewardError, "kindness"),
        ({"box_frame": "percent"}, ValueError, "box_frame"),
        ({"max_turns": 0}, ValueError, "max_turns"),
        ({"max_pixels": 10}, ValueError, "max_pixels"),
        ({"render_mode": "human"}, ValueError, "render_mode"),
    ],
)
def test_wrong_arguments(make: Callable[..., VRAGEnv], arguments, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make(**arguments)


# ---------------------------------------------------------------------- spaces


def test_text_spaces() -> None:
    space = UnicodeText(10)
    assert "" in space
    assert "ü中🙂\n" in space
    assert "x" * 11 not in space
    assert b"x" not in space
    assert UnicodeText(10) == space != UnicodeText(11)
    assert TurnText(10) != space != ImageSpace(10)
    assert not space.is_np_flattenable
    space.seed(0)
    samples = [space.sample() for _ in range(50)]
    assert all(sample in space for sample in samples)
    assert len(set(samples)) > 40
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))) == samples
    with pytest.raises(ValueError, match="mask"):
        space.sample(mask=np.ones(3, np.int8))
    with pytest.raises(ValueError, match="max_length"):
        UnicodeText(-1)


def test_sampled_turns_use_every_action() -> None:
    from vrag_env.actions import parse

    space = TurnText(1000, seed=0)
    kinds = [type(parse(space.sample()).action).__name__ for _ in range(400)]
    for kind in ("Search", "Crop", "Answer", "Invalid"):
        assert 60 < kinds.count(kind) < 140


def test_image_space() -> None:
    space = ImageSpace(100)
    assert np.zeros((0, 0, 3), np.uint8) in space
    assert np.zeros((4, 25, 3), np.uint8) in space
    assert np.zeros((4, 26, 3), np.uint8) not in space
    assert np.zeros((4, 4, 3), np.float32) not in space
    assert np.zeros((4, 4), np.uint8) not in space
    assert [[0]] not in space
    assert ImageSpace(100) == space != ImageSpace(101)
    assert not space.is_np_flattenable
    space.seed(1)
    images = [space.sample() for _ in range(5)] + [np.zeros((0, 0, 3), np.uint8)]
    assert all(image in space for image in images)
    back = space.from_jsonable(json.loads(json.dumps(space.to_jsonable(images))))
    assert data_equivalence(images, back, exact=True)
    with pytest.raises(ValueError, match="max_pixels"):
        ImageSpace(0)


def test_the_docstring_names_every_argument_and_key(make: Callable[..., VRAGEnv]) -> None:
    import inspect

    page = VRAGEnv.__doc__ or ""
    for section in ("Description", "Action Space", "Observation Space", "Rewards", "Starting State"):
        assert f"## {section}" in page
    for section in ("Episode End", "Information", "Arguments", "References", "Version History"):
        assert f"## {section}" in page
    env = make()
    _, info = env.reset(options={"question_id": "amber-revenue"})
    names = [*inspect.signature(VRAGEnv).parameters, *info, *env.observation_space]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_public_names() -> None:
    assert all(getattr(vrag_env, name) is not None for name in vrag_env.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        vrag_env.Nothing  # noqa: B018
