"""Graph of unlabelled points: one node per direction sector about the acting point, the most urgent point there.

A dense wall neither fills the graph nor counts as many obstacles, and order, density and duplicates of points change
nothing. A point belongs to its own sector and, at a penalty that grows with the angle, to the neighbouring ones: as it
crosses into another sector, its weight there rises from what it was, so the analytic barrier is continuous.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from drone_cbf.arrays import Vector
from drone_cbf.config import SystemConfig
from drone_cbf.perception.directions import cell_directions, sector_axes
from drone_cbf.perception.graphs import Graph
from drone_cbf.perception.point_map import PointMap, spreads
from drone_cbf.physics.drone import DroneParams
from drone_cbf.physics.obstacles import FAR
from drone_cbf.physics.point_mass import Motion, drag_acceleration

OUTSIDE = 1.6
"""Penalty of a point outside its own sector, per difference of the cosines to the two axes [m]: about 0.3 m on the axis
of a neighbour."""
TUBE = 0.3  # Radius of the way that must be free for a direction to count as open [m]
NARROWEST = 0.9  # A point nearer than the tube's radius closes directions within the arc sine of this


def make_point_graph(system: SystemConfig) -> Callable[[Motion, PointMap, Vector, DroneParams], Graph]:
    """Function (motion at the acting point, points per cell, goal [m], drone) -> graph, but for ``blocked``."""
    config = system.sensor

    def graph(motion: Motion, points: PointMap, goal: Vector, params: DroneParams) -> Graph:
        points = jax.lax.stop_gradient(points)
        later = points.points + points.velocity * params.delay
        known = points.known[:, None]
        offset = jnp.where(known, motion.position - later, jnp.array([FAR, 0.0, 0.0]))
        approach = jnp.where(known, motion.velocity - points.velocity, 0.0)
        chosen, penalty = most_urgent(*jax.lax.stop_gradient((offset, approach)), system)
        seen = points.known[chosen]
        return Graph(
            relative_position=offset[chosen],
            relative_velocity=approach[chosen],
            mask=seen,
            spread=jnp.where(seen, spreads(points, config)[chosen], 0.0),
            range=jnp.float32(config.range),
            left_out=jnp.float32(FAR),
            lookahead=jnp.float32(config.lookahead),
            goal=goal - motion.position,
            velocity=motion.velocity,
            drag=drag_acceleration(motion.velocity, jnp.zeros(3), params),
            penalty=jnp.where(seen, penalty, 0.0),
            openings=openings(jax.lax.stop_gradient(later - motion.position), points.known, config.range),
        )

    return graph


def most_urgent(
    offset: Float[Array, "n 3"], approach: Float[Array, "n 3"], system: SystemConfig
) -> tuple[Int[Array, "s"], Float[Array, "s"]]:
    """Of the points at ``-offset`` [m], the one of smallest braking margin plus penalty in each sector, and its penalty.

    ``approach`` [m/s]: velocity relative to the points. Written coordinate by coordinate with plain minima, which takes
    a fifth of the time on CPU.
    """
    x, y, z = (offset[:, axis] for axis in range(3))
    distance = jnp.sqrt(x * x + y * y + z * z + 1e-12)
    closing = jnp.maximum(-jnp.sum(offset * approach, -1) / distance, 0.0)
    margin = distance - system.barrier.reaction_time * closing - closing**2 / (2.0 * system.barrier.braking)
    cosine = -(jnp.asarray(sector_axes()) @ offset.T) / distance
    penalty = OUTSIDE * (jnp.max(cosine, axis=0) - cosine)
    urgency = margin + penalty
    lowest = jnp.min(urgency, axis=-1)
    count = distance.shape[0]
    chosen = jnp.min(jnp.where(urgency == lowest[:, None], jnp.arange(count), count - 1), axis=-1)
    return chosen, lowest - margin[chosen]


def openings(offset: Float[Array, "n 3"], known: Array, limit: float) -> Float[Array, "c"]:
    """How far a tube of radius :data:`TUBE` is free in the direction of each cell [m], at most ``limit``.

    ``offset`` [m]: from the place to the points. A point nearer than the radius closes half of the directions, almost.
    """
    square = jnp.sum(offset * offset, -1)
    # Within the tube: square - along^2 below the square of its radius.
    within = jnp.where(known, square - jnp.minimum(TUBE**2, NARROWEST**2 * square), jnp.inf)
    along = jnp.asarray(cell_directions()) @ offset.T
    closed = (along > 0.0) & (along * along > within)
    return jnp.min(jnp.where(closed, along, limit), axis=-1, initial=limit)
