"""``windows``: walls across the flight, each with one opening beside the straight line to the goal."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drone_cbf.arrays import Vector
from drone_cbf.config import GoalMode, SceneConfig
from drone_cbf.draws import between, uniform_draws
from drone_cbf.physics.obstacles import obstacles_of
from drone_cbf.physics.solids.boxes import Boxes
from drone_cbf.scene_config import WINDOWS_ACROSS
from drone_cbf.scenes.crossings import CROSSING, Course, crossing, ends
from drone_cbf.scenes.rotations import about_vertical
from drone_cbf.scenes.scene import Scene
from drone_cbf.scenes.slots import Slots

PIECES = 4  # Boxes that make a wall: left, right, below and above its opening
START_HEIGHT = 0.5  # Largest height of starts and goals above or below the axis [m]


def slots(config: SceneConfig) -> Slots:
    """The walls' pieces, wall by wall."""
    return Slots(boxes=PIECES * config.windows_walls)


def sample(key: jax.Array, goals: GoalMode, config: SceneConfig) -> Scene:
    """Through all walls, from the first to the last."""
    walls = config.windows_walls
    wall: dict[str, tuple[int, ...]] = {"size": (walls, 2), "shift": (walls, 2), "place": (walls,), "turn": (walls,)}
    draw = uniform_draws(key, **wall, **CROSSING)
    course = Course(config.windows_length, WINDOWS_ACROSS, START_HEIGHT, shift=(WINDOWS_ACROSS, START_HEIGHT))
    way = ends(draw, goals, course)
    return crossing(obstacles_of(boxes=_walls(draw, way, config)), way, draw, goals, course)


def _walls(draw: dict[str, Array], way: tuple[Vector, Vector], config: SceneConfig) -> Boxes:
    """The pieces of walls that stand on the straight ``way`` from start to goal [m]."""
    start, goal = way
    yaw = config.windows_yaw * between(draw["turn"], -1.0, 1.0)
    fraction = _places(draw["place"], yaw, config) / config.windows_length
    middle = start + fraction[:, None] * (goal - start)
    opening = jnp.asarray(config.windows_displacement) * between(draw["shift"], -1.0, 1.0)
    half_opening = 0.5 * between(draw["size"], *config.windows_opening)
    centre, half_size = jax.vmap(lambda shift, half: _pieces(shift, half, config))(opening, half_opening)
    rotation = about_vertical(yaw)
    return Boxes(
        centre=(middle[:, None] + jnp.einsum("wij,wpj->wpi", rotation, centre)).reshape(-1, 3),
        half_size=half_size.reshape(-1, 3),
        rotation=jnp.repeat(rotation, PIECES, axis=0),
        velocity=jnp.zeros((PIECES * yaw.shape[0], 3)),
        active=jnp.ones(PIECES * yaw.shape[0], bool),
    )


def _places(draw: Float[Array, "w"], yaw: Float[Array, "w"], config: SceneConfig) -> Float[Array, "w"]:
    """Where each wall's middle stands along x [m], so that walls of these yaw angles stay ``windows_apart``."""
    half_width = config.windows_half_extent[0]
    between_middles = (config.windows_apart + config.windows_thickness) / math.cos(config.windows_yaw)
    swung = half_width * jnp.abs(jnp.sin(yaw))
    needed = jnp.cumsum(jnp.concatenate([jnp.zeros(1), between_middles + swung[1:] + swung[:-1]]))
    edge = config.windows_edge
    spare = config.windows_length - 2.0 * edge - needed[-1]
    return edge + needed + spare * jnp.sort(draw)


def _pieces(
    shift: Float[Array, "2"], half: Float[Array, "2"], config: SceneConfig
) -> tuple[Float[Array, "4 3"], Float[Array, "4 3"]]:
    """Centres from the wall's middle and half sizes of its pieces, along its own axes: through it, across, up [m].

    ``shift`` and ``half`` are centre and half size of the opening, across and up.
    """
    width, height = config.windows_half_extent
    (across, up), (half_across, half_up) = shift, half
    right, left = across - half_across, across + half_across
    bottom, top = up - half_up, up + half_up
    sides = [(-width, right, -height, height), (left, width, -height, height)]
    sides += [(right, left, -height, bottom), (right, left, top, height)]
    centre = [jnp.stack([jnp.zeros(()), 0.5 * (a + b), 0.5 * (c + d)]) for a, b, c, d in sides]
    thickness = jnp.float32(0.5 * config.windows_thickness)
    half_size = [jnp.stack([thickness, 0.5 * (b - a), jnp.asarray(0.5 * (d - c))]) for a, b, c, d in sides]
    return jnp.stack(centre), jnp.stack(half_size)
