"""The CBF condition of a barrier as one linear inequality (row) in the command."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from drone_cbf.arrays import Scalar, Vector, bounded_gradient, safe_norm, unit
from drone_cbf.barrier.analytic import KINDS, Barrier, NodeMotion, sliding
from drone_cbf.config import BarrierConfig
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.point_graph import penalty_slopes

NEAREST = 0.1  # Lower bound on node distances when bounding direction errors [m]; a drone nearer than that has collided


@struct.dataclass
class Slopes:
    """Value of a barrier and its derivatives with respect to the drone's own state."""

    value: Scalar  # h [m]
    by_position: Vector  # dh/dp, all nodes fixed, penalties of nodes (perception/point_graph.py) included
    by_velocity: Vector  # dh/dv [s]
    drift: Scalar
    """sum_i dh/dr_i . r_i': rate of h at constant velocities [m/s], for the :data:`NodeMotion` that was asked for."""
    by_node: Float[Array, "k"]  # |dh/dr_i|, the influence of each node; 1 for a single node at rest


def slopes(barrier: Barrier, graph: Graph, node_motion: NodeMotion = sliding) -> Slopes:
    """Value and derivatives of ``barrier`` at ``graph`` by reverse-mode differentiation.

    Derivatives of these in turn are finite: within a micrometre of a surface, at 10^6 m/s, they overflow on the way.
    """
    moving = bounded_gradient((graph.relative_position, graph.relative_velocity, graph.velocity))
    graph = graph.replace(relative_position=moving[0], relative_velocity=moving[1], velocity=moving[2])

    def value(
        position: Float[Array, "k 3"],
        velocity: Float[Array, "k 3"],
        own: Vector,
        frontier: Scalar | None,
        penalty: Float[Array, "k"] | None,
    ) -> Scalar:
        moved = graph.replace(relative_position=position, relative_velocity=velocity, penalty=penalty)
        return barrier(moved.replace(velocity=own, frontier=frontier))

    h, (by_position, by_velocity, by_own, by_frontier, by_penalty) = jax.value_and_grad(value, argnums=range(5))(
        graph.relative_position, graph.relative_velocity, graph.velocity, graph.frontier, graph.penalty
    )
    turned = 0.0 if by_penalty is None else _by_turning(by_penalty, graph)
    at = Slopes(
        value=h,
        by_position=jnp.sum(by_position, 0) + turned,
        by_velocity=jnp.sum(by_velocity, 0) + by_own,
        drift=jnp.sum(by_position * node_motion(graph)),
        by_node=safe_norm(by_position),
    )
    if graph.frontier is None:
        return at
    # The frontier rests in the world: it comes nearer at the drone's speed.
    return at.replace(
        by_position=at.by_position - by_frontier * unit(graph.velocity),
        drift=at.drift - by_frontier * safe_norm(graph.velocity),
    )


def _by_turning(by_penalty: Float[Array, "k"], graph: Graph) -> Vector | float:
    """What the slopes of the penalties add to dh/dp; other drones belong to no sector and have none."""
    sectors = graph.relative_position.shape[0] - graph.drones
    return by_penalty[:sectors] @ penalty_slopes(graph.relative_position[:sectors]) if sectors else 0.0


@struct.dataclass
class BarrierReading:
    """Row for the filter: normal . u >= offset ensures dh/dt >= -alpha h."""

    value: Scalar  # h [m]
    normal: Vector  # dh/dv [s]
    offset: Scalar  # -alpha h - sum_i dh/dr_i . r_i' - dh/dv . drag, tightened [m/s].


def row_doubt(at: Slopes, graph: Graph, class_k_gain: float) -> Scalar:
    """Standard deviation of the row due to the spread of the nodes, to first order and at zero command [m/s].

    A node error sigma changes h by sigma and rotates its direction by sigma / s, so that a fraction of the tangential
    speed w_t appears as closing speed, in dh/dt and, through dh/dv, in h. Errors of nodes are added as if fully
    correlated: sum_i |dh/dr_i| sigma_i (alpha + (1 + alpha |dh/dv|) w_t / s_i).
    """
    normal = unit(graph.relative_position)
    closing = jnp.sum(normal * graph.relative_velocity, -1, keepdims=True)
    passing = safe_norm(graph.relative_velocity - closing * normal)
    turned = (1.0 + class_k_gain * safe_norm(at.by_velocity)) * passing / safe_norm(graph.relative_position, NEAREST)
    return jnp.sum(at.by_node * graph.spread * (class_k_gain + turned))


