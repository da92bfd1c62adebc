"""h along flights past edges: points come and go, and h changes no faster than the drone moves."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.barrier.analytic import Barrier, make_analytic_barrier
from drone_cbf.barrier.neural import make_neural_barrier
from drone_cbf.config import BarrierConfig, SensorConfig
from drone_cbf.perception.point_graph import make_node_choice, make_point_graph
from drone_cbf.perception.point_map import PointMap, nearest_in_cells
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.motion import Motion
from tests.perception.worlds import random_barrier, small_system

SYSTEM = small_system(sensor=SensorConfig(kind="lidar"), barrier=BarrierConfig(base="braking", features=8))
SPACING, STEP = 0.08, 2e-3  # Of points on surfaces, and along the flight [m]
DRONE = nominal_params(SYSTEM.physics)


def sheet(first: np.ndarray, second: np.ndarray, place: Callable[..., list[np.ndarray]]) -> np.ndarray:
    one, other = np.meshgrid(first, second)
    return np.stack([np.broadcast_to(part, one.shape).ravel() for part in place(one, other)], axis=-1)


def side_wall() -> np.ndarray:
    """A wall beside the flight that ends at x = 1."""
    return sheet(np.arange(-2.0, 1.0, SPACING), np.arange(-1.0, 3.0, SPACING), lambda x, z: [x, 0.6 + 0.0 * x, z])


def corner() -> np.ndarray:
    """The same, with the wall that leads away from there."""
    return np.concatenate(
        [
            side_wall(),
            sheet(np.arange(0.6, 2.6, SPACING), np.arange(-1.0, 3.0, SPACING), lambda y, z: [1.0 + 0.0 * y, y, z]),
        ]
    )


def pole() -> np.ndarray:
    """0.38 m beside the flight."""
    turns, heights = np.arange(0.0, 2.0 * np.pi, SPACING / 0.15), np.arange(-1.0, 3.0, SPACING)
    return sheet(turns, heights, lambda t, z: [0.5 + 0.15 * np.cos(t), 0.53 + 0.15 * np.sin(t), z])


def window() -> np.ndarray:
    """A wall across the flight with an opening of 1.4 by 1.2 m."""
    points = sheet(np.arange(-2.0, 2.0, SPACING), np.arange(-1.0, 3.0, SPACING), lambda y, z: [0.5 + 0.0 * y, y, z])
    return points[(np.abs(points[:, 1]) > 0.7) | (np.abs(points[:, 2] - 1.0) > 0.6)]


WORLDS = {world.__name__: world for world in (side_wall, corner, pole, window)}


ROOM = max(len(world()) for world in WORLDS.values())
"""Points of a map: as many for every world, so that one program serves them all."""


@functools.cache
def values_along(kind: str) -> Callable[[PointMap, Array, Array], Array]:
    """Compiled (map, places (t, 3) of the acting point [m], velocity [m/s]) -> h there (t,) [m]."""
    neural = kind == "neural"
    barrier: Barrier = make_neural_barrier(SYSTEM)(random_barrier(SYSTEM)) if neural else make_analytic_barrier(SYSTEM)
    choose, build = make_node_choice(SYSTEM), make_point_graph(SYSTEM)

    def value(seen: PointMap, velocity: Vector, place: Vector) -> Scalar:
        motion = Motion(position=place, velocity=velocity, thrust=jnp.zeros(3, jnp.float32))
        nodes, cells = choose(seen, motion, DRONE.delay), nearest_in_cells(seen, place)
        return barrier(build(motion, nodes, cells, jnp.asarray([8.0, 0.0, 1.0], jnp.float32), DRONE))

    return jax.jit(lambda seen, places, velocity: jax.lax.map(functools.partial(value, seen, velocity), places))


def along_flight(kind: str, points: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the acting point (t, 3) [m] and h there (t,) [m], of points that are all seen from everywhere."""
    seen = PointMap(
        points=jnp.asarray(np.pad(points, ((0, ROOM - len(points)), (0, 0))), jnp.float32),
        velocity=jnp.zeros((ROOM, 3), jnp.float32),
        spread=jnp.zeros(ROOM, jnp.float32),
        age=jnp.zeros(ROOM, jnp.float32),
        known=jnp.arange(ROOM) < len(points),
    )
    way = np.arange(-0.6, 1.8, STEP)[:, None] * velocity / np.linalg.norm(velocity)
    places = np.array([0.0, 0.0, 1.03]) + way
    given = jnp.asarray(places, jnp.float32), jnp.asarray(velocity, jnp.float32)
    return places, np.asarray(values_along(kind)(seen, *given))


@pytest.mark.parametrize("velocity", [(3.0, 0.0, 0.0), (5.0, 0.3, 0.1)], ids=["slow", "fast"])
@pytest.mark.parametrize("name", WORLDS)
def test_h_past_an_edge_changes_no_faster_than_the_drone_moves(name: str, velocity: tuple[float, ...]) -> None:
    """h of one point changes by at most 1 + (tau + v / a) v / s per metre, and with the penalty of sectors OUTSIDE / s
    more; smoothing does not steepen it. A point that came or went all of a sudden would change it by centimetres."""
    points = WORLDS[name]()
    places, h = along_flight("analytic", points, np.asarray(velocity))
    nearest = np.linalg.norm(points[:, None] - places[None], axis=-1).min()
    speed, barrier = np.linalg.norm(velocity), SYSTEM.barrier
    steepest = 1.0 + (barrier.reaction_time + speed / barrier.braking) * speed / nearest + 1.6 / nearest
    assert nearest > 0.3 and np.ptp(h) > 0.5
    assert np.abs(np.diff(h)).max() < steepest * STEP


@pytest.mark.parametrize("name", WORLDS)
def test_a_neural_h_past_an_edge_makes_small_jumps_only(name: str) -> None:
    """One node a sector: where the most urgent point of one becomes another, the network sees it elsewhere.

    The network is scattered, far steeper than a trained one.
    """
    _, h = along_flight("neural", WORLDS[name](), np.array([3.0, 0.0, 0.0]))
    assert np.ptp(h) > 0.3 and np.abs(np.diff(h)).max() < 0.15
