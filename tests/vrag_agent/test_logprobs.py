"""Log-probabilities and entropies against the plain formula, their gradients too, in one piece and in chunks."""

import pytest
import torch

from vrag_agent.logprobs import logprobs_and_entropy

FORBIDDEN = torch.tensor([False, True, False, False, True, False, False])


def fixture() -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    """A head over seven tokens of which two are never sampled, ten hidden states, and ten tokens."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(5, 7, bias=False, dtype=torch.float64)
    torch.nn.init.normal_(head.weight, generator=generator)
    hidden = torch.randn(10, 5, generator=generator, dtype=torch.float64).requires_grad_()
    return head, hidden, torch.tensor([0, 2, 3, 5, 6, 0, 2, 3, 5, 6])


def masked(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    return head(hidden).masked_fill(FORBIDDEN, -torch.inf)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_values_and_gradients_are_those_of_the_formula(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.linspace(-1, 2, 10, dtype=torch.float64)
    results = []
    for ours in (True, False):
        head, hidden, ids = fixture()
        if ours:
            monkeypatch.setattr("vrag_agent.logprobs.CHUNK_BYTES", 4 * 7 * chunk)
            sizes: list[int] = []

            def logits(part: torch.Tensor, head: torch.nn.Linear = head, sizes: list[int] = sizes) -> torch.Tensor:
                sizes.append(len(part))
                return masked(head, part)

            logprobs, entropy = logprobs_and_entropy(logits, hidden, ids, 7)
            assert max(sizes) == min(chunk, 10)  # never more logits than a chunk has
        else:
            p = masked(head, hidden).softmax(-1)
            logprobs = p[torch.arange(10), ids].log()
            entropy = -(p * p.clamp(min=1e-300).log()).sum(-1)
        (logprobs @ weights + 0.7 * (entropy * weights.flip(0)).sum()).backward()
        results.append((logprobs.detach(), entropy.detach(), hidden.grad, head.weight.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert results[0][3][FORBIDDEN].abs().max() == 0


def test_without_gradients_nothing_is_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrag_agent.logprobs.CHUNK_BYTES", 4 * 7 * 3)
    head, hidden, ids = fixture()
    count = [0]

    def logits(part: torch.Tensor) -> torch.Tensor:
        count[0] += 1
        return masked(head, part)

    with torch.no_grad():
        logprobs_and_entropy(logits, hidden, ids, 7)
    assert count == [4]


def test_a_certain_token_has_no_entropy_and_a_finite_gradient() -> None:
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf]], dtype=torch.float64)
    hidden = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    logprobs, entropy = logprobs_and_entropy(lambda part: logits + part, hidden, torch.tensor([0]), 3)
    (logprobs + entropy).sum().backward()
    assert logprobs.item() == 0 == entropy.item() and hidden.grad.isfinite().all()
