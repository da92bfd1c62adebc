"""A drone with an attitude: thrust along its upward axis, body rates and collective thrust that follow with a lag.

Simpler than a rigid body: rates follow those that an attitude loop asks for with a first-order lag, as under a rate
controller, so neither inertia nor rotors appear. Within an inner step the lags are integrated in closed form.
"""

import jax.numpy as jnp
from flax import struct

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.inner_loop import arriving, carried, inner_steps, moved_by, recomputed_scan, shortest_turn
from drone_cbf.physics.point_mass import SMALLEST_LAG
from drone_cbf.physics.quaternions import LEVEL, Quaternion, turned_by, up_axis
from drone_cbf.physics.thrust import ThrustLimits, against_gravity, attainable, limits_of, with_gravity
from drone_cbf.physics_config import GRAVITY

ANGLE_GAIN = 0.3  # Rate asked for per angle left, times the lag of the rates: damping 0.9, little overshoot
LARGEST_SPEED = None  # Not cut


@struct.dataclass
class Body:
    """How a drone is turned, and its thrust."""

    attitude: Quaternion  # Turns body axes into world axes
    rates: Vector  # Angular velocity in body axes [rad/s]
    collective: Scalar  # Thrust along the upward axis [m/s^2]


@struct.dataclass
class Airframe:
    """What the attitude does, as arrays."""

    limits: ThrustLimits
    thrust_lag: Scalar  # Of the collective thrust [s]
    rate_lag: Scalar  # Of the body rates [s]
    largest_rate: Scalar  # Of roll and pitch together [rad/s]
    transport: Scalar  # Delay of a command on its way to the drone [s]


def airframe_of(config: PhysicsConfig) -> Airframe:
    """The airframe that ``config`` describes."""
    return Airframe(
        limits=limits_of(config),
        thrust_lag=jnp.float32(config.lag_time),
        rate_lag=jnp.float32(config.rate_lag),
        largest_rate=jnp.float32(config.body_rate),
        transport=jnp.float32(config.delay),
    )


def hovering(config: PhysicsConfig) -> Body:
    """Level, at rest, carrying its weight."""
    return Body(
        attitude=jnp.array(LEVEL, jnp.float32), rates=jnp.zeros(3, jnp.float32), collective=jnp.float32(GRAVITY)
    )


def asked_rates(attitude: Quaternion, wanted: Vector, airframe: Airframe) -> Vector:
    """Body rates that turn the upward axis towards ``wanted`` on the shortest way [rad/s]; none about that axis."""
    rates = shortest_turn(attitude, wanted) * (ANGLE_GAIN / airframe.rate_lag)
    return rates * jnp.minimum(1.0, airframe.largest_rate / safe_norm(rates))


def turned(body: Body, command: Vector, airframe: Airframe, duration: float) -> Body:
    """The body after an inner step of ``duration`` [s] under ``command`` [m/s^2], held."""
    wanted = against_gravity(attainable(command, airframe.limits))
    asked = asked_rates(body.attitude, wanted, airframe)
    left = jnp.exp(-duration / airframe.rate_lag)
    mean = asked + (body.rates - asked) * airframe.rate_lag * (1.0 - left) / duration
    push = jnp.maximum(jnp.dot(wanted, up_axis(body.attitude)), airframe.limits.lowest)
    kept = jnp.exp(-duration / jnp.maximum(airframe.thrust_lag, SMALLEST_LAG))
    return Body(
        attitude=turned_by(body.attitude, duration * mean),
        rates=asked + (body.rates - asked) * left,
        collective=push + (body.collective - push) * kept,
    )


def thrust_of(body: Body) -> Vector:
    """Acceleration by the rotors, gravity compensated [m/s^2]."""
    return with_gravity(body.collective * up_axis(body.attitude))


def step(
    state: DroneState, command: Vector, params: DroneParams, time_step: float, rate: float, gradient_decay: float = 0.0
) -> DroneState:
    """State one period later; ``command`` [m/s^2] is sent now, ``rate`` [Hz] is that of the inner loop."""
    assert state.body is not None and params.airframe is not None, "a drone with an attitude"
    airframe, steps = params.airframe, inner_steps(time_step, rate)
    duration = time_step / steps
    commands, queue = arriving(state, command, params, airframe.transport, time_step, steps)

    def one(body: Body, command: Vector) -> tuple[Body, Vector]:
        body = turned(body, command, airframe, duration)
        return body, thrust_of(body)

    body, thrusts = recomputed_scan(one, state.body, commands)
    thrusts = jnp.concatenate([thrust_of(state.body)[None], thrusts])
    move = carried(thrusts, duration, params.wind, params)
    motion = moved_by(move, state, time_step, gradient_decay)
    return state.replace(position=motion.position, velocity=motion.velocity, thrust=thrusts[-1], queue=queue, body=body)


def believed_drag(config: PhysicsConfig) -> tuple[float, float]:
    """Linear [1/s] and quadratic drag [1/m], as configured."""
    return config.linear_drag, config.quadratic_drag


def varied(airframe: Airframe, mass: Scalar, drag: Scalar, lag: Scalar) -> Airframe:
    """The airframe with its lags times ``lag``; mass and drag are those of the drone as a whole."""
    return airframe.replace(thrust_lag=airframe.thrust_lag * lag, rate_lag=airframe.rate_lag * lag)
