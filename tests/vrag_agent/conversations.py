"""A tiny policy and conversations with images that it really sampled, for tests that read trajectories."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage

from vrag_agent import tiny
from vrag_agent.families import FAMILIES
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
def tokenizer(family: str = "qwen2_5_vl") -> Any:
    """The tokenizer of all these tests; it merges "a" + "b" into "ab"."""
    return tiny.build_tokenizer(TEXTS, 380 if family in ("smolvlm", "idefics3") else 340, family)


def build_policy(seed: int = 0, family: str = "qwen2_5_vl", **shape: Any) -> VLMPolicy:
    """A tiny policy whose large weights make wrong tokens, pixels and positions show."""
    shape = {"hidden_size": 64, "vision_hidden_size": 32, "initializer_range": 0.2} | shape
    model = tiny.build_model(tokenizer(family), family=family, seed=seed, **shape)
    kind = FAMILIES[family].of(model.config, tokenizer(family), tiny.build_image_processor(family))
    return VLMPolicy(model, kind, system="").eval()


def picture(seed: int, size: tuple[int, int] = WIDE) -> Image:
    """An image of noise; no two seeds look alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image(PILImage.fromarray(pixels), View(1, "page", FULL_PAGE, None, size))


def scripts(unit: int = 28) -> list[list[list[Block]]]:
    """What the environment says in five conversations, turn by turn; lengths, images and sizes all differ.

    Args:
        unit: Pixels of a visual token (or tile) on each side.
    """
    wide, tall, small = ((w // 28 * unit, h // 28 * unit) for w, h in (WIDE, TALL, SMALL))
    return [
        [[Text("what colour is the page?")], [picture(1, wide), Text("the page")], [Text("or"), picture(2, tall)]],
        [
            [Text("search")],
            [Text("the page is ab")],
            [picture(3, small), picture(4, tall)],
            [Text("answer the page with what colour it is")],
        ],
        [[picture(5, tall), Text("think")], [picture(6, wide)]],
        [[Text("?")], [picture(7, small)], [Text("abc")], [picture(8, wide), Text("abcd")]],
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
    sampler = HFSampler(policy, len(segments))
    numbers = {}
    for i in range(len(segments)):
        own = None
        if generator is not None:
            own = torch.Generator().manual_seed(int(torch.randint(1 << 40, (), generator=generator)))
        numbers[sampler.open(own)] = i
    sampler.extend({number: segments[i][-1] for number, i in numbers.items()}, max_tokens)
    turns = [0] * len(segments)
    while len(sampler):
        observations = {}
        for number, action in sampler.run(2).items():
            i = numbers[number]
            turns[i] += 1
            reward = ((7 * i + 3 * turns[i]) % 5 - 2) / 2
            segments[i].append(Segment("action", action.token_ids, action.logprobs, reward=reward))
            if turns[i] == len(conversations[i]):
                sampler.close(number)
                continue
            segments[i].append(family.observation(conversations[i][turns[i]], action.token_ids))
            observations[number] = segments[i][-1]
        sampler.extend(observations, max_tokens)
    return [Trajectory(tuple(parts), question_id=str(i)) for i, parts in enumerate(segments)]


def perturb(policy: VLMPolicy, scale: float = 0.05, seed: int = 0) -> VLMPolicy:
    """Add noise to the language weights in place, as an update would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.family.language_model(policy.model).parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator).to(parameter)
    return policy
