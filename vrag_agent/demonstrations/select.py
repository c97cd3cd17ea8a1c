"""Which demonstrations are worth imitating: rejection by judge and by validity, and balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vrag_agent.demonstrations.record import Demonstration


def reason_to_reject(demonstration: Demonstration) -> str:
    """Say why an episode is not to be imitated; an empty string if it is.

    Right by the judge is not enough: a policy that imitates invalid turns learns to write them.
    """
    if not demonstration.answered:
        return "no answer"
    if demonstration.invalid:
        return "invalid turn"
    if not demonstration.is_success:
        return "wrong answer"
    return ""


def balance(demonstrations: Sequence[Demonstration], count: int) -> list[Demonstration]:
    """Choose demonstrations evenly over the number of turns, and for each over the searches and crops.

    VRAG-RL balances its teacher's data over 2 to 6 steps and over search and perception. One is taken at a time
    from the number of turns that has fewest so far, and there from the pair (searches, crops) that has fewest,
    in the order given; so rare shapes are used up before common ones get more than their share.

    Args:
        demonstrations: From which to choose, in the order of preference.
        count: How many at most.

    Returns:
        The chosen ones in the order given.
    """
    shapes: dict[int, dict[tuple[int, int], list[int]]] = {}
    for index, demonstration in enumerate(demonstrations):
        pair = (demonstration.searches, demonstration.crops)
        shapes.setdefault(demonstration.turns, {}).setdefault(pair, []).append(index)
    taken: Counter[int] = Counter()
    taken_pairs: Counter[tuple[int, tuple[int, int]]] = Counter()
    chosen: list[int] = []
    while shapes and len(chosen) < count:
        turns = min(shapes, key=lambda number: (taken[number], number))
        pair = min(shapes[turns], key=lambda cell: (taken_pairs[turns, cell], cell))
        chosen.append(shapes[turns][pair].pop(0))
        taken[turns] += 1
        taken_pairs[turns, pair] += 1
        if not shapes[turns][pair]:
            del shapes[turns][pair]
        if not shapes[turns]:
            del shapes[turns]
    return [demonstrations[index] for index in sorted(chosen)]
