"""Sobolev regression: the neural barrier against the analytic one, value and gradient (Czarnecki et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from drone_cbf.arrays import Scalar
from drone_cbf.barrier.analytic import make_analytic_barrier
from drone_cbf.barrier.calibration import sobolev_gradient
from drone_cbf.barrier.neural import BarrierParams, make_neural_barrier
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph

FOCUS = 0.5
"""States with |h| below this [m] count most; the weight falls off as 1 / (1 + (h / FOCUS)^2)."""
GRADIENT_WEIGHT = 0.1
"""Weight of the squared gradient error (dimensionless) against the squared value error [m^2]."""


def velocity_scale(system: SystemConfig) -> float:
    """Typical |dh/dv| at cruise speed [s]: tau + c / a_brake at half the top speed."""
    return system.barrier.reaction_time + 0.5 * system.objective.max_speed / system.barrier.braking


def make_sobolev_loss(system: SystemConfig) -> Callable[[BarrierParams, Graph], dict[str, Scalar]]:
    """Function (parameters, graphs with a leading axis) -> ``cbf_value`` [m^2] and ``cbf_gradient``, weighted means."""
    analytic = make_analytic_barrier(system)
    neural = make_neural_barrier(system)
    scale = velocity_scale(system)

    def errors(params: BarrierParams, graph: Graph) -> tuple[Scalar, Scalar, Scalar]:
        true_value, true_gradient = jax.lax.stop_gradient(sobolev_gradient(analytic, graph, scale))
        value, gradient = sobolev_gradient(neural(params), graph, scale)
        weight = 1.0 / (1.0 + (true_value / FOCUS) ** 2)
        return weight, (value - true_value) ** 2, jnp.sum((gradient - true_gradient) ** 2)

    def loss(params: BarrierParams, graphs: Graph) -> dict[str, Scalar]:
        weight, value, gradient = jax.vmap(errors, in_axes=(None, 0))(params, graphs)
        total = jnp.sum(weight)
        return {
            "cbf_value": jnp.sum(weight * value) / total,
            "cbf_gradient": GRADIENT_WEIGHT * jnp.sum(weight * gradient) / total,
        }

    return loss
