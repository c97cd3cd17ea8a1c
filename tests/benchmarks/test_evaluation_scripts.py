"""The scripts of tables and figures run from end to end, on little, and say the same when they are started again."""

import json
from pathlib import Path
from typing import Any

import fig3_reference_images
import fig4_retrieval
import fig6_latency
import players
import pytest
import robustness

from vrag_env.questions import Question, save_questions


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_questions: tuple[Question, ...]) -> Path:
    path = tmp_path_factory.mktemp("asked") / "questions.json"
    save_questions(path, tiny_questions)
    return path


def cells(path: Path) -> dict[str, dict[str, Any]]:
    """Cells by row, without what a clock says."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {row["row"]: {name: value for name, value in row["cells"].items() if name != "seconds"} for row in rows}


@pytest.mark.slow
def test_the_scripts_run_and_go_on(tiny_corpus_path: Path, asked: Path, tmp_path: Path) -> None:
    where: dict[str, Any] = {"corpus": tiny_corpus_path, "questions": asked}
    scripts: dict[str, tuple[Any, dict[str, Any]]] = {
        "fig3": (fig3_reference_images.main, {"retriever": "lexical"}),
        "fig4": (fig4_retrieval.main, {"retriever": "lexical"}),
        "fig6": (fig6_latency.main, {"retriever": "lexical"}),
        "players": (players.main, {}),
        "robustness": (robustness.main, {"retriever": "lexical", "policy": ["oracle"], "method": "native"}),
    }
    found = {}
    for name, (main, options) in scripts.items():
        out = tmp_path / name
        main(**where, **options, out=out)
        found[name] = cells(out / f"{name}.json")
        whole = next(iter(sorted(out.rglob("episodes.jsonl"))))
        lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
        whole.write_text("".join(lines[:1]) + lines[1][:40], encoding="utf-8")  # as a kill leaves it
        main(**where, **options, out=out)
        assert cells(out / f"{name}.json") == found[name], name
    # By hand: four questions have gold pages; one of them has two, of which a single page is one half.
    upper = found["fig3"]["1"]["upper bound"]
    assert upper["questions"] == 4
    assert found["fig3"]["1"]["recall of the pages"]["value"] == pytest.approx((1 + 1 + 1 + 1 / 2) / 4)
    assert found["fig4"]["direct retrieval"]["recall@1"]["value"] == pytest.approx((1 + 1 + 1 + 1 / 2) / 4)
    assert found["fig4"]["oracle, all queries"]["recall@10"]["value"] == 1.0
    assert found["players"]["oracle, lexical"]["accuracy"]["value"] == 1.0
    assert found["robustness"]["oracle: no gold page at all"]["pages found"]["value"] == 0.0
    assert found["robustness"]["oracle: as it is"]["unanswerable right"]["value"] == 1.0
    assert (tmp_path / "fig3" / "fig3.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_tiny_agents_are_trained_once_and_compared(tmp_path: Path) -> None:
    from _agents import evaluate_agents
    from _tiny_agents import Size, TinyWorld

    from vrag_env.errors import VRAGError

    size = Size(documents=12, demonstrations=8, sft_epochs=1, iterations=1, episodes=4, test_questions=4)
    first = evaluate_agents(tmp_path, [0], 1, ["rag_search"], size=size)
    written = (tmp_path / "seed-0" / "rag_search.json").stat().st_mtime_ns
    again = evaluate_agents(tmp_path, [0], 1, ["rag_search"], size=size)
    assert (tmp_path / "seed-0" / "rag_search.json").stat().st_mtime_ns == written
    assert first.pooled("rag_search", "accuracy") == again.pooled("rag_search", "accuracy")
    assert first.pooled("rag_search", "accuracy")["questions"] == 4
    assert first.values("rag_search", "crops") and first.pooled("rag_search", "crops")["value"] == 0.0
    assert "minus sft" in first.hypothesis("a claim", "sft", "rag_search", "accuracy")
    with pytest.raises(VRAGError, match="another size"):
        TinyWorld(tmp_path, 0, Size(documents=13))


@pytest.mark.slow
def test_numeric_agents_are_kept(tiny_corpus_path: Path, tiny_questions: Any, tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib", reason="needs the extra sb3")
    from _numeric import estimate, learn, make_numeric, play

    env = make_numeric(tiny_corpus_path, tiny_questions, {"answer": 1.0})
    model, curve = learn("A2C", env, 0, 200, tmp_path)
    loaded, same = learn("A2C", env, 0, 200, tmp_path)
    assert curve == same and curve[-1][0] >= 200
    rows = [play("A2C", one, env, tiny_questions) for one in (model, loaded)]
    assert rows[0] == rows[1] and len(rows[0]) == 5
    ids = [question.question_id for question in tiny_questions]
    assert estimate(rows, ids, "finish_rate").questions == 5
