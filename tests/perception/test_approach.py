"""What velocity is believed of a point, from ranges some tenths of a second ago."""

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SensorConfig
from drone_cbf.perception.approach import RangeHistory, empty_history, make_approach
from drone_cbf.perception.point_map import PointMap
from drone_cbf.physics.obstacles import FAR

CONFIG = SensorConfig(kind="lidar")
DT, SPEED = 0.05, 3.0


def believed(points, before, places):
    """Velocities [m/s] of ``points`` [m] that are seen now; readings were taken at ``places`` [m], newest first, and
    the older ones saw nothing nearer than ``before`` [m]."""
    history = empty_history(CONFIG, DT)
    nearest = jnp.full_like(history.nearest, before)
    count = len(points)
    seen = PointMap(
        points=jnp.asarray(points, jnp.float32),
        velocity=jnp.zeros((count, 3)),
        spread=jnp.zeros(count),
        age=jnp.zeros(count),
        known=jnp.ones(count, bool),
    )
    return np.asarray(make_approach(CONFIG, DT)(RangeHistory(place=jnp.asarray(places), nearest=nearest), seen))


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
