"""The package's own files agree with each other: metadata, pins, the README's commands and the gate."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import vrag_env

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = {"agent", "cjk", "colvision", "dense", "ocr", "sb3", "serve", "app", "trl", "openenv", "test", "all"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(python: str) -> dict[str, Version]:
    """Versions that constraints.txt pins for one version of Python."""
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                [specifier] = requirement.specifier
                assert specifier.operator == "==" and requirement.name not in found
                found[requirement.name] = Version(specifier.version)
    return found


def direct(project: dict[str, Any]) -> list[Requirement]:
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(text) for texts in lists for text in texts]
    return [requirement for requirement in found if requirement.name != project["name"]]


def test_the_version_is_one(project: dict[str, Any]) -> None:
    assert project["version"] == vrag_env.__version__


def test_extras(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    assert set(extras) == EXTRAS
    [everything] = [Requirement(text) for text in extras["all"]]
    assert everything.extras == EXTRAS - {"all"}
    base = {Requirement(text).name for text in project["dependencies"]}
    assert not base & {"torch", "transformers", "colpali-engine", "stable-baselines3"}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_is_pinned_within_its_bounds(project: dict[str, Any], python: str) -> None:
    pinned = pins(python)
    wanted = direct(project)
    assert {requirement.name for requirement in wanted} == set(pinned)
    for requirement in wanted:
        assert requirement.specifier.contains(pinned[requirement.name]), requirement


def test_pythons_are_declared(project: dict[str, Any]) -> None:
    declared = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert tuple(declared) == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"


def test_typed_and_licensed(project: dict[str, Any]) -> None:
    assert (ROOT / "vrag_env" / "py.typed").is_file() and (ROOT / "vrag_agent" / "py.typed").is_file()
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize(
    ("name", "end"),
    [("tests", " && .venv/bin/pytest -n 2 --dist loadfile"), ("demo", " && .venv/bin/vrag demo")],
)
def test_the_readme_has_the_commands_that_the_gate_runs(name: str, end: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(rf"^<!-- ci: {name} -->\n```sh\n(.+)\n```$", readme, re.MULTILINE)
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ")
    assert line.endswith(end)
    if name == "tests":
        assert line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_readme_extras_exist() -> None:
    named = re.findall(r"vrag-gym\[([a-z0-9,]+)\]", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {extra for names in named for extra in names.split(",")} <= EXTRAS


def test_errors_name_extras_that_exist() -> None:
    named = set()
    for package in ("vrag_env", "vrag_agent", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            named |= set(re.findall(r'missing_extra\([^)]*"(\w+)"\)', path.read_text(encoding="utf-8")))
    assert named and named <= EXTRAS


@pytest.mark.skipif(os.name == "nt", reason="the gate is a shell script")
def test_the_gate_is_a_sound_script() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")


def test_the_retrieval_benchmark(tiny_corpus_path: Path, tiny_questions: Any, tmp_path: Path) -> None:
    from vrag_env.questions import save_questions

    save_questions(tmp_path / "questions.json", tiny_questions)
    script = ROOT / "benchmarks" / "retrieval_quality.py"

    def run(corpus: Path) -> subprocess.CompletedProcess[str]:
        arguments = ["--corpus", str(corpus), "--questions", str(tmp_path / "questions.json")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment
        )

    done = run(tiny_corpus_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("4 questions, 8 pages")
    assert lines[2].split(" | ")[1:6] == ["recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10"]
    for line, name in zip(lines[4:6], ("bm25s", "lexical"), strict=True):
        cells = line.strip("| ").split(" | ")
        assert cells[0] == name and float(cells[3]) == 1.0  # every gold page among the first ten of eight
        # three questions of one page and one of two, all found first: (3 + 1 / 2) / 4
        assert float(cells[1]) == 0.875
    refused = run(tmp_path / "nowhere")
    assert refused.returncode == 2 and "no corpus at" in refused.stderr and "Traceback" not in refused.stderr


def test_the_yardstick_by_hand(tiny_corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = spec_from_file_location("retrieval_quality", ROOT / "benchmarks" / "retrieval_quality.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    plain = module.PlainBM25(tiny_corpus)
    found = plain.search(["gondola", "the harmonicas", "harmonica gondola"], 10)
    # "the" is a stop word, "harmonicas" is not reduced to "harmonica", and pages without a word are left out
    assert [[hit.page_id for hit in hits] for hits in found][:2] == [["travel/olive.pdf#1"], []]
    assert {hit.page_id for hit in found[2]} == {"travel/olive.pdf#1", "travel/olive.pdf#2"}
    assert found[2][0].score >= found[2][1].score > 0
