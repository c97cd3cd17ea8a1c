"""Page: one page of one document, as the corpus stores it."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in [0, 1] of the page as displayed, origin top-left, ``x0 < x1`` and ``y0 < y1``."""


@dataclass(frozen=True)
class Word:
    """One word of a page's text layer.

    Attributes:
        text: The word, without white space.
        box: Where it stands, normalised to the page as displayed.
    """

    text: str
    box: Box


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        page_id: Unique in the corpus; made by :func:`page_id_of`.
        doc_id: The document, its path relative to what was indexed, with ``/`` as separator.
        number: 1-based page number inside the document.
        width: Width of the stored image in pixels.
        height: Height of the stored image in pixels.
        text: The text layer in reading order; empty where the page has none.
        words: The words of the text layer with their boxes, in reading order.
        content_hash: Hash of the source file and the ingestion settings.
        text_source: Where the text comes from: ``"layer"`` (the file itself) or ``"ocr"``.
    """

    page_id: str
    doc_id: str
    number: int
    width: int
    height: int
    text: str
    words: tuple[Word, ...]
    content_hash: str
    text_source: str = "layer"


def page_id_of(doc_id: str, number: int) -> str:
    """Return the id of page ``number`` (1-based) of document ``doc_id``.

    >>> page_id_of("r-cran-vcd/strucplot.pdf", 4)
    'r-cran-vcd/strucplot.pdf#4'
    """
    return f"{doc_id}#{number}"
