"""APIJudge: asks any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, Ollama, hosted APIs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from vrag_env.chat import ChatClient, Message
from vrag_env.errors import JudgeError
from vrag_env.json_client import Unanswered
from vrag_env.rewards.cache import VerdictCache
from vrag_env.rewards.model_judge import JudgeStats, Keep, ModelJudge, Outcome
from vrag_env.rewards.verdicts import REMINDER, Prompt, read_verdict

API_KEY_VARIABLE = "VRAG_JUDGE_API_KEY"
"""Environment variable of the key; a name of its own, so that a key for one server never goes to another."""


class APIJudge(ModelJudge):
    """Judges by asking a model behind HTTP, many answers at once.

    Faults of the server and the network are tried again, see :class:`~vrag_env.json_client.JSONClient`. A reply
    without a verdict is asked for once more, with a reminder. What still has no verdict is handled as
    ``on_error`` says. A wrong key, URL or model (401 to 405) is an error at once, whatever ``on_error`` says.

    The key goes into the header of the requests and nowhere else: not into ``repr``, errors, logs, the cache
    or a pickle; a judge that is sent to another process reads the environment variable there.

    Args:
        base_url: Address up to before ``/chat/completions``, such as ``"http://localhost:8000/v1"``.
        model: The model's name there.
        api_key: The key; by default the environment variable, if it is set.
        api_key_variable: Name of that variable.
        concurrency: Most requests at once.
        timeout: Seconds for one request, from connecting to the last byte.
        max_retries: Repetitions of a failed request.
        backoff: Seconds before the first repetition.
        max_wait: Longest pause in seconds; a longer ``Retry-After`` is shortened to it.
        max_tokens: Most tokens of a reply; a model that thinks first needs more.
        parameters: Further fields of the request, which replace the defaults ``temperature=0`` and
            ``max_tokens``; ``None`` as a value leaves a field out.
        cache: File of verdicts, see :class:`~vrag_env.rewards.cache.VerdictCache`.
        on_error: ``"raise"`` or ``"zero"``, see :class:`~vrag_env.rewards.model_judge.ModelJudge`.
        max_failures_in_a_row: See :class:`~vrag_env.rewards.model_judge.ModelJudge`.

    Raises:
        DependencyError: If httpx is not installed (extra ``serve``).
        JudgeError: If an argument does not fit.

    Example:
        >>> judge = APIJudge("http://localhost:8000/v1", "Qwen/Qwen2.5-7B-Instruct")  # doctest: +SKIP
        >>> env = gym.make("VRAG-v0", reward="paper", judge=judge)  # doctest: +SKIP
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        api_key_variable: str = API_KEY_VARIABLE,
        concurrency: int = 16,
        timeout: float = 60.0,
        max_retries: int = 5,
        backoff: float = 0.5,
        max_wait: float = 60.0,
        max_tokens: int = 1024,
        parameters: Mapping[str, Any] | None = None,
        cache: str | Path | VerdictCache | None = None,
        on_error: str = "raise",
        max_failures_in_a_row: int = 64,
    ) -> None:
        super().__init__(f"api:{model}", cache=cache, on_error=on_error, max_failures_in_a_row=max_failures_in_a_row)
        self.client = ChatClient(
            base_url,
            model,
            api_key,
            api_key_variable=api_key_variable,
            concurrency=concurrency,
            timeout=timeout,
            max_retries=max_retries,
            backoff=backoff,
            max_wait=max_wait,
            max_tokens=max_tokens,
            parameters=parameters,
            error=JudgeError,
        )
        self.base_url, self.model = self.client.base_url, model

    @property
    def stats(self) -> JudgeStats:
        """The counters as they are now."""
        own, used = super().stats, self.client.usage
        return replace(
            own,
            calls=used.requests,
            retries=own.retries + used.retries,
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
        )

    def close(self) -> None:
        """Close the connections; the judge can still be used and then opens new ones."""
        self.client.close()

    def __repr__(self) -> str:
        return f"APIJudge(base_url={self.base_url!r}, model={self.model!r}, on_error={self.on_error!r})"

    # ------------------------------------------------------------------ asking

    def _settings(self) -> Any:
        return self.client.parameters

    def _ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        stop = threading.Event()
        with ThreadPoolExecutor(min(self.client.concurrency, len(prompts)), "vrag-judge") as pool:
            positions = {pool.submit(self._ask_one, prompt, stop): index for index, prompt in enumerate(prompts)}
            try:
                for future in as_completed(positions):
                    keep(positions[future], future.result())
            except BaseException:
                stop.set()
                for future in positions:
                    future.cancel()
                raise

    def _ask_one(self, prompt: Prompt, stop: threading.Event) -> Outcome:
        messages: list[Message] = [*prompt.messages]
        reminded = False
        while True:
            try:
                reply = self.client.ask(messages, stop)
            except Unanswered as fault:
                return Outcome(None, str(fault), replied=False)
            verdict = read_verdict(reply.text)
            if verdict is not None:
                return Outcome(verdict)
            if reminded or stop.is_set():
                cut = " (cut off: raise max_tokens)" if reply.cut_off else ""
                return Outcome(None, f"no single verdict in the reply {self.client.quote(reply.text)}{cut}")
            reminded = True
            if reply.text.strip():
                messages.append({"role": "assistant", "content": reply.text[:2000]})
                messages.append({"role": "user", "content": REMINDER})
            self._count(retries=1)
