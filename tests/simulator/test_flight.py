"""Flights: collisions where they must be, none where they cannot be, and what a pilot is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.simulator.drone import Drone
from tests.simulator.flight import Fields, fly
from tests.simulator.pilots import along, blind, braking, towards
from tests.simulator.scanning import Scanner
from tests.simulator.solids import Boxes
from tests.simulator.worlds import Worlds, box_clutter, no_boxes, no_rounds, windows

FEW = Scanner(count=16)  # for pilots that do not look


def wall_ahead(distance: float) -> Worlds:
    """A flight of 4 m along x at a wall whose front is ``distance`` away."""
    boxes = Boxes(np.array([[[distance + 0.1, 0.0, 0.0]]]), np.array([[[0.1, 5.0, 5.0]]]), np.eye(3)[None, None])
    goal = np.array([[4.0, 0.0, 0.0]])
    return Worlds(np.zeros((1, 3)), goal, goal[:, None], boxes, no_rounds(1))


def empty(count: int) -> Worlds:
    rng = np.random.default_rng(0)
    goal = rng.uniform(-3.0, 3.0, (count, 3))
    return Worlds(np.zeros((count, 3)), goal, goal[:, None], no_boxes(count, 1), no_rounds(count))


def test_a_straight_flight_into_a_wall_ends_where_the_hull_touches_it() -> None:
    outcome = fly(wall_ahead(2.0), blind, steps=80, scanner=FEW)
    assert outcome.collided.all() and not outcome.reached.any()
    one_step = 1.5 * 0.001  # the way at full speed between two checks
    assert -one_step < outcome.smallest_clearance[0] <= 0.0
    end = outcome.path[0, -1]
    np.testing.assert_allclose(end[0], 2.0 - 0.12 - outcome.smallest_clearance[0], atol=1e-9)
    np.testing.assert_array_equal(outcome.path[0, -10:], np.broadcast_to(end, (10, 3)))
    until = int((outcome.path[0] == end).all(-1).argmax())
    shorter = fly(wall_ahead(2.0), blind, steps=until, scanner=FEW)
    np.testing.assert_array_equal(shorter.smallest_clearance, outcome.smallest_clearance)


def test_a_wall_behind_the_goal_is_approached_and_not_touched() -> None:
    outcome = fly(wall_ahead(4.3), blind, steps=120, scanner=FEW)
    assert outcome.reached.all() and not outcome.collided.any()
    furthest = outcome.path[0, :, 0].max()
    np.testing.assert_allclose(outcome.smallest_clearance, 4.3 - 0.12 - furthest, atol=1e-3)


def test_a_thin_wall_is_not_flown_through_between_two_commands() -> None:
    worlds = wall_ahead(2.0)
    thin = replace(worlds, boxes=replace(worlds.boxes, half=np.array([[[0.001, 5.0, 5.0]]])))

    def fast(fields: Fields) -> Fields:
        return {**blind(fields), "command": towards(fields, fields["goal"] + [50.0, 0.0, 0.0], speed=20.0)}

    assert fly(thin, fast, steps=40, drone=Drone(radius=0.01), scanner=FEW).collided.all()


def test_flights_by_the_middle_of_every_window_reach_the_goal_and_straight_ones_collide() -> None:
    worlds = windows(40, np.random.default_rng(3))
    guided = fly(worlds, along(worlds.route), steps=420, scanner=FEW)
    assert not guided.collided.any() and guided.reached.all()
    assert guided.smallest_clearance.min() > 0.1
    assert fly(worlds, blind, steps=200, scanner=FEW).collided.mean() > 0.8


def test_a_pilot_that_brakes_for_what_it_sees_collides_far_less_often() -> None:
    worlds = box_clutter(30, np.random.default_rng(4))
    seeing, unseeing = fly(worlds, braking, steps=120), fly(worlds, blind, steps=120, scanner=FEW)
    assert unseeing.collided.sum() > 15
    assert seeing.collided.sum() < 0.3 * unseeing.collided.sum()


def test_the_goal_counts_as_reached_only_after_a_second_of_rest() -> None:
    worlds = empty(4)
    assert fly(worlds, blind, steps=200, scanner=FEW).reached.all()
    at_goal = replace(worlds, start=worlds.goal)
    assert fly(at_goal, blind, steps=20, scanner=FEW).reached.all()
    assert not fly(at_goal, blind, steps=19, scanner=FEW).reached.any()

    def drifting(fields: Fields) -> Fields:
        return {**blind(fields), "command": 3.0 * (np.array([0.15, 0.0, 0.0]) - fields["velocity"])}

    late = replace(worlds, start=worlds.goal - [0.25, 0.0, 0.0])
    outcome = fly(late, drifting, steps=24, scanner=FEW)
    assert np.linalg.norm(outcome.path[:, -1] - late.goal, axis=-1).max() < 0.2
    assert not outcome.reached.any()
    assert fly(late, drifting, steps=40, scanner=FEW).reached.all()


def test_a_pilot_gets_back_the_memory_of_its_last_answer_and_none_at_first() -> None:
    seen = []

    def counting(fields: Fields) -> Fields:
        seen.append(fields.get("memory"))
        return {**blind(fields), "memory": np.full((len(fields["mask"]), 2), float(len(seen)))}

    fly(empty(5), counting, steps=3, batch=3, scanner=FEW)
    assert seen[0] is None and seen[3] is None, "a new batch is a new flight"
    assert [each.shape for each in seen if each is not None] == [(3, 2)] * 2 + [(2, 2)] * 2
    assert [each[0, 0] for each in seen if each is not None] == [1.0, 2.0, 4.0, 5.0]


def test_a_pilot_is_told_where_it_is_and_how_much_to_trust_the_scan() -> None:
    scans: list[Fields] = []

    def recording(fields: Fields) -> Fields:
        scans.append(fields)
        return blind(fields)

    worlds = windows(3, np.random.default_rng(5))
    outcome = fly(worlds, recording, steps=4, noise=0.03, dropout=0.1)
    for step, fields in enumerate(scans):
        np.testing.assert_array_equal(fields["position"], outcome.path[:, step])
        np.testing.assert_array_equal(fields["goal"], worlds.goal)
        np.testing.assert_array_equal(fields["noise"], np.full(3, 0.03))
        assert fields["points"].shape == (3, 512, 3) and fields["mask"].shape == (3, 512)
    assert not np.array_equal(scans[0]["mask"], scans[1]["mask"])


def test_equal_seeds_repeat_a_flight_and_batches_do_not_mix_flights() -> None:
    worlds = box_clutter(6, np.random.default_rng(6))
    first, again, other = (fly(worlds, braking, 20, noise=0.1, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.path, again.path)
    assert not np.array_equal(first.path, other.path)
    whole = fly(worlds, braking, 20)
    parts = fly(worlds, braking, 20, batch=4)
    np.testing.assert_allclose(whole.path, parts.path, atol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"command": np.zeros(3)}, r"expected \(2, 3\)"),
        ({"command": np.array([[0.0] * 3, [0.0, np.nan, 0.0]])}, "flight 1 is not finite"),
        ({"h": np.zeros((2, 1))}, r"expected \(2, 3\), \(2,\) and \(2,\)"),
        ({"status": None}, "expected"),
    ],
)
def test_a_wrong_answer_is_refused(wrong: Fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fly(empty(2), lambda fields: {**blind(fields), **wrong}, 1, scanner=FEW)


def test_an_answer_that_lacks_a_field_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks h"):
        fly(empty(2), lambda fields: {"command": np.zeros((2, 3))}, 1, scanner=FEW)
