"""VLMPolicy: log-probs of sampled tokens and values of turns, on a vision-language model of a known family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vrag_agent.attention import NAME, NO_MASK, Span, packed_spans
from vrag_agent.families import Family
from vrag_agent.features import FeatureCache
from vrag_agent.logprobs import logprobs_and_entropy
from vrag_agent.trajectory import Batch, ImageInput


@dataclass(frozen=True)
class PolicyOutput:
    """What one forward pass gives.

    Attributes:
        logprobs: Log-probability of each action token, ``(N,)``.
        entropy: Entropy of the distribution that each was drawn from, ``(N,)``.
        values: Value of each turn, ``(M,)``.
        token_values: Value before each action token, ``(N,)``; at a turn's first token it is the turn's value.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor
    values: torch.Tensor
    token_values: torch.Tensor


class ValueHead(nn.Module):
    """Reads the value of a turn from the last hidden state before its first action token.

    Weight and bias start at zero, so the first values are zero whatever the backbone says. The head computes in
    float32 and is detached from the backbone: the critic can not disturb the policy (VL-DAC, arXiv 2508.04280).

    Args:
        hidden_size: Width of the backbone.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map ``(..., hidden_size)`` to ``(...)``."""
        hidden = hidden.detach().to(self.linear.weight.dtype)
        return self.linear(self.norm(hidden)).squeeze(-1)


class VLMPolicy(nn.Module):
    """A vision-language model as a policy.

    Args:
        model: A transformers model of the family, with its language head.
        family: The family.
        system: System text of every conversation; ``None`` takes the environment's instructions.
        temperature: Temperature of sampling; the same one is applied in training, so that the trained
            distribution is the sampled one.
        adapter: The PEFT model that holds adapters inside ``model``, where there is one.
    """

    forbidden: torch.Tensor

    def __init__(
        self,
        model: Any,
        family: Family,
        system: str | None = None,
        temperature: float = 1.0,
        adapter: Any = None,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.model = model
        self.family = family
        self.system = system
        self.temperature = temperature
        # PEFT injects its layers into `model` itself; kept out of the module tree so that nothing counts twice.
        self._adapter = [adapter]
        text = model.config.get_text_config()
        if family.vocab_size > text.vocab_size or family.image_token_id != model.config.image_token_id:
            raise ValueError(
                f"the tokenizer ({family.vocab_size} ids, image token {family.image_token_id}) is not the model's "
                f"({text.vocab_size} ids, image token {model.config.image_token_id}): load both from one place"
            )
        self.value_head = ValueHead(text.hidden_size).to(model.device)
        forbidden = torch.zeros(text.vocab_size, dtype=torch.bool)
        forbidden[list(family.forbidden_ids)] = True
        forbidden[family.vocab_size :] = True
        self.register_buffer("forbidden", forbidden.to(model.device), persistent=False)
        self.version = 0
        if text._attn_implementation not in ("sdpa", NAME):
            raise ValueError(
                f"the model was loaded with attn_implementation={text._attn_implementation!r}: load it with 'sdpa', "
                "whose kernels are the fast ones here too"
            )
        model.set_attn_implementation({"text_config": NAME})
        self.features = FeatureCache(family, model)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def adapter(self) -> Any:
        """The PEFT model, or ``None``."""
        return self._adapter[0]

    @contextmanager
    def adapter_disabled(self) -> Iterator[None]:
        """Compute as the base model: the reference policy of a run that trains an adapter only."""
        if self.adapter is None:
            raise ValueError("this policy has no adapter that could be switched off")
        with self.adapter.disable_adapter():
            yield

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the next token, divided by the temperature.

        Args:
            hidden: ``(..., hidden_size)`` last hidden states.

        Returns:
            ``(..., vocabulary)`` in float32 or better; minus infinity for forbidden tokens.
        """
        logits = self.model.lm_head(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature
        return logits.masked_fill(self.forbidden, -torch.inf)

    def log_distribution(self, hidden: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next token, as :meth:`logits`."""
        return torch.log_softmax(self.logits(hidden), dim=-1)

    def hidden(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        images: Sequence[ImageInput],
        *,
        spans: Sequence[Span] | None = None,
        mask: torch.Tensor | None = None,
        cache: Any = None,
    ) -> torch.Tensor:
        """Run the language model over tokens and the features of their images.

        Args:
            input_ids: ``(B, T)``.
            position_ids: ``(rows, B, T)``.
            images: In the order of their tokens.
            spans: Sequences in the one row, see :mod:`vrag_agent.attention`.
            mask: Attention mask where there are no spans: ``(B, T)`` or ``(B, 1, T, keys)``.
            cache: Key-value cache.

        Returns:
            Last hidden states, ``(B, T, hidden_size)``.

        Raises:
            ValueError: If there are not as many image tokens as features.
        """
        family = self.family
        embeddings = self.model.get_input_embeddings()(input_ids)
        image_mask = input_ids == family.image_token_id
        features = self.features(images) if images else []
        if features:
            seen = torch.cat([part[0] for part in features])
            if len(seen) != int(image_mask.sum()):
                raise ValueError(f"{int(image_mask.sum())} image tokens, but the images have {len(seen)} features")
            embeddings = embeddings.masked_scatter(image_mask[..., None], seen.to(embeddings.dtype))
        return (
            family.language_model(self.model)(
                inputs_embeds=embeddings,
                attention_mask=mask if spans is None else NO_MASK,
                past_key_values=cache,
                use_cache=cache is not None,
                spans=spans,
                **family.language_inputs(position_ids, image_mask, features),
            )
        ).last_hidden_state

    def forward(self, batch: Batch) -> PolicyOutput:
        """Score action tokens and turns.

        The language head runs on the hidden states before action tokens only; logits of other positions are
        never made.
        """
        spans = packed_spans(batch.lengths) if batch.packed else None
        mask = None if batch.packed else batch.attention_mask
        hidden = self.hidden(batch.input_ids, batch.position_ids, batch.images, spans=spans, mask=mask).flatten(0, 1)
        before = hidden[batch.places(batch.rows, batch.columns - 1)]  # (N, hidden)
        logprobs, entropy = logprobs_and_entropy(
            self.logits,
            before,
            batch.action_ids,
            len(self.forbidden),
        )
        values = self.value_head(hidden[batch.places(batch.decision_rows, batch.decision_columns)])
        return PolicyOutput(logprobs, entropy, values, self.value_head(before))
