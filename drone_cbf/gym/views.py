"""What an agent sees and does: spaces of Gymnasium, and readings as arrays in them."""

import math

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array

from drone_cbf.config import SystemConfig
from drone_cbf.gym.flights import Episode, action_size
from drone_cbf.perception.readings import DEPTH_COLUMNS, DEPTH_ROWS, Reading

FASTEST = 100.0  # Velocities are cut to this [m/s]
FARTHEST = 1000.0  # Goals are cut to this distance along each axis [m]
IMAGE = (-2.0, 12.0)  # Least and largest inverse depth 3 / d - 0.6, with its noise


def action_space(system: SystemConfig) -> spaces.Box:
    """Parts of the largest action, from -1 to 1, as learners want them: see :func:`largest_action`."""
    return spaces.Box(-1.0, 1.0, (action_size(system),), np.float32)


def largest_action(system: SystemConfig) -> np.ndarray:
    """Of :attr:`drone_cbf.gym.flights.Flights.act`: along each axis [m/s^2]; with a camera also a turn [rad]."""
    return np.array([*system.physics.reach, math.pi][: action_size(system)], np.float32)


def observation_space(system: SystemConfig, points: int) -> spaces.Dict:
    """Measured, relative to the drone, in world axes; ``points``: how many a reading has. See docs/gymnasium.md."""
    reach = 2.0 * system.sensor.range
    fields: dict[str, spaces.Space] = {
        "velocity": spaces.Box(-FASTEST, FASTEST, (3,), np.float32),
        "goal": spaces.Box(-FARTHEST, FARTHEST, (3,), np.float32),
        "points": spaces.Box(-reach, reach, (points, 3), np.float32),
        "hit": spaces.MultiBinary(points),
    }
    if system.sensor.kind == "depth":
        fields["image"] = spaces.Box(*IMAGE, (DEPTH_ROWS, DEPTH_COLUMNS), np.float32)
        fields["heading"] = spaces.Box(-1.0, 1.0, (2,), np.float32)
    return spaces.Dict(fields)


def observation(system: SystemConfig, episode: Episode, reading: Reading) -> dict[str, Array]:
    """The reading as a member of :func:`observation_space`; traceable."""
    reach, own = 2.0 * system.sensor.range, reading.own
    offsets = jnp.where(reading.hit[:, None], reading.points - own.position, 0.0)
    fields = {
        "velocity": jnp.clip(own.velocity, -FASTEST, FASTEST),
        "goal": jnp.clip(episode.scene.goal - own.position, -FARTHEST, FARTHEST),
        "points": jnp.clip(offsets, -reach, reach),
        "hit": reading.hit.astype(jnp.int8),
    }
    if reading.image is not None and own.yaw is not None:
        fields["image"] = jnp.clip(reading.image, *IMAGE)
        fields["heading"] = jnp.stack([jnp.cos(own.yaw), jnp.sin(own.yaw)])
    return fields
