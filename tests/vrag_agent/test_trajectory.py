"""Segments, trajectories and their batches: rows, columns, turns and decisions counted by hand."""

from dataclasses import FrozenInstanceError, replace

import pytest
from conversations import SMALL, TALL, WIDE, picture

from vrag_agent.policy import VLMPolicy
from vrag_agent.trajectory import Segment, Trajectory, check_images, collate
from vrag_env.episode import Text


def two_trajectories() -> list[Trajectory]:
    """Prompt of 3, action of 2, observation of 4, action of 1; and prompt of 2, action of 3."""
    return [
        Trajectory(
            (
                Segment("prompt", (10, 11, 12)),
                Segment("action", (20, 21), (-0.5, -0.25), reward=0.5, state_key="s"),
                Segment("observation", (30, 31, 32, 33)),
                Segment("action", (22,), (-1.0,), reward=1.0),
            )
        ),
        Trajectory((Segment("prompt", (13, 14)), Segment("action", (23, 24, 25), (-1.0, -2.0, -3.0)))),
    ]


def test_collate_by_hand(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    batch = collate(two_trajectories(), family, packed=False)
    pad = family.pad_id
    assert batch.input_ids.tolist() == [
        [10, 11, 12, 20, 21, 30, 31, 32, 33, 22],
        [13, 14, 23, 24, 25, pad, pad, pad, pad, pad],
    ]
    assert batch.attention_mask.int().tolist() == [[1] * 10, [1] * 5 + [0] * 5]
    assert batch.lengths == (10, 5)
    assert batch.rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.columns.tolist() == [3, 4, 9, 2, 3, 4]
    assert batch.turns.tolist() == [0, 0, 1, 0, 0, 0]
    assert batch.decision_rows.tolist() == [0, 0, 1]
    assert batch.decision_columns.tolist() == [2, 8, 1]
    assert batch.action_ids.tolist() == [20, 21, 22, 23, 24, 25]
    assert batch.position_ids.shape == (4, 2, 10)
    assert batch.position_ids[:, 1].tolist() == [[0, 1, 2, 3, 4, 0, 0, 0, 0, 0]] * 4
    assert batch.images == ()


def test_packing_by_hand(shared_policy: VLMPolicy) -> None:
    batch = collate(two_trajectories(), shared_policy.family)
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 30, 31, 32, 33, 22, 13, 14, 23, 24, 25]]
    assert batch.position_ids.tolist() == [[[*range(10), *range(5)]]] * 4
    assert batch.attention_mask.int().tolist() == [[1] * 15]
    assert batch.rows.tolist() == [0, 0, 0, 1, 1, 1] and batch.columns.tolist() == [3, 4, 9, 2, 3, 4]
    assert batch.places(batch.rows, batch.columns).tolist() == [3, 4, 9, 12, 13, 14]
    assert batch.places(batch.decision_rows, batch.decision_columns).tolist() == [2, 8, 11]
    assert batch.action_ids.tolist() == [20, 21, 22, 23, 24, 25]


def test_what_a_trajectory_says_of_itself() -> None:
    trajectory = two_trajectories()[0]
    assert trajectory.token_ids == [10, 11, 12, 20, 21, 30, 31, 32, 33, 22]
    assert [action.token_ids for action in trajectory.actions] == [(20, 21), (22,)]
    assert trajectory.rewards == [0.5, 1.0]
    assert trajectory.images == []


def test_images_of_a_batch_stand_trajectory_by_trajectory_turn_by_turn(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    sizes = {1: WIDE, 2: TALL, 3: SMALL}
    first = Trajectory(
        (
            family.prompt("", [picture(1, sizes[1])]),
            Segment("action", (20,), (-1.0,)),
            family.observation([picture(2, sizes[2])], (20,)),
        )
    )
    second = Trajectory((family.prompt("", [picture(3, sizes[3])]),))
    batch = collate([first, second], family)
    # Patches of 14 pixels: 112 x 56 are 4 rows of 8, 56 x 140 are 10 of 4, 28 x 28 are 2 of 2.
    assert [image.grid_thw for image in batch.images] == [(1, 4, 8), (1, 10, 4), (1, 2, 2)]
    assert [len(image.pixel_values) for image in batch.images] == [32, 40, 4]
    assert batch.images == (*first.images, *second.images)
    assert len({image.key for image in (*first.images, *second.images)}) == 3


def test_tokens_and_images_that_are_out_of_step_are_an_error(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    segment = family.prompt("", [Text("see"), picture(1, WIDE), picture(2, TALL)])
    check_images(segment, family.image_token_id)
    one, two = segment.images
    broken = [
        replace(segment, images=(one,)),  # an image was lost
        replace(segment, images=(two, one)),  # other order
        replace(segment, images=(one, replace(two, start=two.start + 1))),
        replace(segment, images=(one, replace(two, length=two.length - 1))),
        replace(segment, token_ids=segment.token_ids[: two.start + 3]),  # cut inside an image
        replace(segment, token_ids=(*segment.token_ids, family.image_token_id)),
        replace(segment, token_ids=(0, *segment.token_ids)),  # everything moved by one
    ]
    for wrong in broken:
        with pytest.raises(ValueError, match="tokens and pixels are out of step"):
            collate([Trajectory((wrong,))], family)


def test_a_grid_that_does_not_fill_its_tokens_is_an_error(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    segment = family.prompt("", [picture(1, WIDE)])
    for grid in ((1, 4, 4), (1, 8, 8)):
        wrong = replace(segment, images=(replace(segment.images[0], grid_thw=grid),))
        with pytest.raises(ValueError, match="image tokens"):
            collate([Trajectory((wrong,))], family)


def test_a_sampled_image_token_is_an_error(shared_policy: VLMPolicy) -> None:
    family = shared_policy.family
    action = Segment("action", (20, family.image_token_id), (-1.0, -1.0))
    with pytest.raises(ValueError, match="the action segment has 1 image tokens, but its 0 images"):
        collate([Trajectory((family.prompt("", [Text("?")]), action))], family)


def test_a_batch_of_nothing_and_a_trajectory_without_a_prompt_are_errors(shared_policy: VLMPolicy) -> None:
    with pytest.raises(ValueError, match="at least one trajectory"):
        collate([], shared_policy.family)
    with pytest.raises(ValueError, match="begins with a prompt"):
        collate([Trajectory((Segment("action", (20,), (-1.0,)),))], shared_policy.family)


def test_a_segment_checks_itself(shared_policy: VLMPolicy) -> None:
    image = shared_policy.family.prompt("", [picture(1)]).images
    for wrong, message in (
        ({"kind": "reply", "token_ids": (1,)}, "kind must be one of"),
        ({"kind": "observation", "token_ids": (1,), "reward": 1.0}, "only an action has"),
        ({"kind": "prompt", "token_ids": (1,), "logprobs": (-1.0,)}, "only an action has"),
        ({"kind": "action", "token_ids": (1, 2), "logprobs": (-1.0,)}, "2 tokens but 1 log-probs"),
        ({"kind": "action", "token_ids": (1,), "images": image}, "holds no images"),
    ):
        with pytest.raises(ValueError, match=message):
            Segment(**wrong)
    with pytest.raises(FrozenInstanceError):
        Segment("action", (1,)).reward = 1.0
