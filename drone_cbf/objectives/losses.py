"""Loss of one flight: goal, speed, effort, smoothness, clearance, and the work of the filter."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from drone_cbf.arrays import Scalar, Vector, safe_norm
from drone_cbf.barrier.analytic import stoppable_speed
from drone_cbf.barrier.truth import make_true_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.objectives.clearance import approach, path, velocities
from drone_cbf.physics.belief import acting_motion
from drone_cbf.physics.drone import DroneState
from drone_cbf.rollout import Trajectory
from drone_cbf.safety.records import Status
from drone_cbf.scenes.scene import Scene, flown_drone

FINAL_TIME = 1.0  # Time at the end of a flight over which reaching the goal and staying there is judged [s]
VELOCITY_TIME = 2.0  # Time over which the velocity is averaged that should be the wanted one [s] (DiffPhysDrone)
ARRIVAL_TIME = 0.8  # The wanted speed is at most the distance to the goal over this [s]
COLLISION_SHARPNESS = 32.0  # Sharpness of the collision term's softplus [1/m] (DiffPhysDrone)

LossTerms = dict[str, Scalar]  # Weighted terms of the loss by name; their sum is the loss


def final_steps(system: SystemConfig, horizon: int) -> int:
    """Steps of the last second, at most the whole flight."""
    return max(1, min(horizon, round(FINAL_TIME / system.physics.time_step)))


def final_second(samples: Shaped[Array, "n ..."], system: SystemConfig) -> Shaped[Array, "m ..."]:
    """The samples of the last second, both ends included, of samples before each step and at the end."""
    return samples[-(final_steps(system, samples.shape[0] - 1) + 1) :]


def make_flight_loss(system: SystemConfig, *, filtered: bool) -> Callable[[Trajectory, Scene], LossTerms]:
    """Function from one flight to its weighted loss terms; ``filtered`` adds the terms about the filter."""
    # Left out at zero weight, because it needs the true graph of every step.
    violation = _make_violation_term(system) if system.objective.violation else lambda trajectory, scene: {}

    def loss(trajectory: Trajectory, scene: Scene) -> LossTerms:
        terms = _flight_terms(trajectory, scene, system) | _clearance_terms(trajectory, scene, system)
        terms |= violation(trajectory, scene)
        return terms | _filter_terms(trajectory, system) if filtered else terms

    return loss


def _flight_terms(trajectory: Trajectory, scene: Scene, system: SystemConfig) -> LossTerms:
    weights = system.objective
    distance = safe_norm(path(trajectory) - scene.goal, 0.01)[1:]
    speed = safe_norm(velocities(trajectory), 0.01)[1:]
    last = final_steps(system, distance.shape[0])
    commands = jnp.concatenate([jnp.zeros((1, 3)), trajectory.decisions.command])
    cruise = weights.max_speed if scene.cruise is None else scene.cruise
    return (
        _velocity_term(trajectory, scene, system, cruise)
        | _unseen_term(trajectory, system)
        | {
            "goal": weights.goal * jnp.mean(distance) / (1.0 + safe_norm(scene.start - scene.goal)),
            "final": weights.final * jnp.mean(distance[-last:]),
            "final_speed": weights.final_speed * jnp.mean(speed[-last:]),
            "speed": weights.speed * jnp.mean(jax.nn.relu(speed - cruise) ** 2),
            "effort": weights.effort * jnp.mean(jnp.sum(commands[1:] ** 2, -1)),
            "smoothness": weights.smoothness * jnp.mean(jnp.sum(jnp.diff(commands, axis=0) ** 2, -1)),
        }
    )


def _velocity_term(trajectory: Trajectory, scene: Scene, system: SystemConfig, cruise: Scalar | float) -> LossTerms:
    """Smooth-L1 of the mean difference to the velocity straight to the goal (DiffPhysDrone): detours cost little, and
    each command feels at once what the distance to the goal tells it only through many steps."""
    weight = system.objective.velocity
    if not weight:
        return {}
    ahead = scene.goal - jax.lax.stop_gradient(path(trajectory)[:-1])
    distance = safe_norm(ahead, 0.01)[:, None]
    wanted = jnp.minimum(cruise, distance / ARRIVAL_TIME) * ahead / distance
    summed = jnp.cumsum(velocities(trajectory)[1:] - wanted, axis=0)
    window = min(round(VELOCITY_TIME / system.physics.time_step), summed.shape[0] - 1)
    off = safe_norm((summed[window:] - summed[:-window]) / window, 0.01)
    return {"velocity": weight * jnp.mean(jnp.where(off < 1.0, 0.5 * off**2, off - 0.5))}


def _unseen_term(trajectory: Trajectory, system: SystemConfig) -> LossTerms:
    """Squared speed beyond that from which the drone stops within what it has seen; seeing farther is not rewarded."""
    weight, graphs = system.objective.unseen, trajectory.graphs
    if not weight:
        return {}
    seen = graphs.range if graphs.frontier is None else graphs.frontier
    speed = safe_norm(trajectory.states.velocity, 0.01)
    beyond = jax.nn.relu(speed - jax.lax.stop_gradient(stoppable_speed(seen, system)))
    return {"unseen": weight * jnp.mean(beyond**2)}


def _clearance_terms(trajectory: Trajectory, scene: Scene, system: SystemConfig) -> LossTerms:
    """Closing speed times a barrier-like function of the surface distance (DiffPhysDrone, eq. 7-8)."""
    weights = system.objective
    seen = approach(trajectory, scene, system.physics)
    urgency = 0.2 + jax.lax.stop_gradient(seen.speed)
    near = jax.nn.relu(1.0 - seen.clearance / weights.clearance_distance) ** 2
    sharpness = COLLISION_SHARPNESS / system.sensor.length
    inside = jax.nn.softplus(-sharpness * seen.clearance) / sharpness
    return {
        "clearance": weights.clearance * jnp.mean(jnp.sum(urgency * near, -1)),
        "collision": weights.collision * jnp.mean(jnp.sum(urgency * inside, -1)),
    }


def _filter_terms(trajectory: Trajectory, system: SystemConfig) -> LossTerms:
    weights = system.objective
    decisions = trajectory.decisions
    changed = jnp.sum((decisions.command - decisions.nominal) ** 2, -1)
    fell_back = decisions.status == Status.FALLBACK
    nominal = jnp.sum(jnp.where(fell_back[..., None], decisions.nominal, 0.0) ** 2, -1)
    return {
        "slack": weights.slack * jnp.mean(decisions.slack),
        "intervention": weights.intervention * jnp.mean(changed),
        "fallback": weights.fallback * jnp.mean(nominal),
    }


def _make_violation_term(system: SystemConfig) -> Callable[[Trajectory, Scene], LossTerms]:
    """Squared violation (-(dh/dt + alpha h))+ of the analytic barrier over each step, with the true surfaces.

    Taken where commands act, like the measured violation; dh/dt is a difference quotient between consecutive points:
    so there is no second derivative of h in the gradient.
    """
    barrier = make_true_barrier(system)
    dt, gain = system.physics.time_step, system.barrier.class_k_gain

    def term(trajectory: Trajectory, scene: Scene) -> LossTerms:
        drone = flown_drone(scene, system.physics)
        states = jax.tree.map(lambda one, end: jnp.concatenate([one, end[None]]), trajectory.states, trajectory.last)
        winds = jnp.concatenate([trajectory.wind, trajectory.wind[-1:]])

        def true_value(state: DroneState, wind: Vector, step: Array) -> Scalar:
            model = drone.replace(wind=wind)
            return barrier(acting_motion(state, model, dt), scene, step * dt + model.delay)

        h = jax.vmap(true_value)(states, winds, jnp.arange(winds.shape[0]))
        missed = jax.nn.relu(-(jnp.diff(h) / dt + gain * h[:-1]))
        return {"violation": system.objective.violation * jnp.mean(missed**2)}

    return term
