"""Encoders: page images and queries to vectors, by any retrieval model of colpali-engine."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from vrag_env.errors import RetrieverError, missing_extra
from vrag_env.retrieval.queries import clean_query

if TYPE_CHECKING:
    from vrag_env.corpus.store import Corpus

ALIASES = {
    "colpali": "vidore/colpali-v1.3",
    "colqwen2": "vidore/colqwen2-v1.0",
    "colqwen2.5": "vidore/colqwen2.5-v0.2",
    "colsmol": "vidore/colSmol-500M",
    "colmodernvbert": "ModernVBERT/colmodernvbert",
    "colqwen-omni": "vidore/colqwen-omni-v0.1",
}
"""Short names of published models."""

BATCH_PIXELS = 9_000_000
"""Pixels encoded at once by default: four pages of A4 at 150 dots per inch."""

# What a model's name looks like, after "col" or "bi" -> the names of its two classes in colpali_engine.models, after
# "Col" or "Bi". The first that fits counts: qwen2.5 before qwen2.
_FAMILIES = (
    (r"qwen.*omni", "Qwen2_5Omni", "Qwen2_5OmniProcessor"),
    (r"qwen-?3[._]5", "Qwen3_5", "Qwen3_5Processor"),
    (r"qwen-?3", "Qwen3", "Qwen3Processor"),
    (r"qwen-?2[._]5", "Qwen2_5", "Qwen2_5_Processor"),
    (r"qwen-?2", "Qwen2", "Qwen2Processor"),
    (r"modernvbert", "ModernVBert", "ModernVBertProcessor"),
    (r"(smol|idefics-?3)", "Idefics3", "Idefics3Processor"),
    (r"gemma-?3", "Gemma3", "GemmaProcessor3"),
    (r"pali-?proj", "PaliProj", "PaliProcessor"),
    (r"pali", "Pali", "PaliProcessor"),
)
# Published models with names of their own.
_OTHER_NAMES = (
    (r"colnomic", ("ColQwen2_5", "ColQwen2_5_Processor")),
    (r"nomic-embed-multimodal", ("BiQwen2_5", "BiQwen2_5_Processor")),
)

Vectors = npt.NDArray[np.float16]


@runtime_checkable
class Encoder(Protocol):
    """Turns pages and queries into sets of vectors of one space.

    A model that gives one vector per page and query is the case of sets of one.

    Attributes:
        name: The name under which the embeddings are kept.
        revision: Which weights these are; embeddings of another revision are never compared.
    """

    name: str
    revision: str

    def encode_pages(self, corpus: Corpus, page_ids: Sequence[str]) -> list[Vectors]:
        """Encode pages of a corpus.

        Returns:
            One array ``(vectors, dim)`` per page, float16, in the order asked for.
        """
        ...

    def encode_queries(self, queries: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Encode texts, none of them empty.

        Returns:
            One array ``(vectors, dim)`` per query, float32.
        """
        ...


def family_of(name: str) -> tuple[str, str] | None:
    """Return the class names ``(model, processor)`` for a model's name or directory, from its last part.

    >>> family_of("vidore/colqwen2.5-v0.2")
    ('ColQwen2_5', 'ColQwen2_5_Processor')
    >>> family_of("ModernVBERT/bimodernvbert")
    ('BiModernVBert', 'BiModernVBertProcessor')
    """
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
    for pattern, classes in _OTHER_NAMES:
        if re.search(pattern, last):
            return classes
    for pattern, model, processor in _FAMILIES:
        found = re.search(rf"(?<![a-z])(col|bi)-?{pattern}", last)
        if found:
            kind = found[1].capitalize()
            return f"{kind}{model}", f"{kind}{processor}"
    return None


