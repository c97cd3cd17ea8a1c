"""Small PDFs for tests, drawn by reportlab, and the hidden corners of the format added by pypdfium2."""

from __future__ import annotations

import io
from pathlib import Path

import pypdfium2 as pdfium
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen import canvas

WIDTH, HEIGHT = 400, 600  # points


def write_pdf(path: Path, pages: list[str], password: str | None = None) -> Path:
    """Write a PDF with the lines of each page from the top; one page per string."""
    encrypt = None if password is None else StandardEncryption(password, canPrint=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = canvas.Canvas(str(path), pagesize=(WIDTH, HEIGHT), encrypt=encrypt, invariant=1)
    for text in pages:
        sheet.setFont("Helvetica", 12)
        for number, line in enumerate(text.split("\n")):
            sheet.drawString(40, HEIGHT - 50 - 16 * number, line)
        sheet.showPage()
    sheet.save()
    return path


def write_marked_pdf(path: Path, rotate: int, crop: tuple[float, float, float, float] | None) -> Path:
    """Write one page with the word MARK on a black-bordered spot, a /Rotate entry and a CropBox.

    The word is drawn in pure red, so that a test finds it in the picture by its colour.
    """
    buffer = io.BytesIO()
    sheet = canvas.Canvas(buffer, pagesize=(WIDTH, HEIGHT))
    sheet.setFont("Helvetica", 12)
    sheet.drawString(150, 250, "plain")
    sheet.setFillColorRGB(1, 0, 0)
    sheet.drawString(120, 420, "MARK")
    sheet.save()
    document = pdfium.PdfDocument(buffer.getvalue())
    page = document[0]
    page.set_rotation(rotate)
    if crop is not None:
        page.set_cropbox(*crop)
    document.save(path)
    document.close()
    return path
