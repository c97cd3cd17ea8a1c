"""The codeword game: the smallest multi-turn task that only a correct trainer learns.

Two turns. The first action is free. The observation then shows the codeword, as a letter or as the colour of
an image, and the second action must say it. What is learnt are a few tokens, so a tiny model learns it in
seconds if, and only if, actions are trained on what they saw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image as PILImage

from vrag_agent import tiny
from vrag_agent.policy import VLMPolicy
from vrag_env.actions import Answer, Search
from vrag_env.episode import Block, Episode, EpisodeState, Image, StepResult, Text, Turn
from vrag_env.questions import Question
from vrag_env.rewards import Scored
from vrag_env.views import FULL_PAGE, View

COLOURS = {"a": (220, 30, 30), "b": (30, 160, 30), "c": (30, 30, 220), "d": (235, 225, 60)}
LETTERS = tuple(COLOURS)


class CodewordReward:
    """1 for the right letter in the second turn; 0 for the first turn whatever it says."""

    def score(self, episodes):
        scored = []
        for episode in episodes:
            right = episode.done and episode.turns[-1].text == episode.question.answer
            scored.append(Scored(float(right), {"answer": float(right)} if episode.done else {}, 0.0, right))
        return scored


class CodewordEpisode(Episode):
    """The game in the place of a document question; everything else is the real episode."""

    def __init__(self, letter: str, images: bool, seed: int) -> None:
        super().__init__(Question(f"codeword-{seed}", "", letter), None, None, CodewordReward())
        self.images = images
        self.rng = np.random.default_rng(seed)

    def start(self, noise_seed: int = 0) -> StepResult:
        self.state = EpisodeState()
        return self._result((Text("say"),))

    def begin(self, text: str) -> None:
        self.text = text

    def execute(self, hits=()) -> tuple[Block, ...]:
        first = not self.state.turns
        turn = Turn(self.text, "", Search("x") if first else Answer(self.text))
        self.state = replace(self.state, turns=(*self.state.turns, turn), terminated=not first)
        if not first:
            return ()
        if not self.images:
            return (Text(f"the word is {self.question.answer}"),)
        noise = self.rng.integers(-20, 20, (56, 56, 3))
        pixels = np.clip(np.array(COLOURS[self.question.answer]) + noise, 0, 255).astype(np.uint8)
        view = View(1, "page", FULL_PAGE, None, (56, 56))
        return (Image(PILImage.fromarray(pixels), view),)


def episodes(images: bool, seed: int = 0):
    """Return a source of fresh games with codewords drawn from a seed."""
    rng = np.random.default_rng(seed)

    def make(count: int) -> list[CodewordEpisode]:
        return [
            CodewordEpisode(LETTERS[rng.integers(len(LETTERS))], images, int(rng.integers(1 << 31)))
            for _ in range(count)
        ]

    return make


def build_policy(seed: int = 0, **shape) -> VLMPolicy:
    """A tiny policy that can say the letters and little else."""
    texts = ["the word is a b c d say user assistant system"] * 4
    policy = tiny.build_policy(
        texts,
        vocab_size=400,
        seed=seed,
        **({"hidden_size": 32, "layers": 2, "vision_hidden_size": 32} | shape),
    )
    # Bytes and merges that the game does not need are forbidden, so that exploration is as small as the game.
    letters = {policy.family.encode(letter)[0] for letter in LETTERS}
    policy.forbidden[:] = True
    policy.forbidden[[policy.family.stop_id, *letters]] = False
    return policy
