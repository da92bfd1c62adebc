"""The fixed-size masked graph read by policy and barrier: drone, goal, nearest surface points."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from drone_cbf.arrays import Scalar, Vector, safe_norm, smooth_cutoff, softplus, unit
from drone_cbf.config import SensorConfig
from drone_cbf.perception.directions import CELLS, SECTORS
from drone_cbf.perception.readings import DEPTH_COLUMNS, DEPTH_ROWS
from drone_cbf.perception.sensors import Surfaces
from drone_cbf.physics.belief import drift
from drone_cbf.physics.drone import DroneParams
from drone_cbf.physics.motion import Motion
from drone_cbf.physics.obstacles import FAR

CLOSING_SHARPNESS = 10.0
"""Sharpness of the softplus of the closing speed [s/m]: overestimates by 0.07 m/s at rest, by 1e-4 above 1 m/s."""
EDGE_SCALE = (0.5, 0.5, 0.5, 0.2, 0.2, 0.2, 0.7, 0.4)  # Factors that scale `edge_features` to order one
PENALTY_SCALE = 0.1  # Penalty at which the weight of a node falls to 1/e [m]
SWAP_WIDTH = 0.3  # Difference in look-ahead distance over which a node fades before another replaces it [m]


@struct.dataclass
class Graph:
    """One drone node and ``k`` surface nodes, relative to the drone, in world axes."""

    relative_position: Float[Array, "k 3"]  # From node to drone [m]
    relative_velocity: Float[Array, "k 3"]  # Of the drone relative to the node [m/s]
    mask: Bool[Array, "k"]  # False for unused nodes
    spread: Float[Array, "k"]
    """Standard deviation of each relative position along any axis [m]; used to tighten the row, not by the networks."""
    range: Scalar  # Sensing radius, at which a node's influence vanishes [m]
    left_out: Scalar  # Look-ahead distance (`distances_ahead`) of the nearest point not in the graph [m]
    lookahead: Scalar  # Time by which nodes are ranked ahead [s]
    goal: Vector  # From drone to goal [m]
    velocity: Vector  # Of the drone [m/s]
    drag: Vector  # Drag and estimated wind acceleration in the controller's model [m/s^2]
    radius: Float[Array, "k"] | None = None
    """Of the ball or upright cylinder that the surface is taken for [m]; None: it is taken for a plane."""
    upright: Bool[Array, "k"] | None = None  # Whether it is an upright cylinder
    penalty: Float[Array, "k"] | None = None
    """Distance added to the margin of each node [m] (perception/point_graph.py); None for labelled points."""
    blocked: Scalar | None = None
    """How far before the acting point a point lies on the way to it [m], -1 if none does; None for labelled points."""
    openings: Float[Array, "c"] | None = None
    """How far the way is free in the direction of each cell (perception/directions.py) [m]; None for labelled
    points."""
    frontier: Scalar | None = None
    """How far the way along the velocity was seen [m] (perception/frontier.py); None if the sensor sees all around."""
    image: Float[Array, "12 16"] | None = None
    """Inverse depth (perception/depth.py); None without a camera. Like ``yaw``, not read by barriers."""
    yaw: Scalar | None = None  # Heading of the camera [rad]
    drones: int = struct.field(pytree_node=False, default=0)
    """How many of the nodes, the last ones, are slots for other drones (perception/others.py)."""

    @property
    def is_drone(self) -> Bool[Array, "k"]:
        """False: a slot for a surface."""
        count = self.mask.shape[-1]
        return jnp.arange(count) >= count - self.drones


def build_graph(motion: Motion, surfaces: Surfaces, goal: Vector, params: DroneParams, config: SensorConfig) -> Graph:
    """Graph of the ``config.neighbours`` visible points that will be nearest ``config.lookahead`` seconds from now.

    Ranking by present distance would fill the graph of a fast drone with surfaces it is leaving. A point has zero
    weight when it enters or leaves (:func:`node_weights`), so functions of the weighted nodes are continuous in flight.
    """
    offset = jnp.where(surfaces.visible[:, None], motion.position - surfaces.points, jnp.array([FAR, 0.0, 0.0]))
    relative_velocity = jnp.where(surfaces.visible[:, None], motion.velocity - surfaces.velocity, 0.0)
    ahead = distances_ahead(offset, relative_velocity, config.lookahead)
    slots = surfaces.points.shape[0]
    count = min(config.neighbours, slots)
    # No ranking if every point has a place.
    order = smallest_first(jax.lax.stop_gradient(ahead), count + 1) if slots > count else jnp.arange(slots)
    chosen = order[:count]
    spread = jnp.zeros(count) if surfaces.spread is None else surfaces.spread[chosen]
    return Graph(
        relative_position=offset[chosen],
        relative_velocity=relative_velocity[chosen],
        mask=surfaces.visible[chosen],
        spread=jnp.where(surfaces.visible[chosen], spread, 0.0),
        radius=None if surfaces.radius is None else surfaces.radius[chosen],
        upright=None if surfaces.upright is None else surfaces.upright[chosen],
        range=jnp.float32(config.range),
        left_out=jax.lax.stop_gradient(ahead[order[count]]) if slots > count else jnp.float32(FAR),
        lookahead=jnp.float32(config.lookahead),
        goal=goal - motion.position,
        velocity=motion.velocity,
        drag=drift(motion, jnp.zeros(3), params),
    )


def smallest_first(values: Float[Array, "m"], count: int) -> Int[Array, "n"]:
    """Stable ``argsort(values)[:count]`` by comparing all pairs: for so few, sorting takes 16 times as long on CPU."""
    index = jnp.arange(values.shape[0])
    before = (values < values[:, None]) | ((values == values[:, None]) & (index < index[:, None]))
    rank = jnp.sum(before, axis=-1)
    return jnp.sum(jnp.where(rank == jnp.arange(count)[:, None], index, 0), axis=-1)


def graph_at(motion: Motion, surfaces: Surfaces, goal: Vector, params: DroneParams, config: SensorConfig) -> Graph:
    """Graph of a drone in ``motion`` (:func:`acting_motion`) among ``surfaces`` advanced by the transport delay."""
    later = surfaces.replace(points=surfaces.points + surfaces.velocity * params.delay)
    return build_graph(motion, later, goal, params, config)


def closing_speeds(relative_position: Float[Array, "k 3"], relative_velocity: Float[Array, "k 3"]) -> Float[Array, "k"]:
    """Speed at which the drone approaches each node [m/s], smooth and positive: softplus(-n . w)."""
    return softplus(-jnp.sum(unit(relative_position) * relative_velocity, -1), CLOSING_SHARPNESS)


def distances_ahead(
    relative_position: Float[Array, "k 3"], relative_velocity: Float[Array, "k 3"], lookahead: Scalar | float
) -> Float[Array, "k"]:
    """Distance to each node after ``lookahead`` [s] at the present closing speed [m]."""
    return safe_norm(relative_position) - lookahead * closing_speeds(relative_position, relative_velocity)


def node_weights(graph: Graph) -> Float[Array, "k"]:
    """Weight of each node in [0, 1]; zero if masked, at the sensing radius, and where it swaps with the next node."""
    in_range = smooth_cutoff(safe_norm(graph.relative_position), graph.range)
    ahead = distances_ahead(graph.relative_position, graph.relative_velocity, graph.lookahead)
    ranked = jnp.clip((graph.left_out - ahead) / SWAP_WIDTH, 0.0, 1.0)
    if graph.drones:  # they are not ranked among the surfaces
        ranked = jnp.where(graph.is_drone, 1.0, ranked)
    if graph.penalty is not None:
        return jnp.where(graph.mask, in_range * jnp.exp(-graph.penalty / PENALTY_SCALE), 0.0)
    return jnp.where(graph.mask, in_range * ranked * ranked * (3.0 - 2.0 * ranked), 0.0)


def edge_features(graph: Graph) -> Float[Array, "k 8"]:
    """Relative position [m] and velocity [m/s], surface distance [m] and closing speed [m/s], zero where masked."""
    position, velocity = graph.relative_position, graph.relative_velocity
    along = safe_norm(position)[:, None], closing_speeds(position, velocity)[:, None]
    features = jnp.concatenate([position, velocity, *along], -1)
    return jnp.where(graph.mask[:, None], features, 0.0)


def empty_graph(config: SensorConfig) -> Graph:
    """Graph without visible nodes, at the goal, at rest; used to initialise networks."""
    pointed, camera = config.kind != "surfaces", config.kind == "depth"
    k = SECTORS if pointed else config.neighbours
    return Graph(
        relative_position=jnp.full((k, 3), FAR),
        relative_velocity=jnp.zeros((k, 3)),
        mask=jnp.zeros(k, bool),
        spread=jnp.zeros(k),
        range=jnp.float32(config.range),
        left_out=jnp.float32(FAR),
        lookahead=jnp.float32(config.lookahead),
        goal=jnp.zeros(3),
        velocity=jnp.zeros(3),
        drag=jnp.zeros(3),
        penalty=jnp.zeros(k) if pointed else None,
        blocked=jnp.float32(-1.0) if pointed else None,
        openings=jnp.full(CELLS, config.range, jnp.float32) if pointed else None,
        frontier=jnp.float32(config.range) if camera else None,
        image=jnp.zeros((DEPTH_ROWS, DEPTH_COLUMNS), jnp.float32) if camera else None,
        yaw=jnp.float32(0.0) if camera else None,
    )
