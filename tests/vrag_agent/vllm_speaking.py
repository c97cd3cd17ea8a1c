"""A real HTTP server that speaks vLLM's protocol, with a real tiny model behind it.

It prepares images itself from the PNGs that it is sent, finds them in a conversation by their placeholders alone,
samples with its own cache, applies bias, temperature and seed of the request, and loads adapters from their
directories. What it computes is therefore independent of the process that asks. Faults can be scripted.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage

from vrag_agent.policy import VLMPolicy
from vrag_agent.sampler import HFSampler
from vrag_agent.trajectory import ImageInput, Segment

BASE = "base"


class VLLMSpeaking:
    """The server.

    Args:
        policy: A policy of the server's own, without an adapter.
        fault: Called with the number of the request from 0, its path and its body, before it is served; returns a
            status code to answer with instead, ``0`` to tear the connection down, or ``None``.
    """

    def __init__(self, policy: VLMPolicy) -> None:
        self.policy = policy
        self.fault: Callable[[int, str, dict[str, Any]], int | None] = lambda number, path, body: None
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.adapters: dict[str, str] = {}
        self._lock = threading.Lock()
        self._peft: Any = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.requests.append((self.path, body))
                    status = outer.fault(len(outer.requests) - 1, self.path, body)
                    if status is None:
                        status, content = outer.serve(self.path, body)
                    else:
                        content = b"fault"
                if status == 0:
                    self.connection.close()
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # torn down on purpose
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Bodies of the requests to a path."""
        return [body for asked, body in self.requests if asked == path]

    # ------------------------------------------------------------------ the protocol

    def serve(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Answer a request."""
        if path == "/v1/load_lora_adapter":
            if not (Path(body["lora_path"]) / "adapter_config.json").is_file():
                return 400, b"no adapter there"
            self.adapters[body["lora_name"]] = body["lora_path"]
            self._load(body["lora_name"])
            return 200, b"Success"
        if path == "/v1/unload_lora_adapter":
            del self.adapters[body["lora_name"]]
            return 200, b"Success"
        if path in ("/reset_prefix_cache", "/reset_encoder_cache"):
            return 200, b""
        if path == "/v1/chat/completions/render":
            return 200, json.dumps({"token_ids": [], "features": self._render(body)}).encode()
        if body.get("model") not in (BASE, *self.adapters):
            return 404, b"no such model"
        if path == "/v1/completions":
            ids, values = self._sample(body["prompt"], (), body)
            named = [f"token_id:{index}" for index in ids]
            logprobs = {"tokens": named, "token_logprobs": values, "top_logprobs": None}
            return 200, json.dumps({"choices": [{"token_ids": ids, "logprobs": logprobs}]}).encode()
        if path == "/inference/v1/generate":
            ids, values = self._sample(body["token_ids"], self._placed(body), body["sampling_params"])
            content = [
                {"token": f"token_id:{index}", "logprob": value, "top_logprobs": []}
                for index, value in zip(ids, values, strict=True)
            ]
            return 200, json.dumps({"choices": [{"token_ids": ids, "logprobs": {"content": content}}]}).encode()
        return 404, b"no such route"

    def _render(self, body: dict[str, Any]) -> dict[str, Any]:
        hashes, places, data = [], [], []
        for part in body["messages"][0]["content"]:
            png = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
            image = PILImage.open(io.BytesIO(png)).convert("RGB")
            pixels, grid = self.policy.family.prepare(image)
            tokens = grid[0] * grid[1] * grid[2] // 4
            hashes.append(hashlib.sha256(png).hexdigest())
            places.append({"offset": 3, "length": tokens})  # in a conversation of the server's own
            data.append(base64.b64encode(pickle.dumps((pixels, grid))).decode())
        return {
            "mm_hashes": {"image": hashes},
            "mm_placeholders": {"image": places},
            "kwargs_data": {"image": data},
        }

    def _placed(self, body: dict[str, Any]) -> Sequence[ImageInput]:
        features = body["features"]
        columns = [features[name]["image"] for name in ("mm_hashes", "mm_placeholders", "kwargs_data")]
        images = []
        for key, place, data in zip(*columns, strict=True):
            pixels, grid = pickle.loads(base64.b64decode(data))  # our own, from _render
            images.append(ImageInput(pixels, grid, place["offset"], place["length"], key))
        return images

    def _load(self, name: str) -> None:
        import peft

        path = self.adapters[name]
        if self._peft is None:
            self._peft = peft.PeftModel.from_pretrained(self.policy.model, path, adapter_name=name)
        else:
            self._peft.load_adapter(path, adapter_name=name)

    def _sample(
        self, token_ids: list[int], images: Sequence[ImageInput], sampling: dict[str, Any]
    ) -> tuple[list[int], list[float]]:
        policy = self.policy
        if self._peft is not None:
            self._peft.set_adapter(self.requests[-1][1]["model"])
        policy.forbidden.zero_()
        policy.forbidden[[int(index) for index, bias in sampling["logit_bias"].items() if bias <= -100]] = True
        generator = None
        if sampling["temperature"] > 0:
            policy.temperature = sampling["temperature"]
            generator = torch.Generator().manual_seed(sampling["seed"])
        assert sampling["stop_token_ids"] == [policy.family.stop_id]
        sampler = HFSampler(policy, 1)
        number = sampler.open(generator)
        sampler.extend({number: Segment("prompt", tuple(token_ids), images=tuple(images))}, sampling["max_tokens"])
        action = sampler.run()[number]
        return list(action.token_ids), list(action.logprobs)
