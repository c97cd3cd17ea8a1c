"""Tiny models with their own tokenizers: the real classes, small enough to train on two cores, no download.

The tokenizer is a byte-level BPE trained on the texts that the policy will meet, in the class of the family and with
its special tokens; the model is built from a configuration, with random weights. Everything that works on them
works by the same code on ``Qwen/Qwen2.5-VL-3B-Instruct``, ``Qwen/Qwen3-VL-4B-Instruct`` or
``HuggingFaceTB/SmolVLM2-2.2B-Instruct``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch

from vrag_agent.families import FAMILIES, SmolVLM
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
SMOL_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
# ChatML with Qwen's image placeholder, for tools that render conversations; this package writes ids directly.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The template of SmolVLM, as in transformers' processor of it.
SMOL_CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# The split of text before merging that Qwen2 uses: contractions, words with one leading character, single
# digits, runs of punctuation, line ends, blanks.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SIDE = 32
"""Side of a tile of the tiny SmolVLM in pixels; a tile is 4 image tokens."""


def build_tokenizer(texts: Iterable[str], vocab_size: int = 1024, family: str = "qwen2_5_vl") -> Any:
    """Train the tokenizer of a family.

    Args:
        texts: What it should be good at; anything else is spelt in bytes.
        vocab_size: Upper limit of ids, special tokens included; at least 256 and these.
        family: A name in :data:`vrag_agent.families.FAMILIES`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import GPT2Tokenizer, Qwen2Tokenizer

    smol = issubclass(FAMILIES[family], SmolVLM)
    specials = SMOL_SPECIAL_TOKENS if smol else SPECIAL_TOKENS
    bpe = Tokenizer(models.BPE())
    if smol:
        split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    else:
        bpe.normalizer = normalizers.NFC()
        split = [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(split)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in trained["merges"]]
    tokenizer = (GPT2Tokenizer if smol else Qwen2Tokenizer)(
        vocab=trained["vocab"],
        merges=merges,
        unk_token="<|endoftext|>",
        eos_token="<end_of_utterance>" if smol else "<|im_end|>",
        pad_token="<|im_end|>" if smol else "<|endoftext|>",
        bos_token="<|im_start|>" if smol else None,
        additional_special_tokens=list(specials[1:]),
        model_max_length=32768,
    )
    if smol:  # the class splits as GPT-2 does; SmolLM2's tokenizer file makes each digit a token of its own
        tokenizer.backend_tokenizer.pre_tokenizer = bpe.pre_tokenizer
    tokenizer.chat_template = SMOL_CHAT_TEMPLATE if smol else CHAT_TEMPLATE
    return tokenizer


def build_image_processor(family: str = "qwen2_5_vl") -> Any:
    """Return the family's image processor: patches of 14 or 16 pixels, or small tiles."""
    from transformers import Idefics3ImageProcessor, Qwen2VLImageProcessor, SmolVLMImageProcessor

    if issubclass(FAMILIES[family], SmolVLM):
        kind = SmolVLMImageProcessor if family == "smolvlm" else Idefics3ImageProcessor
        return kind(size={"longest_edge": 4 * SIDE}, max_image_size={"longest_edge": SIDE}, resample=1)
    patch = 16 if family == "qwen3_vl" else 14
    mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if family == "qwen3_vl" else {}
    return Qwen2VLImageProcessor(patch_size=patch, temporal_patch_size=2, merge_size=2, **mean)


def build_model(
    tokenizer: Any,
    *,
    family: str = "qwen2_5_vl",
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
    """Build a random model.

    Args:
        tokenizer: From :func:`build_tokenizer` of the same family.
        family: A name in :data:`vrag_agent.families.FAMILIES`.
        hidden_size: Width of the language model.
        layers: Its depth.
        heads: Its attention heads; half as many key-value heads.
        vision_hidden_size: Width of the vision tower.
        vision_layers: Its depth; in Qwen2.5-VL the last layer attends over the whole image.
        vision_heads: Its attention heads.
        rope_theta: Base of the rotary frequencies of the language model. The small one gives the few
            frequencies of a tiny head a resolution that tells neighbouring visual tokens apart; the 1e6 of the
            real models would leave the columns of an image almost without a position.
        initializer_range: Standard deviation of the weights; large values (0.2) make errors visible in tests.
        seed: Of the weights.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": hidden_size * 3,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta},
        "initializer_range": initializer_range,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision: dict[str, Any] = {
        "hidden_size": vision_hidden_size,
        "intermediate_size": vision_hidden_size * 2,
        "initializer_range": initializer_range,
    }
    if issubclass(FAMILIES[family], SmolVLM):
        text["model_type"] = "llama"
        vision |= {
            "num_hidden_layers": vision_layers,
            "num_attention_heads": vision_heads,
            "image_size": SIDE,
            "patch_size": 8,
        }
        extra: dict[str, Any] = {"image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "scale_factor": 2}
    else:
        half = hidden_size // heads // 2  # the sections of the rotary positions fill half of a head
        side = half * 3 // 8
        text["rope_parameters"]["mrope_section"] = [half - 2 * side, side, side]
        vision |= {
            "depth": vision_layers,
            "num_heads": vision_heads,
            "in_channels": 3,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden_size,
        }
        if family == "qwen3_vl":
            text["head_dim"] = hidden_size // heads
            text["rope_parameters"]["mrope_interleaved"] = True
            vision |= {"patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 256}
        else:
            vision |= {
                "patch_size": 14,
                "window_size": 112,
                "fullatt_block_indexes": [vision_layers - 1],
                "tokens_per_second": 2,
            }
        extra = {
            name: tokenizer.convert_tokens_to_ids(token)
            for name, token in (
                ("image_token_id", "<|image_pad|>"),
                ("video_token_id", "<|video_pad|>"),
                ("vision_start_token_id", "<|vision_start|>"),
                ("vision_end_token_id", "<|vision_end|>"),
            )
        }
    config = AutoConfig.for_model(
        family,
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        **extra,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval()


def build_policy(
    texts: Iterable[str], *, family: str = "qwen2_5_vl", vocab_size: int = 1024, seed: int = 0, **shape: Any
) -> VLMPolicy:
    """Build a tiny random policy without a system text.

    Args:
        texts: See :func:`build_tokenizer`.
        family: A name in :data:`vrag_agent.families.FAMILIES`.
        vocab_size: See :func:`build_tokenizer`.
        seed: Of the weights.
        **shape: See :func:`build_model`.
    """
    tokenizer = build_tokenizer(texts, vocab_size, family)
    model = build_model(tokenizer, family=family, seed=seed, **shape)
    return VLMPolicy(model, FAMILIES[family].of(model.config, tokenizer, build_image_processor(family)), system="")
