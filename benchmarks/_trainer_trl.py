"""The step of TRL's ``GRPOTrainer`` with ``environment_factory``, on the task of :mod:`_trainer_task`.

TRL plays tools: an environment's methods are called by name. A chat template writes the calls in the tags of this
project and shows what comes back as a user's turn, so that both trainers see the same ids; a ``response_template``
reads the tags. The answer is no tool, since a tool call asks for another turn; it is judged as the reward. The
written actions are forced by a logits processor, which costs nothing beside a forward pass.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from _trainer_task import Task

from vrag_env.episode import Episode, Text

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ 'user' if message['role'] == 'tool' else message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}"
    "{% for call in message['tool_calls'] or [] %}<{{ call['function']['name'] }}>"
    "{{ call['function']['arguments'] | tojson }}</{{ call['function']['name'] }}>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close_pattern": r"</think>\s*", "content": "text"},
        "tool_calls": {
            "open_pattern": r"<(?P<name>search|bbox)>",
            "close_pattern": r"</(?:search|bbox)>\s*",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": {"text": "{content}"}}},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*|$", "content": "text"},
    },
}
MARK = re.compile(r"\[(\d+)\.(\d+)\.(\d+)\]")


def environment(task: Task) -> type:
    """The class of environments that TRL makes, one per episode."""

    class Documents:
        """Search page images and cut from them."""

        def __init__(self) -> None:
            self._episode: Episode | None = None

        def reset(self, **row: Any) -> None:
            """Begin the question of a row."""
            self._episode = task.fresh(row["index"])
            self._episode.start()

        def _act(self, tag: str, text: str) -> list[dict[str, Any]]:
            assert self._episode is not None
            result = self._episode.step_text(f"<think>.</think><{tag}>{text}</{tag}>")
            return [
                {"type": "text", "text": block.text}
                if isinstance(block, Text)
                else {"type": "image", "image": block.image}
                for block in result.blocks
            ]

        def search(self, text: str) -> list:
            """Search for pages.

            Args:
                text: What to look for.
            """
            return self._act("search", text)

        def bbox(self, text: str) -> list:
            """Enlarge a part of the image seen last.

            Args:
                text: The box.
            """
            return self._act("bbox", text)

        def _finish(self, text: str) -> float:
            """Give the last turn to the episode and return its whole reward."""
            assert self._episode is not None
            self._episode.step_text(text)
            return float(sum(turn.reward for turn in self._episode.turns))

    return Documents


class ForceScript:
    """Logits processor: only the written token is possible."""

    def __init__(self, task: Task, step: Callable[[], int]) -> None:
        self.task = task
        self.step = step
        self._start = -1
        self._scripts: list[list[int]] = []

    def begin(self, ids: torch.Tensor) -> None:
        """Find what each row writes next: after the last mark in it, or from the top, in the order of the rows."""
        self._start = ids.shape[1]
        shape = self.task.shape
        self._scripts = []
        for row, text in enumerate(self.task.tokenizer.batch_decode(ids)):
            marks = MARK.findall(text)
            if marks:
                question, copy, turn = (int(number) for number in marks[-1])
                turn += 1
            else:
                question, copy = self.task.question(self.step(), row // shape.copies), row % shape.copies
                turn = 0
            self._scripts.append(self.task.ids(question, copy, turn))

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leave one token per row."""
        at = ids.shape[1] - self._start
        forced = torch.tensor([script[min(at, len(script) - 1)] for script in self._scripts])[:, None]
        return torch.full_like(scores, -torch.inf).scatter(1, forced, scores.gather(1, forced))


def preload() -> None:
    """Import what the run needs, before its memory is counted."""
    import datasets  # type: ignore[import-untyped]  # noqa: F401
    import trl  # noqa: F401
    from trl import GRPOTrainer  # noqa: F401


def run(task: Task, steps: int, begin: Callable[[], None], end: Callable[[dict[str, Any]], None]) -> None:
    """Train for some steps.

    Args:
        task: What to train on.
        steps: How many.
        begin: Called before each step, after the trainer is ready.
        end: Called after each with its counts.
    """
    from datasets import Dataset
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    shape = task.shape
    tokenizer = task.tokenizer
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.response_template = RESPONSE_TEMPLATE
    pixels = Qwen2VLImageProcessor(min_pixels=shape.max_pixels * 3 // 4, max_pixels=shape.max_pixels)
    processor = Qwen2_5_VLProcessor(pixels, tokenizer, Qwen2VLVideoProcessor(), chat_template=CHAT_TEMPLATE)
    model = task.model()
    rows = []
    for step in range(steps):
        for number in range(shape.questions):
            index = task.question(step, number)
            prompt = [{"role": "user", "content": f"Question: {task.questions[index].text}"}]
            rows.append({"prompt": prompt, "index": index})

    def reward(completions: list[Any], environments: list[Any], **kwargs: Any) -> list[float]:
        last = [completion[-1]["content"] for completion in completions]
        texts = [part if isinstance(part, str) else "".join(p["text"] for p in part) for part in last]
        return [env._finish(f"<think>.</think>{text}") for env, text in zip(environments, texts, strict=True)]

    with tempfile.TemporaryDirectory() as directory:
        config = GRPOConfig(
            output_dir=directory,
            per_device_train_batch_size=shape.microbatch,
            gradient_accumulation_steps=shape.episodes // shape.microbatch,
            num_generations=shape.copies,
            max_completion_length=8192,
            max_tool_calling_iterations=shape.turns,
            max_steps=steps,
            learning_rate=1e-6,
            beta=0.0,
            temperature=1.0,
            shuffle_dataset=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=processor,
            environment_factory=environment(task),
        )
        force = ForceScript(task, lambda: trainer.state.global_step)
        generate = model.generate

        def forced(**inputs: Any) -> Any:
            force.begin(inputs["input_ids"])
            return generate(**inputs, logits_processor=[force])

        model.generate = forced
        score = trainer._generate_and_score_completions
        counted: dict[str, Any] = {}

        def scored(inputs: Any) -> Any:
            out = score(inputs)
            mask = out["completion_mask"] * out.get("tool_mask", torch.ones_like(out["completion_mask"]))
            counted.update(
                trajectories=len(inputs),
                tokens=int(out["prompt_mask"].sum() + out["completion_mask"].sum()),
                action_tokens=int(mask.sum()),
                images=len(out["image_grid_thw"]) if "image_grid_thw" in out else 0,
            )
            return out

        trainer._generate_and_score_completions = scored  # type: ignore[method-assign]  # to count what it made

        class Clock(TrainerCallback):
            """Tells the beginning and the end of each step, whatever belongs to it."""

            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                begin()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                end(dict(counted))
                if state.global_step < steps:
                    begin()

        trainer.add_callback(Clock())
        trainer.train()
