"""Experts: write what somebody else played in the tokens of a policy, as trajectories to imitate.

:func:`demonstrate` lets a scripted player play now; :func:`to_trajectory` reads what ``vrag collect`` has kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vrag_agent.demonstrations import Demonstration, DemonstrationStore, Message
from vrag_agent.families import Family
from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Segment, Trajectory
from vrag_env.episode import Block, Episode, Image, Text
from vrag_env.errors import DemonstrationError
from vrag_env.players import Player
from vrag_env.views import FULL_PAGE, View


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


def to_trajectory(
    demonstration: Demonstration, store: DemonstrationStore, family: Family, system: str | None = None
) -> Trajectory:
    """Write a demonstration that was kept in the tokens of a family.

    Args:
        demonstration: What was played.
        store: Where its images are.
        family: Whose tokens.
        system: System text; ``None`` takes the demonstration's own.

    Returns:
        The trajectory; its actions have no log-probs, and where the tokenizer brings characters into their normal
        form, they say what the tokens say.

    Raises:
        DemonstrationError: If its boxes are not in the family's frame, its images do not divide into the family's
            visual tokens, or an image is missing.
    """
    if demonstration.crops and demonstration.box_frame != family.box_frame:
        raise DemonstrationError(
            f"the demonstration of {demonstration.question_id!r} has boxes in the frame {demonstration.box_frame!r}, "
            f"{family.name} writes them in {family.box_frame!r}: collect with --box-frame {family.box_frame}"
        )
    text = demonstration.system if system is None else system
    try:
        segments = [family.prompt(text, _blocks(demonstration.messages[0], store))]
        for index, message in enumerate(demonstration.messages[1:], start=1):
            if message.role == "user":
                segments.append(family.observation(_blocks(message, store), segments[-1].token_ids))
                continue
            ids = family.action(message.text)
            turn = (index - 1) // 2
            reward = demonstration.rewards[turn] if demonstration.rewards else 0.0
            segments.append(Segment("action", ids, reward=reward))
    except DemonstrationError:
        raise
    except ValueError as error:
        raise DemonstrationError(
            f"the demonstration of {demonstration.question_id!r} does not fit {family.name} ({error}): collect with "
            f"--pixel-multiple {family.pixel_multiple}"
        ) from error
    info = {"is_success": demonstration.is_success, "reward_terms": dict(demonstration.reward_terms)}
    return Trajectory(tuple(segments), demonstration.question_id, info, not demonstration.answered)


def _blocks(message: Message, store: DemonstrationStore) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for part in message.parts:
        if part.kind == "text":
            blocks.append(Text(part.value))
            continue
        image = store.image(part.value)
        blocks.append(Image(image, View(1, "", FULL_PAGE, None, image.size)))  # families read the pixels alone
    return tuple(blocks)
