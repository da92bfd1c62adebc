"""Sobolev regression: the neural barrier learns value and gradient of the analytic one (Czarnecki et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from drone_cbf.arrays import Scalar, safe_norm
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import sobolev_gradient
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph

FOCUS = 0.5
"""Scale of the weighting 1 / (1 + (h / FOCUS)^2) towards the boundary [m]."""
GRADIENT_WEIGHT = 0.1
"""Weight of the squared gradient error (dimensionless) against the squared value error [m^2]."""


def velocity_scale(system: SystemConfig) -> float:
    """Typical |dh/dv| at cruise speed [s]: tau + c / a_brake at half the top speed."""
    return system.barrier.reaction_time + 0.5 * system.objective.max_speed / system.barrier.braking


def make_sobolev_loss(system: SystemConfig) -> Callable[..., dict[str, Scalar]]:
    """Function (parameters, graphs with a leading axis, temperature = None) -> weighted means ``cbf_value`` [m^2] and
    ``cbf_gradient``; ``temperature`` [m] overrides the configured one of the teacher's soft minimum.

    States in collision have no gradient term: the gradient of the closing speed is the lateral speed over the distance,
    which goes to zero there, and a single such state would outweigh a thousand others.
    """
    neural, scale = make_neural_barrier(system), velocity_scale(system)

    def has_collided(graph: Graph) -> Array:
        distance = jnp.where(graph.mask, safe_norm(graph.relative_position), jnp.inf)
        return jnp.min(distance) < system.physics.drone_radius

    def errors(params: BarrierParams, graph: Graph, temperature: Scalar | None) -> tuple[Scalar, ...]:
        analytic = make_analytic_barrier(system, temperature)
        true_value, true_gradient = jax.lax.stop_gradient(sobolev_gradient(analytic, graph, scale))
        value, gradient = sobolev_gradient(neural(params), graph, scale)
        weight = 1.0 / (1.0 + (true_value / FOCUS) ** 2)
        gradient_weight = jnp.where(has_collided(graph), 0.0, weight)
        return weight, (value - true_value) ** 2, gradient_weight, jnp.sum((gradient - true_gradient) ** 2)

    def loss(params: BarrierParams, graphs: Graph, temperature: Scalar | None = None) -> dict[str, Scalar]:
        weight, value, gradient_weight, gradient = jax.vmap(errors, (None, 0, None))(params, graphs, temperature)
        total = jnp.maximum(jnp.sum(gradient_weight), 1e-6)  # zero if every state of the batch is in collision
        return {
            "cbf_value": jnp.sum(weight * value) / jnp.sum(weight),
            "cbf_gradient": GRADIENT_WEIGHT * jnp.sum(gradient_weight * gradient) / total,
        }

    return loss
