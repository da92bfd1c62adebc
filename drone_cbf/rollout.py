"""Closed-loop flight of one drone in one scene as one ``lax.scan``: perception, policy, barrier, filter, physics.

The scan carries the drone and its estimate; random numbers come from ``fold_in`` of the step.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, limit_gradient
from drone_cbf.barrier.neural import BarrierParams, make_blended_barrier
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
from drone_cbf.perception.graphs import Graph, acting_motion, graph_at
from drone_cbf.perception.sensors import SensorNoise, draw_noise, observe_motion, observe_surfaces
from drone_cbf.perception.surface_map import SurfaceMap, empty_map, fitted_surfaces, make_surface_update, raw_surfaces
from drone_cbf.physics.drone import DroneParams, DroneState, initial_state, nominal_params
from drone_cbf.physics.point_mass import step
from drone_cbf.physics.randomisation import gust_history
from drone_cbf.policy.goal_conditioned import PolicyParams, make_policy
from drone_cbf.safety.filter import make_filter
from drone_cbf.safety.records import Limits, Row, Status
from drone_cbf.scenes.scene import Scene, flown_drone


@struct.dataclass
class Decision:
    """Output of the controller in one step."""

    command: Vector  # Command flown [m/s^2]
    nominal: Vector  # Command of the policy [m/s^2]
    barrier: Scalar  # Barrier value h [m]; NaN without a filter
    slack: Scalar  # Relaxation of the CBF row [m/s]
    status: Scalar  # `Status` as int32


@struct.dataclass
class ControllerParams:
    """Parameters of a controller, constant over a flight."""

    policy: PolicyParams
    barrier: BarrierParams
    margin: Scalar  # Calibration margin of the neural barrier [m]
    blend: Scalar  # 0: analytic barrier, 1: neural barrier


Controller = Callable[[ControllerParams, Graph], Decision]  # (parameters, graph) -> decision. Pure; one drone.


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


def make_unfiltered_controller(system: SystemConfig) -> Controller:
    """The policy alone: no barrier, no filter."""
    policy = make_policy(system)

    def decide(params: ControllerParams, graph: Graph) -> Decision:
        nominal = policy(params.policy, graph)
        return Decision(
            command=nominal,
            nominal=nominal,
            barrier=jnp.float32(jnp.nan),
            slack=jnp.float32(0.0),
            status=jnp.int32(Status.NOMINAL),
        )

    return decide


def braking_command(velocity: Vector, params: DroneParams, time_step: float) -> Vector:
    """The filter's fallback: fastest stop within limits, without reversing [m/s^2]; 0 where velocity is not finite."""
    velocity = jnp.where(jnp.isfinite(velocity), velocity, 0.0)
    return jnp.clip(-velocity / time_step, -params.max_acceleration, params.max_acceleration)


def make_filtered_controller(system: SystemConfig) -> Controller:
    """The policy behind the CBF-QP of the blended barrier."""
    policy = make_policy(system)
    blended = make_blended_barrier(system)
    read, safety_filter = make_row_reader(system.barrier), make_filter(system.filter)
    model = nominal_params(system.physics)
    limits = Limits(lower=-model.max_acceleration, upper=model.max_acceleration)

    def decide(params: ControllerParams, graph: Graph) -> Decision:
        nominal = policy(params.policy, graph)
        barrier = blended(params.barrier, params.margin, params.blend)
        reading = read(barrier, graph)
        fallback = braking_command(graph.velocity, model, system.physics.time_step)
        safe = safety_filter(Row(normal=reading.normal, offset=reading.offset), nominal, limits, fallback)
        return Decision(
            command=safe.command, nominal=nominal, barrier=reading.value, slack=safe.slack, status=safe.status
        )

    return decide


@struct.dataclass
class Belief:
    """What the controller carries from one step to the next."""

    motion: Estimate  # Own motion, predicted to the next observation
    surfaces: SurfaceMap


Perception = Callable[[Belief, DroneState, Scene, Scalar, SensorNoise, Scalar], tuple[Belief, Graph]]
"""(belief, true state, scene, time [s], errors, their standard deviation [m]) -> (corrected belief, graph)."""


def make_perception(system: SystemConfig) -> Perception:
    """Function for one step of sensing and estimation; its graph is taken where a command sent now will act."""
    dt, sensor = system.physics.time_step, system.sensor
    correct, track = make_correction(sensor, dt), make_surface_update(sensor, dt)
    tracked = sensor.surfaces == "tracked"
    model = nominal_params(system.physics)  # the controller knows the drone, not the wind

    def perceive(belief: Belief, state: DroneState, scene: Scene, time: Scalar, errors: SensorNoise, noise: Scalar):
        estimate, surface_map = correct(belief.motion, observe_motion(state, errors), noise), belief.surfaces
        believed = params_with_bias(estimate, model)
        motion = acting_motion(estimate.drone, believed, dt)
        surfaces = observe_surfaces(scene.obstacles.at(time), motion.position, errors, sensor)
        own_spread = position_spread(estimate, model.delay + model.lag_time)
        if tracked:
            surface_map = track(surface_map, surfaces, motion.position, noise)
            surfaces = fitted_surfaces(surface_map, surfaces, motion.position, own_spread)
        else:
            surfaces = raw_surfaces(surfaces, noise, own_spread)
        graph = graph_at(motion, surfaces, scene.goal, believed, sensor)
        return Belief(motion=estimate, surfaces=surface_map), graph

    return perceive


def make_rollout(system: SystemConfig, controller: Controller, horizon: int, *, rematerialise: bool = False) -> Rollout:
    """Function that flies one scene for ``horizon`` steps.

    ``rematerialise``: the backward pass recomputes each step, which saves memory and, on CPU, training time.
    """
    physics, sensor = system.physics, system.sensor
    dt, model = physics.time_step, nominal_params(physics)
    perceive = make_perception(system)

    def rollout(params: ControllerParams, scene: Scene, noise: Scalar, key: jax.Array) -> Trajectory:
        state, drone = initial_state(scene.start, scene.start_velocity, physics), flown_drone(scene, physics)
        steps = jnp.arange(horizon)
        slots = scene.obstacles.active.shape[0]
        noises = jax.vmap(lambda index: draw_noise(noise, slots, jax.random.fold_in(key, index)))(steps)
        gusts = gust_history(scene.gust, system.scene.gust_time, dt, horizon, jax.random.fold_in(key, horizon))

        def one_step(carry: tuple[DroneState, Belief], now: tuple[Array, SensorNoise, Vector]):
            state, belief = carry
            state, motion = limit_gradient((state, belief.motion), physics.gradient_limit)
            index, errors, gust = now
            belief, graph = perceive(belief.replace(motion=motion), state, scene, index * dt, errors, noise)
            decision = controller(params, graph)
            air = drone.replace(wind=scene.wind + gust)
            following = step(state, decision.command, air, dt, physics.gradient_decay)
            predicted = predict(belief.motion, decision.command, model, dt, sensor.bias_drift)
            return (following, belief.replace(motion=predicted)), (state, graph, decision)

        body = jax.checkpoint(one_step) if rematerialise else one_step
        first = observe_motion(state, jax.tree.map(lambda errors: errors[0], noises))
        belief = Belief(motion=first_estimate(first, state, noise, sensor), surfaces=empty_map(slots))
        (last, _), (states, graphs, decisions) = jax.lax.scan(body, (state, belief), (steps, noises, gusts))
        return Trajectory(states=states, graphs=graphs, decisions=decisions, last=last, wind=scene.wind + gusts)

    return rollout
