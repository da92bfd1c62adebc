"""Closed-loop flight of one drone in one scene as one ``lax.scan``: perception, policy, barrier, filter, physics.

The scan carries the drone and the controller's memory; random numbers come from ``fold_in`` of the step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from drone_cbf.arrays import Scalar, Vector, limit_gradient
from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams, Decision, Memory, Pilot, make_controller
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.mapping import SEEN
from drone_cbf.perception.readings import Reading
from drone_cbf.perception.sensor_kinds import Sensor, make_sensor
from drone_cbf.perception.sensors import observe_motion
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.dynamics import Dynamics, make_dynamics
from drone_cbf.physics.heading import heading_of, turned
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.scenes.scene import Scene, flown_drone


@struct.dataclass
class Trajectory:
    """One flight of ``t`` steps. ``states`` and ``graphs`` precede each step; ``last`` is the final state."""

    states: DroneState
    graphs: Graph  # As seen by the controller: estimated from noisy readings
    decisions: Decision
    last: DroneState
    wind: Float[Array, "t 3"]  # True wind during each step [m/s]


Rollout = Callable[[ControllerParams, Scene, Scalar, jax.Array], Trajectory]
"""(controller parameters, scene, noise [m], key) -> trajectory."""


def make_rollout(system: SystemConfig, pilot: Pilot, horizon: int, *, rematerialise: bool = False) -> Rollout:
    """Function that flies one scene for ``horizon`` steps by the controller with ``pilot``.

    ``rematerialise``: the backward pass recomputes each step, which saves memory and, on CPU, training time.
    """
    physics, dt = system.physics, system.physics.time_step
    dynamics, sensor, controller = make_dynamics(physics), make_sensor(system), make_controller(system, pilot)

    def rollout(params: ControllerParams, scene: Scene, noise: Scalar, key: jax.Array) -> Trajectory:
        state, drone = first_state(dynamics, sensor, scene), flown_drone(scene, physics)
        steps = jnp.arange(horizon)
        slots = scene.obstacles.active.shape[0]
        errors = flight_errors(sensor, noise, slots, steps, key)
        gusts = gust_history(scene.gust, system.scene.gust_time, dt, horizon, jax.random.fold_in(key, horizon))

        def one_step(carry: tuple[DroneState, Memory], now: tuple[Array, Any, Vector]):
            state, memory = carry
            state, motion = limit_gradient((state, memory.motion), physics.gradient_limit)
            memory = memory.replace(motion=motion)
            index, error, gust = now
            place = controller.place(memory, observe_motion(state, error), noise)
            reading = sensor.read(scene.obstacles.at(index * dt), state, place, index, error, noise)
            memory, decision, graph = controller.step(params, memory, reading, scene.goal)
            air = drone.replace(wind=scene.wind + gust)
            following = dynamics.step(state, decision.command, air)
            following = turned(following, decision.look, physics)
            return (following, memory), (state, graph, decision)

        keep = jax.checkpoint_policies.save_only_these_names(SEEN)
        body = jax.checkpoint(one_step, policy=keep) if rematerialise else one_step
        first = (state, controller.start(slots, scene.cruise))
        (last, _), (states, graphs, decisions) = jax.lax.scan(body, first, (steps, errors, gusts))
        return Trajectory(states=states, graphs=graphs, decisions=decisions, last=last, wind=scene.wind + gusts)

    return rollout


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
