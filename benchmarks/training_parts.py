"""The parts of a drone's step in training, and what is recorded of one batch of flights to time them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.systems import curriculum_system
from drone_cbf.barrier.neural import initial_barrier_params, make_blended_barrier
from drone_cbf.barrier.rows import make_row_reader
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, Decision, make_controller, make_filtered_pilot
from drone_cbf.perception.readings import Reading
from drone_cbf.perception.sensor_kinds import make_sensor
from drone_cbf.physics.belief import braking_command
from drone_cbf.physics.drone import nominal_params
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.policy.policies import initial_policy_params, make_policy
from drone_cbf.rollout import Trajectory, flight_errors, make_rollout
from drone_cbf.safety.filter import make_filter
from drone_cbf.safety.records import Limits, Row
from drone_cbf.scenes.scene import Scene, flown_drone
from drone_cbf.training.data.flights import make_batch_sampler, training_view
from drone_cbf.training.settings import EfficiencySettings
from projects.cli.stage_parameters import PipelineParameters
from projects.inputs.curriculum_files import with_sizes

NOISE = 0.05
SEED = 0


@dataclass(frozen=True)
class Training:
    """What the curriculum ``name`` trains, and what was recorded of one batch of its flights (time first)."""

    name: str
    system: SystemConfig
    families: tuple[Any, ...]
    params: ControllerParams
    scenes: Scene
    flights: Trajectory
    errors: Any = None
    readings: Reading | None = None
    rows: Any = None


@dataclass(frozen=True)
class Part:
    """One part of a drone's step, (params, of the flight, carry, now) -> (carry, output), with what it is given."""

    step: Callable[[Any, Any, Any, Any], tuple[Any, Any]]
    now: Any
    """Leading axes of time and flights."""
    params: Any = ()
    flight: Any = ()
    carry: Any = ()
    """The latter two: leading axis of flights."""


def time_first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def per_flight(tree: Any, batch: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *jnp.shape(leaf))), tree)


def trained_system(name: str) -> SystemConfig:
    """The system with which a pipeline of the curriculum ``name`` trains, as updates fly it."""
    return training_view(curriculum_system(name))


def flown_training(name: str, batch: int, horizon: int) -> Training:
    """Flies one batch of the scenes of a pipeline with the curriculum ``name``."""
    system, key = trained_system(name), jax.random.key(SEED)
    families = with_sizes(PipelineParameters(curriculum=name)).scenes or EfficiencySettings().scenes
    params = ControllerParams(
        policy=initial_policy_params(system, key),
        barrier=initial_barrier_params(system, key),
        margin=jnp.float32(0.05),
        blend=jnp.float32(1.0),
    )
    scenes = jax.jit(make_batch_sampler(system, families, batch))(key, 0.0)
    rollout = make_rollout(system, make_filtered_pilot(system), horizon)
    keys = jax.random.split(key, batch)
    flights = jax.jit(jax.vmap(rollout, in_axes=(None, 0, None, 0)))(params, scenes, jnp.float32(NOISE), keys)
    return Training(name, system, tuple(families), params, scenes, flights)


def with_readings(of: Training) -> Training:
    """The same with what the sensor read and the filter was given."""
    horizon, batch = of.flights.decisions.slack.shape[1], of.scenes.goal.shape[0]
    sensor, slots = make_sensor(of.system), of.scenes.obstacles.active.shape[1]
    draw = jax.vmap(lambda key: flight_errors(sensor, jnp.float32(NOISE), slots, jnp.arange(horizon), key))
    of = replace(of, errors=time_first(jax.jit(draw)(jax.random.split(jax.random.key(SEED), batch))))
    return replace(of, readings=outputs(scan_part(of)), rows=outputs(row_part(of)))


def outputs(part: Part) -> Any:
    """Of every step."""
    return jax.jit(lambda now: jax.lax.scan(batched(part), part.carry, now)[1])(part.now)


