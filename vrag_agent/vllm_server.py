r"""VLLMServer: one vLLM server as a sampler, token ids in and token ids out.

Text goes to ``/v1/completions``; a conversation with images to ``/inference/v1/generate``, with what
``/v1/chat/completions/render`` has made of each image. The server never renders a conversation: it continues the
very ids that are trained. Adapters are loaded by path (``/v1/load_lora_adapter``), so that servers and trainer
need a common file system. Start it with::

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-lora --max-lora-rank 32 \
        --enable-scale-out --logprobs-mode processed_logprobs

``processed_logprobs`` makes the log-probs those of the distribution that was sampled, after temperature and bans.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as PILImage

from vrag_agent.sampler import Sampled
from vrag_env.chat import image_part
from vrag_env.errors import ServerError
from vrag_env.json_client import JSONClient

API_KEY_VARIABLE = "VRAG_VLLM_API_KEY"
"""Environment variable of the servers' key."""
MAX_BODY_BYTES = 256 << 20
"""Longest reply: a rendered page has the size of its pixel values."""
_FINAL_ONLY = 2  # vLLM's RequestOutputKind; its default on this route returns the last part alone


@dataclass(frozen=True)
class RenderedImage:
    """What a server has made of one image; opaque, but for the number of its tokens.

    Attributes:
        tokens: Number of image tokens.
        parts: By kind (``mm_hashes``, ``kwargs_data``), the server's own encoding of the image.
    """

    tokens: int
    parts: Mapping[str, Any]


class VLLMServer(JSONClient):
    """Talks to one server; :class:`~vrag_env.json_client.JSONClient` says how.

    Args:
        base_url: Address without ``/v1``, such as ``"http://localhost:8000"``.
        model: Name of the served model.
        options: Further arguments of :class:`~vrag_env.json_client.JSONClient`.
    """

    def __init__(self, base_url: str, model: str, api_key: str | None = None, **options: Any) -> None:
        settings = {"concurrency": 64, "timeout": 600.0, "max_body_bytes": MAX_BODY_BYTES, **options}
        super().__init__(base_url, api_key, api_key_variable=API_KEY_VARIABLE, error=ServerError, **settings)
        self.base_url = self.base_url.removesuffix("/v1")
        self.model = model

    def render(self, image: PILImage.Image, stop: threading.Event | None = None) -> RenderedImage:
        """Let the server prepare an image.

        Raises:
            Unanswered: If it does not.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": [image_part(image)]}],
            "max_tokens": 1,
        }
        return self.post("/v1/chat/completions/render", body, _read_rendered, "a rendered image", stop)

    def generate(
        self,
        token_ids: Sequence[int],
        images: Sequence[tuple[int, RenderedImage]],
        sampling: Mapping[str, Any],
        model: str | None = None,
        stop: threading.Event | None = None,
    ) -> Sampled:
        """Continue token ids.

        Args:
            token_ids: The whole conversation.
            images: Its images with the index of the first token of each.
            sampling: vLLM's sampling parameters.
            model: Name of the model or adapter; by default the served model.
            stop: See :meth:`~vrag_env.json_client.JSONClient.post`.

        Returns:
            The ids and their log-probs.

        Raises:
            Unanswered: If there is no usable reply: each id needs its log-prob.
        """
        model = model if model is not None else self.model
        if not images:
            body: dict[str, Any] = {
                "model": model,
                "prompt": list(token_ids),
                "logprobs": 0,
                "return_token_ids": True,
                "return_tokens_as_token_ids": True,
                **sampling,
            }
            return self.post("/v1/completions", body, _read_completion, "a completion with token ids", stop)
        names = images[0][1].parts
        features: dict[str, Any] = {name: {"image": [rendered.parts[name] for _, rendered in images]} for name in names}
        features["mm_placeholders"] = {
            "image": [{"offset": start, "length": rendered.tokens} for start, rendered in images]
        }
        body = {
            "request_id": f"vrag-{uuid.uuid4().hex}",
            "model": model,
            "token_ids": list(token_ids),
            "features": features,
            "sampling_params": {"logprobs": 0, "output_kind": _FINAL_ONLY, **sampling},
        }
        return self.post("/inference/v1/generate", body, _read_generated, "generated token ids", stop)

    def load_adapter(self, name: str, path: str) -> None:
        """Make an adapter known under a name.

        Args:
            name: A name of its own for each version: the server keys its prefix cache on it, and reads an adapter
                that is replaced in place again with every request.
            path: Its directory, as the server sees it.

        Raises:
            Unanswered: If the server does not reply or can not read it.
            ServerError: If the server was not started for it.
        """
        body = {"lora_name": name, "lora_path": path, "load_inplace": False}
        self.post("/v1/load_lora_adapter", body, bytes)

    def unload_adapter(self, name: str) -> None:
        """Let the server forget an adapter."""
        self.post("/v1/unload_lora_adapter", {"lora_name": name}, bytes)

    def reset_caches(self) -> None:
        """Let the server forget what it has computed with older weights: prefixes, and features of images."""
        self.post("/reset_prefix_cache", {}, bytes)
        self.post("/reset_encoder_cache", {}, bytes)


def _read_rendered(body: bytes) -> RenderedImage:
    features = json.loads(body)["features"]
    [place] = features["mm_placeholders"]["image"]
    parts = {}
    for name, by_kind in features.items():
        if name != "mm_placeholders" and by_kind is not None:
            [parts[name]] = by_kind["image"]
    return RenderedImage(int(place["length"]), parts)


def _read_completion(body: bytes) -> Sampled:
    [choice] = json.loads(body)["choices"]
    return _sampled(choice["token_ids"], choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"])


def _read_generated(body: bytes) -> Sampled:
    [choice] = json.loads(body)["choices"]
    content = choice["logprobs"]["content"]
    return _sampled(choice["token_ids"], [one["token"] for one in content], [one["logprob"] for one in content])


def _sampled(token_ids: Sequence[Any], named: Sequence[str], logprobs: Sequence[Any]) -> Sampled:
    """Check that ids, their names and their log-probs are about the same tokens."""
    ids = tuple(int(token) for token in token_ids)
    values = tuple(float(value) for value in logprobs)
    if not ids or len(values) != len(ids) or [f"token_id:{token}" for token in ids] != list(named):
        raise ValueError("token ids and log-probs do not belong together")
    if not all(-float("inf") < value <= 1e-3 for value in values):  # also refuses NaN
        raise ValueError("a log-prob is no finite number of at most 0")
    return Sampled(ids, values)
