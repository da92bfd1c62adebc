"""The controller as the served model sees it: a memory of the flight, and one step from an observation to an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector
from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.config import SystemConfig
from drone_cbf.controller import Controller, ControllerParams, Memory, make_controller, make_filtered_pilot
from drone_cbf.perception.depth import by_pooled_pixel, make_seeing
from drone_cbf.perception.mapping import make_depth_mapper, make_point_mapper
from drone_cbf.perception.readings import Others, OwnMotion, Reading
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.safety.records import Status

STATUS_NAMES = tuple(status.name.lower() for status in Status)
"""Names of the statuses, by :class:`Status`."""


@struct.dataclass
class Observation:
    """Observation of one step; positions are relative to an origin near the drone, in world axes."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    goal: Vector  # [m]
    points: Float[Array, "n 3"]  # [m]; of a camera none, they follow from its image
    mask: Bool[Array, "n"]  # True for points that are seen
    point_velocities: Float[Array, "n 3"]  # [m/s]
    point_spread: Float[Array, "n"]  # Of each point relative to the drone [m]
    noise: Scalar  # Standard deviation of position and velocity [m, m/s], and of points
    thrust: Vector  # [m/s^2]
    queue: Float[Array, "q 3"]  # Newest first [m/s^2]
    thrust_known: Bool[Array, ""]  # False: `thrust` is not used, but what is believed
    queue_known: Bool[Array, ""]  # The same for `queue`
    image: Float[Array, "r c"] | None = None  # Depth [m]; None: not a camera
    yaw: Scalar | None = None  # Of the camera [rad]
    others: Others | None = None  # Other drones; None: the policy flies alone


@struct.dataclass
class Answer:
    """Answer to one observation."""

    command: Vector  # Safe command [m/s^2, world frame], always finite and within the drone's limits
    nominal_command: Vector  # Command of the policy [m/s^2]; zero if not finite
    h: Scalar
    """Barrier value [m]; positive means able to stop. 0 if it could not be evaluated (no points, or not finite)."""
    status: Scalar  # Index into `STATUS_NAMES`
    look: Vector | None = None
    """Direction to turn the camera to, of any length, world frame; zero (no turn) if not finite. None: no camera."""


@dataclass(frozen=True)
class ServedController:
    """Pure functions of one flight; they are batched and compiled by the service."""

    start: Callable[[], Any]
    """The memory before the first step of a flight: a pytree of arrays of float32, int32, uint32 and bool."""
    step: Callable[[ControllerParams, Any, Observation], tuple[Any, Answer]]
    shift: Callable[[Any, Vector], Any]
    """The memory with the given offset [m] added to all its positions: the origin has moved by the opposite."""


def make_served_controller(system: SystemConfig) -> ServedController:
    """The controller of the rollout behind its filter, fed with what a caller has measured.

    With ``sensor.kind`` depth it sees by the camera of the evaluation, which is never blind: each pixel shows free
    space or something near. Any other policy is given unlabelled points, whatever it was trained and evaluated with:
    labels exist in simulations only. An empty mask is a blind sensor, for which the drone brakes; it goes on
    remembering. Rays without a return are points out of range, not masked-out ones.
    """
    controller = raw_controller(system)
    read = make_image_reading(system) if system.sensor.kind == "depth" else as_reading

    def step(params: ControllerParams, memory: Memory, observation: Observation) -> tuple[Memory, Answer]:
        reading, memory = read(observation).replace(others=observation.others), as_told(memory, observation)
        memory, decision, _ = controller.step(params, memory, reading, observation.goal)
        unread = (decision.status == Status.NO_POINTS) | (decision.status == Status.FALLBACK)
        return memory, Answer(
            command=decision.command,
            nominal_command=_finite_or_zero(decision.nominal),
            h=jnp.where(unread, 0.0, _finite_or_zero(decision.barrier)),
            status=decision.status,
            look=None if decision.look is None else _finite_or_zero(decision.look),
        )

    return ServedController(start=lambda: controller.start(0), step=step, shift=shifted)


def raw_controller(system: SystemConfig) -> Controller:
    """The controller that ``system`` describes, behind its filter, but for points without labels."""
    mapper = make_depth_mapper if system.sensor.kind == "depth" else make_point_mapper
    return make_controller(system, make_filtered_pilot(system), mapper(system))


def as_reading(observation: Observation) -> Reading:
    """The observation as a sensor reports it; errors of points and of the own position add up, as for the lidar."""
    return Reading(
        own=OwnMotion(position=observation.position, velocity=observation.velocity),
        noise=observation.noise,
        points=observation.points,
        hit=observation.mask,
        velocity=observation.point_velocities,
        spread=jnp.hypot(observation.point_spread, observation.noise),
        blind=~jnp.any(observation.mask),
    )


def make_image_reading(system: SystemConfig) -> Callable[[Observation], Reading]:
    """Function from an observation with an image to what the camera of ``system`` reports of it."""
    see = make_seeing(system.sensor)

    def read(observation: Observation) -> Reading:
        assert observation.image is not None, "checked at the door"
        own = OwnMotion(position=observation.position, velocity=observation.velocity, yaw=observation.yaw)
        return see(by_pooled_pixel(observation.image), own, observation.noise)

    return read


def as_told(memory: Memory, observation: Observation) -> Memory:
    """The memory with the rotors' thrust and the commands under way that the caller sent, if it did."""
    drone = memory.motion.drone
    told = drone.replace(
        thrust=jnp.where(observation.thrust_known, observation.thrust, drone.thrust),
        queue=jnp.where(observation.queue_known, observation.queue, drone.queue),
    )
    return memory.replace(motion=memory.motion.replace(drone=told))


def shifted(memory: Memory, offset: Vector) -> Memory:
    """The memory with ``offset`` [m] added to every position in it."""
    drone = memory.motion.drone
    motion = memory.motion.replace(drone=drone.replace(position=drone.position + offset))
    return memory.replace(motion=motion, map=memory.map.moved(offset))


def controller_shapes(system: SystemConfig) -> ControllerParams:
    """Shapes and dtypes of the controller's parameters, for loading."""

    def initialise(key: jax.Array) -> ControllerParams:
        policy, barrier = initial_policy_params(system, key), initial_barrier_params(system, key)
        return ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(0.0), blend=jnp.float32(1.0))

    return jax.eval_shape(initialise, jax.random.key(0))


def _finite_or_zero(values: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(values), values, 0.0)
