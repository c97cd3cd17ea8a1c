"""A run: what is written, what a kill costs, and what may be added to it later."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_parts import Told, one_after_the_other

from vrag_agent.commands import make_env
from vrag_agent.evaluation.compare import compare, load_run
from vrag_agent.evaluation.engine import play_all
from vrag_agent.evaluation.journal import EPISODES, EvaluationError, Journal
from vrag_agent.evaluation.methods import VanillaRAG
from vrag_agent.evaluation.protocol import ScriptedPolicy
from vrag_agent.evaluation.run import evaluate_policy
from vrag_env.env import VRAGEnv
from vrag_env.replay import corpus_images, read_records, record_html
from vrag_env.rewards import RuleJudge

TIMES = ("seconds",)


@pytest.fixture
def env(tiny_corpus: Any, tiny_questions: Any) -> VRAGEnv:
    return make_env({"corpus": tiny_corpus, "questions": list(tiny_questions)})


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what a clock says."""
    copied = json.loads(json.dumps(summary))
    for row in (copied, *copied["by_type"].values()):
        for name in TIMES:
            row.pop(name, None)
            row["intervals"].pop(name, None)
    return copied


class Killed(BaseException):
    """As a signal would: nothing catches it."""


def run(policy: Any, env: VRAGEnv, out: Path, **options: Any) -> dict[str, Any]:
    return evaluate_policy(policy, env, out, progress=False, **options)


def test_numbers_by_hand(env: VRAGEnv, tmp_path: Path) -> None:
    summary = run(ScriptedPolicy("oracle"), env, tmp_path)
    assert (summary["questions"], summary["episodes"], summary["accuracy"]) == (5, 5, 1.0)
    assert summary["exact_match"] == summary["mmlb_accuracy"] == summary["mmlb_f1"] == 1.0
    assert summary["shown_recall"] == 1.0 and summary["counts"]["shown_recall"] == 4  # one has no gold page
    assert summary["counts"]["region_iou"] == 1  # one has a box
    assert "model_calls" not in summary and "prompt_tokens" not in summary
    # amber and ivory by one search each, and so on: turns are those of the episodes in the file
    lines = [json.loads(line) for line in (tmp_path / EPISODES).read_text(encoding="utf-8").splitlines()]
    turns = [len(line["turns"]) for line in lines]
    assert summary["mean_turns"] == sum(turns) / 5
    assert summary["by_type"]["Unanswerable"]["questions"] == 1
    assert "Unanswerable | 1 |" in (tmp_path / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("after", [0, 1, 3, 7])
@pytest.mark.parametrize("refills", [True, False])
def test_a_kill_changes_nothing(env: VRAGEnv, tmp_path: Path, after: int, refills: bool) -> None:
    def say(talk: Any) -> str:
        return "<answer>42.5</answer>" if "Amber Falcon" in talk.messages[0].blocks[0].text else "no idea"

    def policy() -> VanillaRAG:
        return VanillaRAG(Told(say, refills), top_k=2)

    options: dict[str, Any] = {"seeds": (0, 1), "batch_size": 2, "judges": ("rule", "token_f1")}
    whole = run(policy(), env, tmp_path / "whole", **options)
    ended = 0

    def stop(_: Any) -> None:
        nonlocal ended
        ended += 1
        if ended > after:
            raise Killed

    from vrag_agent.evaluation.engine import Setting
    from vrag_agent.evaluation.run import run_settings

    setting = Setting(env.corpus, env.retriever, env.reward, env.config)
    with pytest.raises(Killed), Journal(tmp_path / "cut", run_settings(policy(), env)) as journal:
        play_all(policy(), setting, env.questions, journal, seeds=(0, 1), batch_size=2, progress=stop)
    kept = (tmp_path / "cut" / EPISODES).read_bytes()
    assert kept.count(b"\n") == after + 1
    (tmp_path / "cut" / EPISODES).write_bytes(kept + b'{"seed": 1, "question_id": "torn')  # as a kill may leave it
    resumed = run(policy(), env, tmp_path / "cut", **options)
    assert without_times(resumed) == without_times(whole)
    assert (tmp_path / "cut" / EPISODES).read_bytes().startswith(kept)  # what was finished was not played again


def test_fixed_groups_are_played_again_as_a_whole(env: VRAGEnv, tmp_path: Path) -> None:
    model = Told(one_after_the_other("a"), refills=False)
    run(VanillaRAG(model), env, tmp_path, questions=env.questions[:3], batch_size=2)
    assert [len(call) for call in model.calls] == [2, 1]
    lines = (tmp_path / EPISODES).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / EPISODES).write_text("".join(lines[1:]), encoding="utf-8")
    model.calls.clear()
    run(VanillaRAG(model), env, tmp_path, questions=env.questions[:3], batch_size=2)
    assert [len(call) for call in model.calls] == [2]  # the group of the lost one, and no other
    assert len((tmp_path / EPISODES).read_text(encoding="utf-8").splitlines()) == 3


def test_a_run_may_grow(env: VRAGEnv, tmp_path: Path) -> None:
    player = ScriptedPolicy("random")
    few = run(player, env, tmp_path, questions=env.questions[:2])
    assert few["episodes"] == 2
    more = run(player, env, tmp_path, seeds=(0, 1), judges=("exact_match", "rule"))
    assert more["episodes"] == 10 and list(more["judges"]) == ["exact_match", "rule"]
    assert len((tmp_path / EPISODES).read_text(encoding="utf-8").splitlines()) == 10
    fresh = run(player, env, tmp_path / "fresh", seeds=(0, 1), judges=("exact_match", "rule"))
    assert without_times(more) == without_times(fresh)


