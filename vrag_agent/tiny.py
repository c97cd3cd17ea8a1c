"""A tiny Qwen2.5-VL with its own tokenizer: the real classes, small enough to train on two cores, no download.

The tokenizer is a byte-level BPE trained on the texts that the policy will meet, in the Qwen2 class with the Qwen
special tokens; the model is ``Qwen2_5_VLForConditionalGeneration`` built from a configuration, with random
weights. Everything that works on it works on ``Qwen/Qwen2.5-VL-3B-Instruct`` by the same code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch

from vrag_agent.families.qwen2_5_vl import Qwen2_5VL
from vrag_agent.policy import VLMPolicy

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# ChatML with Qwen's image placeholder, for tools that render conversations; this package writes ids directly.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The split of text before merging that Qwen2 uses: contractions, words with one leading character, single
# digits, runs of punctuation, line ends, blanks.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> Any:
    """Train a Qwen2 tokenizer.

    Args:
        texts: What it should be good at; anything else is spelt in bytes.
        vocab_size: Upper limit of ids, special tokens included; at least 256 + 14.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in trained["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=merges,
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=32768,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_image_processor() -> Any:
    """Return the family's image processor with its usual patches of 14 x 14 pixels."""
    from transformers import Qwen2VLImageProcessor

    return Qwen2VLImageProcessor(patch_size=14, temporal_patch_size=2, merge_size=2)


def build_model(
    tokenizer: Any,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    vision_hidden_size: int = 32,
    vision_layers: int = 2,
    vision_heads: int = 2,
    rope_theta: float = 10.0,
    initializer_range: float = 0.02,
    seed: int = 0,
) -> Any:
    """Build a random ``Qwen2_5_VLForConditionalGeneration``.

    Args:
        tokenizer: From :func:`build_tokenizer`.
        hidden_size: Width of the language model.
        layers: Its depth.
        heads: Its attention heads; half as many key-value heads.
        vision_hidden_size: Width of the vision tower.
        vision_layers: Its depth; the last layer attends over the whole image.
        vision_heads: Its attention heads.
        rope_theta: Base of the rotary frequencies of the language model. The small one gives the few
            frequencies of a tiny head a resolution that tells neighbouring visual tokens apart; the 1e6 of the
            real models would leave the columns of an image almost without a position.
        initializer_range: Standard deviation of the weights; large values (0.2) make errors visible in tests.
        seed: Of the weights.
    """
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    half = hidden_size // heads // 2  # the sections of the rotary positions fill half of a head
    side = half * 3 // 8
    ids = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in (
            ("image_token_id", "<|image_pad|>"),
            ("video_token_id", "<|video_pad|>"),
            ("vision_start_token_id", "<|vision_start|>"),
            ("vision_end_token_id", "<|vision_end|>"),
        )
    }
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden_size,
            "intermediate_size": hidden_size * 3,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 2),
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": rope_theta,
                "mrope_section": [half - 2 * side, side, side],
            },
            "initializer_range": initializer_range,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": vision_hidden_size,
            "intermediate_size": vision_hidden_size * 2,
            "num_heads": vision_heads,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [vision_layers - 1],
            "tokens_per_second": 2,
            "out_hidden_size": hidden_size,
            "initializer_range": initializer_range,
        },
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval()


def build_policy(texts: Iterable[str], *, vocab_size: int = 1024, seed: int = 0, **shape: Any) -> VLMPolicy:
    """Build a tiny random policy without a system text.

    Args:
        texts: See :func:`build_tokenizer`.
        vocab_size: See :func:`build_tokenizer`.
        seed: Of the weights.
        **shape: See :func:`build_model`.
    """
    tokenizer = build_tokenizer(texts, vocab_size)
    model = build_model(tokenizer, seed=seed, **shape)
    return VLMPolicy(model, Qwen2_5VL(tokenizer, build_image_processor()), system="")
