"""The methods: what they show a model, how they read it, and that what a model writes breaks nothing."""

from pathlib import Path
from typing import Any

import pytest
from evaluation_parts import Told, one_after_the_other, text_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vrag_agent.commands import make_env
from vrag_agent.evaluation.episodes import NO_CROP
from vrag_agent.evaluation.journal import EPISODES, EvaluationError, read_lines
from vrag_agent.evaluation.methods import METHODS, VRAG, ReAct, SearchR1, VanillaRAG, ViDoRAG, answer_turn, search_turn
from vrag_agent.evaluation.prompt_files import read_prompt
from vrag_agent.evaluation.run import evaluate_policy
from vrag_env.actions import Answer, Search, parse
from vrag_env.env import VRAGEnv


@pytest.fixture
def env(tiny_corpus: Any, tiny_questions: Any) -> VRAGEnv:
    return make_env({"corpus": tiny_corpus, "questions": list(tiny_questions)})


def played(policy: Any, env: VRAGEnv, out: Path, count: int = 1) -> list[dict[str, Any]]:
    evaluate_policy(policy, env, out, questions=env.questions[:count], progress=False)
    return list(read_lines(out / EPISODES))


def kinds(record: dict[str, Any]) -> list[str]:
    return [turn["action"]["type"] for turn in record["turns"]]


def test_vanilla_rag_sees_the_best_pages_once(env: VRAGEnv, tmp_path: Path) -> None:
    model = Told(one_after_the_other("It is <answer>42.5</answer>"))
    [record] = played(VanillaRAG(model, top_k=3), env, tmp_path)
    assert kinds(record) == ["search", "answer"] and record["answer"] == "42.5"
    assert len(record["pages_shown"]) == 3 and len(model.calls) == 1
    [[talk]] = model.calls
    assert text_of(talk).count("[(") == 3 and "What revenue does Amber Falcon" in text_of(talk)


def test_text_pages_are_text(env: VRAGEnv, tmp_path: Path) -> None:
    model = Told(one_after_the_other("42.5"))
    policy = VanillaRAG(model, pages="text", top_k=2)
    assert not policy.sees_images and policy.name == "vanilla_rag_text"
    [record] = played(policy, env, tmp_path)
    [[talk]] = model.calls
    page = env.corpus.page(record["pages_shown"][0])
    assert page.text in text_of(talk) and "[(" not in text_of(talk)
    assert "as text" in talk.system


def test_react_in_its_own_notation(env: VRAGEnv, tmp_path: Path) -> None:
    model = Told(
        one_after_the_other(
            "Thought: I look.\nAction: Search[ambrosia]", "I am lost", "Thought: There.\nAction: Finish[42.5]"
        )
    )
    [record] = played(ReAct(model), env, tmp_path)
    assert kinds(record) == ["search", "invalid", "answer"] and record["answer"] == "42.5"
    assert record["turns"][0]["action"]["query"] == "ambrosia" and record["turns"][0]["thought"] == "I look."
    said = text_of(model.calls[-1][0])
    assert "that was no action" in said and "<search>" not in said


def test_search_only_has_no_crop(env: VRAGEnv, tmp_path: Path) -> None:
    crop = "<think>a</think><bbox>[0, 0, 100, 100]</bbox>"
    replies = ("<think>a</think><search>ambrosia</search>", crop, "<think>a</think><answer>42.5</answer>")
    [record] = played(SearchR1(Told(one_after_the_other(*replies))), env, tmp_path / "search")
    assert kinds(record) == ["search", "invalid", "answer"] and NO_CROP in record["turns"][1]["message"]
    [record] = played(VRAG(Told(one_after_the_other(*replies))), env, tmp_path / "vrag")
    assert kinds(record) == ["search", "crop", "answer"]


def test_the_prompt_speaks_of_the_frame_in_use(env: VRAGEnv, tiny_corpus: Any, tiny_questions: Any) -> None:
    other = make_env({"corpus": tiny_corpus, "questions": list(tiny_questions), "box_frame": "1000"})
    texts = []
    for where in (env, other):
        where.reset(seed=0)
        texts.append(VRAG(Told(one_after_the_other("")), top_k=1).system("vrag", where.episode))
    assert "in pixels" in texts[0] and "0 to 1000" in texts[1]
    with pytest.raises(EvaluationError, match="can not work on text"):
        VRAG(Told(one_after_the_other("")), pages="text")


def test_vidorag_keeps_what_was_chosen(env: VRAGEnv, tmp_path: Path) -> None:
    def say(talk: Any) -> str:
        if "sort pages" in talk.system:
            return "<select>2, 3</select>"
        if "check whether" in talk.system:
            return "<query>dolphin</query>" if "Page 3:" not in text_of(talk) else "<draft>42.5</draft>"
        return "<answer>42.5</answer>"

    model = Told(say)
    [record] = played(ViDoRAG(model, top_k=2), env, tmp_path)
    assert kinds(record) == ["search", "search", "answer"] and record["answer"] == "42.5"
    assert record["turns"][1]["action"]["query"] == "dolphin"
    last = text_of(model.calls[-1][0])
    assert "Page 2:" in last and "Page 3:" in last and "Page 1:" not in last and "Draft: 42.5" in last
    assert len(model.calls) == 5  # seeker and inspector twice, then the answer


def test_vidorag_answers_in_the_last_turn(env: VRAGEnv, tmp_path: Path) -> None:
    [record] = played(ViDoRAG(Told(one_after_the_other("<query>more</query>")), top_k=1), env, tmp_path)
    assert kinds(record) == ["search"] * 4 + ["answer"]  # the reply is taken as the answer


@pytest.mark.parametrize("name", METHODS)
def test_no_reply_breaks_a_method(env: VRAGEnv, tmp_path: Path, name: str) -> None:
    replies = ("", "<answer></answer>", "</think>" * 3 + "\ud800", "Action: Search[]", "<answer>a</answer></think>")
    by_text = dict(zip((question.text for question in env.questions), replies, strict=True))

    def say(talk: Any) -> str:
        return next(reply for text, reply in by_text.items() if text in text_of(talk))

    records = played(METHODS[name](Told(say)), env, tmp_path, 5)
    assert len(records) == 5 and all(record["terminated"] or record["truncated"] for record in records)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.text(max_size=40) | st.from_regex(r"(<answer>|</answer>|</think>|<search>| |a|\n){0,8}", fullmatch=True))
def test_answers_and_queries_are_always_written(text: str) -> None:
    turn = answer_turn(text)
    assert turn == text or isinstance(parse(turn).action, Answer)
    assert isinstance(parse(search_turn(text, text.replace("</think>", ""))).action, Search)
    assert isinstance(parse(ReAct.turn(f"Thought: a\nAction: Finish[{text}b]")).action, Answer) or "\n" in text


def test_prompts_have_versions_and_are_in_the_package() -> None:
    for kind in METHODS.values():
        for name in kind.prompts:
            prompt = read_prompt(name)
            assert prompt.file == f"{name}.v1.txt"
            filled = prompt.fill("image", "pixel")
            assert "$" not in filled and len(filled) > 200
    with pytest.raises(FileNotFoundError):
        read_prompt("none")


def test_the_example_of_the_documentation_plays(env: VRAGEnv, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)
    model = Told(one_after_the_other("<answer>42.5</answer>"))
    [record] = played(names["TwoLooks"](model), env, tmp_path)
    assert kinds(record) == ["search", "search", "answer"] and text_of(model.calls[0][0]).count("[(") == 2
