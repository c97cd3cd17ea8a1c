"""Vision features by image: a page that is shown in many episodes, turns and epochs is encoded once per weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from vrag_agent.families import Family, Features
from vrag_agent.trajectory import ImageInput

CACHE_BYTES = 1 << 30
"""Features kept on the device; the least recently used ones leave first."""


class FeatureCache:
    """Remembers what a frozen vision tower makes of each image.

    A tower that is trained is never remembered: its features need a gradient, and change with every step. Whether
    the weights are those of the last call is read off their storage and version counters, which every in-place
    change advances, so that a loaded checkpoint or a step of an optimizer empties the cache by itself.

    Args:
        family: Knows the vision modules of the model and runs them.
        model: The model.
    """

    def __init__(self, family: Family, model: Any) -> None:
        self.family = family
        self.model = model
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self._bytes = 0
        self._weights: tuple[Any, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> FeatureCache:
        """A copy of a policy has weights of its own: its cache begins empty."""
        return FeatureCache(copy.deepcopy(self.family, memo), copy.deepcopy(self.model, memo))

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0

    def __call__(self, images: Sequence[ImageInput]) -> list[Features]:
        """Return the features of each image; equal images are encoded once."""
        modules = self.family.vision_modules(self.model)
        parameters = [parameter for module in modules for parameter in module.parameters()]
        # An adapter can be switched off without a trace in its weights.
        adapted = any(type(m).__module__.startswith("peft.") for module in modules for m in module.modules())
        frozen = not adapted and not any(parameter.requires_grad for parameter in parameters)
        weights = tuple((id(p), p._version, p.dtype, p.device) for p in parameters)
        if not frozen or weights != self._weights:
            self.clear()
            self._weights = weights
        missing = list({image.key: image for image in images if image.key not in self._kept}.values())
        found: dict[str, Features] = {}
        if missing:
            found = dict(zip((image.key for image in missing), self.family.features(self.model, missing), strict=True))
        if frozen:
            for key, features in found.items():
                # A copy: a part of a larger tensor would keep all of it alive.
                self._kept[key] = tuple(part.detach().clone() for part in features)
                self._bytes += sum(part.nbytes for part in self._kept[key])
        out = []
        for image in images:
            if image.key in self._kept:
                self._kept.move_to_end(image.key)
                out.append(self._kept[image.key])
            else:
                out.append(found[image.key])
        while self._bytes > CACHE_BYTES and self._kept:
            _, old = self._kept.popitem(last=False)
            self._bytes -= sum(part.nbytes for part in old)
        return out
