"""How the drone is turned, for the viewer: as its model says, or as a point mass would have to be."""

from __future__ import annotations

import numpy as np

from drone_cbf.reporting.fields import Array
from drone_cbf.reporting.records import Flight

GRAVITY = 9.81  # [m/s^2]


def attitudes(flight: Flight) -> Array:
    """Unit quaternions (w, x, y, z) at every state, (T+1, 4).

    A model without an attitude is drawn with its upward axis along the thrust of a multirotor that has the commanded
    acceleration, its heading left alone.
    """
    if flight.attitude is not None:
        return flight.attitude
    held = np.concatenate([flight.command, flight.command[-1:]])
    return shortest_turns(held + np.array([0.0, 0.0, GRAVITY]))


def shortest_turns(up: Array) -> Array:
    """The shortest turn of the z axis to each direction ``up``, of any length, (N, 3), as quaternions, (N, 4)."""
    length = np.linalg.norm(up, axis=-1, keepdims=True)
    x, y, z = np.where(length > 1e-9, up / np.maximum(length, 1e-9), [0.0, 0.0, 1.0]).T
    turn = np.stack([1.0 + z, -y, x, np.zeros_like(x)], axis=-1)
    turn[1.0 + z < 1e-9] = [0.0, 1.0, 0.0, 0.0]  # upside down: about any level axis
    return turn / np.linalg.norm(turn, axis=-1, keepdims=True)


def tilts(attitude: Array) -> Array:
    """Angle between the upward axis and the vertical [rad], (N,)."""
    _, x, y, _ = attitude.T
    return np.arccos(np.clip(1.0 - 2.0 * (x * x + y * y), -1.0, 1.0))
