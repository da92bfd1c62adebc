"""Estimation of the drone's own motion: model prediction corrected by observations."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import SensorConfig
from drone_cbf.perception.readings import OwnMotion
from drone_cbf.physics.belief import predicted
from drone_cbf.physics.drone import DroneParams, DroneState

SMALLEST_NOISE = 1e-3  # Smallest sensor noise assumed [m, m/s]; keeps the gain finite for an exact sensor
INITIAL_VARIANCE_RATIO = 100.0
"""Variance at take-off over sensor variance: large, so that the first correction dominates."""


@struct.dataclass
class Estimate:
    """Estimate of the drone's own motion. Commands sent are known exactly."""

    drone: DroneState
    bias: Vector  # Acceleration not explained by the model, mostly wind [m/s^2]
    covariance: Float[Array, "3 3"]
    """Covariance of position, velocity and bias errors along one axis, the same for all axes [m, m/s, m/s^2]."""


def first_estimate(observation: OwnMotion, drone: DroneState, noise: Scalar, config: SensorConfig) -> Estimate:
    """Estimate at take-off: the first observation, with the thrust and command queue of ``drone``, in still air.

    The first correction uses it again; so that it does not count twice, the covariance starts nearly uninformative.
    """
    believed = drone.replace(position=observation.position, velocity=observation.velocity)
    variance = INITIAL_VARIANCE_RATIO * jnp.maximum(noise, SMALLEST_NOISE) ** 2
    covariance = jnp.diag(jnp.stack([variance, variance, jnp.float32(config.bias_spread**2)]))
    return Estimate(drone=believed, bias=jnp.zeros(3, jnp.float32), covariance=covariance)


def position_spread(estimate: Estimate, ahead: Scalar) -> Scalar:
    """Standard deviation per axis of the position ``ahead`` [s] from now [m]."""
    reach = jnp.stack([jnp.ones_like(ahead), ahead, 0.5 * ahead**2])
    return jnp.sqrt(jnp.maximum(reach @ estimate.covariance @ reach, 0.0))


def params_with_bias(estimate: Estimate, params: DroneParams) -> DroneParams:
    """Model of the controller: ``params`` with the estimated bias."""
    return params.replace(bias=estimate.bias)


def predict(estimate: Estimate, command: Vector, params: DroneParams, time_step: float, drift: float) -> Estimate:
    """Estimate one period after ``command`` [m/s^2] was sent; covariance grows by ``drift`` and neglects drag."""
    move = jnp.array([[1.0, time_step, 0.5 * time_step**2], [0.0, 1.0, time_step], [0.0, 0.0, 1.0]], jnp.float32)
    grown = (move @ estimate.covariance @ move.T).at[2, 2].add(drift**2 * time_step)
    following = predicted(estimate.drone, command, params_with_bias(estimate, params), time_step)
    return estimate.replace(drone=following, covariance=grown)


def make_correction(config: SensorConfig, time_step: float) -> Callable[[Estimate, OwnMotion, Scalar], Estimate]:
    """Function (predicted estimate, observation, its standard deviation [m, m/s]) -> corrected estimate.

    ``kalman`` weighs prediction and observation by their variances (Kalman 1960). ``predictor_corrector`` moves
    position and velocity by ``config.gain`` towards the observation (alpha filter) and the bias by ``config.bias_gain``
    of the acceleration that would explain the innovation in velocity. ``raw`` takes the observation, without bias.
    """
    if config.estimator == "kalman":
        return kalman_correction
    raw = config.estimator == "raw"
    gain, bias_gain = (1.0, 0.0) if raw else (config.gain, config.bias_gain)
    gains = jnp.array([[gain, 0.0], [0.0, gain], [0.0, bias_gain / time_step]], jnp.float32)

    def correct(predicted: Estimate, observation: OwnMotion, noise: Scalar) -> Estimate:
        return _corrected(predicted, observation, gains, noise)

    return correct


def kalman_correction(predicted: Estimate, observation: OwnMotion, noise: Scalar) -> Estimate:
    """Kalman update of motion, bias and covariance by one observation with standard deviation ``noise``."""
    covariance = predicted.covariance
    variance = jnp.maximum(noise, SMALLEST_NOISE) ** 2
    position, velocity, both = covariance[0, 0] + variance, covariance[1, 1] + variance, covariance[0, 1]
    inverse = jnp.array([[velocity, -both], [-both, position]]) / (position * velocity - both**2)
    return _corrected(predicted, observation, covariance[:, :2] @ inverse, noise)


def _corrected(predicted: Estimate, observation: OwnMotion, gains: Float[Array, "3 2"], noise: Scalar) -> Estimate:
    """The estimate moved by ``gains`` times the innovation; Joseph form keeps the covariance positive in float32."""
    drone = predicted.drone
    surprise = jnp.stack([observation.position - drone.position, observation.velocity - drone.velocity])
    change = gains @ surprise
    kept = jnp.eye(3).at[:, :2].add(-gains)
    variance = jnp.maximum(noise, SMALLEST_NOISE) ** 2
    return Estimate(
        drone=drone.replace(position=drone.position + change[0], velocity=drone.velocity + change[1]),
        bias=predicted.bias + change[2],
        covariance=kept @ predicted.covariance @ kept.T + variance * gains @ gains.T,
    )
