"""A quadrotor as a rigid body: attitude as a unit quaternion, four rotors that lag, drag of the body (McKinnon 2020).

The inner loop turns the desired acceleration into thrust and torque (Lee et al. 2010, on the sphere of thrust
directions: the heading is left alone), these into rotor speeds, within their limits. It runs at ``physics.inner_rate``
and holds the speeds asked for; in between the body is integrated by one step of Runge and Kutta, fourth order.
Not modelled: gyroscopic and run-up torques of the rotors, ground effect, battery.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.airframes import AIRFRAMES
from drone_cbf.arrays import Scalar, Vector
from drone_cbf.config import PhysicsConfig
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.inner_loop import arriving, inner_steps, moved_by, recomputed_scan, shortest_turn
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.quaternions import LEVEL, Quaternion, body_axes, normalised, rate_of, up_axis
from drone_cbf.physics.thrust import ThrustLimits, against_gravity, attainable, limits_of, with_gravity
from drone_cbf.physics_config import GRAVITY

MIXING = ((-1.0, -1.0, 1.0, 1.0), (-1.0, 1.0, 1.0, -1.0), (-1.0, 1.0, -1.0, 1.0))
"""Signs with which the rotors' thrusts, times the arm, make roll and pitch, and their torques yaw."""

Rotors = Float[Array, "4"]
LARGEST_SPEED = None  # Not cut


@struct.dataclass
class Body:
    """How a quadrotor is turned, and its rotors."""

    attitude: Quaternion  # Turns body axes into world axes
    rates: Vector  # Angular velocity in body axes [rad/s]
    rotors: Rotors  # Speeds [rad/s]


@struct.dataclass
class Airframe:
    """Parameters of the rigid body, as arrays; see :class:`drone_cbf.airframes.AirframeData`."""

    mass: Scalar  # [kg]
    arm: Scalar  # [m]
    inertia: Vector  # [kg m^2]
    thrust: Float[Array, "2"]
    torque: Float[Array, "2"]
    torque_per_thrust: Scalar  # [m]
    faster: Float[Array, "2"]
    slower: Float[Array, "2"]
    rotor_thrust: Float[Array, "2"]  # [N]
    drag: Vector  # [N s/m]
    limits: ThrustLimits
    stiffness: Scalar  # Angular acceleration asked for per angle [1/s^2]
    damping: Scalar  # The same per rate [1/s]
    lead: Scalar  # By how much the inner loop exaggerates changes of rotor speed, against their lag
    transport: Scalar  # Delay of a command on its way to the drone [s]


def airframe_of(config: PhysicsConfig) -> Airframe:
    """The airframe that ``config`` names, with its inner loop."""
    data = AIRFRAMES[config.airframe]
    return Airframe(
        **{field.name: jnp.asarray(getattr(data, field.name), jnp.float32) for field in dataclasses.fields(data)},
        limits=limits_of(config),
        stiffness=jnp.float32(300.0),
        damping=jnp.float32(30.0),
        lead=jnp.float32(3.0),
        transport=jnp.float32(config.delay),
    )


def hovering(config: PhysicsConfig) -> Body:
    """Level, at rest, the rotors carrying the weight."""
    data = AIRFRAMES[config.airframe]
    speed = data.speed_at(0.25 * data.mass * GRAVITY)
    return Body(
        attitude=jnp.array(LEVEL, jnp.float32),
        rates=jnp.zeros(3, jnp.float32),
        rotors=jnp.full(4, speed, jnp.float32),
    )


def rotor_thrusts(rotors: Rotors, airframe: Airframe) -> Rotors:
    """Thrust of each rotor [N]."""
    return airframe.thrust[0] * rotors + airframe.thrust[1] * rotors**2


def speeds_for(thrusts: Float[Array, "n"], airframe: Airframe) -> Float[Array, "n"]:
    """Speeds at which rotors make ``thrusts`` [N], which are positive."""
    linear, square = airframe.thrust
    return (-linear + jnp.sqrt(linear**2 + 4.0 * square * thrusts)) / (2.0 * square)


def torques(rotors: Rotors, airframe: Airframe) -> Vector:
    """Torque of the rotors in body axes [N m]."""
    signs = jnp.asarray(MIXING, rotors.dtype)
    drags = airframe.torque[0] * rotors + airframe.torque[1] * rotors**2
    level = airframe.arm * signs[:2] @ rotor_thrusts(rotors, airframe)
    return jnp.concatenate([level, signs[2:] @ drags])


def asked_speeds(body: Body, command: Vector, airframe: Airframe) -> Rotors:
    """Speeds that the inner loop asks of the rotors for a desired acceleration [m/s^2], within their limits."""
    wanted = against_gravity(attainable(command, airframe.limits))
    turning = airframe.stiffness * shortest_turn(body.attitude, wanted) - airframe.damping * body.rates
    torque = airframe.inertia * turning + jnp.cross(body.rates, airframe.inertia * body.rates)
    push = airframe.mass * jnp.dot(wanted, up_axis(body.attitude))
    arms = jnp.stack([airframe.arm, airframe.arm, airframe.torque_per_thrust])
    thrusts = 0.25 * (push + jnp.asarray(MIXING, command.dtype).T @ (torque / arms))
    least, most = airframe.rotor_thrust
    speeds = speeds_for(jnp.clip(thrusts, least, most), airframe)
    slowest, fastest = speeds_for(airframe.rotor_thrust, airframe)
    return jnp.clip(body.rotors + airframe.lead * (speeds - body.rotors), slowest, fastest)


