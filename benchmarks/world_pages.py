"""One picture of all kinds of page of a generated world: the contact sheet of docs/worlds.md.

Draws one page of every kind, from worlds of one kind each, and puts them side by side with their names.

    python benchmarks/world_pages.py --out docs/worlds.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pypdfium2 as pdfium
import typer
from PIL import Image, ImageDraw, ImageFont

from vrag_env.corpus.generate import PAGE_KINDS, WorldDials
from vrag_env.corpus.generate.wide import draw_family

_WIDTH, _HEIGHT, _GAP, _LABEL = 300, 225, 12, 22


def page_of(kind: str, number: int, language: str, font_size: float) -> Image.Image:
    """Draw the first page of a family whose documents are decks with pages of one kind."""
    for seed in range(13 * number, 13 * number + 100):
        dials = WorldDials(
            seed=seed, questions=1, pages=600, distractors=0, kinds=(kind,), font_size=font_size, language=language,
            multi_hop_share=0, test_share=0,
        )  # fmt: skip
        [document] = draw_family(dials, number)
        pdf = pdfium.PdfDocument(document.pdf)
        width, height = pdf[0].get_size()
        if round(width / height, 2) == 1.33:
            image: Image.Image = pdf[0].render(scale=2 * _WIDTH / width).to_pil().convert("RGB")
            return image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    raise AssertionError("no deck among a hundred seeds")  # a third of the families are decks


def main(
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("docs/worlds.png"),
    language: Annotated[str, typer.Option(help="'en' or 'zh'.")] = "en",
    font_size: Annotated[float, typer.Option(help="Points of the print with the answers.")] = 9,
    columns: Annotated[int, typer.Option(min=1)] = 4,
) -> None:
    """Write the picture."""
    rows = -(-len(PAGE_KINDS) // columns)
    sheet = Image.new("RGB", (columns * (_WIDTH + _GAP) + _GAP, rows * (_HEIGHT + _LABEL + _GAP) + _GAP), "#d8dade")
    draw = ImageDraw.Draw(sheet)
    for k, kind in enumerate(PAGE_KINDS):
        x, y = _GAP + k % columns * (_WIDTH + _GAP), _GAP + k // columns * (_HEIGHT + _LABEL + _GAP)
        sheet.paste(page_of(kind, k % 8, language, font_size), (x, y + _LABEL))
        draw.text((x, y + 2), kind, fill="#202328", font=ImageFont.load_default(14))
    sheet.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    print(f"{out}: {sheet.width} x {sheet.height} pixels, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    typer.run(main)
