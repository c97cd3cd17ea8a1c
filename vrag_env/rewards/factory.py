"""From a name to a judge."""

from __future__ import annotations

import re
from pathlib import Path

from vrag_env.errors import JudgeError
from vrag_env.rewards.cache import VerdictCache
from vrag_env.rewards.judges import Judge, RuleJudge

RULES = {"rule": "mmlongbench", "exact_match": "exact_match", "token_f1": "token_f1"}
"""Judges by rules: their names, and the metric of :class:`~vrag_env.rewards.judges.RuleJudge`."""

_API = re.compile(r"api:(?P<model>.+?)@(?P<url>https?://.*)", re.DOTALL)


def make_judge(spec: str | Judge, *, cache: str | Path | VerdictCache | None = None, on_error: str = "raise") -> Judge:
    """Build a judge from what a user may pass to ``gym.make``.

    Args:
        spec: ``"rule"``, ``"exact_match"`` or ``"token_f1"``: no model. ``"api:MODEL@URL"``: a model behind an
            OpenAI-compatible server, such as ``"api:qwen-max@https://example.org/v1"``; its key comes from the
            environment variable ``VRAG_JUDGE_API_KEY``. ``"local:NAME"``: a language model in this process, by
            its hub name or directory. Or a judge, which is returned as it is.
        cache: File of the verdicts of a model. By default those of an ``api:`` judge are kept in
            ``verdicts.sqlite`` of the cache directory (``VRAG_CACHE``), those of a ``local:`` judge are not.
        on_error: See :class:`~vrag_env.rewards.model_judge.ModelJudge`.

    Raises:
        DependencyError: If the judge needs a package that is not installed.
        JudgeError: If the name is unknown or its parts do not fit.

    >>> make_judge("rule")
    RuleJudge(metric='mmlongbench')
    """
    if not isinstance(spec, str):
        if isinstance(spec, Judge):
            return spec
        raise JudgeError(f"a judge is a name or an object with a method judge(items), got {type(spec).__name__}")
    if spec in RULES:
        return RuleJudge(RULES[spec])
    if spec.startswith("api:"):
        match = _API.fullmatch(spec)
        if match is None:  # not shown: it may hold a key by mistake
            raise JudgeError('a judge behind a server is written "api:MODEL@URL", as api:qwen@http://localhost:8000/v1')
        from vrag_env.rewards.api_judge import APIJudge

        if cache is None:
            from vrag_env.corpus.generate.build import cache_directory

            cache = cache_directory() / "verdicts.sqlite"
        return APIJudge(match["url"], match["model"], cache=cache, on_error=on_error)
    if spec.startswith("local:") and spec != "local:":
        from vrag_env.rewards.local_judge import LocalJudge

        return LocalJudge.load(spec.removeprefix("local:"), cache=cache, on_error=on_error)
    raise JudgeError(f"unknown judge {spec!r}: known are {', '.join(RULES)}, api:MODEL@URL and local:NAME")
