"""Tiny random models of colpali-engine's own classes, built from a config: no hub, no weights to download."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

QWEN_SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_TEXT = ["Describe the image. user revenue of the region by year, which chart shows dogs and cats?"] * 5


def _train_bpe(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    return tokenizer


def tiny_colqwen2_5(seed: int = 0) -> tuple[Any, Any]:
    """A ColQwen2_5 of some 100 thousand parameters and its processor."""
    return _tiny_qwen("ColQwen2_5", "ColQwen2_5_Processor", seed)


def tiny_colqwen2(seed: int = 0) -> tuple[Any, Any]:
    """A ColQwen2 of some 100 thousand parameters and its processor."""
    return _tiny_qwen("ColQwen2", "ColQwen2Processor", seed)


def tiny_biqwen2_5(seed: int = 0) -> tuple[Any, Any]:
    """A BiQwen2_5, which gives one vector per page and query, and its processor."""
    return _tiny_qwen("BiQwen2_5", "BiQwen2_5_Processor", seed)


def _tiny_qwen(model_class: str, processor_class: str, seed: int) -> tuple[Any, Any]:
    import json

    import colpali_engine.models
    from transformers import Qwen2_5_VLConfig, Qwen2VLConfig, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    bpe = json.loads(_train_bpe([]).to_str())["model"]
    merges = [tuple(pair) for pair in bpe["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=merges,
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=QWEN_SPECIALS[1:],
    )
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 64 * 28 * 28}
    shape = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    processor = getattr(colpali_engine.models, processor_class)(
        image_processor=Qwen2VLImageProcessor(size=sizes, **shape),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**shape),
    )
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.3,
    }
    if "2_5" not in model_class:
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2, "patch_size": 14}
    config = (Qwen2_5_VLConfig if "2_5" in model_class else Qwen2VLConfig)(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "initializer_range": 0.3,
            "bos_token_id": None,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=vision,
        initializer_range=0.3,
        **{key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()},
    )
    torch.manual_seed(seed)
    return getattr(colpali_engine.models, model_class)(config).eval(), processor


def tiny_colmodernvbert(seed: int = 0) -> tuple[Any, Any]:
    """A ColModernVBert of some 100 thousand parameters and its processor."""
    return _tiny_modernvbert("Col", seed)


def tiny_bimodernvbert(seed: int = 0) -> tuple[Any, Any]:
    """A BiModernVBert, which gives one vector per page and query, and its processor."""
    return _tiny_modernvbert("Bi", seed)


def _tiny_modernvbert(kind: str, seed: int) -> tuple[Any, Any]:
    import colpali_engine.models
    from transformers import Idefics3ImageProcessor, ModernVBertConfig

    specials = ["<pad>", "<unk>", "<|begin_of_text|>", "<global-img>"]
    specials += [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_train_bpe(specials), pad_token="<pad>", unk_token="<unk>")
    image_processor = Idefics3ImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True
    )
    # 32 pixels in patches of 8 make 16, and a shuffle by 2 leaves 4 tokens per tile
    processor = getattr(colpali_engine.models, f"{kind}ModernVBertProcessor")(
        image_processor, tokenizer, image_seq_len=4
    )
    config = ModernVBertConfig(
        text_config={
            "model_type": "modernbert",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "initializer_range": 0.3,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pixel_shuffle_factor=2,
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    return getattr(colpali_engine.models, f"{kind}ModernVBert")(config).eval(), processor


def tiny_colidefics3(seed: int = 0) -> tuple[Any, Any]:
    """A ColIdefics3, the class of ColSmol, of some 100 thousand parameters, and its processor."""
    import colpali_engine.models
    from transformers import Idefics3Config, Idefics3ImageProcessor

    specials = ["<pad>", "<unk>", "<|im_start|>", "<global-img>", "<end_of_utterance>", "<fake_token_around_image>"]
    specials += ["<image>", *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_train_bpe(specials), pad_token="<pad>", unk_token="<unk>")
    image_processor = Idefics3ImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True
    )
    processor = colpali_engine.models.ColIdefics3Processor(image_processor, tokenizer, image_seq_len=4)
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "initializer_range": 0.3,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "initializer_range": 0.3,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    torch.manual_seed(seed)
    return colpali_engine.models.ColIdefics3(config).eval(), processor


def tiny_colpali(seed: int = 0) -> tuple[Any, Any]:
    """A ColPali of some 100 thousand parameters and its processor."""
    import colpali_engine.models
    from transformers import PaliGemmaConfig, SiglipImageProcessor

    specials = ["<pad>", "<unk>", "<bos>", "<eos>", "<image>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_train_bpe(specials),
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<image>"],
    )
    image_processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    image_processor.image_seq_length = 16  # 32 pixels in patches of 8
    processor = colpali_engine.models.ColPaliProcessor(image_processor, tokenizer)
    config = PaliGemmaConfig(
        text_config={
            "model_type": "gemma",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "initializer_range": 0.3,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 32,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    torch.manual_seed(seed)
    return colpali_engine.models.ColPali(config).eval(), processor
