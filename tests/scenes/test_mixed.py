"""``mixed``: as many of each kind, and of the sizes, as stated."""

import numpy as np

from drone_cbf.scenes import mixed
from tests.scenes.drawing import CONFIG, drawn

SCENES = drawn("mixed", "trained")


def test_each_kind_is_there_in_its_number_and_nearly_none_is_cleared_away():
    obstacles = SCENES.obstacles
    assert obstacles.capsules.active.shape[1] == CONFIG.mixed_balls + CONFIG.mixed_pillars
    assert obstacles.boxes.active.shape[1] == CONFIG.mixed_boxes + CONFIG.mixed_ground_boxes
    assert obstacles.cylinders.active.shape[1] == CONFIG.mixed_beams
    for shape in (obstacles.capsules, obstacles.boxes, obstacles.cylinders):
        assert np.asarray(shape.active).mean() > 0.95


def test_the_ground_lies_a_metre_below_the_start_height_and_stays_below_all_flights():
    ground = SCENES.obstacles.ground
    assert np.all(ground.active) and np.all(np.asarray(ground.height) == -1.0)
    assert np.abs(np.asarray(SCENES.start)[:, 2]).max() <= 0.5


def test_sizes_are_those_of_diffphysdrone():
    capsules, boxes, beams = SCENES.obstacles.capsules, SCENES.obstacles.boxes, SCENES.obstacles.cylinders
    radius, half = np.asarray(capsules.radius), np.asarray(boxes.half_size)
    balls, air = CONFIG.mixed_balls, CONFIG.mixed_boxes
    for values, (low, high) in [
        (radius[:, :balls], mixed.BALL_RADIUS),
        (radius[:, balls:], mixed.PILLAR_RADIUS),
        (half[:, :air], mixed.BOX_HALF_SIZE),
        (np.asarray(beams.radius), mixed.BEAM_RADIUS),
    ]:
        room = 0.05 * (high - low)
        assert low - 1e-6 <= values.min() < low + room and high - room < values.max() <= high + 1e-6
    height = np.asarray(capsules.half_height)
    assert np.all(height[:, :balls] == 0.0) and height[:, balls:].min() > 20.0
    assert np.all(np.asarray(boxes.centre)[:, air:, 2] == mixed.GROUND)
    turn = np.asarray(beams.heading) - 0.5 * np.pi
    assert np.abs(turn).max() <= mixed.BEAM_TURN + 1e-6


def test_the_obstacles_are_spread_evenly():
    """Obstacles at rest fill the volume evenly: as many in each half of its length, width and height."""
    boxes = SCENES.obstacles.boxes
    place = np.asarray(boxes.centre)[:, CONFIG.mixed_moving : CONFIG.mixed_boxes].reshape(-1, 3)
    low = [mixed.EDGE, -mixed.HALF_WIDTH, mixed.GROUND]
    high = [CONFIG.mixed_length - mixed.EDGE, mixed.HALF_WIDTH, mixed.TOP]
    assert np.all((place >= low) & (place <= high))
    share = np.mean(place > 0.5 * (np.array(low) + high), axis=0)
    np.testing.assert_allclose(share, 0.5, atol=5.0 * 0.5 / np.sqrt(len(place)))
