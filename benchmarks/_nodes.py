"""The node files of the engine that was released with VRAG-RL: one JSON file per page.

Its ingestion writes the list of a page's nodes with ``json.dump(..., indent=2)``; a node holds all vectors of
the page as one flat list of numbers, one a line (bfloat16 values, as the model gives them). Opening parses
every file and builds one bfloat16 tensor per page.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def write_node(path: Path, page_id: str, vectors: npt.NDArray[np.float16]) -> None:
    """Write one page's node file.

    Args:
        path: The file.
        page_id: Name of the page's picture.
        vectors: ``(vectors, dim)``.
    """
    picture = f"./search_engine/corpus/img/{page_id}.jpg"
    about = {
        "file_path": picture,
        "file_name": f"{page_id}.jpg",
        "file_type": "image/jpeg",
        "file_size": 200_000,
        "creation_date": "2025-06-01",
        "last_modified_date": "2025-06-01",
    }
    hidden = ["file_name", "file_type", "file_size", "creation_date", "last_modified_date", "last_accessed_date"]
    node = {
        "id_": str(uuid.uuid5(uuid.NAMESPACE_URL, page_id)),
        "embedding": vectors.reshape(-1).astype(np.float64).tolist(),
        "metadata": about,
        "excluded_embed_metadata_keys": hidden,
        "excluded_llm_metadata_keys": hidden,
        "relationships": {},
        "text": "",
        "mimetype": "text/plain",
        "start_char_idx": None,
        "end_char_idx": None,
        "text_template": "{metadata_str}\n\n{content}",
        "metadata_template": "{key}: {value}",
        "metadata_seperator": "\n",
        "image": None,
        "image_path": picture,
        "image_url": None,
        "image_mimetype": None,
        "text_embedding": None,
        "class_name": "ImageNode",
    }
    path.write_text(json.dumps([node], indent=2, ensure_ascii=False), encoding="utf-8")


def open_nodes(paths: Iterable[Path], dim: int = 128) -> list[Any]:
    """Read node files as the released engine does: parse, then one bfloat16 tensor ``(vectors, dim)`` per page.

    Its check of the nodes by pydantic is left out, which is in its favour.
    """
    import torch

    nodes = [node for path in paths for node in json.loads(path.read_bytes())]
    return [torch.tensor(node["embedding"]).view(-1, dim).bfloat16() for node in nodes]
