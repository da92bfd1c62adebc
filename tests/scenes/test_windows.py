"""``windows``: every wall has one opening of the stated size and place, and is wide, high and far from the others."""

import numpy as np
import pytest

from tests.scenes.drawing import CONFIG, distances_at, drawn, scene_at

CELL = 0.04
"""Spacing of the points on a wall's middle plane [m]: openings are measured to twice this."""


def middle_planes(scene):
    """Points on the middle plane of each wall (w, n, 3), their places along it (n, 2), and the planes' axes."""
    width, height = CONFIG.windows_half_extent
    axes = (np.arange(-half + 0.5 * CELL, half, CELL) for half in (width, height))
    across, up = np.meshgrid(*axes, indexing="ij")
    place = np.stack([across.ravel(), up.ravel()], -1)
    start, way = np.asarray(scene.start), np.asarray(scene.goal - scene.start)
    rotation = np.asarray(scene.obstacles.boxes.rotation)[::4]
    inside = np.asarray(scene.obstacles.boxes.centre)[::4]  # on the middle plane
    through, along = rotation[:, :, 0], rotation[:, :, 1]
    fraction = np.sum((inside - start) * through, -1) / (through @ way)
    middle = start + fraction[:, None] * way
    points = middle[:, None] + place[None, :, :1] * along[:, None] + place[None, :, 1:] * [0.0, 0.0, 1.0]
    return points, place, through, fraction


@pytest.fixture(scope="module")
def walls():
    """Of eight scenes each wall's free points, beside the straight line to the goal, and the planes' other data."""
    found = []
    for scene in (scene_at(drawn("windows"), index) for index in range(8)):
        points, place, through, fraction = middle_planes(scene)
        distances = np.asarray(distances_at(scene.obstacles, points.reshape(-1, 3).astype(np.float32)))
        free = distances.min(axis=1).reshape(len(points), -1) > 0.0
        found.append((scene, points, [place[each] for each in free], through, fraction))
    return found


def test_each_wall_has_one_rectangular_opening_of_the_stated_size(walls):
    low, high = CONFIG.windows_opening
    for _, _, openings, _, _ in walls:
        assert len(openings) == CONFIG.windows_walls
        for free in openings:
            size = free.max(axis=0) - free.min(axis=0) + CELL
            assert np.all((low - 2.0 * CELL <= size) & (size <= high + 2.0 * CELL))
            assert len(free) == np.prod(np.rint(size / CELL)), "a rectangle without holes, and nothing beside it"


def test_openings_lie_beside_the_straight_line_to_the_goal_as_far_as_stated(walls):
    centres = np.array([0.5 * (free.max(axis=0) + free.min(axis=0)) for _, _, each, _, _ in walls for free in each])
    limit = np.asarray(CONFIG.windows_displacement)
    assert np.all(np.abs(centres) <= limit + CELL) and np.all(np.abs(centres).max(axis=0) > 0.5 * limit)


def test_walls_keep_apart_from_each_other_and_from_start_and_goal(walls):
    for scene, points, _, _, fraction in walls:
        pieces = np.asarray(distances_at(scene.obstacles, points[0].astype(np.float32)))[:, 4:]
        assert pieces.min() >= CONFIG.windows_apart
        assert 0.0 < fraction[0] < fraction[1] < 1.0
    scenes = drawn("windows")
    for index in range(50):
        scene = scene_at(scenes, index)
        ends = np.asarray(distances_at(scene.obstacles, np.stack([scene.start, scene.goal])))
        assert ends.min() >= CONFIG.windows_room - 1e-4


def test_walls_are_turned_by_no_more_than_stated():
    scenes = drawn("windows", "trained")
    rotation = np.asarray(scenes.obstacles.boxes.rotation)
    yaw = np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0])
    assert 0.9 * CONFIG.windows_yaw < np.abs(yaw).max() <= CONFIG.windows_yaw + 1e-5
    assert np.all(scenes.obstacles.boxes.active)
