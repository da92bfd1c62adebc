"""Graph of unlabelled points: one node per direction sector about the acting point, the most urgent point there.

A dense wall neither fills the graph nor counts as many obstacles, and order, density and duplicates of points change
nothing. A point belongs to its own sector and, at a penalty that grows with the angle, to the neighbouring ones: as it
crosses into another sector, its weight there rises from what it was, so the analytic barrier is continuous.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector, safe_norm, softplus
from drone_cbf.config import SystemConfig
from drone_cbf.perception.directions import cell_directions, sector_axes
from drone_cbf.perception.graphs import CLOSING_SHARPNESS, Graph
from drone_cbf.perception.point_map import TIE_BREAK, PointMap, spreads
from drone_cbf.physics.belief import drift
from drone_cbf.physics.drone import DroneParams
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import FAR

OUTSIDE = 1.6
"""Penalty of a point outside its own sector, per difference of the cosines to the two axes [m]: about 0.3 m on the axis
of a neighbour."""
CLOSE = 0.1  # The slope of the penalty does not grow any more below this distance [m]: the hull has touched
TUBE = 0.3  # Radius of the way that must be free for a direction to count as open [m]
WIDER = 2.0
"""Standard deviations of a point by which it is larger: the filter, too, keeps farther from doubtful points, and does
not let the drone through a gap that is just as wide as the tube."""
ROUNDING = 4e-6
"""Of urgencies, relative above 1 m: the compiler may compute one twice, and round it otherwise the second time."""
TIE = 1e-4  # Weight of the tie break between equally urgent points, as those of a regular grid often are
NARROWEST = 0.9  # A point nearer than the tube's radius closes directions within the arc sine of this


@struct.dataclass
class Nodes:
    """The points that a graph consists of, and how much further each counts to be than it is; without gradient.

    The graph gives the penalty its derivative (:func:`penalty_slopes`).
    """

    points: PointMap
    penalty: Float[Array, "s"]  # [m]


def make_node_choice(system: SystemConfig) -> Callable[[PointMap, Motion, Scalar], Nodes]:
    """Function (points, motion at the acting point, transport delay [s]) -> the most urgent point in each sector.

    It is chosen among all points: of those in one direction the nearest may be less urgent than a farther one more
    ahead, which would then come into the graph all of a sudden.
    """

    def choose(points: PointMap, motion: Motion, delay: Scalar) -> Nodes:
        points, motion, delay = jax.lax.stop_gradient((points, motion, delay))
        offset = motion.position - points.points - points.velocity * delay
        chosen, penalty = most_urgent(offset, motion.velocity - points.velocity, points.known, system)
        return Nodes(points=jax.tree.map(lambda leaf: leaf[chosen], points), penalty=penalty)

    return choose


def make_point_graph(system: SystemConfig) -> Callable[[Motion, Nodes, PointMap, Vector, DroneParams], Graph]:
    """Function (motion at the acting point, nodes, points per cell, goal [m], drone) -> graph, but for ``blocked``."""
    config = system.sensor

    def graph(motion: Motion, nodes: Nodes, cells: PointMap, goal: Vector, params: DroneParams) -> Graph:
        nodes, cells = jax.lax.stop_gradient((nodes, cells))
        points, seen = nodes.points, nodes.points.known
        later = points.points + points.velocity * params.delay
        around = cells.points + cells.velocity * params.delay - motion.position
        relative_position = jnp.where(seen[:, None], motion.position - later, jnp.array([FAR, 0.0, 0.0]))
        return Graph(
            relative_position=relative_position,
            relative_velocity=jnp.where(seen[:, None], motion.velocity - points.velocity, 0.0),
            mask=seen,
            spread=jnp.where(seen, spreads(points, config), 0.0),
            range=jnp.float32(config.range),
            left_out=jnp.float32(FAR),
            lookahead=jnp.float32(config.lookahead),
            goal=goal - motion.position,
            velocity=motion.velocity,
            drag=drift(motion, jnp.zeros(3), params),
            penalty=jnp.where(seen, _differentiable(nodes.penalty, relative_position), 0.0),
            openings=openings(jax.lax.stop_gradient(around), cells.known, config.range, TUBE + WIDER * cells.spread),
        )

    return graph


def penalty_slopes(relative_position: Float[Array, "s 3"]) -> Float[Array, "s 3"]:
    """Derivative of the penalty of each sector's node by its ``relative_position``, from node to drone [m].

    The penalty is ``OUTSIDE`` times the cosine to the nearest axis less that to the sector's own. It depends on the
    direction only, so its slope is across: the row is the same with and without it.
    """
    axes = jnp.asarray(sector_axes())
    distance = safe_norm(relative_position)[:, None]
    away = relative_position / distance
    nearest = axes[jnp.argmin(axes @ away.T, axis=0)]
    lean = OUTSIDE * (nearest - axes)
    across = lean - away * jnp.sum(lean * away, axis=-1, keepdims=True)
    return -across / jnp.maximum(distance, CLOSE)


@jax.custom_jvp
def _differentiable(penalty: Float[Array, "s"], relative_position: Float[Array, "s 3"]) -> Float[Array, "s"]:
    """``penalty`` as it is, with its derivative towards the place of the drone; costs nothing but where that is asked
    for."""
    return penalty


@_differentiable.defjvp
def _differentiable_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    penalty, relative_position = primals
    change, moved = tangents
    return penalty, change + jnp.sum(penalty_slopes(relative_position) * moved, axis=-1)


def most_urgent(
    offset: Float[Array, "n 3"], approach: Float[Array, "n 3"], known: Bool[Array, "n"], system: SystemConfig
) -> tuple[Int[Array, "s"], Float[Array, "s"]]:
    """Of the points at ``-offset`` [m] the one of smallest braking margin plus penalty in each sector, and its penalty.

    ``approach`` [m/s]: velocity relative to the points. Written coordinate by coordinate with plain minima, which takes
    a fifth of the time on CPU. Where none is known, one of those unknown.
    """
    x, y, z = (offset[:, axis] for axis in range(3))
    distance = jnp.sqrt(x * x + y * y + z * z + 1e-12)
    closing = softplus(-jnp.sum(offset * approach, -1) / distance, CLOSING_SHARPNESS)
    margin = distance - system.barrier.reaction_time * closing - closing**2 / (2.0 * system.barrier.braking)
    ranked = jnp.where(known, margin - TIE * (TIE_BREAK[0] * x + TIE_BREAK[1] * y + TIE_BREAK[2] * z), FAR)
    cosine = -(jnp.asarray(sector_axes()) @ offset.T) / distance
    penalty = OUTSIDE * (jnp.max(cosine, axis=0) - cosine)
    urgency = ranked + jnp.where(known, penalty, 0.0)
    lowest = jnp.min(urgency, axis=-1, keepdims=True)
    count = distance.shape[0]
    found = urgency <= lowest + ROUNDING * jnp.maximum(jnp.abs(lowest), 1.0)
    chosen = jnp.min(jnp.where(found, jnp.arange(count), count - 1), axis=-1)
    return chosen, jnp.take_along_axis(penalty, chosen[:, None], axis=-1)[:, 0]


def openings(
    offset: Float[Array, "n 3"], known: Array, limit: Scalar | float, radius: Float[Array, "n"] | float = TUBE
) -> Float[Array, "c"]:
    """How far a tube is free in the direction of each cell [m], at most ``limit``.

    ``offset`` [m]: from the place to the points; ``radius`` [m]: how far each must be from the tube's axis. A point
    nearer than its radius closes half of the directions, almost. Written coordinate by coordinate, points first: with a
    matrix product it takes twenty times as long on CPU.
    """
    cells = jnp.asarray(cell_directions())
    x, y, z = (offset[:, axis, None] for axis in range(3))
    square = x * x + y * y + z * z
    clear = jnp.broadcast_to(radius, offset.shape[:1])[:, None] ** 2
    # Within the tube: square - along^2 below the square of its radius.
    within = jnp.where(known[:, None], square - jnp.minimum(clear, NARROWEST**2 * square), jnp.inf)
    along = cells[:, 0] * x + cells[:, 1] * y + cells[:, 2] * z
    closed = (along > 0.0) & (along * along > within)
    return jnp.min(jnp.where(closed, along, limit), axis=0, initial=limit)
