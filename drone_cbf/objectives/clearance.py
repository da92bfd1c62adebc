"""Distances between a trajectory and the scene, also between samples."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import safe_norm, unit
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.obstacles import FAR, nearest_surface_points, surface_distances, swept_distances
from drone_cbf.rollout import Encounters, Trajectory
from drone_cbf.scenes.scene import Scene


@struct.dataclass
class Approach:
    """Clearance and closing speed of each obstacle."""

    clearance: Float[Array, "t m"]  # Hull to surface [m]
    speed: Float[Array, "t m"]  # Of approach [m/s], zero when receding


def path(trajectory: Trajectory) -> Float[Array, "points 3"]:
    """Positions of one flight, start to end [m]."""
    return jnp.concatenate([trajectory.states.position, trajectory.last.position[None]])


def velocities(trajectory: Trajectory) -> Float[Array, "points 3"]:
    """Velocities of one flight, start to end [m/s]."""
    return jnp.concatenate([trajectory.states.velocity, trajectory.last.velocity[None]])


def swept_clearances(trajectory: Trajectory, scene: Scene, physics: PhysicsConfig) -> Float[Array, "t m"]:
    """Smallest distance of the drone's hull to each obstacle during each step [m]; negative is penetration.

    In a swarm, the last column is that to the hull of any other drone, without gradient.
    Between two samples the drone is taken to move along their chord at constant speed. The deviation e from it vanishes
    at both and |e''| <= A, the largest acceleration in between, so the clearance is too large by at most A dt^2 / 8: by
    default 6.5 mm (A: norm of ``physics.max_acceleration``, 18.8 m/s^2, plus 2.0 m/s^2 of drag at 5.5 m/s).
    """
    points = path(trajectory)
    times = jnp.arange(points.shape[0] - 1) * physics.time_step

    def during(start: Array, end: Array, time: Array) -> Array:
        return swept_distances(scene.obstacles.at(time), start, end, physics.time_step)

    clearances = jax.vmap(during)(points[:-1], points[1:], times) - physics.drone_radius
    if trajectory.others is None:
        return clearances
    return jnp.concatenate([clearances, trajectory.others.gap[:, None]], axis=-1)


def approach(trajectory: Trajectory, scene: Scene, physics: PhysicsConfig) -> Approach:
    """Clearance and closing speed at the start of each step, for losses: smooth, and cheaper than the swept check."""
    times = jnp.arange(trajectory.states.position.shape[0]) * physics.time_step

    def at(point: Array, velocity: Array, time: Array) -> Approach:
        obstacles = scene.obstacles.at(time)
        offset = point - nearest_surface_points(obstacles, point)
        closing = -jnp.sum(unit(offset) * (velocity - obstacles.velocity), -1)
        return Approach(
            clearance=surface_distances(obstacles, point) - physics.drone_radius, speed=jnp.maximum(closing, 0.0)
        )

    seen = jax.vmap(at)(trajectory.states.position, trajectory.states.velocity, times)
    if trajectory.others is None:
        return seen
    return concatenate(seen, approach_of_others(trajectory.states, trajectory.others, physics))


def approach_of_others(states: DroneState, others: Encounters, physics: PhysicsConfig) -> Approach:
    """Gap to the hulls of the nearest other drones, and closing speed, at the start of each step; ``FAR`` where fewer
    are within the sensing radius. The gradient is that of the drone's own flight: the others fly as they did."""
    offset = jnp.where(others.within[..., None], states.position[:, None] - others.position, jnp.array([FAR, 0.0, 0.0]))
    closing = -jnp.sum(unit(offset) * (states.velocity[:, None] - others.velocity), -1)
    return Approach(
        clearance=safe_norm(offset) - 2.0 * physics.drone_radius,
        speed=jnp.where(others.within, jnp.maximum(closing, 0.0), 0.0),
    )


def concatenate(*parts: Approach) -> Approach:
    """All columns of ``parts``."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=-1), *parts)
