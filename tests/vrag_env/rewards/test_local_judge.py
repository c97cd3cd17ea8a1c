from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

from vrag_env.errors import JudgeError
from vrag_env.rewards import JudgeItem, LocalJudge, agreement, make_judge
from vrag_env.rewards.verdicts import build_prompt

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from vrag_agent.tiny import build_tokenizer

    return build_tokenizer([build_prompt(item("58")).messages[0]["content"]], vocab_size=512)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,
    )
    return Qwen2ForCausalLM(config).eval()


def item(answer: str, question: str = "How many?") -> JudgeItem:
    return JudgeItem(question, answer, ("58",), "Int")


ITEMS = [item("58"), item("a much longer answer, which needs more tokens than the others " * 5), item("57"), item("x")]


def by_hand(model: Any, tokenizer: Any, one: JudgeItem, verdict: str) -> float:
    """Sum the log-probs of a whole reply given the prompt, row by row, without padding or sharing."""
    prompt = tokenizer.apply_chat_template(list(build_prompt(one).messages), tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt + f"<verdict>{verdict}</verdict>", add_special_tokens=False)["input_ids"]
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), -1)
    return sum(float(logprobs[t - 1, ids[t]]) for t in range(start, len(ids)))


def test_margins_are_those_of_whole_replies(model: Any, tokenizer: Any) -> None:
    judge = LocalJudge(model, tokenizer, name="tiny", batch_size=4)
    margins = judge.margins(ITEMS)
    for one, margin in zip(ITEMS, margins, strict=True):
        expected = by_hand(model, tokenizer, one, "correct") - by_hand(model, tokenizer, one, "incorrect")
        assert margin == pytest.approx(expected, abs=1e-3)
    assert len({round(margin, 4) for margin in margins}) == len(ITEMS)  # what is asked matters
    assert judge.judge(ITEMS) == [float(margin > 0) for margin in margins]
    assert judge.stats.calls == 2 * 2 * len(ITEMS) and judge.stats.prompt_tokens > 1000


def test_the_company_does_not_matter(model: Any, tokenizer: Any) -> None:
    together = LocalJudge(model, tokenizer, batch_size=4).margins(ITEMS)
    alone = [LocalJudge(model, tokenizer, batch_size=1).margins([one])[0] for one in ITEMS]
    assert together == pytest.approx(alone, abs=1e-4)
    assert LocalJudge(model, tokenizer, batch_size=3).margins(ITEMS[::-1]) == pytest.approx(together[::-1], abs=1e-4)


def test_positions_do_not_count_the_padding(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 has one learned vector per position, so that a shift by the padding shows (with RoPE it does not)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 4096, "initializer_range": 0.3}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **size)).eval()
    alone = [LocalJudge(model, tokenizer, batch_size=1).margins([one])[0] for one in ITEMS]
    assert LocalJudge(model, tokenizer, batch_size=4).margins(ITEMS) == pytest.approx(alone, abs=1e-3)

    forward = model.forward

    def shifted(**arguments: Any) -> Any:  # the mutation that must show
        return forward(**{**arguments, "position_ids": torch.arange(arguments["input_ids"].shape[1])[None]})

    monkeypatch.setattr(model, "forward", shifted)
    assert LocalJudge(model, tokenizer, batch_size=4).margins(ITEMS) != pytest.approx(alone, abs=1e-2)


def test_without_a_chat_template(model: Any, tokenizer: Any) -> None:
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    margins = LocalJudge(model, plain).margins(ITEMS)
    assert all(map(math.isfinite, margins)) and margins != LocalJudge(model, tokenizer).margins(ITEMS)


def test_a_prompt_beyond_the_context_has_no_verdict(model: Any, tokenizer: Any) -> None:
    long = item("58", question="\u4e2d" * 4000)  # three tokens each
    judge = LocalJudge(model, tokenizer, name="tiny")
    with pytest.raises(JudgeError, match="exceeds 4096 tokens"):
        judge.judge([item("58"), long])
    assert judge.stats.unparsed == 1
    lenient = LocalJudge(model, tokenizer, on_error="zero")
    scores = lenient.judge([item("58"), long])
    assert scores == [judge.judge([item("58")])[0], 0.0]
    report = agreement([item("58"), long], judge, make_judge("rule"))
    assert (report.items, report.unjudged) == (1, 1)


def test_weights_that_are_no_numbers_give_no_verdict(model: Any, tokenizer: Any) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(JudgeError, match="log-probs"):
        LocalJudge(broken, tokenizer).judge([item("58")])


def test_the_cache_knows_the_weights(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    first = LocalJudge(model, tokenizer, name="tiny", cache=path)
    scores = first.judge(ITEMS)
    again = LocalJudge(model, tokenizer, name="tiny", cache=path)
    assert again.judge(ITEMS) == scores and again.stats.calls == 0
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.mul_(1.5)
    trained = LocalJudge(other, tokenizer, name="tiny", cache=path)
    trained.judge(ITEMS)
    assert trained.stats.cached == 0


def test_load_from_a_directory(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    judge = make_judge(f"local:{tmp_path / 'judge'}")
    assert isinstance(judge, LocalJudge)
    assert judge.margins(ITEMS) == pytest.approx(LocalJudge(model, tokenizer).margins(ITEMS), abs=1e-4)
    with pytest.raises(JudgeError, match="can not load the judge"):
        LocalJudge.load(str(tmp_path / "nothing"))
    with pytest.raises(JudgeError, match="batch_size"):
        LocalJudge(model, tokenizer, batch_size=0)
