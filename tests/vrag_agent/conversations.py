"""A tiny policy and conversations with images that it really sampled, for tests that read trajectories."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage

from vrag_agent import tiny
from vrag_agent.families import Qwen2_5VL
from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import HFSampler
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.episode import Block, Image, Text
from vrag_env.views import FULL_PAGE, View

TEXTS = [
    "what colour is the page? the page is ab, abc or abcd; system user assistant answer search think",
    "ab\nab\nab\nab",
] * 8
WIDE, TALL, SMALL = (112, 56), (56, 140), (28, 28)


@functools.cache
def tokenizer() -> Any:
    """The tokenizer of all these tests; it merges "a" + "b" into "ab"."""
    return tiny.build_tokenizer(TEXTS, vocab_size=340)


def build_policy(seed: int = 0, **shape: Any) -> VLMPolicy:
    """A tiny policy whose large weights make wrong tokens, pixels and positions show."""
    shape = {"hidden_size": 64, "vision_hidden_size": 32, "initializer_range": 0.2} | shape
    model = tiny.build_model(tokenizer(), seed=seed, **shape)
    return VLMPolicy(model, Qwen2_5VL(tokenizer(), tiny.build_image_processor()), system="").eval()


def picture(seed: int, size: tuple[int, int] = WIDE) -> Image:
    """An image of noise; no two seeds look alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image(PILImage.fromarray(pixels), View(1, "page", FULL_PAGE, None, size))


def scripts() -> list[list[list[Block]]]:
    """What the environment says in five conversations, turn by turn; lengths, images and sizes all differ."""
    return [
        [[Text("what colour is the page?")], [picture(1), Text("the page")], [Text("or"), picture(2, TALL)]],
        [
            [Text("search")],
            [Text("the page is ab")],
            [picture(3, SMALL), picture(4, TALL)],
            [Text("answer the page with what colour it is")],
        ],
        [[picture(5, TALL), Text("think")], [picture(6, WIDE)]],
        [[Text("?")], [picture(7, SMALL)], [Text("abc")], [picture(8, WIDE), Text("abcd")]],
        [[Text("the page is ab, abc or abcd")], [Text("user")], [Text("assistant")]],
    ]


def converse(
    policy: VLMPolicy,
    conversations: Sequence[Sequence[Sequence[Block]]],
    max_tokens: int = 4,
    generator: torch.Generator | None = None,
) -> list[Trajectory]:
    """Play scripted conversations through one sampler; each leaves the batch when its script ends.

    The reward of each turn is a number of its own, so that mixed-up turns show.
    """
    family = policy.family
    segments: list[list[Segment]] = [[family.prompt("", script[0])] for script in conversations]
    sampler = HFSampler(policy, len(segments), generator)
    live, turn = list(range(len(segments))), 0
    while live:
        actions = sampler.sample([segments[i][-1] for i in live], max_tokens)
        turn += 1
        for i, action in zip(live, actions, strict=True):
            reward = ((7 * i + 3 * turn) % 5 - 2) / 2
            segments[i].append(Segment("action", action.token_ids, action.logprobs, reward=reward))
        still = [row for row, i in enumerate(live) if turn < len(conversations[i])]
        if still and len(still) < len(live):
            sampler.keep(still)
        live = [live[row] for row in still]
        for i in live:
            segments[i].append(family.observation(conversations[i][turn], segments[i][-1].token_ids))
    return [Trajectory(tuple(parts), question_id=str(i)) for i, parts in enumerate(segments)]


def perturb(policy: VLMPolicy, scale: float = 0.05, seed: int = 0) -> VLMPolicy:
    """Add noise to the language weights in place, as an update would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.model.language_model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator).to(parameter)
    return policy
