"""What barriers make of scans on a horizontal slice of a scene: the neural one, the analytic one, and the truth."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from drone_cbf.arrays import unit
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.barrier.truth import make_true_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.mapping import make_still_view
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.belief import before
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.obstacles import surface_distances
from drone_cbf.scenes.scene import Scene

HALF_SIDES = (2.4, 2.4)  # Of the slice along x and y [m]
BEFORE = 2.0  # Distance before the middle of the slice from which the shown scan is taken [m]


@dataclass(frozen=True)
class ScanSlice:
    """Values on a horizontal grid; x (nx,), y (ny,), h (ny, nx) [m]."""

    x: np.ndarray
    y: np.ndarray
    student: np.ndarray
    analytic: np.ndarray
    truth: np.ndarray
    height: float  # [m]
    velocity: np.ndarray  # Of the drone, at every point [m/s]
    points: np.ndarray  # One scan, world frame [m], (n, 3)


def record_scan_slice(
    system: SystemConfig, barrier: BarrierParams, scene: Scene, key: jax.Array, *, speed: float = 2.0, points: int = 49
) -> ScanSlice:
    """The barriers around the narrowest place between start and goal of ``scene``, flying along x with ``speed`` [m/s].

    At each place both see the map of a drone without noise whose commands act there; the truth is that of the solids.
    """
    middle = narrowest(scene)
    x, y = (middle[axis] + np.linspace(-half, half, points, dtype=np.float32) for axis, half in enumerate(HALF_SIDES))
    velocity = jnp.array([speed, 0.0, 0.0], jnp.float32)
    analytic, neural = make_analytic_barrier(system), make_neural_barrier(system)(barrier)
    view, truth, dynamics = make_still_view(system), make_true_barrier(system), make_dynamics(system.physics)

    def values(position: Array) -> tuple[Array, Array, Array]:
        state = dynamics.initial(before(position, velocity, dynamics.effective.ahead), velocity)
        graph, motion = view(state, scene, jnp.float32(0.0), key)
        return neural(graph), analytic(graph), truth(motion, scene, None)

    height = np.full((points, points), middle[2], np.float32)
    grid = jnp.asarray(np.stack([*np.meshgrid(x, y), height], -1).reshape(-1, 3))
    found = jax.jit(lambda places: jax.lax.map(values, places, batch_size=64))(grid)
    names = ("student", "analytic", "truth")
    fields: dict[str, Any] = {
        name: np.asarray(one).reshape(points, points) for name, one in zip(names, found, strict=True)
    }
    place = jnp.asarray(middle - np.array([BEFORE, 0.0, 0.0], np.float32))
    return ScanSlice(
        x=x, y=y, **fields, height=float(middle[2]), velocity=np.asarray(velocity), points=scan(system, scene, place)
    )


def scan(system: SystemConfig, scene: Scene, place: Array) -> np.ndarray:
    """What the sensor hits from ``place`` [m] without noise, (n, 3) [m]."""
    sensor, none = make_sensor(system), jnp.float32(0.0)
    state = make_dynamics(system.physics).initial(place, jnp.zeros(3, jnp.float32))
    errors = sensor.draw_errors(none, scene.obstacles.active.shape[0], jax.random.key(0))
    reading = sensor.read(scene.obstacles, state, place, jnp.int32(0), errors, none)
    return np.asarray(reading.points)[np.asarray(reading.hit)]


def narrowest(scene: Scene) -> np.ndarray:
    """Where the straight way from start to goal is nearest to a surface, at the height at which most is free there."""
    fractions = np.linspace(0.15, 0.85, 71, dtype=np.float32)
    way = np.asarray(scene.start) + fractions[:, None] * (np.asarray(scene.goal) - np.asarray(scene.start))
    clearance = jax.jit(jax.vmap(lambda place: jnp.min(surface_distances(scene.obstacles, place))))
    middle = way[np.argmin(clearance(jnp.asarray(way)))]
    across = np.asarray(unit(jnp.asarray(np.cross(np.asarray(scene.goal - scene.start), [0.0, 0.0, 1.0]), jnp.float32)))
    heights = middle[2] + np.array([0.0, 0.2, -0.2, 0.4, -0.4, 0.6, -0.6, 0.8, -0.8], np.float32)
    lines = middle + np.linspace(-HALF_SIDES[1], HALF_SIDES[1], 41)[:, None] * across
    places = np.repeat(lines[None], len(heights), 0)
    places[..., 2] = heights[:, None]
    free = np.asarray(clearance(jnp.asarray(places.reshape(-1, 3), jnp.float32))).reshape(len(heights), -1) > 0.1
    middle[2] = heights[np.argmax(free.mean(-1))]
    return middle
