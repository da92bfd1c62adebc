"""Analytic barriers: braking distance (relative degree one) and soft-min distance (degree two, the baseline)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from drone_cbf.arrays import Scalar, Vector, log_sum_exp, safe_norm, unit
from drone_cbf.config import SystemConfig
from drone_cbf.perception.graphs import Graph, closing_speeds

Barrier = Callable[[Graph], Scalar]  # Graph -> h [m]; positive means that the drone can stop before every surface


def soft_minimum(values: Float[Array, "k"], ceiling: Scalar | float, temperature: Scalar | float) -> Scalar:
    """-T log(exp(-ceiling/T) + sum_i exp(-values_i/T)): lower than the minimum by at most ``T log(k + 1)``, smooth.

    The ceiling keeps the value of an empty graph finite, with zero gradient.
    """
    every = jnp.append(values, ceiling)
    return -temperature * log_sum_exp(-every / temperature)


def stopping_margin(
    distance: Float[Array, "*n"], closing: Float[Array, "*n"], system: SystemConfig, braking: Array | None = None
) -> Array:
    """s - r_safe - tau c - c^2 / (2 a_brake) [m] at distance s [m] and closing speed c [m/s]; ``braking`` [m/s^2] of
    each node, None for ``barrier.braking``."""
    barrier = system.barrier
    safe_radius = system.physics.drone_radius + barrier.safety_margin
    way = barrier.reaction_time * closing + closing**2 / (2.0 * (barrier.braking if braking is None else braking))
    return distance - safe_radius - way


PAIR = 2.0  # Two drones that brake for each other slow down relative to each other this many times as fast as one


def stoppable_speed(distance: Float[Array, "*n"], system: SystemConfig) -> Array:
    """Speed towards a surface at ``distance`` [m] at which :func:`stopping_margin` is zero [m/s]; 0 within r_safe."""
    a, tau = system.barrier.braking, system.barrier.reaction_time
    room = jnp.maximum(distance - system.physics.drone_radius - system.barrier.safety_margin, 0.0)
    return a * (jnp.sqrt(tau**2 + 2.0 * room / a + 1e-12) - tau)


COMPRESSED = 2.0  # From about this value of h [m] on, that of round surfaces grows by its logarithm alone


def passing_margin(
    stopping: Float[Array, "*n"],
    distance: Float[Array, "*n"],
    passing: Float[Array, "*n"],
    radius: Float[Array, "*n"],
    system: SystemConfig,
) -> Array:
    """h_i [m] beside a ball or upright cylinder of ``radius`` [m] at ``passing`` speed w_t [m/s], from the
    :func:`stopping_margin` before a plane.

    Under an acceleration a_brake away from the centre, at distance rho = s + R from it, angular momentum w_t rho and
    |w|^2 / 2 - a_brake rho are constant. The drone comes no nearer than rho_safe = R + r_safe if and only if
    c^2 <= 2 a_brake (rho - rho_safe) + w_t^2 (rho^2 / rho_safe^2 - 1): the last term is missing before a plane. It is
    hundreds of metres beside what is passed fast and far away, where h only has to be large: there it is compressed,
    which moves no zero and keeps h > 0 invariant. So does a share ``barrier.passing`` of that term: under the same
    acceleration h then grows.
    """
    safe_radius = system.physics.drone_radius + system.barrier.safety_margin
    nearest, room = radius + safe_radius, distance - safe_radius
    relief = passing**2 * room * (room + 2.0 * nearest) / nearest**2 / (2.0 * system.barrier.braking)
    relief = system.barrier.passing * relief
    margin = stopping + relief
    large = COMPRESSED * jnp.log1p(jnp.maximum(margin, 0.0) / COMPRESSED)
    return jnp.where(margin > 0.0, large, margin)


def passing_speed(
    normal: Float[Array, "*n 3"], velocity: Float[Array, "*n 3"], upright: Bool[Array, "*n"]
) -> Float[Array, "*n"]:
    """Speed across the ``normal`` [m/s]; of upright cylinders the level part alone, for upwards they go on."""
    across = velocity - normal * jnp.sum(normal * velocity, -1, keepdims=True)
    return safe_norm(jnp.where(upright[..., None], across * jnp.array([1.0, 1.0, 0.0]), across))


def braking_margins(graph: Graph, system: SystemConfig) -> Float[Array, "k"]:
    """h_i = s_i - r_safe - tau c_i - c_i^2 / (2 a_brake) [m] of each node (DESIGN 4), plus its penalty, if it has one,
    or :func:`passing_margin` if its radius is known; the sensing range if masked. For nodes of other drones a_brake is
    :data:`PAIR` times as large: both brake."""
    closing = closing_speeds(graph.relative_position, graph.relative_velocity)
    distance = safe_norm(graph.relative_position)
    braking = system.barrier.braking * jnp.where(graph.is_drone, PAIR, 1.0) if graph.drones else None
    margin = stopping_margin(distance, closing, system, braking)
    margin = margin if graph.penalty is None else margin + graph.penalty
    if graph.radius is not None:
        passing = passing_speed(unit(graph.relative_position), graph.relative_velocity, jnp.asarray(graph.upright))
        margin = passing_margin(margin, distance, passing, graph.radius, system)
    return jnp.where(graph.mask, margin, system.sensor.range)


CREEPING = 0.3
"""Speed at which the drone may move into what it has never seen [m/s]: at rest it would otherwise never get out."""


def free_margin(velocity: Vector, system: SystemConfig, frontier: Scalar | None = None) -> Scalar:
    """h of empty space [m]: a range sensor has seen nothing within its range, but beyond it anything may be.

    ``frontier``: how far the way along the velocity was seen [m]; None: up to the range, as all around. The idealised
    sensor ``surfaces`` takes the sensing range itself: its value in the runs that serve as baseline.
    """
    if frontier is not None:
        creeping = -stopping_margin(jnp.float32(0.0), jnp.float32(CREEPING), system)
        return stopping_margin(jnp.maximum(frontier, creeping), safe_norm(velocity), system)
    if system.sensor.kind == "surfaces":
        return jnp.float32(system.sensor.range)
    return stopping_margin(jnp.float32(system.sensor.range), safe_norm(velocity), system)


def make_braking_barrier(system: SystemConfig, temperature: Scalar | None = None) -> Barrier:
    """Soft minimum of the braking margins and of :func:`free_margin`, which is also the value of an empty graph."""
    smoothing = system.barrier.temperature if temperature is None else temperature

    def barrier(graph: Graph) -> Scalar:
        free = free_margin(graph.velocity, system, graph.frontier)
        return soft_minimum(braking_margins(graph, system), free, smoothing)

    return barrier


def make_distance_barrier(system: SystemConfig, temperature: Scalar | None = None) -> Barrier:
    """The original's barrier d(p) = soft-min distance - r_safe, made relative degree one as psi = d' + alpha d.

    Requiring psi' >= -alpha psi is the second-order (HOCBF) condition d'' + 2 alpha d' + alpha^2 d >= 0, with nodes as
    :func:`fixed` points. Under bounded thrust it is often infeasible: kept as the baseline to compare against.
    """
    safe_radius = system.physics.drone_radius + system.barrier.safety_margin
    smoothing = system.barrier.temperature if temperature is None else temperature

    def distance(relative_position: Float[Array, "k 3"], graph: Graph) -> Scalar:
        surface = jnp.where(graph.mask, safe_norm(relative_position), system.sensor.range)
        return soft_minimum(surface, system.sensor.range, smoothing) - safe_radius

    def barrier(graph: Graph) -> Scalar:
        value, slope = jax.value_and_grad(distance)(graph.relative_position, graph)
        return jnp.sum(slope * graph.relative_velocity) + system.barrier.class_k_gain * value

    return barrier


NodeMotion = Callable[[Graph], Float[Array, "k 3"]]
"""r_i' [m/s]: how the vector from each node to the drone changes while the drone flies on at constant velocity."""


