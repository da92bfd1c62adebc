"""From a barrier to the one inequality on the command: the CBF condition as a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, unit
from drone_cbf.barrier.analytic import Barrier
from drone_cbf.perception.graphs import Graph


@struct.dataclass
class Slopes:
    """A barrier's value and derivatives with respect to the drone's own state, as its user sees them."""

    value: Scalar
    """h [m]."""
    by_position: Vector
    """dh/dp, all nodes fixed."""
    by_velocity: Vector
    """dh/dv [s]."""
    drift: Scalar
    """sum_i dh/dr_i . r_i': rate of h at constant velocities [m/s], surfaces taken as flat (:func:`slopes`)."""


def slopes(barrier: Barrier, graph: Graph) -> Slopes:
    """Value and derivatives of ``barrier`` at ``graph`` by reverse-mode differentiation.

    A node is the nearest point of a surface, not a thing: flying past, it slides along. On a flat surface it keeps
    beside the drone, so that r_i' = n_i (n_i . w_i). A fixed point instead would promise that the closing speed falls
    by w_t^2 / s while passing, where a surface of radius R gives w_t^2 / (s + R): the flat surface promises nothing,
    and for every convex obstacle the true rate of h is at least this one.
    """

    def value(relative_position: Float[Array, "k 3"], relative_velocity: Float[Array, "k 3"]) -> Scalar:
        return barrier(graph.replace(relative_position=relative_position, relative_velocity=relative_velocity))

    h, (by_position, by_velocity) = jax.value_and_grad(value, argnums=(0, 1))(
        graph.relative_position, graph.relative_velocity
    )
    normal = unit(graph.relative_position)
    return Slopes(
        value=h,
        by_position=jnp.sum(by_position, 0),
        by_velocity=jnp.sum(by_velocity, 0),
        drift=jnp.sum(by_position * normal * jnp.sum(normal * graph.relative_velocity, -1, keepdims=True)),
    )


@struct.dataclass
class BarrierReading:
    """What the filter needs: normal . u >= offset keeps dh/dt >= -alpha h."""

    value: Scalar
    """h [m]."""
    normal: Vector
    """dh/dv [s]."""
    offset: Scalar
    """-alpha h - sum_i dh/dr_i . r_i' - dh/dv . drag [m/s]."""


def read_barrier(barrier: Barrier, graph: Graph, class_k_gain: float) -> BarrierReading:
    """CBF condition dh/dp v + dh/dv (u + drag) + sum_i dh/do_i v_i >= -alpha h as a row in u (Ames et al. 2019, eq. 13).

    Every edge is relative, so the terms in p and in the nodes' own motion are together ``sum_i dh/dr_i . r_i'``.
    """
    at = slopes(barrier, graph)
    offset = -class_k_gain * at.value - at.drift - jnp.dot(at.by_velocity, graph.drag)
    return BarrierReading(value=at.value, normal=at.by_velocity, offset=offset)
