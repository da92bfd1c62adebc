"""dh/dp of the graph of points against central differences in float64, as points cross from sector to sector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.barrier.analytic import Barrier, make_analytic_barrier
from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.barrier.rows import slopes
from drone_cbf.perception.directions import sector_axes
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.point_graph import CLOSE, OUTSIDE, make_node_choice, make_point_graph, penalty_slopes
from drone_cbf.perception.point_map import PointMap
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.motion import Motion
from tests.perception.worlds import PLAIN, lidar_system, random_barrier

SYSTEM = lidar_system(physics=PLAIN)
DRONE = nominal_params(SYSTEM.physics)
PLACES, STEP = 400, 1e-5  # Of the drone around the points, and of differences [m]
TOLERANCE = 1e-5
"""Third derivatives of the soft minimum, of the order of 1 / temperature^2 = 1e3, times 1e-10 and 10 to spare."""


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def graph_at(place: Vector, velocity: Vector, points: np.ndarray) -> Graph:
    count = len(points)
    seen = PointMap(
        points=jnp.asarray(points),
        velocity=jnp.zeros((count, 3)),
        spread=jnp.zeros(count),
        age=jnp.zeros(count),
        known=jnp.ones(count, bool),
    )
    motion = Motion(position=place, velocity=velocity, thrust=jnp.zeros(3))
    nodes = make_node_choice(SYSTEM)(seen, motion, DRONE.delay)
    return make_point_graph(SYSTEM)(motion, nodes, seen, jnp.asarray([8.0, 0.0, 1.0]), DRONE)


def measured(barrier: Barrier, points: np.ndarray, places: np.ndarray, velocities: np.ndarray):
    """(h by central differences, along the place; the same of half the steps; jax.grad; slopes), all (n, 3)."""

    def value(place: Vector, velocity: Vector) -> Scalar:
        return barrier(graph_at(place, velocity, points))

    def every(place: Vector, velocity: Vector):
        shifts = STEP * jnp.concatenate([jnp.eye(3), -jnp.eye(3), 0.5 * jnp.eye(3), -0.5 * jnp.eye(3)])
        ends = jax.vmap(lambda shift: value(place + shift, velocity))(shifts).reshape(4, 3)
        whole, half = (ends[0] - ends[1]) / (2.0 * STEP), (ends[2] - ends[3]) / STEP
        return (
            whole,
            half,
            jax.grad(value)(place, velocity),
            slopes(barrier, graph_at(place, velocity, points)).by_position,
        )

    return (np.asarray(x) for x in jax.jit(jax.vmap(every))(jnp.asarray(places), jnp.asarray(velocities)))


def turns(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places on a circle of 0.7 m, and velocities up to 4 m/s."""
    rng = np.random.default_rng(seed)
    first, second = np.linalg.qr(rng.normal(size=(3, 3)))[0][:2]
    angles = np.linspace(0.0, 2.0 * np.pi, PLACES, endpoint=False)[:, None]
    return 0.7 * (np.cos(angles) * first + np.sin(angles) * second), rng.uniform(-2.3, 2.3, (PLACES, 3))


def own_sectors(offsets: np.ndarray) -> np.ndarray:
    return np.argmax(offsets @ np.float64(sector_axes()).T, axis=-1)


@pytest.mark.parametrize("kind", ["analytic", "neural"])
def test_the_gradient_of_h_towards_the_place_equals_central_differences_across_sectors(kind):
    barrier = (
        make_analytic_barrier(SYSTEM) if kind == "analytic" else make_neural_barrier(SYSTEM)(random_barrier(SYSTEM))
    )
    places, velocities = turns(seed=5)
    points = np.array([[0.0, 0.0, 0.0], [0.05, 1.4, 0.3]])
    whole, half, gradient, by_position = measured(barrier, points, places, velocities)
    # Where a point changes its sector, or a sector its point, between the ends of a step, there is no derivative.
    smooth = np.abs(whole - half).max(axis=-1) < TOLERANCE
    assert smooth.mean() > 0.97 and len(np.unique(own_sectors(-places))) >= 8
    np.testing.assert_allclose(gradient[smooth], whole[smooth], atol=TOLERANCE * 10.0)
    np.testing.assert_allclose(by_position[smooth], gradient[smooth], atol=1e-9)


def test_the_derivative_of_a_penalty_is_across_and_bounded_at_the_drone():
    rng = np.random.default_rng(1)
    away = rng.normal(size=(len(sector_axes()), 3))
    for distance in (0.0, 1e-30, 1e-6, 0.05, 1.0):
        relative = jnp.asarray(distance * away / np.linalg.norm(away, axis=-1, keepdims=True))
        slope = np.asarray(penalty_slopes(relative))
        assert np.isfinite(slope).all()
        if distance > 1e-3:  # Nearer, the norm is that of arrays.safe_norm
            np.testing.assert_allclose((slope * np.asarray(relative)).sum(-1), 0.0, atol=1e-5 * distance)
        assert np.linalg.norm(slope, axis=-1).max() <= 2.0 * OUTSIDE / max(distance, CLOSE) * (1.0 + 1e-6)
