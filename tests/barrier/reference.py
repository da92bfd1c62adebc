"""The braking barrier in float64 NumPy, straight from the true obstacles, which are capsules."""

from __future__ import annotations

import numpy as np

from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import CLOSING_SHARPNESS
from drone_cbf.physics.obstacles import Obstacles


def margins(position: np.ndarray, velocity: np.ndarray, obstacles: Obstacles, system: SystemConfig) -> np.ndarray:
    """h_i [m] of every obstacle, (m,); all are taken as resting."""
    shapes = obstacles.capsules
    centre, radius, half_height = (
        np.asarray(x, np.float64) for x in (shapes.centre, shapes.radius, shapes.half_height)
    )
    axis = centre.copy()
    axis[:, 2] = np.clip(position[2], centre[:, 2] - half_height, centre[:, 2] + half_height)
    away = position - axis
    distance = np.linalg.norm(away, axis=-1)
    approach = -(away @ velocity) / distance
    closing = np.logaddexp(0.0, CLOSING_SHARPNESS * approach) / CLOSING_SHARPNESS
    barrier = system.barrier
    stop = barrier.reaction_time * closing + closing**2 / (2.0 * barrier.braking)
    return distance - radius - system.physics.drone_radius - barrier.safety_margin - stop


def value(position: np.ndarray, velocity: np.ndarray, obstacles: Obstacles, system: SystemConfig) -> float:
    """h [m]: the soft minimum of the margins and the sensing range."""
    temperature = system.barrier.temperature
    every = np.append(margins(position, velocity, obstacles, system), system.sensor.range)
    least = every.min()
    return float(least - temperature * np.log(np.sum(np.exp(-(every - least) / temperature))))


def rate(position, velocity, acceleration, obstacles: Obstacles, system: SystemConfig, step: float = 1e-5) -> float:
    """dh/dt [m/s] along the motion, by central differences."""

    def at(time: float) -> float:
        moved = position + velocity * time + 0.5 * acceleration * time**2
        return value(moved, velocity + acceleration * time, obstacles, system)

    return (at(step) - at(-step)) / (2.0 * step)
