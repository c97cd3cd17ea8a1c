"""Encoders: page images and queries to multi-vectors, by any late-interaction model of colpali-engine."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vrag_env.errors import RetrieverError, missing_extra
from vrag_env.retrieval.queries import clean_query

ALIASES = {
    "colpali": "vidore/colpali-v1.3",
    "colqwen2": "vidore/colqwen2-v1.0",
    "colqwen2.5": "vidore/colqwen2.5-v0.2",
    "colsmol": "vidore/colSmol-500M",
    "colmodernvbert": "ModernVBERT/colmodernvbert",
    "colqwen-omni": "vidore/colqwen-omni-v0.1",
}
"""Short names of published models."""

# What a model's name looks like -> the names of its two classes in colpali_engine.models. The first that fits
# counts: colqwen2.5 before colqwen2.
_FAMILIES = (
    (r"col-?qwen.*omni", "ColQwen2_5Omni", "ColQwen2_5OmniProcessor"),
    (r"col-?qwen-?3[._]5", "ColQwen3_5", "ColQwen3_5Processor"),
    (r"col-?qwen-?3", "ColQwen3", "ColQwen3Processor"),
    (r"col-?qwen-?2[._]5|colnomic", "ColQwen2_5", "ColQwen2_5_Processor"),
    (r"col-?qwen-?2", "ColQwen2", "ColQwen2Processor"),
    (r"col-?modernvbert", "ColModernVBert", "ColModernVBertProcessor"),
    (r"col-?(smol|idefics-?3)", "ColIdefics3", "ColIdefics3Processor"),
    (r"col-?gemma-?3", "ColGemma3", "ColGemmaProcessor3"),
    (r"col-?pali", "ColPali", "ColPaliProcessor"),
)

Vectors = npt.NDArray[np.float16]


def family_of(name: str) -> tuple[str, str] | None:
    """Return the class names ``(model, processor)`` for a model's name or directory, from its last part.

    >>> family_of("vidore/colqwen2.5-v0.2")
    ('ColQwen2_5', 'ColQwen2_5_Processor')
    """
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
    return next(((model, proc) for pattern, model, proc in _FAMILIES if re.search(pattern, last)), None)


class LateInteractionEncoder:
    """A late-interaction model with its processor.

    Args:
        model: A model of :mod:`colpali_engine.models` whose forward gives ``(batch, tokens, dim)``.
        processor: Its processor.
        name: The name under which its embeddings are kept.
        revision: Which weights these are. By default a hash of the weights, the same in float32 and bfloat16
            and with or without a hub.
        batch_size: Pages encoded at once.

    Example:
        >>> encoder = LateInteractionEncoder.load("colqwen2.5")  # doctest: +SKIP
    """

    def __init__(
        self, model: Any, processor: Any, *, name: str, revision: str | None = None, batch_size: int = 4
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._model = model.eval()
        self._processor = processor
        self._batch_size = batch_size
        self.name = name
        self.revision = revision or weights_revision(model)
        # An agent that writes such a token must not put an image or the end of a turn into the query.
        special = [t.content for t in processor.tokenizer.added_tokens_decoder.values() if t.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    @classmethod
    def load(
        cls, name: str, *, revision: str | None = None, device: str | None = None, batch_size: int = 4
    ) -> LateInteractionEncoder:
        """Load a model from the hub or from a directory.

        Args:
            name: A name of :data:`ALIASES`, a hub name, or a directory.
            revision: Branch, tag or commit on the hub.
            device: Torch device; by default CUDA if there is one. On CUDA the weights are bfloat16, elsewhere
                float32.
            batch_size: Pages encoded at once.

        Raises:
            RetrieverError: If the model's family is not known, or it can not be loaded.
            DependencyError: If the extra ``colvision`` is not installed.
        """
        try:
            import torch

            models = importlib.import_module("colpali_engine.models")
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "colpali_engine", "colvision") from error
        source = ALIASES.get(name.lower(), name)
        classes = family_of(source) or _family_by_config(source, revision)
        if classes is None or not all(name in dir(models) for name in classes):
            raise RetrieverError(
                f"{name!r} is no late-interaction model that the installed colpali-engine has a class for; "
                f"known names: {', '.join(ALIASES)}, or any hub name or directory of such a model"
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        options = {} if revision is None else {"revision": revision}
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        try:
            model = getattr(models, classes[0]).from_pretrained(source, dtype=dtype, device_map=device, **options)
            processor = getattr(models, classes[1]).from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            raise RetrieverError(f"could not load {source!r} as {classes[0]}: {error}") from error
        return cls(model, processor, name=source, batch_size=batch_size)

    def encode_images(self, images: Sequence[Image.Image]) -> list[Vectors]:
        """Encode pages.

        Args:
            images: RGB pages.

        Returns:
            One array ``(vectors, dim)`` per page, float16, without padding.
        """
        return [
            vectors.astype(np.float16)
            for start in range(0, len(images), self._batch_size)
            for vectors in self._forward(self._processor.process_images(list(images[start : start + self._batch_size])))
        ]

    def encode_queries(self, queries: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Encode queries in one batch.

        Args:
            queries: Texts, none of them empty. Special tokens of the model in them are taken out.

        Returns:
            One array ``(vectors, dim)`` per query, float32, without padding.
        """
        if not queries:
            return []
        texts = [self._special.sub(" ", clean_query(query)) for query in queries]
        return self._forward(self._processor.process_queries(texts=texts))

    def _forward(self, batch: Any) -> list[npt.NDArray[np.float32]]:
        import torch

        batch = batch.to(self._model.device)
        with torch.inference_mode():
            output = self._model(**batch)  # (batch, tokens, dim), unit length
        kept = batch["attention_mask"].bool()
        return [row[mask].float().cpu().numpy() for row, mask in zip(output, kept, strict=True)]


def _family_by_config(source: str, revision: str | None) -> tuple[str, str] | None:
    """Find the classes of a model whose name says nothing: its config or its adapter's base model says it."""
    from transformers import PretrainedConfig

    options = {} if revision is None else {"revision": revision}
    for file in ("config.json", "adapter_config.json"):
        try:
            config, _ = PretrainedConfig.get_config_dict(source, _configuration_file=file, **options)
        except OSError:  # no such file, or no such model: the caller reports that nothing was found
            continue
        for hint in (*(config.get("architectures") or ()), config.get("base_model_name_or_path") or ""):
            classes = family_of(hint)
            if classes is not None:
                return classes
    return None


def weights_revision(model: Any) -> str:
    """Hash a model's weights to twelve hexadecimal digits.

    Every parameter takes part with its name, shape and 16 values spread over it, in bfloat16: this tells two
    trained models apart, and is the same for one model loaded in float32 or bfloat16.
    """
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        step = max(1, flat.numel() // 16)
        values = flat[::step][:16].to("cpu", torch.bfloat16).float().tolist()
        digest.update(repr((name, tuple(parameter.shape), values)).encode())
    return digest.hexdigest()[:12]
