"""The frame of every replay page: escaped text, one style sheet, one script, and a policy that allows no other."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from vrag_env.render import printable
from vrag_env.replay.style import STYLE


def text(value: str, longest: int) -> str:
    """Escape a text of unknown origin; control and direction marks are replaced, a long one is cut and says so."""
    cut = value if len(value) <= longest else f"{value[:longest]} … ({len(value)} characters)"
    return escape(printable(cut), quote=True)


def number(value: float | None) -> str:
    """Write a number with three digits, or a dash."""
    return "&ndash;" if value is None else f"{value:.3f}"


def document(title: str, body: str, script: str, follow: bool = False) -> str:
    """Return a whole page.

    Args:
        title: Its title, escaped already.
        body: What stands in ``<main>``, safe HTML.
        script: The only script that may run.
        follow: Open at the last turn instead of the top.
    """
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(STYLE)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body{' class=follow' if follow else ''}>\n<main>\n{body}\n</main>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")
