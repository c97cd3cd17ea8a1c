"""A model in this process plays in the page what it plays in a rollout, also after a person took over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conversations import build_policy

from vrag_agent.app.agents import LocalPlayer, make_agent
from vrag_agent.checkpoint import save_checkpoint
from vrag_agent.rollout import collect
from vrag_env.views import PixelBudget


def test_a_local_model(make_episode: Callable[..., Any], tmp_path: Path) -> None:
    save_checkpoint(build_policy(), tmp_path / "checkpoint", {})
    player = make_agent(str(tmp_path / "checkpoint"))
    assert isinstance(player, LocalPlayer)
    player.settings["max_tokens"] = 12
    rules: dict[str, Any] = {"pixels": PixelBudget(28 * 28, 112 * 112), "max_turns": 2}
    alone, rolled = make_episode("amber-revenue", **rules), make_episode("amber-revenue", **rules)
    collect(player.policy, [rolled], max_tokens=12)
    assert player.act(alone) == rolled.turns[0].text

    taken = make_episode("amber-revenue", **rules)
    taken.step_text("<think>a</think><search>ambrosia</search>")  # by a person: its page is in the conversation
    blind = make_episode("amber-revenue", **rules)
    blind.step_text("<think>a</think><search>nothing has this word</search>")
    assert player.act(taken) != player.act(blind)