def competition(at: Slopes) -> Scalar:
    """How much nodes compete, 0 to 1: twice the influence on h that the strongest one does not have, at most 1."""
    strongest = jnp.max(at.by_node) / jnp.maximum(jnp.sum(at.by_node), 1e-6)
    return jnp.minimum(2.0 * (1.0 - strongest), 1.0)


def fit_doubt(at: Slopes, graph: Graph, error: float, class_k_gain: float) -> Scalar:
    """How wrong the row may be [m/s] if a drone is off in velocity by ``error`` [m/s] from its double integrator.

    The command drives the believed velocity z exactly, z' = u + drag, and the drone moves at z + e, so the error enters
    as a velocity and never has to be differentiated. On z the row holds but for q' = z + e, by |dh/dp| |e|; and h at
    the true velocity is lower by at most |dh/dv| |e|, which h must keep: in the row, alpha |dh/dv| |e|. Both take one
    component of e, so ``error`` is that of one.
    The error comes from commands, as the speed does: it is taken to be at most the speed, and at rest there is none.
    """
    off = jnp.minimum(error, safe_norm(graph.velocity))
    return off * (safe_norm(at.by_position) + class_k_gain * safe_norm(at.by_velocity))


def make_tightening(config: BarrierConfig, fit_error: float = 0.0) -> Callable[[Slopes, Graph], Scalar]:
    """By how much the row exceeds the CBF condition [m/s], for errors of barrier and drone, and for noise; zero for
    kinds not tightened.

    The row of a learned barrier is wrong in proportion to speed, which ``config.speed_tightening`` covers; at rest it
    asks nothing. ``config.noise_tightening`` standard deviations (:func:`row_doubt`) cover uncertain surfaces, and
    ``config.fit_tightening`` times ``fit_error`` [m/s] a drone that is no double integrator (:func:`fit_doubt`).
    A constant to differentiation: the policy cannot buy a looser row, and no second derivative is taken.
    """
    fit = config.fit_tightening * fit_error

    def tightening(at: Slopes, graph: Graph) -> Scalar:
        doubt = config.noise_tightening * row_doubt(at, graph, config.class_k_gain)
        amount = config.speed_tightening * share(at) * safe_norm(graph.velocity)
        if fit:
            doubt = jnp.hypot(doubt, fit_doubt(at, graph, fit, config.class_k_gain))  # Independent of each other
        return jax.lax.stop_gradient(amount + doubt)

    share = competition if config.speed_tightening_at == "ridges" else lambda at: jnp.float32(1.0)
    acts = KINDS[config.kind].tightened and (config.noise_tightening or config.speed_tightening or fit)
    return tightening if acts else lambda at, graph: jnp.float32(0.0)


def make_row_reader(config: BarrierConfig, fit_error: float = 0.0) -> Callable[[Barrier, Graph], BarrierReading]:
    """dh/dp v + dh/dv (u + drag) + sum_i dh/do_i v_i >= -alpha h as a row in u (Ames et al. 2019, eq. 13).

    Edges are relative, so the terms in p and the nodes' motion are together ``sum_i dh/dr_i . r_i'`` (:data:`KINDS`).
    ``fit_error``: of the double integrator in place of the drone [m/s].
    """
    node_motion, tightening = KINDS[config.kind].node_motion, make_tightening(config, fit_error)

    def read(barrier: Barrier, graph: Graph) -> BarrierReading:
        at = slopes(barrier, graph, node_motion)
        offset = -config.class_k_gain * at.value - at.drift - jnp.dot(at.by_velocity, graph.drag)
        return BarrierReading(value=at.value, normal=at.by_velocity, offset=offset + tightening(at, graph))

    return read
