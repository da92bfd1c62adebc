"""GCBF+'s CrazyFlie (Zhang et al. 2024): a rigid body that follows targets for its velocity by a linear regulator.

Twelve states: position, Euler angles (yaw, pitch, roll), velocity and rates along the body's axes; a period is one step
of Runge and Kutta (of more than 0.05 s several, for stability), then cut. The regulator asks for thrust and angular
accelerations, which their motors make exactly and without limits, so motors do not appear here. Its targets are
velocities along the world axes and a yaw rate.

The command is a desired acceleration as for every drone: the target is the drone's velocity plus the command times
:func:`times`, by which the regulator makes that acceleration once the drone is tilted. The target of the yaw rate is 0.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float
from scipy.linalg import solve_continuous_are

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.inner_loop import arriving, moved_by
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.quaternions import Quaternion
from drone_cbf.physics_config import GRAVITY

INERTIA = (1.395e-5, 1.395e-5, 2.173e-5)  # [kg m^2]
LARGEST_TARGET = (2.0, 2.0, 0.5)  # Velocity [m/s]
LARGEST_ANGLE = math.pi / 4.0  # Of pitch and roll [rad]
LARGEST_SPEED = 0.3  # Along each of the body's axes [m/s]
LARGEST_RATE = 10.0  # About them [rad/s]
LONGEST_STEP = 0.05  # Of the Runge-Kutta method [s]: the fastest pole of the loop is at -20/s
PRICES = (1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 10.0, 20.0)  # Q: roll, pitch, rates p, q, r, velocity x, y, z
EFFORTS = (0.05, 0.01, 0.01, 0.01)  # R: vertical acceleration, angular accelerations p, q, r

Angles = Float[Array, "3"]


@struct.dataclass
class Body:
    """How the drone is turned."""

    angles: Angles  # Yaw, pitch, roll [rad]
    rates: Vector  # About the body's axes: p, q, r [rad/s]

    @property
    def attitude(self) -> Quaternion:
        """The same as a quaternion."""
        (cy, cp, cr), (sy, sp, sr) = jnp.cos(0.5 * self.angles), jnp.sin(0.5 * self.angles)
        parts = [cr * cp * cy + sr * sp * sy, sr * cp * cy - cr * sp * sy]
        return jnp.stack([*parts, cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy])


@struct.dataclass
class Airframe:
    """What turns it, as arrays."""

    gain: Float[Array, "4 8"]
    """Vertical acceleration [m/s^2] and angular ones p, q, r [rad/s^2] by roll, pitch, p, q, r and velocity x, y, z."""
    times: Vector  # Velocity asked for per acceleration, beyond the present one [s]
    authority: Scalar  # Angular acceleration per one asked for; 1 for the nominal drone
    transport: Scalar  # Delay of a command on its way to the drone [s]


@functools.cache
def regulator() -> Float[np.ndarray, "4 8"]:
    """Gain of the linear-quadratic regulator about hover, in float64.

    Theirs goes by motor thrusts, priced by the accelerations that these make: as accelerations it is the same.
    """
    a, b = np.zeros((8, 8)), np.zeros((8, 4))
    a[0, 2] = a[1, 3] = 1.0  # roll and pitch by their rates
    a[5, 1], a[6, 0] = GRAVITY, -GRAVITY  # level velocity by tilt
    b[7, 0] = b[2, 1] = b[3, 2] = b[4, 3] = 1.0
    riccati = solve_continuous_are(a, b, np.diag(PRICES), np.diag(EFFORTS))
    return np.asarray(np.diag(1.0 / np.array(EFFORTS)) @ b.T @ riccati, np.float64)


def times(time_step: float) -> tuple[float, float, float]:
    """Velocity asked for per acceleration a, beyond the present one, in a period [s].

    Level: where the regulator leaves a tilt of a/g as it is. Vertically, where it acts at once, what makes a in the
    mean of a period during which the target stays and the velocity follows it.
    """
    gain = regulator()
    level = float(gain[2, 1] / (GRAVITY * gain[2, 5]))
    return level, level, time_step / -math.expm1(-time_step * gain[0, 7])


def airframe_of(config: PhysicsConfig) -> Airframe:
    """The one there is."""
    return Airframe(
        gain=jnp.asarray(regulator(), jnp.float32),
        times=jnp.array(times(config.time_step), jnp.float32),
        authority=jnp.float32(1.0),
        transport=jnp.float32(config.delay),
    )


def hovering(config: PhysicsConfig) -> Body:
    """Level, at rest."""
    zero = jnp.zeros(3, jnp.float32)
    return Body(angles=zero, rates=zero)


def rotation(angles: Angles) -> Float[Array, "3 3"]:
    """R: its columns are the body's axes in the world."""
    (cy, cp, cr), (sy, sp, sr) = jnp.cos(angles), jnp.sin(angles)
    return jnp.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


@struct.dataclass
class Whole:
    """What is integrated."""

    position: Vector  # [m]
    angles: Angles
    velocity: Vector  # Along the body's axes [m/s]
    rates: Vector


