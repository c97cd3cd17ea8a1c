"""Fonts: the two of every PDF viewer for English, and a free one, embedded, for Chinese.

Chinese text is written in WenQuanYi Micro Hei, Droid Sans Fallback or any other TrueType font with Chinese characters.
It comes from the extra ``cjk`` of vrag-gym, from the system's packages, or from the path in ``VRAG_CJK_FONT``.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from vrag_env.errors import WorldError

VARIABLE = "VRAG_CJK_FONT"
"""Environment variable with the path of a TrueType font."""
_NAME = "VRAG-CJK"
_PACKAGED = ("paperang_p2_fonts_cjk", "fonts/wqy-microhei.ttc")
_SYSTEM = (
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/wqy-microhei/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
)
_NEEDED = "营收中国"


def find_cjk_font() -> Path | None:
    """Return the file of the Chinese font, or ``None`` if there is none."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    spec = find_spec(_PACKAGED[0])
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / _PACKAGED[1]
        if packaged.is_file():
            return packaged
    return next((path for path in map(Path, _SYSTEM) if path.is_file()), None)


@cache
def cjk_font() -> str:
    """Return the name of the Chinese font for reportlab, after registering it.

    Raises:
        WorldError: If there is none, or it can not be embedded; says how to get one.
    """
    path = find_cjk_font()
    remedy = (
        'pip install "vrag-gym[cjk]", or apt-get install fonts-wqy-microhei, or set '
        f"{VARIABLE} to the path of a TrueType font with Chinese characters"
    )
    if path is None:
        raise WorldError(f"a world in Chinese needs a Chinese font, and none was found: {remedy}")
    try:
        font = TTFont(_NAME, str(path), subfontIndex=0)
    except (TTFError, OSError) as error:
        raise WorldError(f"the font {path} can not be embedded ({error}): {remedy}") from error
    missing = [character for character in _NEEDED if ord(character) not in font.face.charToGlyph]
    if missing:
        raise WorldError(f"the font {path} has no Chinese characters: {remedy}")
    pdfmetrics.registerFont(font)
    return _NAME
