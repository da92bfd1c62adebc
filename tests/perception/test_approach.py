"""What velocity is believed of a point, from ranges some tenths of a second ago."""

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SensorConfig
from drone_cbf.perception.approach import FADING, empty_history, make_approach
from drone_cbf.perception.point_map import PointMap
from drone_cbf.physics.obstacles import FAR

CONFIG = SensorConfig(kind="lidar")
DT, SPEED = 0.05, 3.0


def history_of(before, places, speed=0.0):
    """Readings taken at ``places`` [m], newest first; the older ones saw nothing nearer than ``before`` [m]. Everything
    was found to approach at ``speed`` [m/s] a moment ago."""
    history = empty_history(CONFIG, DT)
    return history.replace(
        place=jnp.asarray(places),
        nearest=jnp.full_like(history.nearest, before),
        speed=jnp.full_like(history.speed, speed),
    )


def seen_now(points, age=0.0):
    """A map of ``points`` [m] read ``age`` [s] ago without errors."""
    count = len(points)
    return PointMap(
        points=jnp.asarray(points, jnp.float32),
        velocity=jnp.zeros((count, 3)),
        spread=jnp.zeros(count),
        age=jnp.full(count, age),
        known=jnp.ones(count, bool),
    )


def believed(points, before, places):
    """Velocities [m/s] of ``points`` [m] that are seen now, see :func:`history_of`."""
    return np.asarray(make_approach(CONFIG, DT)(history_of(before, places), seen_now(points))[1])


def flight(velocity):
    """Places of the readings of a drone with this velocity [m/s] that is at the origin now."""
    count = empty_history(CONFIG, DT).place.shape[0]
    return np.float32(-DT * np.arange(count)[:, None] * np.asarray(velocity))


@pytest.mark.parametrize("velocity", [(0.0, 0.0, 0.0), (-SPEED, 0.0, 0.0), (2.0, -2.0, 0.5)])
def test_what_crosses_the_way_of_a_flying_drone_is_taken_to_come_straight_at_it(velocity):
    points = np.array([[0.0, 0.8, 0.0], [-0.5, 0.5, 0.5]])
    found = believed(points, FAR, flight(velocity))
    speed = np.linalg.norm(found, axis=1)
    assert np.all(speed > 0.3) and np.all(speed <= CONFIG.approach_speed)
    np.testing.assert_allclose(found / speed[:, None], -points / np.linalg.norm(points, axis=1)[:, None], atol=1e-6)


def test_the_speed_is_what_the_range_has_lost_in_the_time():
    ((x, y, z),) = believed([[2.0, 0.0, 0.0]], 2.3, flight((0.0, 0.0, 0.0)))
    assert x == pytest.approx(-0.3 / CONFIG.approach_time, rel=1e-5) and y == z == 0.0


def test_what_was_there_before_is_at_rest_however_the_drone_flies():
    ahead = [[2.0, 0.0, 0.0]]
    assert not believed(ahead, 2.0 + SPEED * CONFIG.approach_time, flight((SPEED, 0.0, 0.0))).any()


def test_what_one_scan_has_shown_fades_over_the_next_ones():
    """A scan in between whose rays fall beside what moves does not make it stand still."""
    infer, here, ahead = make_approach(CONFIG, DT), flight((0.0, 0.0, 0.0)), seen_now([[1.0, 0.0, 0.0]])
    history, speeds = history_of(1.0, here, speed=1.2), []
    for _ in range(12):
        history, velocity = infer(history, ahead)
        speeds.append(-float(velocity[0, 0]))
    expected = 1.2 * np.exp(-DT * np.arange(1, 13) / FADING)
    np.testing.assert_allclose(speeds, expected, rtol=1e-5)
    assert speeds[1] > 0.5 and speeds[-1] < 0.05


def test_what_approaches_in_one_direction_leaves_the_others_at_rest():
    infer, here = make_approach(CONFIG, DT), flight((0.0, 0.0, 0.0))
    come, _ = infer(history_of(FAR, here), seen_now([[1.0, 0.0, 0.0]]))
    _, velocity = infer(come.replace(nearest=jnp.ones_like(come.nearest)), seen_now([[1.0, 0.1, 0.0], [0.0, 1.0, 0.0]]))
    assert float(velocity[0, 0]) < -0.1 and not np.asarray(velocity[1]).any()


def test_what_is_only_remembered_is_at_rest():
    _, velocity = make_approach(CONFIG, DT)(history_of(FAR, flight((0.0, 0.0, 0.0)), 1.0), seen_now([[1.0, 0, 0]], DT))
    assert not np.asarray(velocity).any()
