"""Closed-loop flight in one scene as one ``lax.scan``: perception, policy, barrier, filter, physics.

The step of one drone is one function; in a swarm it is mapped over the drones inside the scan, and all move at once.
The scan carries the drone and the controller's memory; random numbers come from ``fold_in`` of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector, limit_gradient
from drone_cbf.config import SystemConfig
from drone_cbf.controller import Controller, ControllerParams, Decision, Memory, Pilot, make_controller
from drone_cbf.crowd import make_sparing
from drone_cbf.draws import unless_silent
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.mapping import SEEN
from drone_cbf.perception.others import draw_other_errors, observed, others_of
from drone_cbf.perception.readings import Others, Reading
from drone_cbf.perception.sensor_kinds import Sensor, make_sensor
from drone_cbf.perception.sensors import observe_motion
from drone_cbf.physics.drone import DroneParams, DroneState
from drone_cbf.physics.dynamics import Dynamics, make_dynamics
from drone_cbf.physics.heading import heading_of, turned
from drone_cbf.physics.neighbours import nearest_neighbours
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.physics.separation import least_gaps
from drone_cbf.scenes.scene import Scene, flown_drone, per_drone


@struct.dataclass
class Encounters:
    """The other drones around one drone of a swarm, as they truly were; without gradient."""

    gap: Float[Array, "t"]  # Least distance between its hull and any other's during each step [m]
    position: Float[Array, "t j 3"]  # Of the nearest others, before each step [m]
    velocity: Float[Array, "t j 3"]  # [m/s]
    within: Bool[Array, "t j"]  # False: fewer are within the sensing radius


@struct.dataclass
class Trajectory:
    """One flight of ``t`` steps. ``states`` and ``graphs`` precede each step; ``last`` is the final state."""

    states: DroneState
    graphs: Graph  # As seen by the controller: estimated from noisy readings
    decisions: Decision
    last: DroneState
    wind: Float[Array, "t 3"]  # True wind during each step [m/s]
    others: Encounters | None = None  # None for a drone that flies alone


Rollout = Callable[[ControllerParams, Scene, Scalar, jax.Array], Trajectory]
"""(controller parameters, scene, noise [m], key) -> trajectory; of a scene with several drones their trajectories,
leading axis n."""
MET = 4  # Nearest others that are recorded, for losses


def make_rollout(system: SystemConfig, pilot: Pilot, horizon: int, *, rematerialise: bool = False) -> Rollout:
    """Function that flies one scene for ``horizon`` steps by the controller with ``pilot``.

    ``rematerialise``: the backward pass recomputes each step, which saves memory and, on CPU, training time.
    """
    pilot = make_sparing(pilot) if system.scene.drones > 1 else pilot
    dynamics, sensor, controller = make_dynamics(system.physics), make_sensor(system), make_controller(system, pilot)
    step, given = make_step(system, controller), make_given(system, sensor, horizon)
    scanned = make_scan(rematerialise)
    together = make_swarm_rollout(system, controller, step, horizon, scanned)

    def alone(params: ControllerParams, scene: Scene, noise: Scalar, key: jax.Array) -> Trajectory:
        drone, now = flown_drone(scene, system.physics), given(scene, noise, key)

        def one_step(carry: Carry, now: Now) -> tuple[Carry, Any]:
            return step(params, scene, drone, noise, carry, now)

        first = (first_state(dynamics, sensor, scene), controller.start(scene.obstacles.active.shape[0], scene.cruise))
        (last, _), (states, graphs, decisions) = scanned(one_step, first, now)
        return Trajectory(states=states, graphs=graphs, decisions=decisions, last=last, wind=scene.wind + now[2])

    return lambda params, scene, noise, key: (alone if scene.start.ndim == 1 else together)(params, scene, noise, key)


def make_swarm_rollout(
    system: SystemConfig, controller: Controller, step: Step, horizon: int, scanned: Callable[..., Any]
) -> Rollout:
    """Function that flies all drones of one scene, each with its own key; trajectories with a leading axis n."""
    dynamics, sensor, perceive = make_dynamics(system.physics), make_sensor(system), make_perceiving(system)
    given, radius = make_given(system, sensor, horizon, unless_silent), system.physics.drone_radius

    def rollout(params: ControllerParams, scene: Scene, noise: Scalar, key: jax.Array) -> Trajectory:
        count, drone = scene.start.shape[0], flown_drone(scene, system.physics)
        keys = jax.random.split(key, count)
        now = jax.vmap(lambda key: given(scene, noise, key), out_axes=1)(keys)
        seen, steps = seen_at_once(system, count), jnp.arange(horizon)
        draw = unless_silent(lambda level, key: other_errors(level, seen, steps, key, horizon + 1))
        errors = jax.vmap(draw, in_axes=(None, 0), out_axes=1)(noise, keys)

        def of_one(carry: Carry, now: Now, goal: Vector, others: Others) -> tuple[Carry, Any]:
            return step(params, scene.replace(goal=goal), drone, noise, carry, now, others)

        def one_step(carry: Carry, now: tuple[Now, Array]) -> tuple[Carry, Any]:
            exact = perceive(carry[0])
            seen = jax.vmap(observed)(exact, now[1])
            carry, happened = jax.vmap(of_one)(carry, now[0], scene.goal, seen)
            return carry, (*happened, jax.tree.map(lambda leaf: leaf[:, :MET], exact))

        memory = repeated(controller.start(scene.obstacles.active.shape[0], scene.cruise), count)
        (last, _), happened = scanned(one_step, (first_states(dynamics, sensor, scene), memory), (now, errors))
        states, graphs, decisions, met = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), happened)
        path = jnp.concatenate([states.position, last.position[:, None]], axis=1)
        gap = least_gaps(jnp.moveaxis(path, 1, 0), radius).T
        others = Encounters(gap=gap, position=met.position, velocity=met.velocity, within=met.seen)
        wind = scene.wind + jnp.moveaxis(now[2], 0, 1)
        return Trajectory(states=states, graphs=graphs, decisions=decisions, last=last, wind=wind, others=others)

    return rollout


def make_scan(rematerialise: bool) -> Callable[[Callable[..., Any], Any, Any], Any]:
    """``lax.scan``, whose backward pass may recompute each step, but for what sensors have seen."""
    keep = jax.checkpoint_policies.save_only_these_names(SEEN)

    def scanned(body: Callable[..., Any], first: Any, now: Any) -> Any:
        return jax.lax.scan(jax.checkpoint(body, policy=keep) if rematerialise else body, first, now)

    return scanned


def flights_of_swarms(trajectories: Trajectory, scenes: Scene) -> tuple[Trajectory, Scene]:
    """One flight and scene for each drone, in order, of what :func:`make_rollout` flew in ``scenes`` (leading axis);
    those of single drones as they are."""
    if scenes.start.ndim == 2:
        return trajectories, scenes
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), trajectories)
    return flat, per_drone(scenes)


Carry = tuple[DroneState, Memory]
Now = tuple[Array, Any, Array]
"""Index of the step, errors of the reading, gust [m/s]; with a leading axis where several steps are meant."""


Step = Callable[..., tuple[Carry, Any]]


def make_step(system: SystemConfig, controller: Controller) -> Step:
    """Function (parameters, scene, drone in still air, noise [m], (state, memory), now, others that it perceives or
    None) -> one control period of one drone: (state, memory) after it, and the state before, graph and decision."""
    physics, dt = system.physics, system.physics.time_step
    dynamics, sensor = make_dynamics(physics), make_sensor(system)

    def step(
        params: ControllerParams,
        scene: Scene,
        drone: DroneParams,
        noise: Scalar,
        carry: Carry,
        now: Now,
        others: Others | None = None,
    ) -> tuple[Carry, tuple[DroneState, Graph, Decision]]:
        state, memory = carry
        state, motion = limit_gradient((state, memory.motion), physics.gradient_limit)
        memory = memory.replace(motion=motion)
        index, error, gust = now
        place = controller.place(memory, observe_motion(state, error), noise)
        reading = sensor.read(scene.obstacles.at(index * dt), state, place, index, error, noise)
        reading = reading if others is None else reading.replace(others=others)
        memory, decision, graph = controller.step(params, memory, reading, scene.goal)
        air = drone.replace(wind=scene.wind + gust)
        following = dynamics.step(state, decision.command, air)
        following = turned(following, decision.look, physics)
        return (following, memory), (state, graph, decision)

    return step


def make_given(
    system: SystemConfig, sensor: Sensor, horizon: int, drawn: Callable[..., Any] = lambda draw: draw
) -> Callable[[Scene, Scalar, jax.Array], Now]:
    """Function (scene, noise [m], key) -> what each step of one flight is given, leading axis t. ``drawn`` may wrap a
    function (level, key) -> errors of that size."""
    time, dt = system.scene.gust_time, system.physics.time_step
    of_sensor = drawn if sensor.exact_without_noise else lambda draw: draw

    def given(scene: Scene, noise: Scalar, key: jax.Array) -> Now:
        steps = jnp.arange(horizon)
        slots = scene.obstacles.active.shape[0]
        errors = of_sensor(lambda level, key: flight_errors(sensor, level, slots, steps, key))(noise, key)
        gusts = drawn(lambda size, key: gust_history(size, time, dt, horizon, key))(
            scene.gust, jax.random.fold_in(key, horizon)
        )
        return steps, errors, gusts

    return given


def seen_at_once(system: SystemConfig, count: int) -> int:
    """Slots for others that each of ``count`` drones perceives."""
    return min(system.sensor.drones, count - 1)


def make_perceiving(system: SystemConfig) -> Callable[[DroneState], Others]:
    """Function (states, leading axis n) -> the others around each, exactly; the nearest first."""

    def perceive(states: DroneState) -> Others:
        count = seen_at_once(system, states.position.shape[0])
        index, within = nearest_neighbours(states.position, system.sensor.range, count)
        return others_of(states.position, states.velocity, index, within)

    return perceive


def other_errors(
    noise: Scalar, count: int, steps: Int[Array, "t"], key: jax.Array, purpose: int
) -> Float[Array, "t k 6"]:
    """Errors of position [m] and velocity [m/s] with which one drone perceives ``count`` others."""

    def at(step: Array) -> Array:
        return draw_other_errors(noise, count, jax.random.fold_in(jax.random.fold_in(key, purpose), step))

    return jax.vmap(at)(steps)


def repeated(tree: Any, count: int) -> Any:
    """``tree`` with a leading axis of ``count`` equal entries."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), tree)


