"""``moving`` and the moving part of ``mixed``: speeds as stated, and paths that keep off start and goal."""

import jax
import numpy as np
import pytest

from drone_cbf.scenes.motion import AT_THE_GOAL, AT_THE_START, STEEPEST
from tests.scenes.drawing import CONFIG, COUNT, distances_at, drawn, scene_at

PERIOD = 0.02
"""[s]: in half of it an obstacle moves 15 mm."""
BETWEEN = 0.5 * PERIOD * CONFIG.moving_speed[1]
distances_at_times = jax.jit(jax.vmap(lambda obstacles, time, x: distances_at(obstacles.at(time), x), (None, 0, None)))


@pytest.mark.parametrize("family", ["moving", "mixed"])
def test_speeds_are_bounded_and_nearly_horizontal(family):
    obstacles = drawn(family).obstacles
    velocity = np.concatenate([np.asarray(shape.velocity) for shape in (obstacles.capsules, obstacles.boxes)], axis=1)
    speed = np.linalg.norm(velocity, axis=-1)
    movers = speed > 0.0
    count = {"moving": CONFIG.moving_balls + CONFIG.moving_boxes, "mixed": 2 * CONFIG.mixed_moving}[family]
    assert np.all(movers.sum(axis=1) == count)
    low, high = CONFIG.moving_speed
    assert low - 1e-5 <= speed[movers].min() < low + 0.05 and high - 0.05 < speed[movers].max() <= high + 1e-5
    assert np.max(np.abs(velocity[movers, 2]) / speed[movers]) <= np.sin(STEEPEST) + 1e-5
    heading = np.arctan2(velocity[movers, 1], velocity[movers, 0])
    assert np.histogram(heading, bins=8, range=(-np.pi, np.pi))[0].min() > heading.size / 16


@pytest.mark.parametrize("family", ["moving", "mixed"])
@pytest.mark.parametrize(("place", "duration"), [("goal", AT_THE_GOAL), ("start", AT_THE_START)])
def test_no_obstacle_comes_near_goal_or_start(family, place, duration):
    """Against the positions at many times."""
    for scene in (scene_at(drawn(family), index) for index in range(5 if place == "goal" else COUNT)):
        times = np.arange(0.0, duration, PERIOD, dtype=np.float32)
        there = np.asarray(getattr(scene, place))[None]
        distances = distances_at_times(scene.obstacles, times, there)
        assert np.asarray(distances).min() >= CONFIG.clearance - BETWEEN


def test_most_obstacles_remain_and_pass_through_the_arena_during_a_flight():
    scenes = drawn("moving", "trained")
    active = np.concatenate([scenes.obstacles.capsules.active, scenes.obstacles.boxes.active], axis=1)
    assert active.mean() > 0.8
    balls = scenes.obstacles.capsules
    times = np.arange(0.0, 6.01, 0.1)[:, None, None, None]
    path = np.asarray(balls.centre) + times * np.asarray(balls.velocity)
    inside = (path[..., 0] >= 1.0) & (path[..., 0] <= CONFIG.moving_length - 1.0)
    inside &= np.abs(path[..., 1]) <= CONFIG.moving_half_width
    assert np.all(inside.any(axis=0)) and inside.mean() > 0.6
