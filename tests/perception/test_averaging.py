"""Ranges averaged with those beside them: a wall seen through noise is where it is, not where its shortest ray ends."""

import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.config import SensorConfig
from drone_cbf.perception.approach import empty_history, remember
from drone_cbf.perception.averaging import FARTHEST, averaged
from drone_cbf.perception.point_map import PointMap
from drone_cbf.perception.readings import OwnMotion, Reading

CONFIG = SensorConfig(kind="lidar")
AWAY, SIGMA = 0.5, 0.05
HERE = jnp.array([3.0, -2.0, 1.0])


def directions(count=512):
    """Evenly spread unit vectors (Fibonacci)."""
    k = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * k / count, np.pi * (1.0 + 5.0**0.5) * k
    flat = np.sqrt(1.0 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], -1)


def scan_of_a_wall(sigma, seed=0, away=AWAY):
    """Points on the plane x = ``away`` [m], with noise of the range; offsets from the drone, (n, 3)."""
    rays = directions()
    rays = rays[rays[:, 0] > 0.1]
    return rays * (away / rays[:, :1] + sigma * np.random.default_rng(seed).standard_normal((len(rays), 1)))


def points_of(offsets, sigma):
    count = len(offsets)
    return PointMap(
        points=HERE + jnp.asarray(offsets, jnp.float32),
        velocity=jnp.zeros((count, 3)),
        spread=jnp.full(count, sigma, jnp.float32),
        age=jnp.zeros(count),
        known=jnp.ones(count, bool),
    )


def history_of(offsets):
    """The history of a drone that has just read points at ``offsets`` [m] and looked everywhere."""
    own = OwnMotion(position=HERE, velocity=jnp.zeros(3))
    points = HERE + jnp.asarray(offsets, jnp.float32)
    count = len(offsets)
    reading = Reading(
        own=own,
        noise=jnp.float32(SIGMA),
        points=points,
        hit=jnp.ones(count, bool),
        velocity=jnp.zeros((count, 3)),
        spread=jnp.full(count, SIGMA),
    )
    return remember(empty_history(CONFIG, 0.05), reading, HERE, lambda offset, _: jnp.ones(offset.shape[0], bool))


def nearest(offsets, sigma, history=None):
    """Distance [m] of the nearest point before and after averaging."""
    before = np.linalg.norm(offsets, axis=1)
    first = int(np.argmin(before))
    found = averaged(points_of(offsets[first : first + 1], sigma), history or history_of(offsets))
    return before[first], float(np.linalg.norm(np.asarray(found.points[0] - HERE)))


def test_the_nearest_of_many_noisy_points_is_near_the_wall_after_it():
    errors = np.array([nearest(scan_of_a_wall(SIGMA, seed), SIGMA) for seed in range(40)]) - AWAY
    assert errors[:, 0].mean() < -1.0 * SIGMA, "without averaging the wall seems nearer than it is"
    assert abs(errors[:, 1].mean()) < 0.25 * SIGMA and np.abs(errors[:, 1]).max() < SIGMA
    assert errors[:, 1].std() < errors[:, 0].std()


def test_points_without_noise_stay_where_they_are_to_the_bit():
    offsets = scan_of_a_wall(0.0)
    points = points_of(offsets, 0.0)
    np.testing.assert_array_equal(averaged(points, history_of(offsets)).points, points.points)


@pytest.mark.parametrize("gap", [0.3, 1.0, 5.0])
def test_a_surface_behind_an_obstacle_does_not_move_the_obstacle(gap):
    """A pole before a wall, of which one ray of a scan hits the pole."""
    offsets = scan_of_a_wall(0.0, away=AWAY + gap)
    pole = np.array([[AWAY, 0.0, 0.0]])
    found = averaged(points_of(pole, SIGMA), history_of(np.concatenate([offsets, pole])))
    np.testing.assert_allclose(found.points, HERE + pole, atol=1e-6)


def test_no_point_comes_nearer_or_farther_than_two_standard_deviations():
    offsets = scan_of_a_wall(3.0 * SIGMA, seed=3)
    points = points_of(offsets, SIGMA)
    moved = np.linalg.norm(averaged(points, history_of(offsets)).points - HERE, axis=1)
    shift = moved - np.linalg.norm(offsets, axis=1)
    assert shift.min() > -1e-6 and shift.max() < FARTHEST * SIGMA + 1e-6 and shift.max() > SIGMA


def test_order_and_duplicates_of_rays_change_nothing():
    offsets = scan_of_a_wall(SIGMA, seed=5)
    shuffled = np.random.default_rng(0).permutation(np.concatenate([offsets, offsets[:50]]))
    assert nearest(offsets, SIGMA) == nearest(offsets, SIGMA, history_of(shuffled))
