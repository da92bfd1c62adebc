"""Losses of the barrier: Sobolev regression, which learns value and gradient of the analytic barrier (Czarnecki et al.
2017), and those of GCBF+, which learn from flown states without a teacher (Zhang et al. 2024, section IV)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, concatenate_trees, split_tree
from drone_cbf.barrier.lessons import Lesson, make_flown_lesson, make_graph_lesson, sobolev_gradient, velocity_scale
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.truth import acting_graph
from drone_cbf.physics.drone import DroneState
from drone_cbf.physics.dynamics import make_dynamics
from drone_cbf.scenes.scene import Scene
from drone_cbf.training.data.flown_states import Labels, SampledSteps

FOCUS = 0.5
"""Scale of the weighting 1 / (1 + (h / FOCUS)^2) towards the boundary [m]."""
GRADIENT_WEIGHT = 0.1
"""Weight of the squared gradient error (dimensionless) against the squared value error [m^2]."""


def make_sobolev_loss(system: SystemConfig) -> Callable[..., dict[str, Scalar]]:
    """Function (parameters, lessons with a leading axis, temperature = None) -> weighted means ``cbf_value`` [square of
    ``sensor.length``] and ``cbf_gradient``; ``temperature`` [m] overrides the configured one of a teacher that sees the
    same graph.

    States in collision have no gradient term: the gradient of the closing speed is the lateral speed over the distance,
    which goes to zero there, and a single such state would outweigh a thousand others.
    """
    neural, scale = make_neural_barrier(system), velocity_scale(system)
    taught_anew, length = make_graph_lesson(system), system.sensor.length

    def errors(params: BarrierParams, lesson: Lesson, temperature: Scalar | None) -> tuple[Scalar, ...]:
        taught = lesson if temperature is None else taught_anew(lesson.graph, temperature)
        taught = jax.lax.stop_gradient(taught)
        value, gradient = sobolev_gradient(neural(params), lesson.graph, scale)
        weight = jnp.where(taught.usable, 1.0 / (1.0 + (taught.value / (FOCUS * length)) ** 2), 0.0)
        gradient_weight = jnp.where(taught.collided, 0.0, weight)
        off = ((value - taught.value) / length) ** 2
        return weight, off, gradient_weight, jnp.sum((gradient - taught.gradient) ** 2)

    def loss(params: BarrierParams, lessons: Lesson, temperature: Scalar | None = None) -> dict[str, Scalar]:
        weight, value, gradient_weight, gradient = jax.vmap(errors, (None, 0, None))(params, lessons, temperature)
        total = jnp.maximum(jnp.sum(gradient_weight), 1e-6)  # zero if every state of the batch is in collision
        return {
            "cbf_value": jnp.sum(weight * value) / jnp.sum(weight),
            "cbf_gradient": GRADIENT_WEIGHT * jnp.sum(gradient_weight * gradient) / total,
        }

    return loss


@struct.dataclass
class Transitions:
    """Graphs of n flown states, as the controller saw them and without sensor noise, and one step later, without noise;
    leading axis n."""

    observed: Lesson
    current: Graph
    successor: Graph
    labels: Labels


def make_true_graphs(system: SystemConfig) -> Callable[[DroneState, Scene, Int[Array, "n"]], Graph]:
    """Function (states, scenes, steps; leading axis n) -> noise-free graphs of where a command sent then acts, in the
    shape of the controller's."""
    model = make_dynamics(system.physics).params()

    def graph(state: DroneState, scene: Scene, step: Int[Array, ""]) -> Graph:
        return acting_graph(state, model, scene, step * system.physics.time_step, system, system.sensor.neighbours)

    return jax.vmap(graph)


def make_transitions(system: SystemConfig) -> Callable[[SampledSteps, Graph | None], Transitions]:
    """Function (sampled steps, observed graphs) -> transitions; noise-free graphs stand in for absent observed ones.

    dh/dt is taken between noise-free graphs: two observations 0.05 s apart, each with 0.05 m of noise, differ by
    1.4 m/s, and a one-sided loss would flatten the barrier in response. No gradient reaches the flight.
    """
    true_graphs, taught = make_true_graphs(system), jax.vmap(make_flown_lesson(system))

    def transitions(sampled: SampledSteps, observed: Graph | None) -> Transitions:
        sampled, observed = jax.lax.stop_gradient((sampled, observed))
        states = concatenate_trees(sampled.states, sampled.successors)
        scenes = concatenate_trees(sampled.scenes, sampled.scenes)
        both = true_graphs(states, scenes, concatenate_trees(sampled.steps, sampled.steps + 1))
        current, successor = split_tree(both, 2)
        observed = current if observed is None else observed
        lessons = taught(observed, sampled.states, sampled.scenes, sampled.steps)
        return Transitions(observed=lessons, current=current, successor=successor, labels=sampled.labels)

    return transitions


def mean_where(values: Float[Array, "n"], mask: Bool[Array, "n"]) -> Scalar:
    """Mean over the masked values; 0, with zero gradient, for an empty mask."""
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def make_barrier_losses(
    system: SystemConfig, epsilon: float
) -> Callable[[BarrierParams, Transitions], dict[str, Scalar]]:
    """Function (parameters, transitions) -> unweighted ``cbf_safe`` [m], ``cbf_unsafe`` [m] and ``cbf_hdot`` [m/s].

    (epsilon - h)+ over safe states, (epsilon + h)+ over unsafe ones, (epsilon - dh/dt - alpha h)+ over all. dh/dt is
    the finite difference along the flown motion, gusts included: neither the filter's row nor a model of the drone
    enters. Both ends of the difference carry a gradient.
    """
    neural = make_neural_barrier(system)

    def losses(params: BarrierParams, transitions: Transitions) -> dict[str, Scalar]:
        # Apart from the noise-free graphs: those of a range sensor have other nodes.
        observed = jax.vmap(neural(params))(transitions.observed.graph)
        both = concatenate_trees(transitions.current, transitions.successor)
        current, successor = split_tree(jax.vmap(neural(params))(both), 2)
        rate = (successor - current) / system.physics.time_step
        return {
            "cbf_safe": mean_where(jax.nn.relu(epsilon - observed), transitions.labels.safe),
            "cbf_unsafe": mean_where(jax.nn.relu(epsilon + observed), transitions.labels.unsafe),
            "cbf_hdot": jnp.mean(jax.nn.relu(epsilon - rate - system.barrier.class_k_gain * current)),
        }

    return losses
