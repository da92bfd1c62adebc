"""The estimate over time of the drone's own motion: observations corrected against a model prediction."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Vector
from drone_cbf.config import SensorConfig
from drone_cbf.perception.sensors import OwnMotion
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.point_mass import step


@struct.dataclass
class Estimate:
    """What the controller believes of its own motion. Commands sent are known exactly."""

    drone: DroneState
    bias: Vector
    """Acceleration that the model does not explain, mostly wind [m/s^2]."""


Correction = Callable[[Estimate, OwnMotion], Estimate]
"""(predicted estimate, observation) -> estimate."""


def first_estimate(observation: OwnMotion, drone: DroneState) -> Estimate:
    """Belief at take-off: the first observation, with the rotors and the command queue of ``drone``, in still air."""
    believed = drone.replace(position=observation.position, velocity=observation.velocity)
    return Estimate(drone=believed, bias=jnp.zeros(3, jnp.float32))


def model_of(estimate: Estimate, params: DroneParams) -> DroneParams:
    """The drone that the controller reckons with: ``params`` with the estimated bias."""
    return params.replace(bias=estimate.bias)


def predict(estimate: Estimate, command: Vector, params: DroneParams, time_step: float) -> Estimate:
    """Belief one period later, after ``command`` [m/s^2] was sent."""
    return estimate.replace(drone=step(estimate.drone, command, model_of(estimate, params), time_step))


def make_correction(config: SensorConfig, time_step: float) -> Correction:
    """Function that corrects a predicted estimate by an observation.

    ``predictor_corrector`` moves position and velocity by ``config.gain`` towards the observation (an alpha filter:
    the noise variance shrinks by about gain / (2 - gain)) and the bias by ``config.bias_gain`` of the acceleration
    that would explain the surprise in velocity. ``raw`` takes the motion as observed and knows no bias.
    """
    raw = config.estimator == "raw"
    gain, bias_gain = (1.0, 0.0) if raw else (config.gain, config.bias_gain)

    def correct(predicted: Estimate, observation: OwnMotion) -> Estimate:
        drone = predicted.drone
        surprise = observation.velocity - drone.velocity
        return Estimate(
            drone=drone.replace(
                position=drone.position + gain * (observation.position - drone.position),
                velocity=drone.velocity + gain * surprise,
            ),
            bias=predicted.bias + bias_gain * surprise / time_step,
        )

    return correct