def rates_of_change(body: Body, asked: Rotors, airframe: Airframe) -> Body:
    """Time derivative of the body while the rotors are ``asked`` for these speeds."""
    up, down = airframe.faster, airframe.slower
    change, squares = asked - body.rotors, asked**2 - body.rotors**2
    spin = jnp.where(change > 0.0, up[0] * change + up[1] * squares, down[0] * change + down[1] * squares)
    turning = torques(body.rotors, airframe) - jnp.cross(body.rates, airframe.inertia * body.rates)
    return Body(attitude=rate_of(body.attitude, body.rates), rates=turning / airframe.inertia, rotors=spin)


def thrust_of(body: Body, airframe: Airframe) -> Vector:
    """Acceleration by the rotors, gravity compensated [m/s^2]."""
    push = jnp.sum(rotor_thrusts(body.rotors, airframe)) / airframe.mass
    return with_gravity(push * up_axis(body.attitude))


def drag_of(body: Body, airframe: Airframe) -> Float[Array, "3 3"]:
    """Deceleration per air velocity, world axes [1/s]."""
    axes = body_axes(body.attitude)
    return (axes * (airframe.drag / airframe.mass)) @ axes.T


@struct.dataclass
class Stages:
    """What moves the centre at the stages of a Runge-Kutta step."""

    thrust: Float[Array, "*steps 4 3"]  # [m/s^2]
    drag: Float[Array, "*steps 4 3 3"]  # [1/s]


def turned(body: Body, asked: Rotors, airframe: Airframe, duration: float) -> tuple[Body, Stages]:
    """The body after ``duration`` [s], and what moved its centre meanwhile."""

    def after(rate: Body, time: float) -> Body:
        return jax.tree.map(lambda value, slope: value + time * slope, body, rate)

    bodies, slopes = [body], []
    for time in (0.5 * duration, 0.5 * duration, duration):
        slopes.append(rates_of_change(bodies[-1], asked, airframe))
        bodies.append(after(slopes[-1], time))
    slopes.append(rates_of_change(bodies[-1], asked, airframe))
    mean = jax.tree.map(lambda a, b, c, d: (a + 2.0 * b + 2.0 * c + d) / 6.0, *slopes)
    end = after(mean, duration)
    thrust, drag = (jnp.stack([of(stage, airframe) for stage in bodies]) for of in (thrust_of, drag_of))
    return end.replace(attitude=normalised(end.attitude)), Stages(thrust=thrust, drag=drag)


def carried(motion: Motion, stages: Stages, wind: Vector, bias: Vector, duration: float) -> Motion:
    """The motion of the centre after the steps of ``stages``, ``duration`` [s] each."""

    def one(motion: Motion, now: Stages) -> tuple[Motion, None]:
        def pull(stage: int, velocity: Vector) -> Vector:
            return now.thrust[stage] + bias - now.drag[stage] @ (velocity - wind)

        first = pull(0, motion.velocity)
        second = pull(1, motion.velocity + 0.5 * duration * first)
        third = pull(2, motion.velocity + 0.5 * duration * second)
        fourth = pull(3, motion.velocity + duration * third)
        return motion.replace(
            position=motion.position + duration * motion.velocity + duration**2 / 6.0 * (first + second + third),
            velocity=motion.velocity + duration / 6.0 * (first + 2.0 * second + 2.0 * third + fourth),
        ), None

    return recomputed_scan(one, motion, stages)[0]


def step(
    state: DroneState, command: Vector, params: DroneParams, time_step: float, rate: float, gradient_decay: float = 0.0
) -> DroneState:
    """State one period later; ``command`` [m/s^2] is sent now, ``rate`` [Hz] is that of the inner loop."""
    assert state.body is not None and params.airframe is not None, "a drone with a body"
    airframe, steps = params.airframe, inner_steps(time_step, rate)
    duration = time_step / steps
    commands, queue = arriving(state, command, params, airframe.transport, time_step, steps)

    def one(body: Body, command: Vector) -> tuple[Body, Stages]:
        return turned(body, asked_speeds(body, command, airframe), airframe, duration)

    body, stages = recomputed_scan(one, state.body, commands)

    def move(motion: Motion) -> Motion:
        return carried(motion, stages, params.wind, params.bias, duration)

    motion = moved_by(move, state, time_step, gradient_decay)
    thrust = thrust_of(body, airframe)
    return state.replace(position=motion.position, velocity=motion.velocity, thrust=thrust, queue=queue, body=body)


def believed_drag(config: PhysicsConfig) -> tuple[float, float]:
    """Linear drag in level flight [1/s]; the airframe has no quadratic one."""
    data = AIRFRAMES[config.airframe]
    return data.drag[0] / data.mass, 0.0


def varied(airframe: Airframe, mass: Scalar, drag: Scalar, lag: Scalar) -> Airframe:
    """The airframe with inertia, drag and the rotors' lag times these factors.

    The mass itself stays: the drone's ``gain`` makes a heavier one follow commands less, in hover it stays trimmed.
    """
    return airframe.replace(
        inertia=airframe.inertia * mass,
        drag=airframe.drag * drag,
        faster=airframe.faster / lag,
        slower=airframe.slower / lag,
    )
