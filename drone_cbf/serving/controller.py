"""The controller as the served model sees it: a memory of the flight, and one step from an observation to an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, braking_command, make_filtered_pilot
from drone_cbf.perception.graphs import acting_motion, graph_at
from drone_cbf.perception.sensors import Surfaces
from drone_cbf.physics.drone import DroneState, nominal_params
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.safety.records import Status

NO_POINTS = "no_points"
STATUS_NAMES = (*(status.name.lower() for status in Status), NO_POINTS)
"""Names of the statuses: those of :class:`Status`, and ``no_points``."""

Memory = Any
"""What a controller carries from step to step: a pytree of arrays of float32, int32, uint32 and bool."""


@struct.dataclass
class Observation:
    """Observation of one step; positions are relative to an origin near the drone, in world axes."""

    position: Vector  # [m]
    velocity: Vector  # [m/s]
    goal: Vector  # [m]
    points: Float[Array, "n 3"]  # [m]
    mask: Bool[Array, "n"]  # True for points that are seen
    point_velocities: Float[Array, "n 3"]  # [m/s]
    point_spread: Float[Array, "n"]  # Of each point relative to the drone [m]
    noise: Scalar  # Standard deviation of position and velocity [m, m/s]
    thrust: Vector  # [m/s^2]
    queue: Float[Array, "q 3"]  # Newest first [m/s^2]


@struct.dataclass
class Answer:
    """Answer to one observation."""

    command: Vector  # Safe command [m/s^2, world frame], always finite and within the drone's limits
    nominal_command: Vector  # Command of the policy [m/s^2]; zero if not finite
    h: Scalar
    """Barrier value [m]; positive means able to stop. 0 if it could not be evaluated (no points, or not finite)."""
    status: Scalar  # Index into `STATUS_NAMES`


@dataclass(frozen=True)
class ServedController:
    """Pure functions of one flight; they are batched and compiled by the service."""

    start: Callable[[], Memory]
    """The memory before the first step of a flight."""
    step: Callable[[ControllerParams, Memory, Observation], tuple[Memory, Answer]]
    shift: Callable[[Memory, Vector], Memory]
    """The memory with the given offset [m] added to all its positions: the origin has moved by the opposite."""


def make_served_controller(system: SystemConfig) -> ServedController:
    """The filtered controller, which uses an observation as given and remembers nothing.

    Missing thrust and command queue are zero (hovering); send them for an accelerating drone, because the row is taken
    where the next command acts. Points that are masked out or beyond the sensing radius are ignored. With an empty mask
    the drone brakes, since a blind sensor cannot be distinguished from free space.
    """
    controller = make_filtered_pilot(system)
    model = nominal_params(system.physics)
    time_step = system.physics.time_step

    def step(params: ControllerParams, memory: Memory, observation: Observation) -> tuple[Memory, Answer]:
        drone = DroneState(
            position=observation.position,
            velocity=observation.velocity,
            thrust=observation.thrust,
            queue=observation.queue,
        )
        motion = acting_motion(drone, model, time_step)
        near = safe_norm(observation.points - motion.position) < system.sensor.range
        surfaces = Surfaces(
            points=observation.points,
            velocity=observation.point_velocities,
            visible=observation.mask & near,
            spread=jnp.hypot(observation.point_spread, observation.noise),
        )
        graph = graph_at(motion, surfaces, observation.goal, model, system.sensor)
        decision = controller(params, graph)
        blind = ~jnp.any(observation.mask)
        unread = blind | (decision.status == Status.FALLBACK)
        brake = braking_command(graph.velocity, model, time_step)
        return memory, Answer(
            command=jnp.where(blind, brake, decision.command),
            nominal_command=_finite_or_zero(decision.nominal),
            h=jnp.where(unread, 0.0, _finite_or_zero(decision.barrier)),
            status=jnp.where(blind, STATUS_NAMES.index(NO_POINTS), decision.status),
        )

    return ServedController(start=lambda: (), step=step, shift=lambda memory, offset: memory)


def controller_shapes(system: SystemConfig) -> ControllerParams:
    """Shapes and dtypes of the controller's parameters, for loading."""

    def initialise(key: jax.Array) -> ControllerParams:
        policy, barrier = initial_policy_params(system, key), initial_barrier_params(system, key)
        return ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(0.0), blend=jnp.float32(1.0))

    return jax.eval_shape(initialise, jax.random.key(0))


def _finite_or_zero(values: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(values), values, 0.0)
