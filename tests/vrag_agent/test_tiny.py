"""The tiny model is the real thing in small: real classes, real tokens, seeds that repeat."""

import pytest
import torch
from conversations import TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from vrag_agent import tiny
from vrag_agent.policy import VLMPolicy


def test_the_classes_are_the_real_ones(shared_policy: VLMPolicy) -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLImageProcessor

    assert type(shared_policy.model) is Qwen2_5_VLForConditionalGeneration
    assert type(shared_policy.family.tokenizer) is Qwen2Tokenizer
    assert isinstance(shared_policy.family.image_processor, Qwen2VLImageProcessor)


def test_the_tokenizer_has_every_special_token_once_and_keeps_to_its_size() -> None:
    tokenizer = tiny.build_tokenizer(TEXTS, 300)
    ids = tokenizer.convert_tokens_to_ids(list(tiny.SPECIAL_TOKENS))
    assert len(set(ids)) == len(tiny.SPECIAL_TOKENS) and len(tokenizer) <= 300
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer("a<|im_end|>", add_special_tokens=False).input_ids[-1] == tokenizer.eos_token_id


def test_the_tokenizer_learns_its_texts() -> None:
    tokenizer = tiny.build_tokenizer(TEXTS, 340)
    known, strange = "what colour is the page", "zjx qwv kh zjx qwv kh?!"
    assert len(known) == len(strange)
    count = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in (known, strange)]
    assert count[0] < len(known) / 2 < count[1] <= len(strange)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**9))
def test_digits_are_never_merged(number: int) -> None:
    """As in Qwen2: each digit is a token, so that a tiny model can copy numbers that it never met."""
    tokenizer = _digits()
    assert len(tokenizer(str(number), add_special_tokens=False).input_ids) == len(str(number))


_CACHE: dict[str, object] = {}


def _digits() -> object:
    if "digits" not in _CACHE:
        _CACHE["digits"] = tiny.build_tokenizer(["2021 2021 2021 1234 2021"] * 9, 400)
    return _CACHE["digits"]


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = tiny.build_policy(TEXTS, vocab_size=300, seed=1).model.state_dict()
    torch.manual_seed(99)
    again = tiny.build_policy(TEXTS, vocab_size=300, seed=1).model.state_dict()
    other = tiny.build_policy(TEXTS, vocab_size=300, seed=2).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    torch.set_rng_state(state)
    tokenizer = tiny.build_tokenizer(TEXTS, 300)
    tiny.build_model(tokenizer, seed=1)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's randomness is not touched


@pytest.mark.parametrize(("hidden_size", "heads"), [(32, 4), (64, 4), (96, 4), (128, 4)])
def test_shapes_are_those_asked_for(hidden_size: int, heads: int) -> None:
    model = tiny.build_model(
        tiny.build_tokenizer(TEXTS, 300), hidden_size=hidden_size, heads=heads, layers=3, vision_layers=1
    )
    text, vision = model.config.get_text_config(), model.config.vision_config
    assert (text.hidden_size, text.num_attention_heads, text.num_hidden_layers) == (hidden_size, heads, 3)
    assert (vision.depth, vision.out_hidden_size) == (1, hidden_size)
    assert 2 * sum(text.rope_parameters["mrope_section"]) == hidden_size // heads
    assert model.lm_head.weight is model.get_input_embeddings().weight
    out = model(input_ids=torch.tensor([[5, 6, 7]]))
    assert out.logits.shape == (1, 3, text.vocab_size) and out.logits.isfinite().all()


def test_the_initializer_range_reaches_language_and_vision() -> None:
    tokenizer = tiny.build_tokenizer(TEXTS, 300)
    for wanted in (0.02, 0.2):
        model = tiny.build_model(tokenizer, initializer_range=wanted)
        for weight in (
            model.model.language_model.layers[0].mlp.up_proj.weight,
            model.model.visual.blocks[0].mlp.up_proj.weight,
        ):
            assert weight.std().item() == pytest.approx(wanted, rel=0.1)


def test_a_tiny_policy_has_no_system_text(shared_policy: VLMPolicy) -> None:
    assert tiny.build_policy(TEXTS, vocab_size=300).system == "" == shared_policy.system
