"""Do the dials of a generated world do what they are for? Zooming pays, and vague queries fail.

What it does: prints two Markdown tables.

- Reading: for each font size, a reader that is told where to look (RapidOCR on the region of the evidence) reads the
  answers that are printed as such, once from the page as an agent is shown it within the default pixel budget, and
  once from the crop of the same region, which the environment cuts from the stored page. Both regions have the same
  number of pixels when they are read, so that only what is in them differs. An answer counts as read if it is in
  what was read, spaces and case aside.
- Searching: for each number of distractors, the share of questions over one page whose page comes first for the
  question as it is (vague) and for the query that names the edition as pages print it (rewritten), by BM25.

What it leaves out: other retrievers, and questions whose answer is a symbol or has to be worked out.

    python benchmarks/world_quality.py                      # some minutes; needs the extras ocr and cjk
    python benchmarks/world_quality.py --questions 60 --language en --font-sizes 5
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from tqdm import tqdm

from vrag_env.corpus import Corpus
from vrag_env.corpus.generate import WorldDials, build_wide_world
from vrag_env.corpus.ocr import PageReader
from vrag_env.errors import VRAGError
from vrag_env.questions import Question, load_questions
from vrag_env.retrieval import make_retriever
from vrag_env.views import FULL_PAGE, PixelBudget, cut

_SIDE = 1000  # pixels of the longer side of what is read, on the page and in the crop alike


def _world(dials: WorldDials, directory: Path, long_side: int) -> tuple[Corpus, list[Question]]:
    build_wide_world(dials, directory, progress=False, long_side=long_side)
    return Corpus.open(directory / "corpus"), load_questions(directory / "questions.json")


def _printed(question: Question) -> bool:
    """Whether the answer stands on the page as it is, in print of the dialled size."""
    kind, _, ask = question.template.partition("/")
    return kind != "board" and ask in ("value", "footnote")


def _squeeze(text: str) -> str:
    return "".join(text.split()).lower()


def read_both(corpus: Corpus, question: Question, reader: PageReader) -> tuple[bool, bool]:
    """Tell whether an answer can be read on the page as shown, and in the crop."""
    budget = PixelBudget()
    [evidence] = question.evidence
    page, box = corpus.image(evidence.page_id), evidence.box
    size = budget.fit((box[2] - box[0]) * page.width, (box[3] - box[1]) * page.height)
    shown = cut(page, FULL_PAGE, budget.fit(page.width, page.height))
    found = []
    for source in (shown, page):
        _, text = reader.read(_framed(cut(source, box, size)))
        found.append(any(_squeeze(answer) in _squeeze(text) for answer in (question.answer, *question.answer_variants)))
    return found[0], found[1]


def _framed(image: Image.Image) -> Image.Image:
    """Put a region on a white square: a reader of text enlarges long and thin pictures beyond measure."""
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    side = max(image.size) + 80
    framed = Image.new("RGB", (side, side), "white")
    framed.paste(image, (40, 40))
    return framed


def main(
    questions: Annotated[int, typer.Option(min=10, help="Answers read for each row.")] = 100,
    font_sizes: Annotated[str, typer.Option(help="Points, separated by commas.")] = "3,5,7,9,12",
    language: Annotated[str, typer.Option(help="'en', 'zh', or both: 'en,zh'.")] = "en,zh",
    distractors: Annotated[str, typer.Option(help="Numbers, separated by commas.")] = "0,1,3,7",
    seed: Annotated[int, typer.Option(help="Of the worlds.")] = 0,
) -> None:
    """Print the two tables."""
    reader = PageReader()
    print("| language | points | answers | read on the page as shown | read in the crop |\n|---|---|---|---|---|")
    for tongue in language.split(","):
        for points in map(float, font_sizes.split(",")):
            with tempfile.TemporaryDirectory() as directory:
                dials = WorldDials(
                    seed=seed, questions=questions * 4, font_size=points, language=tongue, distractors=0,
                    multi_hop_share=0, unanswerable_share=0,
                )  # fmt: skip
                corpus, everything = _world(dials, Path(directory), 1792)
                chosen = [question for question in everything if _printed(question)][:questions]
                read = [read_both(corpus, question, reader) for question in tqdm(chosen, leave=False)]
            shown, crop = (sum(column) / len(read) for column in zip(*read, strict=True))
            print(f"| {tongue} | {points:g} | {len(read)} | {shown:.0%} | {crop:.0%} |", flush=True)
    print("\n| language | distractors | questions | vague | rewritten |\n|---|---|---|---|---|")
    for tongue in language.split(","):
        for number in map(int, distractors.split(",")):
            with tempfile.TemporaryDirectory() as directory:
                dials = WorldDials(
                    seed=seed, questions=questions * 2, language=tongue, distractors=number, multi_hop_share=0,
                    unanswerable_share=0,
                )  # fmt: skip
                corpus, everything = _world(dials, Path(directory), 256)
                retriever = make_retriever("lexical", corpus)
                shares = []
                for texts in ([q.text for q in everything], [q.oracle_query for q in everything]):
                    hits = retriever.search(texts, 1)
                    first = [
                        bool(hit) and hit[0].page_id == question.gold_pages[0]
                        for hit, question in zip(hits, everything, strict=True)
                    ]
                    shares.append(sum(first) / len(first))
            print(f"| {tongue} | {number} | {len(everything)} | {shares[0]:.0%} | {shares[1]:.0%} |", flush=True)


if __name__ == "__main__":
    try:
        typer.run(main)
    except VRAGError as error:
        print(f"world_quality: {error}", file=sys.stderr)
        raise SystemExit(2) from error
