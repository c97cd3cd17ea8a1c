"""Small benchmarks of our own, in the forms of the originals and with their traps, made at run time."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from reportlab.pdfgen.canvas import Canvas

DOTTED = "2023.acl-long.386.pdf"
COLOURS = ("red", "green", "blue", "orange")


def write_pdf(path: Path, pages: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(path), pagesize=(480, 360), invariant=True)
    for line in pages:
        canvas.setFont("Helvetica", 20)
        canvas.drawString(40, 200, line)
        canvas.showPage()
    canvas.save()
    return path


def picture(number: int, form: str = "JPEG") -> bytes:
    """A slide whose colour tells its number."""
    image = Image.new("RGB", (320, 240), COLOURS[number - 1])
    ImageDraw.Draw(image).rectangle((20, 20, 60 * number, 60), fill="white")
    buffer = io.BytesIO()
    image.save(buffer, format=form)
    return buffer.getvalue()


# ---------------------------------------------------------------------- MMLongBench-Doc


def mmlb_entry(question: str, answer: str, pages: Any, sources: Any, kind: Any, document: str = DOTTED) -> dict:
    return {
        "doc_id": document,
        "doc_type": "Academic paper",
        "question": question,
        "answer": answer,
        "evidence_pages": pages,
        "evidence_sources": sources,
        "answer_format": kind,
    }


MMLB = [
    mmlb_entry("How many cranes?", "48", "[1]", "['Chart']", "Int"),
    mmlb_entry("Which two towns?", "['Bergen', 'Oslo']", "[2, 3]", "['Pure-text (Plain-text)', 'Table']", "List"),
    mmlb_entry("What does it cost?", "Not answerable", "[]", "[]", "None"),
    mmlb_entry("Who wrote it?", "Holm", "[0]", "['Generalized-text (Layout)']", "Str"),
    mmlb_entry("Which page numbers?", "4", "[1, 1418]", "['Figure']", "Int"),
    mmlb_entry("What is the sum?", "9259", "[]", "['Table']", "Int"),
    mmlb_entry("What of the moon?", "Not answerable", "[2]", "[]", "None"),
    mmlb_entry("What is broken?", "x", "[1, __import__('os')]", "['Chart']", "Str"),
    mmlb_entry("Where is the other?", "here", "[2]", "['Figure']", "Str", "other_95.pdf"),
    mmlb_entry("Where is the lost?", "gone", "[1]", "['Figure']", "Str", "2023.acl-long.1.pdf"),
]


def write_mmlongbench(root: Path, form: str = "json") -> Path:
    """The repository's form (``json``) or the hub's (``parquet``)."""
    write_pdf(root / "documents" / DOTTED, ["Bergen has 48 cranes.", "Bergen sells fish.", "Oslo sells zirconium."])
    write_pdf(root / "documents" / "2023.acl-short.pdf", ["A document that no question names."])
    write_pdf(root / "documents" / "other_95.pdf", ["First page.", "The other is here."])
    (root / "data").mkdir()
    if form == "json":
        (root / "data" / "samples.json").write_text(json.dumps(MMLB), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(MMLB), root / "data" / "train-00000-of-00001.parquet")
    return root


# ---------------------------------------------------------------------- ViDoSeek


def common(uid: Any, query: str, answer: str, name: str, pages: Any, **meta: Any) -> dict[str, Any]:
    return {
        "uid": uid,
        "query": query,
        "reference_answer": answer,
        "meta_info": {"file_name": name, "reference_page": pages, **meta},
    }


VIDOSEEK = [
    common("a_1", "What do bees eat?", "nectar", "bees.pdf", [2], source_type="2d_layout", query_type="Multi-Hop"),
    common("a_2", "How many legs has a bee?", "6", "bees.pdf", [1], source_type="text", query_type="single_hop"),
    common("b_1", "What is a café?", "a room", "caf\u00e9.v2.pdf", [1], source_type="Table", query_type="multi_hop"),
    common("b_2", "What is lost?", "all", "lost.pdf", [1], source_type="Text", query_type="content_extraction"),
    common("a_2", "Asked twice?", "yes", "bees.pdf", [1]),
    common("d", "Who is the queen of Mars?", "Not answerable", "", []),
    {"uid": "c", "query": "No answer here?", "meta_info": {"file_name": "bees.pdf", "reference_page": [1]}},
]


def write_vidoseek(root: Path) -> Path:
    """ViDoSeek's annotation and PDFs, with the refined SlideVQA beside it as on the hub."""
    write_pdf(root / "vidoseek_pdf_document" / "bees.pdf", ["Bees have six legs.", "Bees eat nectar."])
    # the accent as a character of its own, as some systems store file names
    write_pdf(root / "vidoseek_pdf_document" / "cafe\u0301.v2.pdf", ["A cafe is a room."])
    (root / "vidoseek.json").write_text(json.dumps({"examples": VIDOSEEK}), encoding="utf-8")
    write_pdf(root / "slidevqa_pdf_document" / "bees.pdf", ["Another deck of the same name."])
    write_pdf(root / "slidevqa_pdf_document" / "wasps.pdf", ["Wasps sting.", "Wasps build nests."])
    refined = [
        common(1, "What do wasps build?", "nests", "wasps.pdf", [2], query_type="Single-Hop_Single-Span"),
        common(2, "Of the deck with another name?", "bees", "bees.pdf", [1], query_type="Multi-Hop_Non-Span"),
    ]
    (root / "slidevqa_refined.json").write_text(json.dumps({"examples": refined}), encoding="utf-8")
    return root