class LateInteractionEncoder:
    """A model of colpali-engine with its processor: late interaction (``Col...``) or one vector (``Bi...``).

    Args:
        model: A model of :mod:`colpali_engine.models` whose forward gives ``(batch, tokens, dim)`` or
            ``(batch, dim)``.
        processor: Its processor.
        name: The name under which its embeddings are kept.
        revision: Which weights these are. By default a hash of the weights, the same in float32 and bfloat16
            and with or without a hub.
        batch_pixels: Pixels of the pages encoded at once, each counted with the size of the largest, to which the
            others are padded. A page that exceeds it alone is encoded alone.

    Example:
        >>> encoder = LateInteractionEncoder.load("colqwen2.5")  # doctest: +SKIP
    """

    def __init__(
        self, model: Any, processor: Any, *, name: str, revision: str | None = None, batch_pixels: int = BATCH_PIXELS
    ) -> None:
        if batch_pixels < 1:
            raise ValueError(f"batch_pixels must be at least 1, got {batch_pixels}")
        self._model = model.eval()
        self._processor = processor
        self._batch_pixels = batch_pixels
        self.name = name
        self.revision = revision or weights_revision(model)
        # An agent that writes such a token must not put an image or the end of a turn into the query.
        special = [t.content for t in processor.tokenizer.added_tokens_decoder.values() if t.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    @classmethod
    def load(
        cls, name: str, *, revision: str | None = None, device: str | None = None, batch_pixels: int = BATCH_PIXELS
    ) -> LateInteractionEncoder:
        """Load a model from the hub or from a directory.

        Args:
            name: A name of :data:`ALIASES`, a hub name, or a directory.
            revision: Branch, tag or commit on the hub.
            device: Torch device; by default CUDA if there is one. On CUDA the weights are bfloat16, elsewhere
                float32.
            batch_pixels: See the class.

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
                f"{name!r} is no page-image model that the installed colpali-engine has a class for; "
                f"known names: {', '.join(ALIASES)}, or any hub name or directory of such a model (a hub name of "
                "another form is looked up on the hub: is it spelt right, and can the hub be reached?)"
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        options = {} if revision is None else {"revision": revision}
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        try:
            model = getattr(models, classes[0]).from_pretrained(source, dtype=dtype, device_map=device, **options)
            processor = getattr(models, classes[1]).from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            raise RetrieverError(f"could not load {source!r} as {classes[0]}: {error}") from error
        return cls(model, processor, name=source, batch_pixels=batch_pixels)

    def encode_pages(self, corpus: Corpus, page_ids: Sequence[str]) -> list[Vectors]:
        """Encode the pictures of pages; see :meth:`Encoder.encode_pages`."""
        sizes = [corpus.page_size(page_id) for page_id in page_ids]
        return self._encode(sizes, lambda batch: corpus.images([page_ids[index] for index in batch]))

    def encode_images(self, images: Sequence[Image.Image]) -> list[Vectors]:
        """Encode pages.

        Args:
            images: RGB pages.

        Returns:
            One array ``(vectors, dim)`` per page, float16, without padding.
        """
        return self._encode([image.size for image in images], lambda batch: [images[index] for index in batch])

    def _encode(
        self, sizes: Sequence[tuple[int, int]], images: Callable[[list[int]], list[Image.Image]]
    ) -> list[Vectors]:
        """Encode pictures; a thread reads and prepares the next batch while the model runs."""
        if not sizes:
            return []
        batches = list(pixel_batches(sizes, self._batch_pixels))
        encoded: dict[int, Vectors] = {}

        def prepare(batch: list[int]) -> Any:
            return self._processor.process_images(images(batch))

        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(prepare, batches[0])
            for number, batch in enumerate(batches):
                prepared = ahead.result()
                if number + 1 < len(batches):
                    ahead = reader.submit(prepare, batches[number + 1])
                for index, vectors in zip(batch, self._forward(prepared), strict=True):
                    encoded[index] = vectors.astype(np.float16)
        return [encoded[index] for index in range(len(sizes))]

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
            output = self._model(**batch)  # (batch, tokens, dim) or (batch, dim), unit length
        if output.ndim == 2:
            return list(output.float().cpu().numpy()[:, None])
        kept = batch["attention_mask"].bool()
        return [row[mask].float().cpu().numpy() for row, mask in zip(output, kept, strict=True)]


def pixel_batches(sizes: Sequence[tuple[int, int]], budget: int) -> Iterator[list[int]]:
    """Group pictures of like size into batches.

    Args:
        sizes: ``(width, height)`` of every picture.
        budget: Most pixels of a batch, every picture counted as the largest of them.

    Yields:
        Places in ``sizes``, each once; the largest pictures first, so that memory that does not suffice shows at
        once and not after hours.

    >>> list(pixel_batches([(10, 10), (20, 20), (10, 11)], 250))
    [[1], [2, 0]]
    """
    order = sorted(range(len(sizes)), key=lambda index: (-sizes[index][0] * sizes[index][1], index))
    batch: list[int] = []
    for index in order:
        largest = sizes[batch[0]] if batch else sizes[index]
        if batch and largest[0] * largest[1] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


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
