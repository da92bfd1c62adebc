"""The heading of a drone, which turns towards where it is told to look, at a limited rate."""

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneState

LEVEL = 0.1  # A direction with a shorter horizontal part asks for no turn [m, m/s]


def heading_of(direction: Vector) -> Scalar:
    """Yaw that faces ``direction`` [rad]; no gradient."""
    direction = jax.lax.stop_gradient(direction)
    return jnp.arctan2(direction[1], direction[0])


def turned(state: DroneState, look: Vector | None, physics: PhysicsConfig) -> DroneState:
    """The state after one period of turning towards ``look`` (of any length), at most at ``physics.yaw_rate``.

    No gradient: what a camera shows has none with respect to where it looks. A state without yaw stays as it is.
    """
    if state.yaw is None or look is None:
        return state
    yaw, look = jax.lax.stop_gradient((state.yaw, look))
    ahead, aside = jnp.cos(yaw), jnp.sin(yaw)
    left = jnp.arctan2(ahead * look[1] - aside * look[0], ahead * look[0] + aside * look[1])
    largest = physics.yaw_rate * physics.time_step
    asked = look[0] ** 2 + look[1] ** 2 > LEVEL**2
    return state.replace(yaw=yaw + jnp.where(asked, jnp.clip(left, -largest, largest), 0.0))
