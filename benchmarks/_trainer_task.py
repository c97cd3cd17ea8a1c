"""What both trainers do in :mod:`trainer_speed`: the same questions, model and tokens.

The actions are written beforehand and forced on the samplers, token by token: a random model writes nothing that
searches, and two samplers never draw the same. Every forward pass, every distribution and every draw is made as
usual; only the drawn token is replaced. The copies of a question differ in their thoughts and in their answers, of
which every second is right, so that no group is without a gradient.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vrag_agent import tiny
from vrag_agent.commands import make_env
from vrag_agent.policy import VLMPolicy
from vrag_agent.rollout import episodes_of
from vrag_env.corpus.generate import WorldConfig, build_world
from vrag_env.episode import Episode
from vrag_env.questions import Question

THOUGHT = (
    "the page shows a table of values by year and region so I look for the row that the question names and read it "
    "then I check the unit in the header and compare with the chart below before I answer"
)
WORDS = tuple(THOUGHT.split(" "))
MODEL: dict[str, Any] = {
    "hidden_size": 128,
    "layers": 4,
    "vision_hidden_size": 64,
    "vision_layers": 4,
    "vision_heads": 4,
}


@dataclass(frozen=True)
class Shape:
    """How much one step is.

    Attributes:
        questions: Questions of a step.
        copies: Episodes per question.
        microbatch: Episodes per forward pass of the update.
        turns: Turns of an episode, the answer included: searches and crops in turn, one image each.
        pages: Pages shown per search.
        words: Fewest and most words of a thought.
        max_pixels: Of a shown image; 784 pixels are one visual token.
    """

    questions: int = 2
    copies: int = 8
    microbatch: int = 8
    turns: int = 4
    pages: int = 1
    words: tuple[int, int] = (8, 40)
    max_pixels: int = 100_352

    @property
    def episodes(self) -> int:
        """Episodes of a step."""
        return self.questions * self.copies


@dataclass
class Task:
    """Questions over a generated corpus, and a policy to train on them.

    Attributes:
        directory: For the corpus.
        shape: How much a step is.
    """

    directory: Path
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        config = WorldConfig(seed=0, documents=24, kinds=("board", "table"), symbol_size=20)
        corpus, questions = build_world(config, self.directory / f"world-{config.stamp}", long_side=896)
        self.questions: list[Question] = [q for q in questions if q.answerable]
        self.env = make_env(
            {
                "corpus": corpus.path,
                "questions": self.questions,
                "max_turns": max(4, self.shape.turns),
                "pages_per_search": self.shape.pages,
                "min_pixels": self.shape.max_pixels * 3 // 4,
                "max_pixels": self.shape.max_pixels,
            }
        )
        texts = [THOUGHT, *(f"Question: {q.text} {q.oracle_query}" for q in self.questions)]
        texts += [self.action(i, c, t) for i in range(8) for c in range(2) for t in range(self.shape.turns)]
        self.tokenizer = tiny.build_tokenizer([*texts, "user\n", "assistant\n"], 1024)

    def question(self, step: int, number: int) -> int:
        """Index of the question that stands at a place of a step."""
        return (step * self.shape.questions + number) % len(self.questions)

    def action(self, question: int, copy: int, turn: int) -> str:
        """What is written in a turn; begins with a mark by which it can be found again."""
        rng = random.Random(f"{question}.{copy}.{turn}")
        thought = " ".join(rng.choices(WORDS, k=rng.randint(*self.shape.words)))
        asked = self.questions[question]
        if turn == self.shape.turns - 1:
            act = f"<answer>{asked.answer if copy % 2 == 0 else 'none of these'}</answer>"
        elif turn % 2 == 0 or self.shape.pages > 1:
            act = f"<search>{asked.oracle_query or asked.text}</search>"
        else:
            act = "<bbox>[20, 20, 160, 120]</bbox>"
        return f"<think>[{question}.{copy}.{turn}] {thought}</think>{act}"

    def ids(self, question: int, copy: int, turn: int) -> list[int]:
        """The same as ids, with the end of the turn."""
        text = self.action(question, copy, turn)
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, self.tokenizer.eos_token_id]

    def model(self) -> Any:
        """The model, with a frozen vision tower; equal weights in every process."""
        model = tiny.build_model(self.tokenizer, initializer_range=0.1, **MODEL)
        model.model.visual.requires_grad_(False)
        return model

    def policy(self) -> VLMPolicy:
        """The model as a policy."""
        from vrag_agent.families import Qwen2_5VL

        return VLMPolicy(self.model(), Qwen2_5VL(self.tokenizer, tiny.build_image_processor()), system="")

    def fresh(self, question: int) -> Episode:
        """A fresh episode."""
        return episodes_of(self.env, [self.questions[question]])[0]


def one_thread() -> None:
    """One thread for torch: more are slower on models of this size, and ratios would hang on who gets a core."""
    torch.set_num_threads(1)
