"""TRL: episodes as the environments of ``GRPOTrainer``, with searching and cropping as tools (TRL 1.16).

What is here renames: a tool call is written as the turn of the text face and taken by the same
:class:`~vrag_env.episode.Episode`, so that a model trained by TRL answers the same questions under the same rules
and is scored by the same code. TRL renders and parses the tool calls, keeps the tokens and masks what the tools
return. The answer is no tool: TRL generates once more after every tool call, and ends at a message without one.

The model's chat template must render tool calls and take images from tools, as those of Qwen3-VL and newer models do
(that of Qwen2.5-VL drops them; this project's own trainer has no such need).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vrag_env.env import VRAGEnv
from vrag_env.episode import Image, StepResult, step_many
from vrag_env.errors import missing_extra

INSTRUCTIONS = (
    "Answer the question from the pages of a collection of documents, which you can only see as images. Use the tool "
    "search to find pages, and the tool crop to enlarge what is too small to read. One tool call per message. When "
    "you know the answer, write it alone, as short as possible, without a tool call. If the pages do not hold it, "
    'write "Not answerable". The boxes of crop are {frame}.'
)
_FRAMES = {
    "pixel": "in pixels of the image you saw last, origin at the top left",
    "1000": "from 0 to 1000 across and down the image you saw last, origin at the top left",
}


class Rollout:
    """One rollout, as TRL drives it: ``reset`` begins an episode, the other public methods are the tools.

    TRL makes them by :meth:`TRLTask.environment`, and keeps and reuses them.
    """

    def __init__(self, env: VRAGEnv, seed: int) -> None:
        self._env = env
        self._env.reset(seed=seed)

    def reset(self, question_id: str, **_: Any) -> list[dict[str, Any]]:
        """Begin an episode with the question of a row of the data set; returns what is shown of it."""
        _, info = self._env.reset(options={"question_id": question_id})
        return _content(info["blocks"])

    def search(self, query: str) -> list[dict[str, Any]]:
        """Search the documents: shows the best matching page that you have not seen yet.

        Args:
            query: What to look for, in words.

        Returns:
            The page, or a message.
        """
        return self._turn(f"<search>{query}</search>")

    def crop(self, x1: int, y1: int, x2: int, y2: int) -> list[dict[str, Any]]:
        """Cut a region out of the image that you saw last, and enlarge it.

        Args:
            x1: Left edge of the region.
            y1: Upper edge of the region.
            x2: Right edge of the region.
            y2: Lower edge of the region.

        Returns:
            The region, enlarged, or a message.
        """
        return self._turn(f"<bbox>[{x1}, {y1}, {x2}, {y2}]</bbox>")

    def _turn(self, action: str) -> list[dict[str, Any]]:
        episode = self._env.episode
        if episode.done:  # TRL counts it as a failed call and shows the message to the model
            raise ValueError("the turns are used up: no tool can be used any more")
        result: StepResult = episode.step_text(f"<think></think>{action}")
        return _content(result.blocks)


class TRLTask:
    """What ``GRPOTrainer`` needs to train on ``VRAG-v0``: a data set, environments and a reward.

    ```python
    from trl import GRPOConfig, GRPOTrainer
    from vrag_env.adapters.trl import TRLTask

    task = TRLTask(corpus="runs/my_corpus", questions="my_questions.json", box_frame="1000", pixel_multiple=32)
    trainer = GRPOTrainer(
        model="Qwen/Qwen3-VL-4B-Instruct",
        args=GRPOConfig(max_tool_calling_iterations=task.turns, max_completion_length=4096),
        train_dataset=task.dataset(),
        environment_factory=task.environment,
        reward_funcs=task.reward,
    )
    ```

    ``max_completion_length`` counts the tokens of the images that the tools show. Several calls in one message are
    several turns. A rollout that ends without an answer (out of tokens or of calls) gets what an episode without an
    answer gets: the turns that are left count as invalid.

    Args:
        **kwargs: Arguments of :class:`vrag_env.env.VRAGEnv`.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._first = VRAGEnv(**kwargs)
        self._options = {**kwargs, **self._first.shared()}
        self._made = 0

    @property
    def turns(self) -> int:
        """Most tool calls of a rollout, for ``max_tool_calling_iterations``."""
        return self._first.config.max_turns

    def dataset(self) -> Any:
        """Return the questions as a ``datasets.Dataset``: ``prompt`` and ``question_id``.

        Raises:
            DependencyError: If datasets is not installed.
        """
        try:
            from datasets import Dataset  # type: ignore[import-untyped]  # it has no types
        except ModuleNotFoundError as error:
            raise missing_extra(str(error.name), "trl") from error

        system = {"role": "system", "content": INSTRUCTIONS.format(frame=_FRAMES[self._first.config.box_frame])}
        # What reset() returns is joined to the last message: the question comes from the environment.
        rows = [
            {"prompt": [system, {"role": "user", "content": ""}], "question_id": question.question_id}
            for question in self._first.questions
        ]
        return Dataset.from_list(rows)

    def environment(self) -> Rollout:
        """Make the environment of one rollout; all of them share corpus, retriever and judge."""
        self._made += 1
        return Rollout(VRAGEnv(**self._options), seed=self._made)

    def reward(
        self, completions: Sequence[Sequence[dict[str, Any]]], environments: Sequence[Rollout], **_: Any
    ) -> list[float]:
        """Take the answers, and return the reward of each episode.

        Args:
            completions: The messages of each rollout; the last one without a tool call is the answer.
            environments: The environment of each rollout.

        Returns:
            The rewards, with one call of the judge for all.
        """
        episodes = [environment._env.episode for environment in environments]
        turns = [_answer_turn(messages) for messages in completions]
        running = [index for index, episode in enumerate(episodes) if not episode.done]
        while running:
            step_many([episodes[index] for index in running], [turns[index] for index in running])
            running = [index for index in running if not episodes[index].done]
            turns = [""] * len(turns)
        return [float(sum(turn.reward for turn in episode.turns)) for episode in episodes]


def _content(blocks: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"type": "image", "image": block.image} if isinstance(block, Image) else {"type": "text", "text": block.text}
        for block in blocks
    ]


def _answer_turn(messages: Sequence[dict[str, Any]]) -> str:
    """Write the last message as a turn; it may hold the tags of the text face already."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls"):
        return ""
    content = last.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text", "") for part in content)
    text = content.strip()
    if "<answer>" in text:
        return text if text.startswith("<think>") else f"<think></think>{text}"
    return f"<think></think><answer>{text}</answer>"