def batched(part: Part) -> Callable[[Any, Any], tuple[Any, Any]]:
    """(carry, now) -> (carry, output) of a batch."""
    return lambda carry, now: jax.vmap(part.step, in_axes=(None, 0, 0, 0))(part.params, part.flight, carry, now)


def scan_part(of: Training) -> Part:
    sensor, dt = make_sensor(of.system), of.system.physics.time_step

    def step(params: Any, scene: Scene, carry: Any, now: Any) -> tuple[Any, Reading]:
        state, index, error = now
        obstacles = scene.obstacles.at(index * dt)
        return carry, sensor.read(obstacles, state, state.position, index, error, jnp.float32(NOISE))

    states = time_first(of.flights.states)
    horizon, batch = states.position.shape[:2]
    index = jnp.broadcast_to(jnp.arange(horizon)[:, None], (horizon, batch))
    return Part(step, (states, index, of.errors), flight=of.scenes)


def map_part(of: Training) -> Part:
    """Estimate, map and graph: the controller with a pilot that repeats what was flown."""

    def pilot(command: Any, memory: Any, graph: Any) -> tuple[Any, Decision]:
        zero = jnp.float32(0.0)
        return memory, Decision(command=command, nominal=command, barrier=zero, slack=zero, status=jnp.int32(0))

    controller = make_controller(of.system, pilot)

    def step(params: Any, goal: Any, memory: Any, now: Any) -> tuple[Any, Any]:
        reading, command = now
        memory, _, graph = controller.step(command, memory, reading, goal)
        return memory, graph

    batch = of.scenes.goal.shape[0]
    start = per_flight(controller.start(of.scenes.obstacles.active.shape[1]), batch)
    commands = time_first(of.flights.decisions.command)
    return Part(step, (of.readings, commands), flight=of.scenes.goal, carry=start)


def policy_part(of: Training) -> Part:
    policy = make_policy(of.system)
    start = per_flight(policy.memory(), of.scenes.goal.shape[0])
    graphs = time_first(of.flights.graphs)
    return Part(lambda p, flight, memory, now: policy.apply(p, memory, now), graphs, of.params.policy, carry=start)


def row_part(of: Training) -> Part:
    blended, read = make_blended_barrier(of.system), make_row_reader(of.system.barrier)

    def step(params: Any, flight: Any, carry: Any, graph: Any) -> tuple[Any, Any]:
        return carry, read(blended(params, of.params.margin, of.params.blend), graph)

    return Part(step, time_first(of.flights.graphs), of.params.barrier)


def filter_part(of: Training) -> Part:
    safety_filter, model = make_filter(of.system.filter), nominal_params(of.system.physics)
    limits = Limits(lower=-model.max_acceleration, upper=model.max_acceleration)

    def step(params: Any, flight: Any, carry: Any, now: Any) -> tuple[Any, Any]:
        row, nominal, velocity = now
        safe = safety_filter(row, nominal, limits, braking_command(velocity, model, of.system.physics.time_step))
        return carry, (safe.command, safe.slack)

    decisions = time_first(of.flights.decisions)
    return Part(
        step,
        (Row(normal=of.rows.normal, offset=of.rows.offset), decisions.nominal, time_first(of.flights.graphs.velocity)),
    )


def physics_part(of: Training) -> Part:
    physics, dynamics = of.system.physics, make_dynamics(of.system.physics)

    def step(params: Any, scene: Scene, carry: Any, now: Any) -> tuple[Any, Any]:
        state, command = now
        drone = flown_drone(scene, physics)
        return carry, dynamics.step(state, command, drone)

    now = (time_first(of.flights.states), time_first(of.flights.decisions.command))
    return Part(step, now, flight=of.scenes)


PARTS: Mapping[str, Callable[[Training], Part]] = {
    "scan": scan_part,
    "estimate, map, graph": map_part,
    "policy": policy_part,
    "barrier row": row_part,
    "filter": filter_part,
    "physics": physics_part,
}
