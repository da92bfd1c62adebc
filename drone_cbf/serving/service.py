"""A trained controller as a function of batches of raw observations."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.barrier.neural import initial_barrier_params
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, braking_command, make_filtered_pilot
from drone_cbf.perception.graphs import acting_motion, graph_at
from drone_cbf.perception.sensors import Surfaces
from drone_cbf.physics.drone import DroneState, nominal_params, queue_length
from drone_cbf.policy.policies import initial_policy_params
from drone_cbf.safety.records import Status
from drone_cbf.serving.observations import Observation, check_observations

NO_POINTS = "no_points"
STATUS_NAMES = (*(status.name.lower() for status in Status), NO_POINTS)
"""Names of the statuses: those of :class:`Status`, and ``no_points``."""
FEWEST_POINTS = 8
LARGEST_BATCH = 4096  # Observations per call of the compiled function; larger batches are split, which bounds memory


@struct.dataclass
class Answer:
    """Answer to one observation."""

    command: Vector  # Safe command [m/s^2, world frame], always finite and within the drone's limits
    nominal_command: Vector  # Command of the policy [m/s^2]; zero if not finite
    h: Scalar
    """Barrier value [m]; positive means able to stop. 0 if it could not be evaluated (no points, or not finite)."""
    status: Scalar  # Index into `STATUS_NAMES`


def make_decide(system: SystemConfig) -> Callable[[ControllerParams, Observation], Answer]:
    """Function from one observation to an answer, by the filtered controller; it keeps no memory between calls.

    Missing thrust and command queue are zero (hovering); send them for an accelerating drone, because the row is taken
    where the next command acts. Points that are masked out or beyond the sensing radius are ignored. With an empty mask
    the drone brakes, since a blind sensor cannot be distinguished from free space.
    """
    controller = make_filtered_pilot(system)
    model = nominal_params(system.physics)
    time_step = system.physics.time_step

    def decide(params: ControllerParams, observation: Observation) -> Answer:
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
            spread=observation.point_spread,
        )
        graph = graph_at(motion, surfaces, observation.goal, model, system.sensor)
        decision = controller(params, graph)
        blind = ~jnp.any(observation.mask)
        brake = braking_command(graph.velocity, model, time_step)
        return Answer(
            command=jnp.where(blind, brake, decision.command),
            nominal_command=_finite_or_zero(decision.nominal),
            h=jnp.where(blind, 0.0, _finite_or_zero(decision.barrier)),
            status=jnp.where(blind, STATUS_NAMES.index(NO_POINTS), decision.status),
        )

    return decide


def controller_shapes(system: SystemConfig) -> ControllerParams:
    """Shapes and dtypes of the controller's parameters, for loading."""

    def initialise(key: jax.Array) -> ControllerParams:
        policy, barrier = initial_policy_params(system, key), initial_barrier_params(system, key)
        return ControllerParams(policy=policy, barrier=barrier, margin=jnp.float32(0.0), blend=jnp.float32(1.0))

    return jax.eval_shape(initialise, jax.random.key(0))


class PolicyService:
    """Answers batches of raw observations. Batches are padded to powers of two, so only new sizes are compiled."""

    def __init__(self, system: SystemConfig, params: ControllerParams) -> None:
        self._queue_length = queue_length(system.physics)
        self._params = jax.tree.map(jnp.asarray, params)
        self._decide = jax.jit(jax.vmap(make_decide(system), in_axes=(None, 0)))

    def __call__(self, fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Answer the observations in ``fields`` (see :func:`check_observations`).

        Returns:
            ``command`` (b, 3) and ``nominal_command`` (b, 3) [m/s^2], ``h`` (b,) [m], all float32, and ``status`` (b,),
            one of :data:`STATUS_NAMES`.

        Raises:
            ObservationError: see :func:`check_observations`.
        """
        batch = check_observations(fields, self._queue_length)
        count = batch.position.shape[0]
        starts = range(0, count, LARGEST_BATCH)
        parts = [self._answer(batch, first, min(first + LARGEST_BATCH, count)) for first in starts]
        answer = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        return {
            "command": answer.command,
            "nominal_command": answer.nominal_command,
            "h": answer.h,
            "status": np.array(STATUS_NAMES)[answer.status],
        }

    def warm_up(self, points: int) -> None:
        """Compile for single observations of up to ``points`` points, so that the first answer is not delayed."""
        zero = np.zeros((1, 3))
        cloud, mask = np.ones((1, points, 3)), np.ones((1, points), bool)
        self({"position": zero, "velocity": zero, "goal": zero, "points": cloud, "mask": mask})

    def _answer(self, batch: Observation, first: int, last: int) -> Answer:
        padded = _padded(jax.tree.map(lambda values: values[first:last], batch))
        answer = self._decide(self._params, padded)
        return jax.tree.map(lambda values: np.asarray(values)[: last - first], answer)


def _padded(batch: Observation) -> Observation:
    """The batch padded to powers of two: observations by repeating the last one, points by masked-out ones."""
    count, points = batch.mask.shape
    more_points = _power_of_two(max(points, FEWEST_POINTS)) - points
    fields = {name: getattr(batch, name) for name in ("points", "point_velocities", "point_spread", "mask")}
    widths = (0, 0), (0, more_points), (0, 0)
    wide = batch.replace(**{name: np.pad(values, widths[: values.ndim]) for name, values in fields.items()})
    more = _power_of_two(count) - count
    return jax.tree.map(lambda values: np.concatenate([values, np.repeat(values[-1:], more, axis=0)]), wide)


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _finite_or_zero(values: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(values), values, 0.0)