def first_states(dynamics: Dynamics, sensor: Sensor, scene: Scene) -> DroneState:
    """All drones of a swarm at their starts, leading axis n."""

    def of_one(start: Vector, velocity: Vector, goal: Vector) -> DroneState:
        return first_state(dynamics, sensor, scene.replace(start=start, start_velocity=velocity, goal=goal))

    return jax.vmap(of_one)(scene.start, scene.start_velocity, scene.goal)


def first_state(dynamics: Dynamics, sensor: Sensor, scene: Scene) -> DroneState:
    """A drone at the start of ``scene``; with a sensor that looks somewhere, heading for the goal."""
    state = dynamics.initial(scene.start, scene.start_velocity)
    return state.replace(yaw=heading_of(scene.goal - scene.start)) if sensor.directed else state


def flight_errors(sensor: Sensor, noise: Scalar, slots: int, steps: Int[Array, "t"], key: jax.Array) -> Any:
    """Errors of the readings of ``steps``, leading axis. Drawn before the scan: inside it, random numbers dominate the
    cost of a step."""
    return jax.vmap(lambda index: sensor.draw_errors(noise, slots, jax.random.fold_in(key, index)))(steps)


def make_rereading(system: SystemConfig) -> Callable[[DroneState, Scene, Scalar, jax.Array], Reading]:
    """Function (states before each step, scene, noise [m] and key of the flight) -> what a range sensor read in each
    step, leading axis t. Not for the sensor ``surfaces``, whose readings depend on where the controller asked."""
    sensor, dt = make_sensor(system), system.physics.time_step

    def again(states: DroneState, scene: Scene, noise: Scalar, key: jax.Array) -> Reading:
        steps = jnp.arange(states.position.shape[0])
        errors = flight_errors(sensor, noise, scene.obstacles.active.shape[0], steps, key)

        def one(state: DroneState, index: Array, error: Any) -> Reading:
            return sensor.read(scene.obstacles.at(index * dt), state, state.position, index, error, noise)

        return jax.vmap(one)(states, steps, errors)

    return again
