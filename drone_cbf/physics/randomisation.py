"""What the controller does not know: gusts, and random drones that differ from its model, in stronger wind.

Domain randomisation (Tobin et al. 2017), used to measure robustness: a payload, a changed airframe, worn rotors.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.physics.drone import DroneParams

MASS = 0.15  # Largest relative error of the mass, and so of the acceleration per command; hover stays trimmed
DRAG = 0.5  # Largest relative error of both drag coefficients, drawn once
LAG = 0.3  # Largest relative error of the thrust lag
WIND = 1.5  # Factor on mean wind and gusts


Varied = Callable[[Any, Scalar, Scalar, Scalar], Any]
"""(airframe, relative mass, drag and lag) -> an airframe that differs so."""


def random_drone(nominal: DroneParams, key: jax.Array, vary: Varied | None = None, delay: float = 0.0) -> DroneParams:
    """A drone around ``nominal`` with independent uniform errors in mass, drag and lag; ``vary`` for its airframe.

    ``delay``: largest relative error of the transport delay, drawn once; 0 draws none.
    """
    mass, drag, lag = 1.0 + jnp.array([MASS, DRAG, LAG]) * jax.random.uniform(key, (3,), minval=-1.0)
    if delay:
        nominal = _delayed(nominal, 1.0 + delay * jax.random.uniform(jax.random.fold_in(key, 1), minval=-1.0))
    return nominal.replace(
        gain=nominal.gain / mass,
        linear_drag=nominal.linear_drag * drag,
        quadratic_drag=nominal.quadratic_drag * drag,
        lag_time=nominal.lag_time * lag,
        airframe=nominal.airframe if vary is None else vary(nominal.airframe, mass, drag, lag),
    )


def _delayed(drone: DroneParams, factor: Scalar) -> DroneParams:
    """The drone with ``factor`` times its transport delay, wherever its model has it."""
    if drone.airframe is None:
        return drone.replace(delay=drone.delay * factor)
    return drone.replace(airframe=drone.airframe.replace(transport=drone.airframe.transport * factor))


def gust_history(
    spread: Vector, correlation_time: float, time_step: float, steps: int, key: jax.Array
) -> Float[Array, "t 3"]:
    """Deviation of the wind from its mean in each of ``steps`` periods [m/s], from zero: an Ornstein-Uhlenbeck process.

    Its stationary standard deviation is ``spread`` [m/s], its autocorrelation time ``correlation_time`` [s].
    """
    keep = jnp.exp(jnp.float32(-time_step / correlation_time))
    kicks = spread * jnp.sqrt(1.0 - keep * keep) * jax.random.normal(key, (steps, 3), jnp.float32)

    def one_period(gust: Vector, kick: Vector) -> tuple[Vector, Vector]:
        return keep * gust + kick, gust

    return jax.lax.scan(one_period, jnp.zeros(3, jnp.float32), kicks)[1]
