"""The TRL adapter: the same episodes as the text face, and a real step of GRPOTrainer on a tiny Qwen3-VL."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from vrag_env.adapters.trl import Rollout, TRLTask
from vrag_env.env import VRAGEnv
from vrag_env.rewards import JudgeItem, RuleJudge

SMALL = {"min_pixels": 32 * 32 * 4, "max_pixels": 32 * 32 * 16, "pixel_multiple": 32}


@pytest.fixture
def task(tiny_corpus: Any, tiny_questions: Any) -> TRLTask:
    return TRLTask(corpus=tiny_corpus, questions=tiny_questions)


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def begun(task: TRLTask, question_id: str = "amber-revenue") -> Rollout:
    rollout = task.environment()
    rollout.reset(prompt=[], question_id=question_id)
    return rollout


def test_the_methods_that_trl_takes_for_tools() -> None:
    from transformers.utils import get_json_schema

    methods = [name for name, _ in inspect.getmembers(Rollout, predicate=inspect.isfunction) if name[0] != "_"]
    assert methods == ["crop", "reset", "search"]  # "get_reward" would be called without the answer
    schema = get_json_schema(Rollout.crop)["function"]
    assert schema["name"] == "crop" and list(schema["parameters"]["properties"]) == ["x1", "y1", "x2", "y2"]
    assert get_json_schema(Rollout.search)["function"]["parameters"]["required"] == ["query"]


def test_the_same_as_the_text_face(task: TRLTask, tiny_corpus: Any, tiny_questions: Any) -> None:
    env = VRAGEnv(corpus=tiny_corpus, questions=tiny_questions)
    rollout = task.environment()
    assert rollout.reset(prompt=[], question_id="amber-revenue") == [
        {"type": "text", "text": "Question: What revenue does Amber Falcon report for the North region, in million?"}
    ]
    env.reset(options={"question_id": "amber-revenue"})
    for ours, turn in [
        (rollout.search("ambrosia"), "<search>ambrosia</search>"),
        (rollout.crop(73, 133, 655, 186), "<bbox>[73, 133, 655, 186]</bbox>"),
        (rollout.crop("all", 1, None, 2), "<bbox>of words</bbox>"),  # type: ignore[arg-type]  # what models write
    ]:
        blocks = env.step(f"<think></think>{turn}")[4]["blocks"]
        assert [part["type"] for part in ours] == ["image", "text"][-len(blocks) :]
        assert ours[-1]["text"] == blocks[-1].text
        if len(blocks) == 2:
            assert isinstance(ours[0]["image"], PILImage.Image)
            assert ours[0]["image"].tobytes() == blocks[0].image.tobytes()
    *_, info = env.step("<think></think><answer>42.5</answer>")
    [reward] = task.reward([[said("42.5")]], [rollout])
    assert reward == pytest.approx(0.2 + 0.7 + 0.1 * 3 / 4) and info["is_success"]
    assert rollout._env.episode.turns[-1].reward_terms == tuple(info["reward_terms"].items())


@pytest.mark.parametrize(
    ("messages", "reward"),
    [
        ([said(" 42.5\n")], 0.2 + 0.7 + 0.1),
        ([said("<think>easy</think><answer>42.5</answer>")], 0.2 + 0.7 + 0.1),
        ([said("<answer>42.5</answer>")], 0.2 + 0.7 + 0.1),
        ([{"role": "assistant", "content": [{"type": "text", "text": "42.5"}]}], 0.2 + 0.7 + 0.1),
        ([said("41")], 0.2 + 0.1),
        # Without an answer: one valid turn of five.
        ([], 0.2 + 0.1 / 5),
        ([said("")], 0.2 + 0.1 / 5),
        ([said("<search>42.5</search>")], 0.2 + 0.1 / 5),
        ([said("42.5</answer><answer>42.5")], 0.2 + 0.1 / 5),
        ([{"role": "tool", "content": "42.5"}], 0.2 + 0.1 / 5),
        ([{**said("42.5"), "tool_calls": [{}]}], 0.2 + 0.1 / 5),
    ],
)
def test_what_an_answer_earns(task: TRLTask, messages: list[dict[str, Any]], reward: float) -> None:
    rollout = begun(task)
    rollout.search("ambrosia")
    assert task.reward([messages], [rollout]) == [pytest.approx(reward)]


def test_no_tool_after_the_last_turn(task: TRLTask) -> None:
    rollout = begun(task)
    for number in range(5):
        shown = rollout.search("report")
        assert ("last turn" in shown[-1]["text"]) == (number in (3, 4))
    with pytest.raises(ValueError, match="no tool can be used any more"):
        rollout.search("report")
    assert task.reward([[said("42.5")]], [rollout]) == [pytest.approx(0.1 * 4 / 5)]  # too late
    assert rollout.reset(question_id="olive-price")[0]["text"].startswith("Question: What does a night")


def test_rollouts_share_everything_and_are_judged_together(tiny_corpus: Any, tiny_questions: Any) -> None:
    calls: list[int] = []

    class Counting(RuleJudge):
        def judge(self, items: Any) -> list[float]:
            calls.append(len(items))
            assert all(isinstance(item, JudgeItem) for item in items)
            return super().judge(items)

    task = TRLTask(corpus=tiny_corpus, questions=tiny_questions, judge=Counting(), reward="outcome", max_turns=2)
    rollouts = [begun(task, name) for name in ("amber-revenue", "ivory-origin", "cobalt-staff")]
    assert task.turns == 2 and len({id(rollout._env.retriever) for rollout in rollouts}) == 1
    assert task.reward([[said("42.5")], [said("Spain")], []], rollouts) == [1.0, 0.0, 0.0]
    assert calls == [2]


def test_the_data_set(task: TRLTask) -> None:
    pytest.importorskip("datasets", reason="needs the extra trl")
    rows = task.dataset()
    assert rows["question_id"][0] == "amber-revenue" and len(rows) == 5
    assert rows[0]["prompt"][1] == {"role": "user", "content": ""}
    assert "in pixels of the image" in rows[0]["prompt"][0]["content"]


@pytest.mark.slow
def test_a_step_of_the_trainer(tiny_corpus: Any, tiny_questions: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The real GRPOTrainer, template, parser, masks, images and loss; only the sampling follows a script."""
    trl = pytest.importorskip("trl", reason="needs the extra trl")
    import torch
    from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor
    from trl.chat_template_utils import qwen3_vl_chat_template

    from vrag_agent.tiny import build_image_processor, build_model, build_tokenizer

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    torch.set_num_threads(1)
    calls = (
        '<tool_call>\n{"name": "search", "arguments": {"query": "ambrosia"}}\n</tool_call>',
        '<tool_call>\n{"name": "crop", "arguments": {"x1": 20, "y1": 30, "x2": 90, "y2": 60}}\n</tool_call>',
    )
    tokenizer = build_tokenizer([qwen3_vl_chat_template, *calls, "42.5", "41"], family="qwen3_vl")
    processor = Qwen3VLProcessor(
        build_image_processor("qwen3_vl"), tokenizer, Qwen3VLVideoProcessor(), chat_template=qwen3_vl_chat_template
    )
    answers = iter(("42.5", "41", "42.5", "41"))
    scripted: list[list[str]] = []

    class Scripted(trl.GRPOTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
            turn = len(scripted)
            scripted.append([calls[turn] if turn < 2 else next(answers) for _ in prompt_ids])
            texts = [f"{text}<|im_end|>" for text in scripted[-1]]
            return [tokenizer(text)["input_ids"] for text in texts], None

    task = TRLTask(corpus=tiny_corpus, questions=tiny_questions[:1], **SMALL)
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=2048,
        max_tool_calling_iterations=task.turns,
        max_steps=1,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
    )
    trainer = Scripted(
        model=build_model(tokenizer, family="qwen3_vl"),
        args=arguments,
        train_dataset=task.dataset(),
        processing_class=processor,
        environment_factory=task.environment,
        reward_funcs=task.reward,
    )
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    assert len(scripted) == 3
    [logged] = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert logged["reward"] == pytest.approx((1.0 + 0.3) / 2)  # both found the page, one answered right
    assert logged["tools/failure_frequency"] == 0.0
    assert [len(rollout._env.episode.views) for rollout in trainer.environments] == [2, 2]
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
