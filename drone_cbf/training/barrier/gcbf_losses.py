"""Losses of GCBF+ by which a barrier learns from flown states, without a teacher (Zhang et al. 2024, section IV)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, concatenate_trees, split_tree
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.objectives.truth import acting_graph
from drone_cbf.perception.graphs import Graph
from drone_cbf.physics.drone import DroneState, nominal_params
from drone_cbf.physics.scenes import Scene
from drone_cbf.training.data.flown_states import Picked
from drone_cbf.training.data.labels import Labels


@struct.dataclass
class Moments:
    """What the barrier learns from at n flown states; leading axis n."""

    seen: Graph
    """As the controller saw the state."""
    here: Graph
    """As a perfect sensor would have shown it ..."""
    following: Graph
    """... and the state one step later."""
    labels: Labels


def make_true_graphs(system: SystemConfig) -> Callable[[DroneState, Scene, Int[Array, "n"]], Graph]:
    """Function (states, scenes, steps; leading axis n) -> graphs of where a command sent then begins to act.

    Of the same shape as the controller's, without noise.
    """
    model = nominal_params(system.physics)
    neighbours = min(system.sensor.neighbours, system.scene.obstacles)

    def graph(state: DroneState, scene: Scene, step: Int[Array, ""]) -> Graph:
        return acting_graph(state, model, scene, step * system.physics.time_step, system, neighbours)

    return jax.vmap(graph)


def make_moments(system: SystemConfig) -> Callable[[Picked, Graph | None], Moments]:
    """Function (picked steps, graphs as the controller saw them) -> moments; without graphs, the true ones stand in.

    The rate of h is taken between true graphs. Two noisy ones, 0.05 s apart and each 0.05 m out, differ by 1.4 m/s, and
    a one-sided loss would learn from that to be flat. No gradient reaches the flight: it is data.
    """
    true_graphs = make_true_graphs(system)

    def moments(picked: Picked, seen: Graph | None) -> Moments:
        picked, seen = jax.lax.stop_gradient((picked, seen))
        states, scenes = (
            concatenate_trees(picked.states, picked.following),
            concatenate_trees(picked.scenes, picked.scenes),
        )
        both = true_graphs(states, scenes, concatenate_trees(picked.steps, picked.steps + 1))
        here, following = split_tree(both, 2)
        return Moments(seen=here if seen is None else seen, here=here, following=following, labels=picked.labels)

    return moments


def mean_where(values: Float[Array, "n"], chosen: Bool[Array, "n"]) -> Scalar:
    """Mean over the chosen ones; 0, with zero gradient, where there are none."""
    return jnp.sum(jnp.where(chosen, values, 0.0)) / jnp.maximum(jnp.sum(chosen), 1)


def make_barrier_losses(system: SystemConfig, epsilon: float) -> Callable[[BarrierParams, Moments], dict[str, Scalar]]:
    """Function (parameters, moments) -> unweighted ``cbf_safe`` [m], ``cbf_unsafe`` [m] and ``cbf_hdot`` [m/s].

    (epsilon - h)+ over safe states, (epsilon + h)+ over unsafe ones, (epsilon - dh/dt - alpha h)+ over all, where dh/dt
    is the difference of h to the next graph over the time step: along the motion as it was flown, gusts included, so
    neither the row nor a model of the drone enters. Both ends of the difference have a gradient.
    """
    neural = make_neural_barrier(system)
    alpha, time_step = system.barrier.class_k_gain, system.physics.time_step

    def losses(params: BarrierParams, moments: Moments) -> dict[str, Scalar]:
        together = jax.vmap(neural(params))(concatenate_trees(moments.seen, moments.here, moments.following))
        seen, here, following = split_tree(together, 3)
        rate = (following - here) / time_step
        return {
            "cbf_safe": mean_where(jax.nn.relu(epsilon - seen), moments.labels.safe),
            "cbf_unsafe": mean_where(jax.nn.relu(epsilon + seen), moments.labels.unsafe),
            "cbf_hdot": jnp.mean(jax.nn.relu(epsilon - rate - alpha * here)),
        }

    return losses
