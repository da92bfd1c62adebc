"""The controller: from reading to command. One object for rollout, evaluation, replay and the registered model.

Estimate, map, policy, barrier and filter, with what they remember from one reading to the next. It reads sensors only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool

from drone_cbf.arrays import Scalar, Vector, largest_entry, safe_norm
from drone_cbf.barrier.analytic import Barrier, stopping_margin
from drone_cbf.barrier.neural import BarrierParams, make_blended_barrier
from drone_cbf.barrier.pairs import make_rows_reader
from drone_cbf.barrier.rows import make_row_reader
from drone_cbf.config import SystemConfig
from drone_cbf.perception.estimation import (
    Estimate,
    first_estimate,
    make_correction,
    params_with_bias,
    position_spread,
    predict,
)
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.mapping import Mapper, make_mapper
from drone_cbf.perception.others import with_others
from drone_cbf.perception.readings import OwnMotion, Reading
from drone_cbf.physics.belief import acting_motion, braking_command, command_limits
from drone_cbf.physics.drone import DroneParams
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.physics.motion import Motion
from drone_cbf.policy.policies import Policy, PolicyParams, make_policy
from drone_cbf.safety.filter import make_filter
from drone_cbf.safety.records import Limits, Row, Rows, SafeCommand, Status
from drone_cbf.safety.rows_filter import make_rows_filter


@struct.dataclass
class Decision:
    """Output of the controller in one step."""

    command: Vector  # Command flown [m/s^2]
    nominal: Vector  # Command of the policy [m/s^2]
    barrier: Scalar  # Barrier value h [m]; NaN without a filter
    slack: Scalar  # Relaxation of the CBF row [m/s]
    status: Scalar  # `Status` as int32
    look: Vector | None = None  # Direction to turn to (of any length, world frame); None: nothing depends on the yaw


@struct.dataclass
class ControllerParams:
    """Parameters of a controller, constant over a flight."""

    policy: PolicyParams
    barrier: BarrierParams
    margin: Scalar  # Calibration margin of the neural barrier [m]
    blend: Scalar  # 0: analytic barrier, 1: neural barrier


PolicyMemory = Any  # What the policy remembers, a pytree; () if nothing
Pilot = Callable[[ControllerParams, PolicyMemory, Graph], tuple[PolicyMemory, Decision]]
"""(parameters, policy's memory, graph) -> (memory, decision): policy, and filter if there is one. Pure; one drone."""


@struct.dataclass
class Memory:
    """What the controller carries from one step to the next."""

    motion: Estimate  # Own motion, predicted to the next reading
    map: Any  # Points or surfaces seen (perception/mapping.py)
    policy: PolicyMemory
    begun: Bool[Array, ""]  # False before the first reading


@dataclass(frozen=True)
class Controller:
    """The controller as pure functions, for one drone."""

    start: Callable[..., Memory]
    """Number of points in a reading, cruise speed [m/s] (None: the configured one) -> memory before the first reading,
    hovering."""
    place: Callable[[Memory, OwnMotion, Scalar], Vector]
    """(memory, measured own motion, its standard deviation [m, m/s]) -> where the next command will act [m]."""
    step: Callable[[ControllerParams, Memory, Reading, Vector], tuple[Memory, Decision, Graph]]
    """(parameters, memory, reading, goal [m]) -> (memory for the next step, decision, graph it was taken on)."""


def make_controller(system: SystemConfig, pilot: Pilot, mapper: Mapper | None = None) -> Controller:
    """The controller that flies by ``pilot``: estimate and map around it (None: the map for the sensor of ``system``).

    It knows the configured drone, but not the wind. It takes the command decided on to be the one that is flown.
    """
    dt, sensor = system.physics.time_step, system.sensor
    corrected, among, mapper = make_corrected(system), make_among(system), mapper or make_mapper(system)
    dynamics, braking_if_blind = make_dynamics(system.physics), make_braking_if_blind(system)
    model = dynamics.params()

    def start(points: int, cruise: Scalar | None = None) -> Memory:
        zero = jnp.zeros(3, jnp.float32)
        rest = dynamics.initial(zero, zero).replace(body=None)
        nothing = first_estimate(OwnMotion(position=zero, velocity=zero), rest, jnp.float32(0.0), sensor)
        policy = make_policy(system).memory(cruise)
        return Memory(motion=nothing, map=mapper.start(points), policy=policy, begun=jnp.bool_(False))

    def acting(estimate: Estimate) -> tuple[Motion, DroneParams]:
        believed = params_with_bias(estimate, model)
        return acting_motion(estimate.drone, believed, dt), believed

    def place(memory: Memory, own: OwnMotion, noise: Scalar) -> Vector:
        return acting(corrected(memory, own, noise))[0].position

    def step(
        params: ControllerParams, memory: Memory, reading: Reading, goal: Vector
    ) -> tuple[Memory, Decision, Graph]:
        estimate = corrected(memory, reading.own, reading.noise)
        motion, believed = acting(estimate)
        belief, graph = mapper.update(memory.map, reading, estimate, motion, goal, believed)
        graph = among(graph, reading, estimate, motion, believed)
        remembered, decision = pilot(params, memory.policy, graph)
        decision = braking_if_blind(decision, reading.blind, graph.velocity)
        predicted = predict(estimate, decision.command, model, dt, sensor.bias_drift)
        after = Memory(motion=predicted, map=belief, policy=remembered, begun=jnp.bool_(True))
        return after, decision, graph

    return Controller(start=start, place=place, step=step)


def make_among(system: SystemConfig) -> Callable[[Graph, Reading, Estimate, Motion, DroneParams], Graph]:
    """Function (graph of surfaces, reading, estimate, motion where a command acts, drone) -> the graph with what the
    reading says of other drones; as it is for a drone alone."""
    radius = system.physics.drone_radius

    def among(graph: Graph, reading: Reading, estimate: Estimate, motion: Motion, drone: DroneParams) -> Graph:
        if reading.others is None:
            return graph
        own_spread = position_spread(estimate, jnp.max(drone.delay + drone.lag_time))
        spread = jnp.sqrt(reading.noise**2 + own_spread**2)
        return with_others(graph, reading.others, spread, motion, drone, radius)

    return among


def make_look(policy: Policy) -> Callable[[PolicyMemory, Graph], Vector | None]:
    """Function (policy's memory, graph) -> direction to turn to; None if nothing depends on the yaw."""
    return lambda memory, graph: None if graph.yaw is None else jax.lax.stop_gradient(policy.look(memory, graph))


def make_corrected(system: SystemConfig) -> Callable[[Memory, OwnMotion, Scalar], Estimate]:
    """Function (memory, measured own motion, its standard deviation [m, m/s]) -> estimate now; the first measurement
    begins it."""
    correct = make_correction(system.sensor, system.physics.time_step)

    def corrected(memory: Memory, own: OwnMotion, noise: Scalar) -> Estimate:
        first = first_estimate(own, memory.motion.drone, noise, system.sensor)
        predicted = jax.tree.map(lambda one, other: jnp.where(memory.begun, one, other), memory.motion, first)
        return correct(predicted, own, noise)

    return corrected


def make_unfiltered_pilot(system: SystemConfig) -> Pilot:
    """The policy alone: no barrier, no filter."""
    policy = make_policy(system)
    look = make_look(policy)

    def decide(params: ControllerParams, memory: PolicyMemory, graph: Graph) -> tuple[PolicyMemory, Decision]:
        memory, nominal = policy.apply(params.policy, memory, graph)
        return memory, Decision(
            command=nominal,
            nominal=nominal,
            barrier=jnp.float32(jnp.nan),
            slack=jnp.float32(0.0),
            status=jnp.int32(Status.NOMINAL),
            look=look(memory, graph),
        )

    return decide


def make_braking_if_blind(system: SystemConfig) -> Callable[[Decision, Bool[Array, ""] | None, Vector], Decision]:
    """Function (decision, whether the sensor saw nothing at all, velocity [m/s]) -> the decision, or braking if so.

    A scan whose rays all pass by everything is no such reading: it has seen free space.
    """
    model = make_dynamics(system.physics).params()

    def brake(decision: Decision, blind: Bool[Array, ""] | None, velocity: Vector) -> Decision:
        if blind is None:
            return decision
        stop = jax.lax.stop_gradient(braking_command(velocity, model, system.physics.time_step))
        return decision.replace(
            command=jnp.where(blind, stop, decision.command),
            status=jnp.where(blind, jnp.int32(Status.NO_POINTS), decision.status),
        )

    return brake


def make_filtered_pilot(system: SystemConfig) -> Pilot:
    """The policy behind the CBF-QP of the blended barrier; of the systems of a swarm, with a row for each other."""
    policy = make_policy(system)
    look, blended, safe_command = make_look(policy), make_blended_barrier(system), make_safe_command(system)
    model = make_dynamics(system.physics).params()
    end = make_unavoidable(system)

    def decide(params: ControllerParams, memory: PolicyMemory, graph: Graph) -> tuple[PolicyMemory, Decision]:
        memory, nominal = policy.apply(params.policy, memory, graph)
        barrier = blended(params.barrier, params.margin, params.blend)
        fallback = braking_command(graph.velocity, model, system.physics.time_step)
        value, safe = safe_command(barrier, graph, nominal, fallback)
        decision = Decision(
            command=safe.command,
            nominal=nominal,
            barrier=value,
            slack=safe.slack,
            status=safe.status,
            look=look(memory, graph),
        )
        return memory, end(decision, graph, fallback)

    return decide


SafeCommandOf = Callable[[Barrier, Graph, Vector, Vector], tuple[Scalar, SafeCommand]]
"""(barrier, graph, nominal command, fallback [m/s^2]) -> (h [m], what the filter makes of it)."""


def make_safe_command(system: SystemConfig) -> SafeCommandOf:
    """Barrier, row and filter: one row for the whole graph, or in a swarm one for each other drone as well."""
    dynamics = make_dynamics(system.physics)
    limits, error = Limits(*command_limits(dynamics.params())), dynamics.effective.error or 0.0
    if system.scene.drones > 1 and system.filter.rows != "soft_min":
        return _pairwise(system, limits, error)
    read, safety_filter = make_row_reader(system.barrier, error), make_filter(system.filter)

    def safe_command(barrier: Barrier, graph: Graph, nominal: Vector, fallback: Vector) -> tuple[Scalar, SafeCommand]:
        reading = read(barrier, graph)
        row = Row(normal=reading.normal, offset=reading.offset)
        return reading.value, safety_filter(row, nominal, limits, fallback)

    return safe_command


def _pairwise(system: SystemConfig, limits: Limits, fit_error: float) -> SafeCommandOf:
    """Slack is the largest of all rows, h the least."""
    read = make_rows_reader(system.barrier, fit_error, separate=system.filter.rows == "separate")
    safety_filter = make_rows_filter(system.filter)

    def safe_command(barrier: Barrier, graph: Graph, nominal: Vector, fallback: Vector) -> tuple[Scalar, SafeCommand]:
        reading, counts = read(barrier, graph)
        rows = Rows(normal=reading.normal, offset=reading.offset, mask=counts)
        safe = safety_filter(rows, nominal, limits, fallback)
        value, slack = jnp.min(jnp.where(counts, reading.value, jnp.inf)), largest_entry(safe.slack)
        multiplier = jnp.max(safe.multiplier)
        return value, SafeCommand(command=safe.command, slack=slack, multiplier=multiplier, status=safe.status)

    return safe_command


def make_unavoidable(system: SystemConfig) -> Callable[[Decision, Graph, Vector], Decision]:
    """Function (decision, graph, braking command) -> the decision, or braking where the way to the acting point is
    blocked.

    A command sent now acts only from there on. h is then that of a surface on the way: minus the depth behind it, the
    safe radius and the braking distance. It continues the braking barrier, which reaches it as the surface is reached.
    """

    def end(decision: Decision, graph: Graph, brake: Vector) -> Decision:
        if graph.blocked is None:
            return decision
        value = stopping_margin(-graph.blocked, safe_norm(graph.velocity), system)
        blocked = graph.blocked >= 0.0
        return decision.replace(
            command=jnp.where(blocked, jax.lax.stop_gradient(brake), decision.command),
            barrier=jnp.where(blocked, jnp.minimum(decision.barrier, value), decision.barrier),
            status=jnp.where(blocked, jnp.int32(Status.UNAVOIDABLE), decision.status),
        )

    return end