# ---------------------------------------------------------------------- SlideVQA


def slide_entry(deck: str, qa_id: Any, question: str, answer: str, pages: Any, kind: str = "Single-Hop") -> dict:
    addresses = [f"https://host.example/{deck}/95/{deck}-{n}-1024.jpg?cb=13{n}" for n in (1, 2, 3)]
    return {
        "deck_name": deck,
        "deck_url": f"https://host.example/{deck}",
        "image_urls": addresses,
        "qa_id": qa_id,
        "question": question,
        "answer": answer,
        "arithmetic_expression": "None",
        "evidence_pages": pages,
        "reasoning_type": kind,
        "answer_type": "Single-Span",
    }


SLIDES = {
    "train": [
        slide_entry("sales.v1.2-final", 7, "Which colour is first?", "red", [1]),
        slide_entry("sales.v1.2-final", 8, "How many colours?", "2", [1, 2], "Multi-Hop"),
    ],
    "test": [
        slide_entry("gaps", 7, "Which colour is last?", "blue", [3]),
        slide_entry("gaps", 9, "Which colour is in the middle?", "green", [2]),
        slide_entry("gaps", 11, "Which page is too far?", "21", [21, 1]),
        slide_entry("nowhere", 10, "Which deck is lost?", "this", [1]),
    ],
}


def write_slidevqa_lines(root: Path) -> Path:
    """The repository's form: one folder of images per deck, named by the ends of their URLs; one is lost."""
    for split, entries in SLIDES.items():
        lines = "\n".join(map(json.dumps, entries)) + ("\n{broken\n" if split == "test" else "\n")
        path = root / "annotations" / "qa" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines, encoding="utf-8")
        boxes = root / "annotations" / "bbox" / f"{split}.jsonl"
        boxes.parent.mkdir(parents=True, exist_ok=True)
        boxes.write_text(json.dumps({"deck_name": "gaps", "bboxes": []}) + "\n", encoding="utf-8")
    for split, deck, numbers in (("train", "sales.v1.2-final", (1, 2, 3)), ("test", "gaps", (1, 3))):
        folder = root / "images" / split / deck
        folder.mkdir(parents=True)
        for number in numbers:
            (folder / f"{deck}-{number}-1024.jpg?cb=13{number}").write_bytes(picture(number))
    return root


def write_slidevqa_parquet(root: Path) -> Path:
    """The hub's form: every row has the pictures of the whole deck; types of reasoning are not there."""
    root.mkdir(parents=True, exist_ok=True)
    slide = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split, entries in SLIDES.items():
        rows = []
        for entry in entries:
            pages = {
                f"page_{n}": None
                if entry["deck_name"] == "gaps" and n == 2
                else {"bytes": picture(n, "PNG"), "path": f"{n}.png"}
                for n in (1, 2, 3)
            }
            keys = ("deck_name", "deck_url", "qa_id", "question", "answer", "evidence_pages")
            rows.append({key: entry[key] for key in keys} | pages)
        schema = pa.schema(
            [(key, pa.string()) for key in ("deck_name", "deck_url")]
            + [(f"page_{n}", slide) for n in (1, 2, 3)]
            + [("qa_id", pa.int64()), ("question", pa.string()), ("answer", pa.string())]
            + [("evidence_pages", pa.list_(pa.int64()))]
        )
        # two rows in a group, so that decks lie in different groups
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, root / f"{split}-00000-of-00001.parquet", row_group_size=2)
    return root


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path
