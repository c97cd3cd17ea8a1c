"""The vector face: equal to single environments and to Gymnasium's own, at one retrieval call per step."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from vrag_env.env import VRAGEnv
from vrag_env.retrieval import make_retriever
from vrag_env.vector import VRAGVectorEnv

SEARCH = "<think>a</think><search>{}</search>"
ANSWER = "<think>a</think><answer>{}</answer>"
CROP = "<think>a</think><bbox>[20, 20, 300, 200]</bbox>"
# One row per step, one turn per environment: episodes of different lengths, one that runs out of turns.
STEPS = [
    (SEARCH.format("ambrosia"), SEARCH.format("report"), "nonsense"),
    (CROP, ANSWER.format("310"), CROP),
    (ANSWER.format("42.5"), SEARCH.format("dolphin"), SEARCH.format("report")),
    (SEARCH.format("gondola"), CROP, SEARCH.format("report")),
    (ANSWER.format("Portugal"), CROP, SEARCH.format("report")),
    (SEARCH.format("report"), ANSWER.format("1"), SEARCH.format("otter")),
    (SEARCH.format("report"), SEARCH.format("otter"), ANSWER.format("Portugal")),
]
MODES = list(AutoresetMode)


@pytest.fixture
def arguments(tiny_corpus: Any, tiny_questions: Any) -> dict[str, Any]:
    return {"corpus": tiny_corpus, "questions": tiny_questions}


def steps_for(mode: AutoresetMode, envs: Any) -> list[Any]:
    """Reset and play the script; with autoreset disabled, reset what has ended by mask."""
    results = [envs.reset(seed=11)]
    for actions in STEPS:
        result = envs.step(actions)
        results.append(result)
        ended = result[2] | result[3]
        if mode == AutoresetMode.DISABLED and ended.any():
            results.append(envs.reset(options={"reset_mask": ended}))
    return results


@pytest.mark.parametrize("mode", MODES)
def test_equal_to_the_vector_of_gymnasium(arguments: dict[str, Any], mode: AutoresetMode) -> None:
    ours = VRAGVectorEnv(3, autoreset_mode=mode, **arguments)
    theirs = SyncVectorEnv([lambda: VRAGEnv(**arguments)] * 3, autoreset_mode=mode)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    expected, got = steps_for(mode, theirs), steps_for(mode, ours)
    assert len(expected) == len(got)
    for one, other in zip(expected, got, strict=True):
        assert data_equivalence(one, other, exact=True)
        assert one[-1].keys() == other[-1].keys()
        assert other[0] in ours.observation_space


def test_equal_to_single_environments(arguments: dict[str, Any]) -> None:
    vector = VRAGVectorEnv(3, **arguments)
    singles = [VRAGEnv(**arguments) for _ in range(3)]
    observations, _ = vector.reset(seed=5)
    alone = [env.reset(seed=5 + index)[0] for index, env in enumerate(singles)]
    ended = [False] * 3
    for actions in [None, *STEPS]:
        if actions is not None:
            observations, rewards, terminations, truncations, infos = vector.step(actions)
            for index, env in enumerate(singles):
                if ended[index]:
                    alone[index], ended[index] = env.reset()[0], False
                    assert rewards[index] == 0
                    assert not terminations[index] and not truncations[index]
                    continue
                alone[index], reward, terminated, truncated, info = env.step(actions[index])
                assert rewards[index] == reward
                assert terminations[index] == terminated
                assert truncations[index] == truncated
                assert infos["blocks"][index] == info["blocks"]
                assert infos["state_key"][index] == info["state_key"]
                ended[index] = terminated or truncated
        for index, observation in enumerate(alone):
            assert observations["question"][index] == observation["question"]
            assert observations["text"][index] == observation["text"]
            assert observations["image"][index].tobytes() == observation["image"].tobytes()
            assert observations["image"][index].shape == observation["image"].shape
            assert observations["turns_left"][index] == observation["turns_left"]
            assert observations["pixels_left"][index] == observation["pixels_left"]


def test_one_retrieval_call_per_step(arguments: dict[str, Any]) -> None:
    class Counting:
        def __init__(self) -> None:
            self.inner = make_retriever("lexical", arguments["corpus"])
            self.calls: list[int] = []

        def search(self, queries: Sequence[str], k: int, where: Any = None) -> Any:
            self.calls.append(len(queries))
            return self.inner.search(queries, k, where)

    counting = Counting()
    envs = VRAGVectorEnv(6, retriever=counting, **arguments)
    envs.reset(seed=0)
    envs.step([SEARCH.format(word) for word in ("a", "report", "staff", "otter", "lynx", "august")])
    envs.step([SEARCH.format("report")] * 2 + ["nonsense"] * 4)
    envs.step(["nonsense"] * 6)
    assert counting.calls == [6, 2]
    assert all(env.corpus is envs.envs[0].corpus for env in envs.envs)
    assert all(env.reward is envs.envs[0].reward for env in envs.envs)


def test_information_keeps_objects(arguments: dict[str, Any]) -> None:
    envs = VRAGVectorEnv(2, **arguments)
    envs.reset(seed=0)
    *_, infos = envs.step([SEARCH.format("ambrosia"), "nonsense"])
    assert infos["blocks"].dtype == object
    assert isinstance(infos["blocks"][0], tuple)
    assert [len(blocks) for blocks in infos["blocks"]] == [2, 1]
    assert infos["pages_shown"][0] == ("finance/amber.pdf#1",)
    assert infos["invalid"].tolist() == [False, True]
    assert infos["reward_terms"]["pattern"].tolist() == [1.0, 0.0]
    assert infos["_blocks"].tolist() == [True, True]


def test_questions_can_be_picked(arguments: dict[str, Any]) -> None:
    envs = VRAGVectorEnv(3, **arguments)
    picked = ["olive-price", None, "amber-revenue"]
    _, infos = envs.reset(seed=1, options={"question_ids": picked})
    assert infos["question_id"][0] == "olive-price"
    assert infos["question_id"][2] == "amber-revenue"
    assert infos["question_id"][1] == VRAGEnv(**arguments).reset(seed=2)[1]["question_id"]
    _, infos = envs.reset(options={"question_id": "ivory-origin"})
    assert infos["question_id"].tolist() == ["ivory-origin"] * 3
    mask = np.array([False, True, False])
    observations, infos = envs.reset(options={"question_ids": picked[::-1], "reset_mask": mask})
    assert infos["_question_id"].tolist() == mask.tolist()
    assert observations["question"][0] == observations["question"][2]


def test_seeds_of_a_list(arguments: dict[str, Any]) -> None:
    envs = VRAGVectorEnv(2, **arguments)
    _, infos = envs.reset(seed=[4, 4])
    assert infos["question_id"][0] == infos["question_id"][1]


def test_observations_are_the_callers_own(arguments: dict[str, Any]) -> None:
    envs = VRAGVectorEnv(2, autoreset_mode="Disabled", **arguments)
    envs.reset(seed=0)
    first, *_ = envs.step([SEARCH.format("ambrosia"), ANSWER.format("1")])
    kept = first["image"][0].copy()
    second, _ = envs.reset(options={"reset_mask": np.array([False, True])})
    first["image"][0][:] = 0
    first["turns_left"][:] = 0
    np.testing.assert_array_equal(second["image"][0], kept)
    third, _ = envs.reset(options={"reset_mask": np.array([False, True])})
    np.testing.assert_array_equal(third["image"][0], kept)
    assert second["turns_left"].tolist() == [4, 5]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_step_can_be_branched(arguments: dict[str, Any], mode: AutoresetMode) -> None:
    """Episodes of different lengths, so that some are reset while others run."""
    script = [
        [SEARCH.format("ambrosia"), SEARCH.format("report"), SEARCH.format("gondola")],
        ["<think>a</think><bbox>[73, 133, 655, 186]</bbox>", ANSWER.format("310"), "nonsense"],
        [ANSWER.format("42.5"), SEARCH.format("dolphin"), SEARCH.format("report")],
        [SEARCH.format("cinnamon"), SEARCH.format("report"), ANSWER.format("x")],
    ]
    envs, other = (VRAGVectorEnv(3, autoreset_mode=mode, **arguments) for _ in range(2))

    def step(vector: VRAGVectorEnv, actions: list[str]) -> Any:
        stepped = vector.step(actions)
        ended = stepped[2] | stepped[3]
        if mode == AutoresetMode.DISABLED and ended.any():
            return stepped, vector.reset(options={"reset_mask": ended})  # the others are handed out again
        return stepped

    envs.reset(seed=5)
    states, steps = [], []
    for actions in script:
        states.append(envs.clone_state())
        steps.append(step(envs, actions))
    for turn, state in enumerate(states):
        other.restore_state(state)
        again = [step(other, actions) for actions in script[turn:]]
        assert data_equivalence(again, steps[turn:], exact=True)
        other.reset(seed=99)
        other.step(script[0])
    with pytest.raises(ValueError, match="num_envs=2 members, got 3"):
        VRAGVectorEnv(2, **arguments).restore_state(states[0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda envs: envs.step(["x"]), ValueError, "actions must have num_envs=2 members, got 1"),
        (lambda envs: envs.reset(seed=[1]), ValueError, "seed must have num_envs=2"),
        (lambda envs: envs.reset(options={"question_ids": ["a"]}), ValueError, "question_ids must have"),
        (lambda envs: envs.reset(options={"question_ids": ["a", None]}), ValueError, "no question 'a'"),
        (lambda envs: envs.reset(options={"colour": 1}), ValueError, "unknown reset options"),
        (lambda envs: envs.reset(options={"reset_mask": [True, False]}), TypeError, "boolean array"),
        (lambda envs: envs.reset(options={"reset_mask": np.ones(2)}), TypeError, "boolean array"),
        (lambda envs: envs.reset(options={"reset_mask": np.ones(3, bool)}), ValueError, "num_envs=2"),
        (lambda envs: envs.reset(options={"reset_mask": np.zeros(2, bool)}), ValueError, "at least one"),
    ],
)
def test_wrong_calls(arguments: dict[str, Any], call: Callable[[Any], Any], error: Any, words: str) -> None:
    envs = VRAGVectorEnv(2, **arguments)
    envs.reset(seed=0)
    with pytest.raises(error, match=words):
        call(envs)


def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        VRAGVectorEnv(0, **arguments)
    with pytest.raises(ValueError, match="AutoresetMode"):
        VRAGVectorEnv(1, autoreset_mode="sometimes", **arguments)
    envs = VRAGVectorEnv(2, **arguments)
    with pytest.raises(ValueError, match=r"environments \[1\] were never reset"):
        envs.reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize("mask", [None, np.array([True, False])])
def test_a_reset_by_hand_leaves_nothing_to_reset(arguments: dict[str, Any], mask: Any) -> None:
    envs = VRAGVectorEnv(2, **arguments)
    envs.reset(seed=0)
    envs.step([ANSWER.format("1"), SEARCH.format("report")])
    envs.reset(options=None if mask is None else {"reset_mask": mask})
    observations, *_ = envs.step([SEARCH.format("report")] * 2)
    assert observations["text"][0] == "Image 1: 728 x 532."  # the action counts: it is not swallowed by a reset


def test_disabled_autoreset_asks_for_a_reset(arguments: dict[str, Any]) -> None:
    envs = VRAGVectorEnv(2, autoreset_mode=AutoresetMode.DISABLED, **arguments)
    envs.reset(seed=0)
    envs.step([ANSWER.format("1"), SEARCH.format("report")])
    with pytest.raises(RuntimeError, match="has ended"):
        envs.step([SEARCH.format("report")] * 2)


def test_make_vec_takes_our_class(arguments: dict[str, Any], tiny_corpus_path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec(
            "VRAG-v0",
            num_envs=2,
            corpus=str(tiny_corpus_path),
            questions=arguments["questions"],
            autoreset_mode="SameStep",
            render_mode="rgb_array",
        )
        assert isinstance(envs.unwrapped, VRAGVectorEnv)
        assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        envs.reset(seed=0)
        *_, infos = envs.step([ANSWER.format("1"), SEARCH.format("report")])
        assert infos["_final_obs"].tolist() == [True, False]
        assert infos["final_obs"][0]["turns_left"] == 0
        assert [frame.shape for frame in envs.render()] == [(720, 1280, 3)] * 2
        envs.close()
        envs.close()


def test_the_wrappers_of_gymnasium(arguments: dict[str, Any]) -> None:
    envs = gym.wrappers.vector.RecordEpisodeStatistics(VRAGVectorEnv(2, **arguments))
    envs.reset(seed=0)
    *_, infos = envs.step([ANSWER.format("1"), SEARCH.format("report")])
    assert infos["episode"]["l"].tolist() == [1, 0]


@pytest.mark.slow
def test_processes_of_their_own(tiny_corpus_path: Any, tiny_questions: Any) -> None:
    envs = gym.make_vec(
        "VRAG-v0",
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"shared_memory": False, "context": "spawn"},
        corpus=str(tiny_corpus_path),
        questions=tiny_questions,
    )
    ours = VRAGVectorEnv(2, corpus=str(tiny_corpus_path), questions=tiny_questions)
    try:
        assert data_equivalence(envs.reset(seed=3)[0], ours.reset(seed=3)[0], exact=True)
        for actions in STEPS[:4]:
            assert data_equivalence(envs.step(actions[:2])[:4], ours.step(actions[:2])[:4], exact=True)
    finally:
        envs.close()
