"""LocalJudge: asks a language model in this process which of the two verdicts it finds more likely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vrag_env.errors import JudgeError, missing_extra
from vrag_env.rewards.cache import VerdictCache
from vrag_env.rewards.judges import JudgeItem
from vrag_env.rewards.model_judge import Keep, ModelJudge, Outcome
from vrag_env.rewards.verdicts import Prompt, build_prompt

_VERDICTS = ("<verdict>correct</verdict>", "<verdict>incorrect</verdict>")


class LocalJudge(ModelJudge):
    """Judges with a causal language model of transformers, without sampling.

    The prompt is that of :class:`~vrag_env.rewards.api_judge.APIJudge`. Instead of a reply, the judge compares
    the probabilities with which the model would write the two verdict lines: each is tokenized together with
    the prompt, and the log-probs of the tokens from the first difference on are summed up. So there is always
    one verdict, nothing to parse, and nothing that an answer could make the model write. Rows are padded on the
    left with positions that begin at 0 at the first real token, so that the company in a batch does not matter.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer; its chat template is used where it has one.
        name: Which model it is, for the cache and for messages.
        batch_size: Answers put through the model at once, two rows each.
        cache: File of verdicts; its keys hold a hash of the weights.
        on_error: What to do about a prompt that is longer than the model's context, or log-probs that are no
            numbers; see :class:`~vrag_env.rewards.model_judge.ModelJudge`.
        max_failures_in_a_row: See :class:`~vrag_env.rewards.model_judge.ModelJudge`.

    Raises:
        DependencyError: If torch is not installed (extra ``agent``).
        JudgeError: If an argument does not fit.

    Example:
        >>> judge = LocalJudge.load("Qwen/Qwen2.5-7B-Instruct")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str | None = None,
        batch_size: int = 8,
        cache: str | Path | VerdictCache | None = None,
        on_error: str = "raise",
        max_failures_in_a_row: int = 64,
    ) -> None:
        _import_torch()
        if batch_size < 1:
            raise JudgeError(f"batch_size must be at least 1, got {batch_size}")
        chosen = name or getattr(model.config, "_name_or_path", "") or type(model).__name__
        super().__init__(f"local:{chosen}", cache=cache, on_error=on_error, max_failures_in_a_row=max_failures_in_a_row)
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._max_tokens = int(model.config.get_text_config().max_position_embeddings)
        self._revision: str | None = None
        self._pad = next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 8,
        cache: str | Path | VerdictCache | None = None,
        on_error: str = "raise",
    ) -> LocalJudge:
        """Load a model from the hub or a directory: safetensors only, no code of the repository is run.

        Args:
            name: Hub name or directory.
            revision: Commit, branch or tag on the hub.
            device: Where to put it; by default the first GPU if there is one.
            dtype: Type of the weights, such as ``"bfloat16"``; ``"auto"``: as they were saved.
            batch_size: See the class.
            cache: See the class.
            on_error: See the class.

        Raises:
            DependencyError: If torch or transformers is not installed (extra ``agent``).
            JudgeError: If the model can not be loaded.
        """
        torch = _import_torch()
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ModuleNotFoundError as error:
            raise missing_extra("transformers", "agent") from error
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                name, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise JudgeError(f"can not load the judge {name!r}: {error}") from error
        return cls(model.to(place), tokenizer, name=name, batch_size=batch_size, cache=cache, on_error=on_error)

    def margins(self, items: Sequence[JudgeItem]) -> list[float]:
        """Return how much more likely the model finds ``correct`` than ``incorrect``, past any cache.

        Args:
            items: The answers.

        Returns:
            The difference of the log-probs per item, in nats; above 0 means correct. ``nan`` where the prompt is
            longer than the model's context.
        """
        return self._margins([build_prompt(item) for item in items])

    def __repr__(self) -> str:
        return f"LocalJudge({self.name.removeprefix('local:')!r}, on_error={self.on_error!r})"

    # ------------------------------------------------------------------ private

    def _settings(self) -> Any:
        if self.cache is None:
            return None
        if self._revision is None:
            from vrag_env.retrieval.encoder import weights_revision

            self._revision = weights_revision(self._model)
        return self._revision

    def _ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        for position, margin in enumerate(self._margins(prompts)):
            if math.isnan(margin) or margin == 0.0:
                reason = (
                    f"its log-probs do not tell the verdicts apart, or the prompt exceeds {self._max_tokens} tokens"
                )
                keep(position, Outcome(None, reason))
            else:
                keep(position, Outcome(margin > 0))

    def _margins(self, prompts: Sequence[Prompt]) -> list[float]:
        rows = [self._rows(prompt) for prompt in prompts]
        margins = [math.nan] * len(prompts)
        fitting = [i for i, pair in enumerate(rows) if max(map(len, pair)) <= self._max_tokens]
        fitting.sort(key=lambda i: len(rows[i][1]))  # neighbours of about one length: little padding
        for start in range(0, len(fitting), self._batch_size):
            part = fitting[start : start + self._batch_size]
            scores = self._logprobs([row for i in part for row in rows[i]], [_common(*rows[i]) for i in part])
            for k, i in enumerate(part):
                margins[i] = scores[2 * k] - scores[2 * k + 1]
        return margins

    def _rows(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """Return the token ids of the prompt with either verdict, as the tokenizer writes the whole text."""
        messages = list(prompt.messages)
        if self._tokenizer.chat_template is not None:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = "\n\n".join(message["content"] for message in messages) + "\n"
        correct, incorrect = (
            self._tokenizer(text + verdict, add_special_tokens=False)["input_ids"] for verdict in _VERDICTS
        )
        return correct, incorrect

    def _logprobs(self, rows: Sequence[Sequence[int]], common: Sequence[int]) -> list[float]:
        """Sum the log-probs of each row's tokens after the common part of its pair.

        Args:
            rows: Token ids, two rows per item.
            common: Tokens that the rows of a pair share, one number per item.
        """
        torch = _import_torch()
        width = max(map(len, rows))
        tails = [len(row) - common[k // 2] for k, row in enumerate(rows)]
        kept = max(tails) + 1
        ids = torch.full((len(rows), width), self._pad, dtype=torch.long)  # (R, T)
        mask = torch.zeros_like(ids)
        for k, row in enumerate(rows):
            ids[k, width - len(row) :] = torch.tensor(row)
            mask[k, width - len(row) :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        place = self._model.device
        with torch.inference_mode():
            logits = self._model(
                input_ids=ids.to(place),
                attention_mask=mask.to(place),
                position_ids=positions.to(place),
                logits_to_keep=kept,
                use_cache=False,
            ).logits  # (R, kept, V)
            # The token at place t is predicted at place t - 1.
            logprobs = torch.log_softmax(logits[:, :-1].float(), -1)
            written = ids[:, width - kept + 1 :].to(place)
            chosen = logprobs.gather(-1, written.unsqueeze(-1)).squeeze(-1).cpu()  # (R, kept - 1)
        self._count(calls=len(rows), prompt_tokens=int(mask.sum()))
        return [float(chosen[k, chosen.shape[1] - tail :].sum()) for k, tail in enumerate(tails)]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common beginning."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _import_torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_extra("torch", "agent") from error
    return torch
