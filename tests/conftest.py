"""What all tests share: one thread per library, and a small real corpus with questions about it."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy is imported: many threads on few cores are far slower

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from reportlab.pdfgen.canvas import Canvas  # noqa: E402

from vrag_env.questions import NOT_ANSWERABLE, Evidence, Question  # noqa: E402

# Document -> pages -> lines. Every page holds the word "report" (a search for it can walk through all of
# them) and a word of its own.
TINY_DOCUMENTS: dict[str, list[list[str]]] = {
    "finance/amber.pdf": [
        ["Amber Falcon report", "Revenue of the North region: 42.5 million", "ambrosia"],
        ["Amber Falcon report, staff", "The firm employs 1,250 people", "badminton"],
    ],
    "finance/cobalt.pdf": [
        ["Cobalt Heron report", "Revenue of the North region: 17.1 million", "cinnamon"],
        ["Cobalt Heron report, staff", "The firm employs 310 people", "dolphin"],
    ],
    "travel/ivory.pdf": [
        ["Ivory Otter report", "Visitors came mostly from Portugal", "elderberry"],
        ["Ivory Otter report, seasons", "Most nights were booked in August", "fandango"],
    ],
    "travel/olive.pdf": [
        ["Olive Lynx report", "Visitors came mostly from Norway", "gondola"],
        ["Olive Lynx report, seasons", "Most nights were booked in March", "harmonica"],
    ],
}
PAGE_POINTS = (720, 540)
LONG_SIDE = 896
PAGE_PIXELS = (896, 672)
SHOWN_PIXELS = (
    728,
    532,
)  # at the default budget: floor(896 / 1.2247 / 28) * 28, floor(672 / 1.2247 / 28) * 28
LINE_BOX = (0.1, 0.25, 0.9, 0.35)  # the second line of every page

# The same examples in every run, no deadlines, and no complaint about a slow machine. To look for new examples:
# pytest --hypothesis-profile=default
settings.load_profile("ci")


class FailuresAtOnce:
    """Writes a failure as soon as it is known: a run that is stopped has no summary at its end."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.1f} s)", red=True)
            self._terminal.write_line(report.longreprtext)


@pytest.hookimpl(trylast=True)  # after the terminal reporter is there
def pytest_configure(config: pytest.Config) -> None:
    """Install the above, but not in the processes of pytest-xdist, whose reports come to the main one."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(terminal))


def write_pdf(path: Path, pages: Sequence[Sequence[str]]) -> None:
    """Write a PDF with a few large lines per page and a coloured shape that tells pages apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = PAGE_POINTS
    canvas = Canvas(str(path), pagesize=PAGE_POINTS, invariant=True)
    for number, lines in enumerate(pages, start=1):
        canvas.setFillColorRGB(0.15 * number, 0.35, 0.6)
        canvas.circle(width * 0.8, height * (0.2 + 0.1 * number), 60, stroke=0, fill=1)
        canvas.setFillColorRGB(0, 0, 0)
        for position, line in enumerate(lines):
            canvas.setFont("Helvetica", 26)
            canvas.drawString(width * 0.12, height * (0.84 - 0.16 * position), line)
        canvas.showPage()
    canvas.save()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the built-in corpus of the tests apart from the user's, which another version may have built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VRAG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a corpus with 4 documents of 2 pages."""
    from vrag_env.corpus import Corpus, ingest

    root = tmp_path_factory.mktemp("tiny")
    for name, pages in TINY_DOCUMENTS.items():
        write_pdf(root / "documents" / name, pages)
    corpus = Corpus.create(root / "corpus")
    report = ingest([root / "documents"], corpus, long_side=LONG_SIDE, workers=1, progress=False)
    assert (report.pages, report.failures) == (8, ())
    return root / "corpus"


@pytest.fixture(scope="session")
def tiny_corpus(tiny_corpus_path: Path) -> Any:
    """The corpus itself; read only."""
    from vrag_env.corpus import Corpus

    return Corpus.open(tiny_corpus_path)


@pytest.fixture(scope="session")
def tiny_questions() -> tuple[Question, ...]:
    """Five questions: text and number answers, two pages, a box, and one without an answer."""
    amber, cobalt = "finance/amber.pdf", "finance/cobalt.pdf"
    return (
        Question(
            "amber-revenue",
            "What revenue does Amber Falcon report for the North region, in million?",
            "42.5",
            answer_format="Float",
            gold_pages=(f"{amber}#1",),
            evidence=(Evidence(f"{amber}#1", LINE_BOX),),
            split="train",
        ),
        Question(
            "cobalt-staff",
            "How many people does Cobalt Heron employ?",
            "310",
            answer_format="Int",
            gold_pages=(f"{cobalt}#2",),
            split="train",
        ),
        Question(
            "ivory-origin",
            "Where did most visitors of Ivory Otter come from?",
            "Portugal",
            answer_variants=("from Portugal",),
            gold_pages=("travel/ivory.pdf#1",),
            split="test",
        ),
        Question(
            "north-sum",
            "What is the revenue of the North region of Amber Falcon and Cobalt Heron together, in million?",
            "59.6",
            answer_format="Float",
            gold_pages=(f"{amber}#1", f"{cobalt}#1"),
            query_type="Multi-Hop",
            split="train",
        ),
        Question(
            "olive-price",
            "What does a night at Olive Lynx cost?",
            NOT_ANSWERABLE,
            answer_format="None",
            split="test",
        ),
    )


@pytest.fixture(scope="session")
def make_episode(tiny_corpus: Any, tiny_questions: tuple[Question, ...]) -> Callable[..., Any]:
    """Return a function that starts an episode: ``make_episode(question_id, reward="paper", **config)``."""
    from vrag_env.episode import Episode, EpisodeConfig
    from vrag_env.retrieval import make_retriever
    from vrag_env.rewards import make_reward

    by_id = {question.question_id: question for question in tiny_questions}
    retriever = make_retriever("lexical", tiny_corpus)

    def make(question_id: str = "amber-revenue", reward: Any = "paper", **config: Any) -> Episode:
        episode = Episode(by_id[question_id], tiny_corpus, retriever, make_reward(reward), EpisodeConfig(**config))
        episode.start()
        return episode

    return make
