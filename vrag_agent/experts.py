"""Experts: play an episode with a scripted player and write it down as a trajectory to imitate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.episode import Episode
from vrag_env.players import Player


def demonstrate(
    player: Player,
    episodes: Sequence[Episode],
    policy: VLMPolicy,
    progress: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """Let a player play and write each episode in the tokens of a policy's family.

    Args:
        player: Who plays, for example the oracle.
        episodes: Fresh episodes.
        policy: Its family writes the tokens and its system text opens the conversation.
        progress: Called with the number of episodes that have just ended.

    Returns:
        One trajectory per episode; the actions have no log-probs, since no policy sampled them.
    """
    family = policy.family
    trajectories = []
    for episode in episodes:
        system = episode.instructions if policy.system is None else policy.system
        segments = [family.prompt(system, episode.start().blocks)]
        while True:
            text, key = player.act(episode), episode.state_key
            ids = family.action(text)
            # What the tokens say, not what the player wrote: encoding normalises some characters.
            result = episode.step_text(family.decode(ids))
            segments.append(Segment("action", ids, reward=result.reward, state_key=key))
            if episode.done:
                break
            segments.append(family.observation(result.blocks, ids))
        info = {k: v for k, v in result.info.items() if k != "blocks"}
        trajectories.append(Trajectory(tuple(segments), episode.question.question_id, info, result.truncated))
        if progress is not None:
            progress(1)
    return trajectories
