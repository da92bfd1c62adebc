"""``boxes``: sizes in range, turned and tilted, with gaps between all of them."""

import itertools

import numpy as np

from tests.scenes.drawing import CONFIG, COUNT, distances_at, drawn, scene_at

ROUNDING = 1e-4


def surface_of(boxes, index):
    """Points on all faces of one box, its corners among them."""
    grid = np.array(list(itertools.product(np.linspace(-1.0, 1.0, 7), repeat=3)))
    grid = grid[np.abs(grid).max(axis=1) == 1.0]
    return np.asarray(boxes.centre[index] + (grid * boxes.half_size[index]) @ np.asarray(boxes.rotation[index]).T)


def test_gaps_between_boxes_are_as_wide_as_promised():
    for scene in (scene_at(drawn("boxes"), index) for index in range(20)):
        boxes = scene.obstacles.boxes
        count = boxes.active.shape[0]
        points = np.stack([surface_of(boxes, index) for index in range(count)])
        distances = np.asarray(distances_at(scene.obstacles, points.reshape(-1, 3))).reshape(count, -1, count)
        others = distances.min(axis=1)[~np.eye(count, dtype=bool)]
        assert others.min() >= CONFIG.boxes_gap - ROUNDING


def test_sizes_and_rotations_are_those_of_the_settings():
    boxes = drawn("boxes").obstacles.boxes
    half_size, rotation = np.asarray(boxes.half_size), np.asarray(boxes.rotation, np.float64)
    low, high = CONFIG.boxes_half_size
    assert low <= half_size.min() < low + 0.01 and high - 0.01 < half_size.max() <= high
    product = rotation @ np.swapaxes(rotation, -1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)
    tilt = np.arccos(np.clip(rotation[..., 2, 2], -1.0, 1.0))
    assert np.all(tilt[:, ::2] < 1e-3) and 0.9 * CONFIG.boxes_tilt < tilt[:, 1::2].max() <= CONFIG.boxes_tilt + 1e-3
    heading = np.arctan2(rotation[:, ::2, 1, 0], rotation[:, ::2, 0, 0])
    assert np.histogram(heading, bins=8, range=(-np.pi, np.pi))[0].min() > heading.size / 16


def test_all_boxes_stand_between_start_line_and_goal_line():
    scenes = drawn("boxes", "trained")
    assert np.all(scenes.obstacles.boxes.active)
    along = np.asarray(scenes.obstacles.boxes.centre)[..., 0]
    assert along.min() > 1.0 and along.max() < CONFIG.boxes_length - 1.0
    # Obstacles to meet on every way: each quarter of the course has a row of four in every scene.
    quarter = np.floor(along / (CONFIG.boxes_length / 4.0)).astype(int)
    assert all(np.bincount(row, minlength=4).tolist() == [4, 4, 4, 4] for row in quarter) and len(along) == COUNT
