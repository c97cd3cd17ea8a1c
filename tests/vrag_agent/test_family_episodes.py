"""Every family plays, learns and is evaluated in the real environment, with its own images and box frame."""

from pathlib import Path

import pytest

from vrag_agent import tiny
from vrag_agent.checkpoint import load_policy, save_checkpoint
from vrag_agent.commands import make_env
from vrag_agent.config import GRPOConfig
from vrag_agent.eval_command import run_evaluation
from vrag_agent.families import FAMILIES, SmolVLM
from vrag_agent.grpo import GRPO
from vrag_agent.rollout import QuestionStream
from vrag_env.questions import Question, save_questions


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_learns_and_is_evaluated(
    family: str, tiny_corpus_path: Path, tiny_questions: tuple[Question, ...], tmp_path: Path
) -> None:
    texts = [question.text for question in tiny_questions] + ["<think>I look.</think><search>report</search>"]
    vocabulary = 460 if issubclass(FAMILIES[family], SmolVLM) else 400
    built = tiny.build_policy(texts, family=family, vocab_size=vocabulary, initializer_range=0.1)
    unit = built.family.pixel_multiple
    look = {"max_turns": 2, "min_pixels": unit * unit, "max_pixels": 6 * unit * unit}
    policy = load_policy(save_checkpoint(built, tmp_path / "start", look, 8))
    asked = tmp_path / "questions.json"
    save_questions(asked, tiny_questions)
    options = {
        "corpus": tiny_corpus_path,
        "questions": asked,
        "box_frame": policy.family.box_frame,
        "pixel_multiple": unit,
        **look,
    }
    env = make_env(options)
    config = GRPOConfig(
        n_episodes=4, group_size=2, minibatch_size=4, microbatch_size=2, max_tokens=8, skip_zero_variance=False
    )
    grpo = GRPO(policy, QuestionStream(env), config)
    metrics = grpo.learn(1)[0]
    assert metrics["train/sampler_gap_max"] < 1e-3
    [episode] = QuestionStream(env)(1)
    episode.start()
    shown = episode.step_text("<think>.</think><search>report</search>").blocks
    segment = policy.family.observation(shown, ())
    assert len(segment.images) == 1
    box = "[0, 0, 1000, 500]" if policy.family.box_frame == "1000" else f"[0, 0, {unit}, {unit}]"
    crop = episode.step_text(f"<think>.</think><bbox>{box}</bbox>").blocks
    assert len(policy.family.observation(crop, ()).images) == 1
    save_checkpoint(policy, tmp_path / "trained", {**look, "box_frame": policy.family.box_frame}, 8)
    summary = run_evaluation(
        str(tmp_path / "trained"),
        tmp_path / "eval",
        {"corpus": tiny_corpus_path, "questions": asked},
        limit=2,
    )
    assert summary["questions"] == 2