def test_another_run_is_refused(env: VRAGEnv, tiny_corpus: Any, tiny_questions: Any, tmp_path: Path) -> None:
    run(ScriptedPolicy("oracle"), env, tmp_path)
    with pytest.raises(EvaluationError, match=r"policy.*--fresh"):
        run(ScriptedPolicy("random"), env, tmp_path)
    shorter = make_env({"corpus": tiny_corpus, "questions": list(tiny_questions), "max_turns": 2})
    with pytest.raises(EvaluationError, match="rules"):
        run(ScriptedPolicy("oracle"), shorter, tmp_path)
    assert run(ScriptedPolicy("random"), env, tmp_path, fresh=True)["policy"] == "random"


def test_another_question_under_an_old_id_is_refused(env: VRAGEnv, tmp_path: Path) -> None:
    from dataclasses import replace

    run(ScriptedPolicy("oracle"), env, tmp_path, questions=env.questions[:1])
    other = replace(env.questions[0], text="Something else?")
    with pytest.raises(EvaluationError, match="another question with the id 'amber-revenue'"):
        run(ScriptedPolicy("oracle"), env, tmp_path, questions=[other])


def test_two_processes_do_not_write_to_one_run(env: VRAGEnv, tmp_path: Path) -> None:
    with Journal(tmp_path, {}), pytest.raises(EvaluationError, match="another process"):
        Journal(tmp_path, {})


def test_a_damaged_line_is_named(env: VRAGEnv, tmp_path: Path) -> None:
    run(ScriptedPolicy("oracle"), env, tmp_path)
    path = tmp_path / EPISODES
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], "broken\n", *lines[1:]]), encoding="utf-8")
    with pytest.raises(EvaluationError, match="line 2"):
        run(ScriptedPolicy("oracle"), env, tmp_path)


def test_every_line_can_be_replayed(env: VRAGEnv, tmp_path: Path) -> None:
    run(ScriptedPolicy("oracle"), env, tmp_path)
    records = list(read_records(tmp_path / EPISODES))
    assert len(records) == 5
    for record in records:
        assert record.is_success and record.policy == "oracle" and len(record.seconds) == len(record.turns)
        # The pictures were not drawn when it was played; they are now.
        assert "data:image/webp" in record_html(record, corpus_images(env.corpus)) or not record.views


class Stubborn:
    """A judge of another mind: only what is short is right."""

    def judge(self, items: Any) -> list[float]:
        return [float(len(item.answer) < 4) for item in items]


def test_judges_and_their_agreement(env: VRAGEnv, tmp_path: Path) -> None:
    summary = run(ScriptedPolicy("oracle"), env, tmp_path, judges={"rule": RuleJudge(), "stubborn": Stubborn()})
    # Right answers: 42.5, 310, Portugal, 59.6, Not answerable; under four letters: 310.
    assert summary["judges"]["rule"]["accuracy"] == 1.0 and summary["judges"]["stubborn"]["accuracy"] == 0.2
    [pair] = summary["agreement"]
    assert (pair["both_right"], pair["only_first"], pair["only_second"], pair["answers"]) == (1, 4, 0, 5)
    assert pair["agreement"] == 0.2


def test_an_episode_without_an_answer_is_wrong_and_not_judged(env: VRAGEnv, tmp_path: Path) -> None:
    class Asked(Stubborn):
        items = 0

        def judge(self, items: Any) -> list[float]:
            Asked.items += len(items)
            return super().judge(items)

    policy = VanillaRAG(Told(one_after_the_other("")))  # an empty reply is an invalid last turn
    summary = run(policy, env, tmp_path, judges={"asked": Asked()})
    assert (summary["accuracy"], summary["finish_rate"], summary["invalid_rate"]) == (0.0, 0.0, 0.5)
    assert Asked.items == 0 and summary["judges"]["asked"]["unjudged"] == 0


def test_compare_by_hand(env: VRAGEnv, tmp_path: Path) -> None:
    answers = {"first": ("42.5", "310"), "second": ("42.5", "Portugal", "59.6")}

    def knows(known: tuple[str, ...]) -> Callable[[Any], str]:
        by_text = {question.text: question.answer for question in env.questions}
        return lambda talk: next(
            (a for text, a in by_text.items() if text in talk.messages[0].blocks[0].text and a in known), "wrong"
        )

    for name, known in answers.items():
        run(VanillaRAG(Told(knows(known)), label=name), env, tmp_path / name)
    found = compare(load_run(tmp_path / "first"), load_run(tmp_path / "second"))
    assert (found.both_right, found.only_first, found.only_second, found.both_wrong) == (1, 1, 2, 1)
    assert found.lost == ("cobalt-staff",) and found.won == ("ivory-origin", "north-sum")
    assert found.differences["accuracy"].value == pytest.approx(1 / 5)
    assert found.p_value == 1.0  # one against two
    assert "only first 1, only second 2" in str(found)


def test_compare_refuses_what_does_not_fit(env: VRAGEnv, tmp_path: Path) -> None:
    run(ScriptedPolicy("oracle"), env, tmp_path / "a", questions=env.questions[:2])
    run(ScriptedPolicy("random"), env, tmp_path / "b", questions=env.questions[2:])
    run(ScriptedPolicy("random"), env, tmp_path / "c", judges=("exact_match",))
    with pytest.raises(EvaluationError, match="no question in common"):
        compare(load_run(tmp_path / "a"), load_run(tmp_path / "b"))
    with pytest.raises(EvaluationError, match="share no judge"):
        compare(load_run(tmp_path / "a"), load_run(tmp_path / "c"))
    with pytest.raises(EvaluationError, match="holds no run"):
        load_run(tmp_path)
