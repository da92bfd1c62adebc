"""h <= 0 wherever no command can stop the drone, by the closed form of the braking distance in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.truth import make_true_barrier
from drone_cbf.perception.truth import true_graph
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from tests.barrier import extremes
from tests.barrier.test_limits import graph_function
from tests.perception.worlds import lidar_system, scene_of, small_system

RAW, LABELLED = lidar_system(), small_system()
ROUNDING = 1e-3
"""[m]: float32 of a wall whose middle is :data:`THICK` away."""
THICK = 1e3  # Half size of the wall [m]


def motion_of(position, velocity) -> Motion:
    return Motion(position=position, velocity=velocity, thrust=jnp.zeros(3, jnp.float32))


@jax.jit
@jax.vmap
def at_a_wall(position, velocity, centre, rotation):
    """(h of the true solids, h of the perfect sensor)."""
    wall = Boxes(
        centre=centre[None],
        half_size=jnp.full((1, 3), THICK, jnp.float32),
        rotation=rotation[None],
        velocity=jnp.zeros((1, 3), jnp.float32),
        active=jnp.ones(1, bool),
    )
    motion, scene = motion_of(position, velocity), scene_of(obstacles_of(boxes=wall))
    graph = true_graph(motion, scene, None, LABELLED)
    return make_true_barrier(LABELLED)(motion, scene, None), make_analytic_barrier(LABELLED)(graph)


@jax.jit
@jax.vmap
def at_a_point(position, velocity, point):
    """h of the raw points of a sensor."""
    motion = motion_of(position, velocity)
    return make_analytic_barrier(RAW)(graph_function("points, braking", RAW)(motion, point[None]))


def strongest(direction, system) -> np.ndarray:
    """Largest acceleration along each ``direction`` that the limits admit [m/s^2]."""
    return np.abs(direction) @ np.array(system.physics.max_acceleration)


def rotation_to(normal: np.ndarray) -> np.ndarray:
    """Rotations (n, 3, 3) whose first column is ``normal``."""
    rest = np.random.default_rng(0).normal(size=(*normal.shape, 2))
    q, r = np.linalg.qr(np.concatenate([normal[:, :, None], rest], axis=-1))
    return np.float32(q * np.sign(r[:, 0, 0])[:, None, None])


def check_walls(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    position, velocity = extremes.states(n, seed + 1)
    rotation = rotation_to(extremes.directions(rng, n))
    normal = rotation[:, :, 0].astype(np.float64)
    gap = np.where(rng.random(n) < 0.2, -1.0, 1.0) * rng.uniform(0.0, LABELLED.sensor.range, n) ** rng.integers(1, 9, n)
    gap = np.clip(gap, -0.1 * THICK, 0.999 * LABELLED.sensor.range)
    centre = np.float32(position - (gap + THICK)[:, None] * normal)
    true, seen = (np.asarray(h) for h in at_a_wall(position, velocity, centre, rotation))
    closing = np.maximum(-(normal * velocity).sum(-1), 0.0)
    hopeless = gap - LABELLED.physics.drone_radius < closing**2 / (2.0 * strongest(normal, LABELLED)) - ROUNDING
    outside = gap > ROUNDING
    assert hopeless.mean() > 0.2 and (~hopeless).mean() > 0.1
    assert np.isfinite(true).all() and np.isfinite(seen).all()
    assert (true[hopeless] <= 0.0).all()
    assert (seen[hopeless & outside] <= 0.0).all()


def check_points(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    position, velocity = extremes.states(n, seed + 1)
    speed = np.linalg.norm(velocity.astype(np.float64), axis=-1)
    heading = np.where(speed > 0.0, velocity.T / np.where(speed > 0.0, speed, 1.0), np.eye(3)[:, :1]).T
    gap = np.where(rng.random(n) < 0.3, rng.choice(extremes.LENGTHS[:10], n), rng.uniform(0.0, 5.0, n))
    h = np.asarray(at_a_point(position, velocity, np.float32(position + gap[:, None] * heading)))
    hopeless = gap - RAW.physics.drone_radius < speed**2 / (2.0 * strongest(heading, RAW)) - 1e-5
    assert hopeless.mean() > 0.2 and (~hopeless).mean() > 0.1
    assert np.isfinite(h).all() and (h[hopeless] <= 0.0).all()


@pytest.mark.parametrize("check", [check_walls, check_points])
def test_h_is_not_positive_where_no_command_stops_the_drone(check):
    check(4_096, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_walls, check_points])
def test_h_is_not_positive_in_half_a_million_states_of_which_no_command_stops(check):
    for seed in range(128):
        check(4_096, seed=10 + 2 * seed)