def sliding(graph: Graph) -> Float[Array, "k 3"]:
    """r_i' = n_i (n_i . w_i): a node is the nearest point of a surface and slides along beside the drone that passes.

    For a fixed point the closing speed would fall by w_t^2 / s while passing, where a surface of radius R gives
    w_t^2 / (s + R), and a flat one not at all: for every convex obstacle the true rate of h is at least this one. Where
    R is known it is exact.
    """
    normal = unit(graph.relative_position)
    along = normal * jnp.sum(normal * graph.relative_velocity, -1, keepdims=True)
    if graph.radius is None:
        return along
    # The normal turns at w_t / (s + R), about the axis of an upright cylinder alone.
    distance = safe_norm(graph.relative_position)
    across = graph.relative_velocity - along
    level = jnp.asarray(graph.upright)[:, None] & (jnp.arange(3) == 2)
    return along + (distance / (distance + graph.radius))[:, None] * jnp.where(level, 0.0, across)


def fixed(graph: Graph) -> Float[Array, "k 3"]:
    """r_i' = w_i: a node is a fixed point, as in the original's cloud, and the row has the whole Hessian of d."""
    return graph.relative_velocity


@dataclass(frozen=True)
class BarrierKind:
    """All that depends on ``barrier.kind``; a neural barrier goes with its teacher."""

    make: Callable[[SystemConfig, Scalar | None], Barrier]
    """From the system and a temperature [m] (None: the configured one)."""
    node_motion: NodeMotion  # How the row takes the nodes to move
    tightened: bool  # Whether the row is tightened for the barrier's own error and for noise


KINDS: Mapping[str, BarrierKind] = {
    "braking": BarrierKind(make_braking_barrier, sliding, tightened=True),
    "distance_hocbf": BarrierKind(make_distance_barrier, fixed, tightened=False),  # as the original flew it
}
"""By ``barrier.kind``."""


def make_analytic_barrier(system: SystemConfig, temperature: Scalar | None = None) -> Barrier:
    """The analytic barrier that ``system.barrier.kind`` selects; ``temperature`` [m] replaces the configured one."""
    return KINDS[system.barrier.kind].make(system, temperature)