def regulated(whole: Whole, asked: Vector, airframe: Airframe) -> Float[Array, "4"]:
    """Vertical acceleration beyond gravity, along the body's axis [m/s^2], and angular accelerations [rad/s^2]."""
    off = rotation(whole.angles) @ whole.velocity - asked
    state = jnp.concatenate([whole.angles[:0:-1], whole.rates, off])
    return -airframe.gain @ state


def rates_of_change(whole: Whole, asked: Vector, airframe: Airframe) -> Whole:
    """Time derivatives."""
    turn, inertia = rotation(whole.angles), jnp.array(INERTIA, jnp.float32)
    _, pitch, roll = whole.angles
    p, q, r = whole.rates
    across = (q * jnp.sin(roll) + r * jnp.cos(roll)) / jnp.cos(pitch)
    effort = regulated(whole, asked, airframe)
    push = jnp.array([0.0, 0.0, 1.0]) * (GRAVITY + effort[0])
    gyroscopic = jnp.cross(whole.rates, inertia * whole.rates) / inertia
    return Whole(
        position=turn @ whole.velocity,
        angles=jnp.stack([across, q * jnp.cos(roll) - r * jnp.sin(roll), p + jnp.sin(pitch) * across]),
        velocity=push - jnp.cross(whole.rates, whole.velocity) - GRAVITY * turn[2],
        rates=airframe.authority * effort[1:] - gyroscopic,
    )


def after(whole: Whole, asked: Vector, airframe: Airframe, duration: float) -> Whole:
    """After ``duration`` [s] with one target, by one step of Runge and Kutta, cut."""

    def moved(rate: Whole, time: Scalar) -> Whole:
        return jax.tree.map(lambda value, slope: value + time * slope, whole, rate)

    def stage(before: tuple[Whole, Whole], given: tuple[Scalar, Scalar]) -> tuple[tuple[Whole, Whole], None]:
        (slope, total), (time, weight) = before, given
        slope = rates_of_change(moved(slope, time), asked, airframe)
        return (slope, jax.tree.map(lambda part, rate: part + weight * rate, total, slope)), None

    none = jax.tree.map(jnp.zeros_like, whole)
    times = duration * jnp.array([0.0, 0.5, 0.5, 1.0], whole.position.dtype)
    weights = duration / 6.0 * jnp.array([1.0, 2.0, 2.0, 1.0], whole.position.dtype)
    # A loop over the stages compiles four times as fast as the four written out.
    (_, mean), _ = jax.lax.scan(stage, (none, none), (times, weights))
    end = jax.tree.map(jnp.add, whole, mean)
    angle = jnp.array([jnp.inf, LARGEST_ANGLE, LARGEST_ANGLE], jnp.float32)
    return end.replace(
        angles=jnp.clip(end.angles, -angle, angle),
        velocity=jnp.clip(end.velocity, -LARGEST_SPEED, LARGEST_SPEED),
        rates=jnp.clip(end.rates, -LARGEST_RATE, LARGEST_RATE),
    )


def step(
    state: DroneState, command: Vector, params: DroneParams, time_step: float, rate: float, gradient_decay: float = 0.0
) -> DroneState:
    """State one period later; ``command`` [m/s^2] is sent now, a delay is rounded up to whole periods. No inner loop
    of another ``rate``; no wind acts on it."""
    assert state.body is not None and params.airframe is not None, "a drone with a body"
    airframe, body = params.airframe, state.body
    steps = math.ceil(time_step / LONGEST_STEP - 1e-6)
    commands, queue = arriving(state, command, params, airframe.transport, time_step, 1)

    def flown(motion: Motion) -> tuple[Whole, Vector]:
        most = jnp.array(LARGEST_TARGET, jnp.float32)
        asked = jnp.clip(motion.velocity + airframe.times * commands[0], -most, most)
        velocity = rotation(body.angles).T @ motion.velocity
        whole = Whole(position=motion.position, angles=body.angles, velocity=velocity, rates=body.rates)
        for _ in range(steps):
            whole = after(whole, asked, airframe, time_step / steps)
        return whole, asked

    def move(motion: Motion) -> Motion:
        whole, asked = flown(motion)
        turn = rotation(whole.angles)
        push = GRAVITY + regulated(whole, asked, airframe)[0]
        thrust = turn[:, 2] * push - jnp.array([0.0, 0.0, GRAVITY])
        return Motion(position=whole.position, velocity=turn @ whole.velocity, thrust=thrust)

    motion = moved_by(move, state, time_step, gradient_decay)
    whole, _ = flown(Motion(position=state.position, velocity=state.velocity, thrust=state.thrust))
    body = Body(angles=whole.angles, rates=whole.rates)
    return state.replace(
        position=motion.position, velocity=motion.velocity, thrust=motion.thrust, queue=queue, body=body
    )


def believed_drag(config: PhysicsConfig) -> tuple[float, float]:
    """None."""
    return 0.0, 0.0


def varied(airframe: Airframe, mass: Scalar, drag: Scalar, lag: Scalar) -> Airframe:
    """A heavier drone turns more slowly; there is neither drag nor a lag of the rotors."""
    return airframe.replace(authority=airframe.authority / mass)
