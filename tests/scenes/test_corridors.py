"""``corridors``: as wide as stated, bent half way, and closed at the sides without a slit."""

import numpy as np
from scipy import ndimage

from drone_cbf.scenes.corridors import BEYOND
from tests.scenes.drawing import CONFIG, COUNT, distances_at, drawn, scene_at

CELL = 0.04
HALF = 0.5 * CONFIG.corridors_length


def middle_line(scene, count=41):
    """Points along the middle from end to end, 1.4 m behind start and goal; the corner is (HALF, 0)."""
    first = np.asarray(scene.obstacles.boxes.rotation[0])[:, 0]
    ahead = np.array([1.0, 0.0, 0.0])
    corner = HALF * ahead
    way = np.linspace(-HALF - BEYOND + 0.1, HALF + BEYOND - 0.1, count)[:, None]
    return corner + np.where(way < 0.0, way * first, way * ahead)


def test_the_corridor_is_equally_wide_on_its_whole_length():
    low, high = CONFIG.corridors_width
    widths = []
    for scene in (scene_at(drawn("corridors", "trained"), index) for index in range(20)):
        line = middle_line(scene)
        away = np.abs(np.linspace(-HALF, HALF, len(line))) > 2.0  # at the bend itself it is wider
        distances = np.asarray(distances_at(scene.obstacles, line.astype(np.float32))).min(axis=1)
        np.testing.assert_allclose(distances[away], distances[0], atol=1e-4)
        assert distances.min() >= distances[0] - 1e-4
        widths.append(2.0 * distances[0])
    assert low <= min(widths) and max(widths) <= high and max(widths) - min(widths) > 0.5 * (high - low)


def test_nothing_leaves_through_a_side():
    """In the horizontal plane, cells that are connected with the middle end between the walls' ends."""
    for scene in (scene_at(drawn("corridors", "trained"), index) for index in range(6)):
        x, y = np.meshgrid(np.arange(-4.0, 16.0, CELL), np.arange(-9.0, 9.0, CELL), indexing="ij")
        points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
        free = np.asarray(distances_at(scene.obstacles, points.astype(np.float32))).min(axis=1) > 0.0
        ends = middle_line(scene)[[0, -1]]
        outward = np.stack([-np.asarray(scene.obstacles.boxes.rotation[0])[:, 0], [1.0, 0.0, 0.0]])
        for end, away in zip(ends, outward, strict=True):  # a lid across each end
            beyond = (points - end) @ away
            free &= ~((np.abs(beyond) < 2.0 * CELL) & (np.linalg.norm(points - end, axis=1) < 1.5))
        parts, _ = ndimage.label(free.reshape(x.shape))
        inside = parts[np.unravel_index(np.argmin(np.linalg.norm(points - [HALF, 0.0, 0.0], axis=1)), x.shape)]
        border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
        assert inside > 0 and inside not in border


def test_the_bend_is_to_both_sides_up_to_the_largest():
    rotation = np.asarray(drawn("corridors", "trained").obstacles.boxes.rotation)[:, 0]
    bend = -np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    assert np.abs(bend).max() <= CONFIG.corridors_bend + 1e-5
    assert bend.min() < -0.8 * CONFIG.corridors_bend and bend.max() > 0.8 * CONFIG.corridors_bend


def test_start_and_goal_lie_between_the_walls_near_their_ends():
    scenes = drawn("corridors", "trained")
    for index in range(COUNT):
        first = np.asarray(scenes.obstacles.boxes.rotation[index, 0])[:, 0]
        along = (np.asarray(scenes.start[index]) - [HALF, 0.0, 0.0]) @ first
        np.testing.assert_allclose(along, -HALF, atol=1e-4)
    np.testing.assert_array_equal(scenes.goal[0], [CONFIG.corridors_length, 0.0, 0.0])
