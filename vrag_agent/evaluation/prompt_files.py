"""Prompts: text files with a version in their names, filled in for the kind of pages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from string import Template

_WORDS = {
    "image": {"page": "page", "pages": "pages"},
    "text": {"page": "page, as text,", "pages": "pages, as text,"},
}
_FRAMES = {
    "pixel": "in pixels of that image, from its top left corner",
    "1000": "from 0 to 1000 across and down that image, from its top left corner",
}


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        file: Name of its file, with its version.
        text: Its words, with places to fill in.
    """

    file: str
    text: str

    @property
    def digest(self) -> str:
        """A short hash of the words, which tells whether two results were asked for in the same ones."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    def fill(self, pages: str, box_frame: str) -> str:
        """Return the words for a kind of pages and a frame of boxes."""
        return Template(self.text).substitute(_WORDS[pages], frame=_FRAMES[box_frame]).strip()


def read_prompt(name: str) -> Prompt:
    """Read the newest version of a prompt.

    Args:
        name: Its name without the version.

    Raises:
        FileNotFoundError: If the package was installed without it.
    """
    folder = resources.files("vrag_agent.evaluation") / "prompts"
    versions = [
        (int(entry.name.removeprefix(f"{name}.v").removesuffix(".txt")), entry)
        for entry in folder.iterdir()
        if entry.name.startswith(f"{name}.v") and entry.name.endswith(".txt")
    ]
    if not versions:
        raise FileNotFoundError(f"the prompt {name!r} is not in the package: install it again")
    _, newest = max(versions, key=lambda pair: pair[0])
    return Prompt(newest.name, newest.read_text(encoding="utf-8"))
